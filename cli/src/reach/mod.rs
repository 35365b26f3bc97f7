//! Into a rental: streams that the market's gateway leads there, each a WebSocket.
//!
//! # Invariants
//! - Bytes travel in binary messages; an empty one ends a direction, so that half a stream can be over.
//! - A stream ends with an outcome: what refused it (a problem in a text message), what ended it (the close code), or that it broke.

pub mod collect;
pub mod copy;
pub mod exec;
pub mod forward;
pub mod sftp;

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use futures_util::{Sink as _, SinkExt as _, Stream as _};
use reqwest::{
    StatusCode, Upgraded,
    header::{
        CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
        UPGRADE,
    },
};
use shared::{link::socket::MESSAGE_BYTES_MAX, wire::problem::Problem};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{CloseFrame, Role, WebSocketConfig},
    },
};

use crate::{
    api::{Api, Request},
    failure::{Failure, Kind, Result},
};

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
    Ok(Socket {
        socket,
        unread: Bytes::new(),
        is_over: false,
        is_shut: false,
    })
}

fn no_socket() -> Failure {
    Failure::failed(
        "the market answers and opens no WebSocket: is something between that doesn't let it pass?",
    )
}

/// A stream of bytes into a rental.
pub struct Socket {
    socket: WebSocketStream<Upgraded>,
    unread: Bytes,
    /// Nothing more comes.
    is_over: bool,
    /// Nothing more is sent.
    is_shut: bool,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Socket")
    }
}

impl Socket {
    /// Says what is wanted, before any bytes.
    ///
    /// # Errors
    /// The stream broke.
    pub async fn say(&mut self, text: String) -> io::Result<()> {
        let said = self.socket.send(Message::Text(text.into())).await;
        said.map_err(io::Error::other)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() && !self.is_over {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) if bytes.is_empty() => self.is_over = true,
                Some(Ok(Message::Binary(bytes))) => self.unread = bytes,
                Some(Ok(Message::Text(text))) => {
                    self.is_over = true;
                    return Poll::Ready(Err(io::Error::other(refused(text.as_str()))));
                }
                Some(Ok(Message::Close(frame))) => {
                    self.is_over = true;
                    if let Some(why) = frame.as_ref().and_then(why_closed) {
                        return Poll::Ready(Err(io::Error::other(why)));
                    }
                }
                // answered by the library
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Err(error)) => {
                    self.is_over = true;
                    return Poll::Ready(Err(io::Error::other(error)));
                }
                None => {
                    self.is_over = true;
                    let cut = io::ErrorKind::UnexpectedEof;
                    return Poll::Ready(Err(cut.into()));
                }
            }
        }
        let taken = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..taken]);
        self.unread.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(io::Error::other)?;
        let taken = bytes.len().min(MESSAGE_BYTES_MAX);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..taken]));
        Pin::new(&mut self.socket)
            .start_send(message)
            .map_err(io::Error::other)?;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket)
            .poll_flush(cx)
            .map_err(io::Error::other)
    }

    /// Ends our direction only: what comes is still read.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(io::Error::other)?;
            self.is_shut = true;
            Pin::new(&mut self.socket)
                .start_send(Message::Binary(Bytes::new()))
                .map_err(io::Error::other)?;
        }
        self.poll_flush(cx)
    }
}

/// The failure that a problem in a text message is.
fn refused(text: &str) -> Failure {
    match serde_json::from_str::<Problem>(text) {
        Ok(problem) => Failure::from_status(problem.status, Some(problem)),
        Err(_) => Failure::failed("the market says something that isn't understood"),
    }
}

/// Why the market closed the stream; nothing if it had ended.
fn why_closed(frame: &CloseFrame) -> Option<Failure> {
    let why = match u16::from(frame.code) {
        1000 => return None,
        1008 => {
            return Some(Failure::new(
                Kind::Auth,
                "access to the rental has ended, or nothing was read for too long",
            ));
        }
        1012 => "the market restarts: try again",
        4502 => "the connection to the node broke",
        4408 => "nothing went either way for 15 minutes",
        _ => "the market closed it",
    };
    Some(Failure::new(Kind::Unreachable, why))
}

/// The failure that an error of a stream is, if the market said one.
pub fn told(error: &io::Error) -> Option<Failure> {
    error.get_ref()?.downcast_ref::<Failure>().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_stream_has_its_kind() {
        let close = |code: u16| {
            why_closed(&CloseFrame {
                code: code.into(),
                reason: "".into(),
            })
        };
        assert_eq!(close(1000), None);
        assert_eq!(close(1008).map(|why| why.kind), Some(Kind::Auth));
        assert_eq!(close(4502).map(|why| why.kind), Some(Kind::Unreachable));
        let problem = r#"{"type":"x","title":"x","status":404,"detail":"none","code":"not_found","request_id":""}"#;
        let error = io::Error::other(refused(problem));
        assert_eq!(told(&error).map(|why| why.kind), Some(Kind::NotFound));
        assert_eq!(told(&io::Error::other("x")), None);
    }
}
