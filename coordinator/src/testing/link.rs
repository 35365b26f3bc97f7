//! A node's link in a test, without a socket: streams that the coordinator opens are answered by a script.
//!
//! - Exec: what comes in goes out again until its end, then the program ends with 0; `false` ends with 1 at once, `flood` writes without
//!   end, `missing` isn't there, `hang` says nothing.
//! - Dial: port 7 echoes; nobody listens at others.
//! - Sftp echoes; logs are [`ScriptedLink::entry`] 1 to 3, and those that are said later for who follows; samples are numbers.

use std::sync::Arc;

use serde_json::json;
use shared::{
    id::NodeId,
    link::{
        frame::{self, Exit, Frame},
        lines,
        open::{self, Entry, Exec, LogsQuery, Open, Opened, Output, code},
        session::{Role, Session, Started, Stream},
    },
    time::Timestamp,
};
use tokio::{
    io::{AsyncWriteExt as _, copy, duplex, split},
    sync::broadcast,
};
use tokio_util::sync::CancellationToken;

use super::TestApp;

/// Bytes of the connection that wait.
const WIRE_BYTES: usize = 64 * 1_024;

/// A link that is held at a coordinator until it is cut.
#[derive(Debug)]
pub struct ScriptedLink {
    cut: CancellationToken,
    gone: CancellationToken,
    said: broadcast::Sender<Entry>,
}

impl ScriptedLink {
    /// Links a node to a coordinator, as a link of its agent would be.
    ///
    /// # Panics
    /// Never.
    pub async fn hold(test: &TestApp, node: NodeId) -> Self {
        let (near, far) = duplex(WIRE_BYTES);
        let ours = Session::start(far, Role::Client);
        let theirs = Session::start(near, Role::Server);
        let (cut, gone) = (CancellationToken::new(), CancellationToken::new());
        let said = broadcast::Sender::new(64);
        tokio::spawn(serve(ours, said.clone(), cut.clone()));
        let gateway = Arc::clone(&test.app.gateway);
        let held = gateway.links.hold(node, theirs.session.clone());
        gateway.note(&held).await;
        let (stop, ended) = (cut.clone(), gone.clone());
        tokio::spawn(async move {
            tokio::select! {
                _ = theirs.driver => {}
                () = held.replaced() => {}
                () = stop.cancelled() => {}
            }
            let serial = held.serial;
            drop(held);
            gateway.forget(node, serial).await;
            ended.cancel();
        });
        Self { cut, gone, said }
    }

    /// Cuts the link in the middle of whatever it carries; returns when the coordinator has let it go.
    pub async fn cut(&self) {
        self.cut.cancel();
        self.gone.cancelled().await;
    }

    /// Returns when the coordinator has let it go.
    pub async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// The rental writes a line; who follows its logs gets it.
    pub fn say(&self, second: i64) {
        // nobody may follow
        drop(self.said.send(Self::entry(second)));
    }

    /// A line of the logs.
    #[must_use]
    pub fn entry(second: i64) -> Entry {
        Entry {
            at: Timestamp::from_secs(1_800_000_000 + second),
            stream: if second % 2 == 0 {
                Output::Stderr
            } else {
                Output::Stdout
            },
            line: format!("line {second}"),
        }
    }
}

async fn serve<D>(started: Started<D>, said: broadcast::Sender<Entry>, cut: CancellationToken)
where
    D: Future<Output = std::io::Result<()>>,
{
    let Started {
        session,
        mut accepted,
        driver,
    } = started;
    let take_in = async {
        while let Some(stream) = accepted.recv().await {
            tokio::spawn(answer(stream, said.clone()));
        }
    };
    tokio::select! {
        _ = driver => {}
        () = take_in => {}
        () = cut.cancelled() => {}
    }
    drop(session);
}

async fn answer(mut stream: Stream, said: broadcast::Sender<Entry>) {
    let answered = async {
        let open: Open = open::receive(&mut stream).await?;
        if let Some((code, detail)) = refused(&open) {
            return open::send(&mut stream, &Opened::refused(code, detail)).await;
        }
        open::send(&mut stream, &Opened::Ready {}).await?;
        match open {
            Open::Control {} => Ok(()),
            Open::Logs { query, .. } => logs(&mut stream, &query, said.subscribe()).await,
            Open::Exec { exec, .. } => run(&mut stream, &exec).await,
            Open::Sftp { .. } | Open::Dial { .. } => echo(stream).await,
            Open::Metrics { .. } => {
                for number in 1..=3 {
                    lines::write(&mut stream, &json!({"n": number})).await?;
                }
                stream.shutdown().await
            }
        }
    };
    if let Err(error) = answered.await {
        tracing::debug!(%error, "a scripted stream broke");
    }
}

fn refused(open: &Open) -> Option<(&'static str, &'static str)> {
    match open {
        Open::Dial { port, .. } if *port != 7 => {
            Some((code::NOT_CONNECTED, "nobody listens there"))
        }
        Open::Exec { exec, .. } if exec.command == ["missing"] => {
            Some((code::NOT_STARTED, "missing: there is no such program"))
        }
        _ => None,
    }
}

async fn logs(
    stream: &mut Stream,
    query: &LogsQuery,
    mut said: broadcast::Receiver<Entry>,
) -> std::io::Result<()> {
    let is_wanted = |entry: &Entry| {
        query.since.is_none_or(|since| entry.at >= since)
            && query.stream.is_none_or(|output| entry.stream == output)
            && query
                .search
                .as_ref()
                .is_none_or(|text| entry.line.contains(text))
    };
    let kept: Vec<Entry> = (1..=3).map(ScriptedLink::entry).filter(is_wanted).collect();
    let tail = query.tail.and_then(|tail| usize::try_from(tail).ok());
    let skipped = tail.map_or(0, |tail| kept.len().saturating_sub(tail));
    for entry in &kept[skipped..] {
        lines::write(stream, entry).await?;
    }
    while query.follow
        && let Ok(entry) = said.recv().await
    {
        if is_wanted(&entry) {
            lines::write(stream, &entry).await?;
        }
    }
    stream.shutdown().await
}

async fn run(stream: &mut Stream, exec: &Exec) -> std::io::Result<()> {
    let exit = match exec.command.first().map(String::as_str) {
        Some("false") => Exit::Code(1),
        Some("flood") => loop {
            frame::write(stream, &Frame::Stdout(vec![b'x'; frame::FRAME_BYTES_MAX])).await?;
        },
        Some("hang") => {
            while frame::read(stream).await?.is_some() {}
            return Ok(());
        }
        _ => {
            while let Some(Frame::Stdin(bytes)) = frame::read(stream).await? {
                if bytes.is_empty() {
                    break;
                }
                frame::write(stream, &Frame::Stdout(bytes)).await?;
            }
            Exit::Code(0)
        }
    };
    frame::write(stream, &Frame::Exit(exit)).await?;
    stream.shutdown().await
}

async fn echo(stream: Stream) -> std::io::Result<()> {
    let (mut from, mut to) = split(stream);
    copy(&mut from, &mut to).await?;
    to.shutdown().await
}
