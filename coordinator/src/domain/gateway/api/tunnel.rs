//! A WebSocket and a stream, one into the other.
//!
//! # Invariants
//! - Each direction holds one message, and the client's one more: who doesn't take stops who sends, and is dropped when that lasts.
//! - That the client has left is heard also while the rental takes nothing, and when it takes nothing more.
//! - Whatever ends it, the client is told by a close code ([`End::close`]).

use std::{io, pin::pin, time::Duration};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use shared::link::frame::{self, FRAME_BYTES_MAX, Frame};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    super::reached::Reached,
    watch::{End, Watch},
};

/// A close frame goes out, and is answered, within this.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(2);

/// What the messages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Frames of a program: one a message to the client, any part of them from it. The last is how it ended.
    Frames,
    /// Bytes; an empty message ends a direction.
    Raw,
}

impl Form {
    const fn kind(self) -> &'static str {
        match self {
            Self::Frames => "exec",
            Self::Raw => "bytes",
        }
    }
}

type Sink = SplitSink<WebSocket, Message>;
type Source = SplitStream<WebSocket>;

/// How the client's direction stands.
#[derive(Debug, Default)]
struct Client {
    /// The client ended it.
    shut: CancellationToken,
    /// The rental takes nothing more of it.
    refused: CancellationToken,
}

/// Carries until one of both ends it, or `watch`.
pub(super) async fn carry(socket: WebSocket, stream: Reached, watch: Watch, form: Form) {
    let (mut sink, mut source) = socket.split();
    let (from, to) = split(stream);
    let client = Client::default();
    let end = tokio::select! {
        end = outward(from, &mut sink, &watch, form, &client) => end,
        end = inward(&mut source, to, &watch, form, &client) => end,
        end = watch.over() => end,
    };
    let (code, reason) = end.close();
    close(sink, source, code, reason).await;
    watch.ended(form.kind(), end);
}

/// From the rental to the client.
async fn outward(
    mut from: ReadHalf<Reached>,
    sink: &mut Sink,
    watch: &Watch,
    form: Form,
    client: &Client,
) -> End {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    loop {
        let next = match form {
            Form::Frames => next_frame(&mut from).await,
            Form::Raw => from
                .read(&mut buffer)
                .await
                .map(|length| (buffer[..length].to_vec(), length == 0)),
        };
        let (bytes, last) = match next {
            Ok(next) => next,
            Err(error) => {
                tracing::debug!(%error, "the rental's side of a stream broke");
                return End::Cut;
            }
        };
        watch.touch();
        match timeout(watch.stall(), sink.send(Message::Binary(bytes.into()))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return End::Gone,
            Err(_) => return End::Stalled,
        }
        if last {
            if form == Form::Frames {
                return End::Ended;
            }
            return tokio::select! {
                () = client.shut.cancelled() => End::Ended,
                // what the client sent since is lost
                () = client.refused.cancelled() => End::Cut,
            };
        }
    }
}

/// The next frame as it travels, and whether it is the last.
async fn next_frame(from: &mut ReadHalf<Reached>) -> io::Result<(Vec<u8>, bool)> {
    let frame = frame::read(from).await?;
    // it ends by saying how
    let frame = frame.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut bytes = Vec::new();
    frame::write(&mut bytes, &frame).await?;
    Ok((bytes, matches!(frame, Frame::Exit(_))))
}

/// From the client to the rental.
async fn inward(
    source: &mut Source,
    mut to: WriteHalf<Reached>,
    watch: &Watch,
    form: Form,
    client: &Client,
) -> End {
    let mut ahead = None;
    loop {
        let next = match ahead.take() {
            Some(message) => Some(Ok(message)),
            None => source.next().await,
        };
        let Some(Ok(message)) = next else {
            return End::Gone;
        };
        watch.touch();
        let bytes = match message {
            Message::Binary(_) if client.shut.is_cancelled() => return End::Violation,
            Message::Binary(bytes) => bytes,
            Message::Text(_) => return End::Violation,
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => return End::Gone,
        };
        let write = async {
            if bytes.is_empty() && form == Form::Raw {
                client.shut.cancel();
                return to.shutdown().await;
            }
            to.write_all(&bytes).await?;
            to.flush().await
        };
        match beside(source, &mut ahead, watch, write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "the rental takes nothing more");
                client.refused.cancel();
                return left(source, watch).await;
            }
            Err(end) => return end,
        }
    }
}

/// Writes to the rental, and hears beside it whether the client leaves; a message that comes meanwhile is kept in `ahead`, and no other is
/// read before it is written.
async fn beside(
    source: &mut Source,
    ahead: &mut Option<Message>,
    watch: &Watch,
    write: impl Future<Output = io::Result<()>>,
) -> Result<io::Result<()>, End> {
    let mut write = pin!(write);
    loop {
        tokio::select! {
            biased;
            written = &mut write => return Ok(written),
            next = source.next(), if ahead.is_none() => match next {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => watch.touch(),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(End::Gone),
                Some(Ok(message)) => *ahead = Some(message),
            },
        }
    }
}

/// Returns when the client leaves; what the rental said last is still carried to it, and nothing the other way.
async fn left(source: &mut Source, watch: &Watch) -> End {
    while let Some(Ok(message)) = source.next().await {
        watch.touch();
        match message {
            Message::Text(_) => return End::Violation,
            Message::Close(_) => break,
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) => {}
        }
    }
    End::Gone
}

/// Closes a WebSocket in good order, as far as its client goes along.
pub(super) async fn close(mut sink: Sink, mut source: Source, code: u16, reason: &'static str) {
    let frame = CloseFrame {
        code,
        reason: reason.into(),
    };
    let closed = async {
        if sink.send(Message::Close(Some(frame))).await.is_ok() {
            // what comes before its answer is of no use any more
            while let Some(Ok(_)) = source.next().await {}
        }
    };
    // it is gone, or reads nothing: it is cut
    drop(timeout(CLOSE_TIME_MAX, closed).await);
}
