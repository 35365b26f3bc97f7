//! A node's link in a test, without a socket: streams that the coordinator opens are answered by a script.
//!
//! - Exec: what comes in goes out again until its end, then the program ends with 0; `false` ends with 1 at once, `flood` writes without
//!   end, `missing` isn't there, `hang` says nothing.
//! - Dial: port 7 echoes, port 19 writes without end; port 80 answers each request with its own head, or echoes what is upgraded, port 81 never
//!   answers, port 82 stops in the middle, port 83 says that
//!   it is done and takes nothing; nobody listens at others.
//! - Sftp echoes; who searches the logs for `flood` gets lines without end; else logs are [`ScriptedLink::entry`] 1 to 3, and those that are said later for who follows; samples are numbers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

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
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy, duplex, split},
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
    script: Script,
}

#[derive(Debug, Clone)]
struct Script {
    said: broadcast::Sender<Entry>,
    flooded_bytes: Arc<AtomicU64>,
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
        let script = Script {
            said: broadcast::Sender::new(64),
            flooded_bytes: Arc::default(),
        };
        tokio::spawn(serve(ours, script.clone(), cut.clone()));
        let gateway = Arc::clone(&test.app.gateway);
        let held = gateway.hold(node, theirs.session.clone());
        gateway.note(&held).await;
        let (stop, ended) = (cut.clone(), gone.clone());
        tokio::spawn(async move {
            tokio::select! {
                _ = theirs.driver => {}
                () = held.replaced() => {}
                () = stop.cancelled() => {}
                () = gateway.keep_noted(&held) => {}
            }
            let serial = held.serial;
            drop(held);
            gateway.forget(node, serial).await;
            ended.cancel();
        });
        Self { cut, gone, script }
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
        drop(self.script.said.send(Self::entry(second)));
    }

    /// Bytes that were taken of what has no end.
    #[must_use]
    pub fn flooded_bytes(&self) -> u64 {
        self.script.flooded_bytes.load(Ordering::Relaxed)
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

impl Script {
    fn count(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.flooded_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

async fn serve<D>(started: Started<D>, script: Script, cut: CancellationToken)
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
            tokio::spawn(answer(stream, script.clone()));
        }
    };
    tokio::select! {
        _ = driver => {}
        () = take_in => {}
        () = cut.cancelled() => {}
    }
    drop(session);
}

async fn answer(mut stream: Stream, script: Script) {
    let answered = async {
        let open: Open = open::receive(&mut stream).await?;
        if let Some((code, detail)) = refused(&open) {
            return open::send(&mut stream, &Opened::refused(code, detail)).await;
        }
        open::send(&mut stream, &Opened::Ready {}).await?;
        match open {
            Open::Control {} => Ok(()),
            Open::Logs { query, .. } => logs(&mut stream, &query, &script).await,
            Open::Exec { exec, .. } => run(&mut stream, &exec, &script).await,
            Open::Dial { port: 19, .. } => loop {
                stream.write_all(&[b'x'; frame::FRAME_BYTES_MAX]).await?;
                script.count(frame::FRAME_BYTES_MAX);
            },
            Open::Dial { port: 80, .. } => web(stream).await,
            Open::Dial { port: 81, .. } => {
                while stream.read(&mut [0; 1_024]).await? > 0 {}
                Ok(())
            }
            Open::Dial { port: 82, .. } => half(stream).await,
            Open::Dial { port: 83, .. } => {
                stream.shutdown().await?;
                std::future::pending().await
            }
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
        Open::Dial { port, .. } if ![7, 19, 80, 81, 82, 83].contains(port) => {
            Some((code::NOT_CONNECTED, "nobody listens there"))
        }
        Open::Exec { exec, .. } if exec.command == ["missing"] => {
            Some((code::NOT_STARTED, "missing: there is no such program"))
        }
        _ => None,
    }
}

async fn logs(stream: &mut Stream, query: &LogsQuery, script: &Script) -> std::io::Result<()> {
    let mut said = script.said.subscribe();
    if query.search.as_deref() == Some("flood") {
        let mut line = ScriptedLink::entry(1);
        line.line = "x".repeat(frame::FRAME_BYTES_MAX);
        loop {
            lines::write(stream, &line).await?;
            script.count(line.line.len());
        }
    }
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

async fn run(stream: &mut Stream, exec: &Exec, script: &Script) -> std::io::Result<()> {
    let exit = match exec.command.first().map(String::as_str) {
        Some("false") => Exit::Code(1),
        Some("flood") => loop {
            frame::write(stream, &Frame::Stdout(vec![b'x'; frame::FRAME_BYTES_MAX])).await?;
            script.count(frame::FRAME_BYTES_MAX);
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

async fn head_of(stream: &mut Stream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A program that stops in the middle of its answer.
async fn half(mut stream: Stream) -> std::io::Result<()> {
    head_of(&mut stream).await?;
    let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf ";
    stream.write_all(begun).await?;
    while stream.read(&mut [0; 1_024]).await? > 0 {}
    Ok(())
}

/// A program that speaks HTTP/1.1, for one request.
async fn web(mut stream: Stream) -> std::io::Result<()> {
    let head = head_of(&mut stream).await?;
    if head.contains("upgrade: echo") {
        let answer =
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        stream.write_all(answer).await?;
        return echo(stream).await;
    }
    let answer = format!(
        "HTTP/1.1 200 OK\r\nset-cookie: theirs=1; Domain=apps.test; Path=/\r\ncontent-length: {}\r\n\r\n{head}",
        head.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
