//! Channels that carry bytes as they are: files by SFTP, forwarded connections.
//!
//! # Invariants
//! - Either side may end its direction and go on in the other; what is left is carried before the end is.
//! - A forward is answered only once the rental has answered.
//! - Once both directions of a forward have ended, most clients close it, and those that wait for us (`ssh -W`) are given a moment to: a
//!   channel that we close is remembered by the library as long as its connection lives.

use std::time::Duration;

use russh::{ChannelOpenFailure, server::ChannelOpenHandle};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split},
    time::timeout,
};

use super::{
    Opening, Stream,
    inbox::{Inbox, Item},
    program::{Gone, Line},
};

/// Read from a rental at once.
const READ_BYTES: usize = 32 * 1_024;

/// A client that closes forwards by itself has done it by then.
const CLOSED_WITHIN: Duration = Duration::from_millis(500);

/// How what a rental says came to its end.
enum End {
    Said,
    Broken,
}

/// Serves a subsystem's channel: its end is the program's.
pub(super) async fn serve_subsystem(line: Line, opening: Opening) {
    let ended = line.ended.clone();
    let served = async {
        let stream = match opening.await {
            Ok(stream) => stream,
            Err(error) => return line.fail(error.detail()).await,
        };
        let (reader, writer) = split(stream);
        let (input, output) = (input(&line.inbox, writer), output(&line, reader));
        tokio::pin!(input, output);
        let end = tokio::select! {
            end = &mut output => end?,
            taken = &mut input => {
                taken?;
                tokio::select! {
                    end = output => end?,
                    () = line.inbox.closed() => return Err(Gone),
                }
            }
        };
        match end {
            End::Said => line.finish(0).await,
            End::Broken => line.fail("the connection to the rental was lost").await,
        }
    };
    // a client that has left needs no word
    let _left: Option<Result<(), Gone>> = ended.run_until_cancelled(served).await;
    line.inbox.close();
}

/// Serves a forward's channel.
pub(super) async fn serve_forward(line: Line, opening: Opening, reply: ChannelOpenHandle) {
    let ended = line.ended.clone();
    let served = async {
        let stream = match opening.await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(%error, "forward refused");
                reply.reject(ChannelOpenFailure::ConnectFailed).await;
                return Ok(());
            }
        };
        reply.accept().await;
        let (reader, writer) = split(stream);
        let back = async {
            match output(&line, reader).await? {
                End::Said => line.writer.eof().await.map_err(Gone::from),
                End::Broken => Err(Gone),
            }
        };
        let whole = tokio::select! {
            both = async { tokio::try_join!(input(&line.inbox, writer), back) } => both.is_ok(),
            () = line.inbox.closed() => false,
        };
        if whole {
            let _waits_for_us = timeout(CLOSED_WITHIN, line.inbox.closed()).await;
        }
        // nothing happens if the client closed it
        line.writer.close().await.map_err(Gone::from)
    };
    let _left: Option<Result<(), Gone>> = ended.run_until_cancelled(served).await;
    line.inbox.close();
}

/// From the client to the rental, until its end, or that takes no more.
async fn input(inbox: &Inbox, mut rental: WriteHalf<Stream>) -> Result<(), Gone> {
    while let Some(item) = inbox.next().await {
        match item {
            Item::Data(bytes) => {
                if rental.write_all(&bytes).await.is_err() || rental.flush().await.is_err() {
                    return Ok(());
                }
            }
            Item::Eof => {
                // a rental that is gone is told by the other direction
                let _gone = rental.shutdown().await;
                return Ok(());
            }
            Item::Resize(_) | Item::Signal(_) => {}
        }
    }
    Err(Gone)
}

/// From the rental to the client, until the rental's end.
async fn output(line: &Line, mut rental: ReadHalf<Stream>) -> Result<End, Gone> {
    loop {
        let mut bytes = Vec::with_capacity(READ_BYTES);
        match rental.read_buf(&mut bytes).await {
            Ok(0) => return Ok(End::Said),
            Err(_) => return Ok(End::Broken),
            Ok(_) => line.send(bytes).await?,
        }
    }
}
