//! How long a key takes: from the client's write of a byte until the program in the terminal has written it back.
//!
//! # Invariants
//! - The program is `cat` in a raw terminal without echo: each key goes into it and out again, at both ends of the comparison.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, ChildStdin, ChildStdout},
    time::{Instant, interval, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{ClientRequestBuilder, Message},
};

use super::target::Target;

/// As somebody types who types fast; between two of them everything has gone to sleep.
const PAUSE: Duration = Duration::from_millis(10);
/// An echo that takes longer is none.
const ECHO_TIME_MAX: Duration = Duration::from_secs(20);
const READY: &str = "ready";
const COMMAND: &str = "stty raw -echo; echo ready; exec cat";

/// A terminal somewhere.
#[expect(clippy::large_enum_variant, reason = "there are a few of them")]
pub(crate) enum Keyboard {
    /// By the stock SSH client.
    Ssh {
        _process: Child,
        input: ChildStdin,
        output: ChildStdout,
    },
    /// By the WebSocket that browsers use.
    Socket(WebSocketStream<MaybeTlsStream<TcpStream>>),
}

impl Keyboard {
    pub(crate) async fn ssh(target: &Target) -> Result<Self> {
        let mut process = target
            .ssh(&["-tt"], COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut keyboard = Self::Ssh {
            input: process.stdin.take().context("no input")?,
            output: process.stdout.take().context("no output")?,
            _process: process,
        };
        keyboard.until_ready().await?;
        Ok(keyboard)
    }

    pub(crate) async fn socket(url: &str, token: &str) -> Result<Self> {
        let request = ClientRequestBuilder::new(url.parse()?)
            .with_header("Authorization", format!("Bearer {token}"));
        let (mut socket, _) = connect_async(request).await?;
        let wanted = json!({
            "command": ["sh", "-c", COMMAND],
            "terminal": {"term": "vt100", "size": {"columns": 80, "rows": 24}},
        });
        socket.send(Message::text(wanted.to_string())).await?;
        let mut keyboard = Self::Socket(socket);
        keyboard.until_ready().await?;
        Ok(keyboard)
    }

    /// Milliseconds of each of so many keys, least first.
    pub(crate) async fn type_keys(&mut self, count: usize) -> Result<Vec<f64>> {
        let mut took = Vec::with_capacity(count);
        let mut pause = interval(PAUSE);
        pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for number in 0..count {
            pause.tick().await;
            let key = b'a' + u8::try_from(number % 26)?;
            let begun = Instant::now();
            self.press(key).await?;
            let echo = timeout(ECHO_TIME_MAX, self.shown()).await;
            let echo = echo.context("a key's echo didn't come")??;
            took.push(begun.elapsed().as_secs_f64() * 1e3);
            ensure!(echo == [key], "{key} came back as {echo:?}");
        }
        took.sort_by(f64::total_cmp);
        Ok(took)
    }

    async fn until_ready(&mut self) -> Result<()> {
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains(&format!("{READY}\n")) {
            let more = timeout(ECHO_TIME_MAX, self.shown()).await;
            said.extend(more.context("the terminal isn't ready")??);
        }
        Ok(())
    }

    async fn press(&mut self, key: u8) -> Result<()> {
        match self {
            Self::Ssh { input, .. } => {
                input.write_all(&[key]).await?;
                input.flush().await?;
            }
            Self::Socket(socket) => {
                let frame = vec![0, 0, 0, 0, 1, key];
                socket.send(Message::binary(frame)).await?;
            }
        }
        Ok(())
    }

    /// The next bytes that the terminal shows.
    async fn shown(&mut self) -> Result<Vec<u8>> {
        match self {
            Self::Ssh { output, .. } => {
                let mut bytes = vec![0; 4_096];
                let count = output.read(&mut bytes).await?;
                ensure!(count > 0, "the client has ended");
                bytes.truncate(count);
                Ok(bytes)
            }
            Self::Socket(socket) => loop {
                match socket.next().await.context("the socket has ended")?? {
                    Message::Binary(frame) => {
                        let head = frame.get(..5).context("no frame")?;
                        ensure!(head[0] == 1, "no output, but {frame:?}");
                        return Ok(frame[5..].to_vec());
                    }
                    Message::Ping(_) | Message::Pong(_) => {}
                    other => anyhow::bail!("{other:?} instead of output"),
                }
            },
        }
    }
}

/// The value below which this share of sorted values lies.
pub(crate) fn percentile(sorted: &[f64], per_cent: usize) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted
        .get(last * per_cent / 100)
        .copied()
        .unwrap_or(f64::NAN)
}
