//! Into a rental: streams that the market's gateway leads there, each a WebSocket.
//!
//! # Invariants
//! - A stream ends with an outcome: what refused it, what ended it, or that it broke.

pub mod copy;
pub mod exec;
pub mod forward;
pub mod sftp;

use bytes::Bytes;
use reqwest::{
    StatusCode, Upgraded,
    header::{
        CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
        UPGRADE,
    },
};
use shared::link::socket::{ByteSocket, Carried, MESSAGE_BYTES_MAX};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};

use crate::{
    api::{Api, Request},
    failure::{Failure, Result},
};

/// A stream of bytes into a rental.
pub type Socket = ByteSocket<WebSocketStream<Upgraded>, Message>;

/// Opens a stream.
///
/// # Errors
/// What the market says of it; the market doesn't answer.
pub async fn open(api: &Api, request: Request) -> Result<Socket> {
    let key = generate_key();
    let text = |text: &str| HeaderValue::try_from(text).map_err(|_| no_socket());
    let request = request
        .with(CONNECTION, text("Upgrade")?)
        .with(UPGRADE, text("websocket")?)
        .with(SEC_WEBSOCKET_VERSION, text("13")?)
        .with(SEC_WEBSOCKET_KEY, text(&key)?);
    let response = api.open(&request).await?;
    let accept = response.headers().get(SEC_WEBSOCKET_ACCEPT);
    let accepted = accept.is_some_and(|accept| *accept == derive_accept_key(key.as_bytes()));
    if response.status() != StatusCode::SWITCHING_PROTOCOLS || !accepted {
        return Err(no_socket());
    }
    let upgraded = response.upgrade().await;
    let upgraded = upgraded.map_err(|error| api.unreachable(&error))?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let socket = WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await;
    Ok(ByteSocket::new(socket, message, carried))
}

fn no_socket() -> Failure {
    Failure::failed("the market answers and opens no WebSocket: is something between that doesn't let it pass?")
}

const fn message(bytes: Bytes) -> Message {
    Message::Binary(bytes)
}

fn carried(message: Message) -> Carried {
    match message {
        Message::Binary(bytes) => Carried::Bytes(bytes),
        Message::Close(_) => Carried::End,
        Message::Text(_) => Carried::Violation,
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Carried::Nothing,
    }
}
