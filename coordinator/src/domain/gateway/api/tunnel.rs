//! A WebSocket and a stream, one into the other.
//!
//! # Invariants
//! - Each direction holds one message: who doesn't take stops who sends, and is dropped when that lasts.
//! - Whatever ends it, the client is told by a close code ([`End::close`]).

use std::{io, time::Duration};

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

/// Carries until one of both ends it, or `watch`.
pub(super) async fn carry(socket: WebSocket, stream: Reached, watch: Watch, form: Form) {
    let (mut sink, mut source) = socket.split();
    let (from, to) = split(stream);
    let shut = CancellationToken::new();
    let end = tokio::select! {
        end = outward(from, &mut sink, &watch, form, &shut) => end,
        end = inward(&mut source, to, &watch, form, &shut) => end,
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
    shut: &CancellationToken,
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
            if form == Form::Raw {
                shut.cancelled().await;
            }
            return End::Ended;
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
    shut: &CancellationToken,
) -> End {
    while let Some(Ok(message)) = source.next().await {
        watch.touch();
        let written = match message {
            Message::Binary(_) if shut.is_cancelled() => return End::Violation,
            Message::Binary(bytes) if bytes.is_empty() && form == Form::Raw => {
                shut.cancel();
                to.shutdown().await
            }
            Message::Binary(bytes) => match to.write_all(&bytes).await {
                Ok(()) => to.flush().await,
                Err(error) => Err(error),
            },
            Message::Text(_) => return End::Violation,
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => return End::Gone,
        };
        if let Err(error) = written {
            tracing::debug!(%error, "the rental takes nothing more");
            // what it said last is still to be read
            std::future::pending::<()>().await;
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
