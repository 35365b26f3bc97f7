//! A program's channel: its input, its outputs, how it ended.
//!
//! # Invariants
//! - Both directions move on their own: a program that reads nothing can still be heard, and the other way round.
//! - A client hears how its program ended exactly once, or that it never will: status 255 and a word on standard error, as ssh itself says it.

use std::sync::Arc;

use russh::{
    ChannelId, ChannelWriteHalf,
    server::{Handle, Msg},
};
use shared::link::frame::{self, Exit, FRAME_BYTES_MAX, Frame};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, split};
use tokio_util::sync::CancellationToken;

use super::{
    Opening, Stream,
    flow::Flow,
    inbox::{Inbox, Item},
    wish,
};

/// The number that ssh itself ends with when something is wrong with it.
const OUR_FAULT: u32 = 255;
/// What a channel's extended data is of.
const STDERR: u32 = 1;
/// Read from a rental at once.
const READ_BYTES: usize = 64 * 1_024;

/// A channel.
pub(super) struct Line {
    pub(super) id: ChannelId,
    pub(super) writer: ChannelWriteHalf<Msg>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) flow: Arc<Flow>,
    pub(super) handle: Handle,
    /// The connection's end.
    pub(super) ended: CancellationToken,
}

/// The client has left.
#[derive(Debug)]
pub(super) struct Gone;

impl From<russh::Error> for Gone {
    fn from(_: russh::Error) -> Self {
        Self
    }
}

impl Line {
    /// Sends bytes as the client's window lets them through.
    pub(super) async fn send(&self, bytes: Vec<u8>) -> Result<(), Gone> {
        self.flow.writing(self.writer.data_bytes(bytes)).await?;
        Ok(())
    }

    async fn send_error(&self, bytes: Vec<u8>) -> Result<(), Gone> {
        let sent = self.writer.extended_data_bytes(STDERR, bytes);
        self.flow.writing(sent).await?;
        Ok(())
    }

    /// Says why it ends, and ends.
    pub(super) async fn fail(&self, why: &str) -> Result<(), Gone> {
        self.send_error(format!("ramarket: {why}\r\n").into_bytes())
            .await?;
        self.finish(OUR_FAULT).await
    }

    /// Ends with a status.
    pub(super) async fn finish(&self, status: u32) -> Result<(), Gone> {
        self.writer.eof().await?;
        self.writer.exit_status(status).await?;
        self.writer.close().await?;
        Ok(())
    }

    async fn tell(&self, exit: Exit) -> Result<(), Gone> {
        match exit {
            // a status is a byte for those who read it
            Exit::Code(code) => {
                self.finish(u32::try_from(code & 0xff).unwrap_or(OUR_FAULT))
                    .await
            }
            Exit::Signal(number) => {
                self.writer.eof().await?;
                let (name, none) = (wish::signal(number), String::new());
                let told =
                    self.handle
                        .exit_signal_request(self.id, name, false, none.clone(), none);
                told.await.map_err(|()| Gone)?;
                self.writer.close().await?;
                Ok(())
            }
        }
    }
}

/// Opens a program's stream and serves its channel until either ends.
pub(super) async fn serve(line: Line, opening: Opening) {
    let ended = line.ended.clone();
    let served = async {
        match opening.await {
            Ok(stream) => run(&line, stream).await,
            Err(error) => line.fail(error.detail()).await,
        }
    };
    // a client that has left needs no word
    let _left = ended.run_until_cancelled(served).await;
    line.inbox.close();
}

async fn run(line: &Line, stream: Stream) -> Result<(), Gone> {
    let (reader, writer) = split(stream);
    let output = output(line, BufReader::with_capacity(READ_BYTES, reader));
    let input = input(&line.inbox, writer);
    tokio::pin!(output, input);
    let mut input_open = true;
    loop {
        tokio::select! {
            done = &mut output => return done,
            left = &mut input, if input_open => {
                if left.is_err() {
                    return Err(Gone);
                }
                input_open = false;
            }
        }
    }
}

/// From the client to the program, until there is no more. A program that doesn't take it any more is heard on.
async fn input(inbox: &Inbox, mut program: impl AsyncWrite + Unpin) -> Result<(), Gone> {
    let mut is_taken = true;
    while let Some(item) = inbox.next().await {
        let frames: Vec<Frame> = match item {
            Item::Data(bytes) if bytes.len() <= FRAME_BYTES_MAX => vec![Frame::Stdin(bytes)],
            Item::Data(bytes) => {
                let parts = bytes.chunks(FRAME_BYTES_MAX);
                parts.map(|part| Frame::Stdin(part.to_vec())).collect()
            }
            Item::Eof => vec![Frame::Stdin(Vec::new())],
            Item::Resize(size) => vec![Frame::Resize(size)],
            Item::Signal(number) => vec![Frame::Signal(number)],
        };
        for frame in frames {
            is_taken = is_taken && frame::write(&mut program, &frame).await.is_ok();
        }
    }
    // closed by the client: whoever still writes hears it
    let _ended = program.shutdown().await;
    Err(Gone)
}

/// From the program to the client, until it has ended.
async fn output(line: &Line, mut program: impl AsyncRead + Unpin) -> Result<(), Gone> {
    loop {
        match frame::read(&mut program).await {
            Ok(Some(Frame::Stdout(bytes))) => line.send(bytes).await?,
            Ok(Some(Frame::Stderr(bytes))) => line.send_error(bytes).await?,
            Ok(Some(Frame::Exit(exit))) => return line.tell(exit).await,
            Ok(Some(Frame::Stdin(_) | Frame::Resize(_) | Frame::Signal(_))) => {
                return line.fail("the rental doesn't keep to the protocol").await;
            }
            Ok(None) | Err(_) => {
                return line.fail("the connection to the rental was lost").await;
            }
        }
    }
}
