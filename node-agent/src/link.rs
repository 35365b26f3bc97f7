//! The link: an outbound WebSocket that carries streams. On the first the coordinator says "beat now", so that a paid rental starts at
//! once; the others reach rentals.
//!
//! # Invariants
//! - The agent works without it: what it says on its own account can at worst cause an early beat.
//! - A dead link is noticed within [`SILENCE_MAX`] and made anew within seconds; only one that is refused at the door waits longer.
//! - Streams end with their link; what they reached goes on.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use reqwest::{
    StatusCode, Upgraded,
    header::{
        CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use shared::{
    clock::Clock,
    http_signature::Request,
    link::{
        SILENCE_MAX, SUBPROTOCOL, alive,
        lines::{self, Lines},
        open::{self, Control, Open, Opened, code},
        session::{Role, STREAMS_MAX, Session, Started, Stream},
        socket::{ByteSocket, Carried, MESSAGE_BYTES_MAX},
    },
};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{self, WebSocketConfig},
    },
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{http, identity::Identity, report::Reporter, streams::Streams};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A refusal's problem document.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
const PAUSE_MIN_MS: u64 = 500;
const PAUSE_MAX_MS: u64 = 5_000;
/// Who is refused at the door comes again at most so rarely.
const REFUSED_PAUSE_MAX_MS: u64 = 60_000;
/// A link that lived this long is no attempt that failed.
const GOOD_AFTER: Duration = Duration::from_secs(5);

/// Keeps the link up until `shutdown`; what the coordinator opens about rentals is for `streams`.
///
/// # Errors
/// The HTTP client can't be set up.
pub fn start(
    identity: Identity,
    (reporter, streams): (Reporter, Arc<Streams>),
    clock: Arc<dyn Clock>,
    shutdown: &CancellationToken,
    tracker: &TaskTracker,
) -> anyhow::Result<()> {
    let link = Link {
        client: http::link_client(&identity.url)?,
        identity,
        reporter,
        streams,
        clock,
    };
    let shutdown = shutdown.clone();
    tracker.spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = Box::pin(link.run()) => {}
        }
    });
    Ok(())
}

struct Link {
    client: reqwest::Client,
    identity: Identity,
    reporter: Reporter,
    streams: Arc<Streams>,
    clock: Arc<dyn Clock>,
}

impl Link {
    async fn run(self) {
        let mut beacon = self.reporter.beacon.clone();
        let mut failures = 0_u32;
        let mut said = false;
        loop {
            // the coordinator knows this node's beacon only after a beat
            if beacon.wait_for(|beacon| !beacon.is_empty()).await.is_err() {
                return;
            }
            let started = Instant::now();
            let (end, refused) = match self.connect().await {
                Ok(socket) => {
                    tracing::info!("link is up");
                    said = false;
                    (self.keep(socket).await, false)
                }
                Err(error) => {
                    let refused = is_refusal(&error);
                    (error, refused)
                }
            };
            if !said {
                tracing::info!(
                    reason = format!("{end:#}"),
                    "no link; beats go on at their interval"
                );
                said = true;
            }
            failures = if started.elapsed() >= GOOD_AFTER && !refused {
                1
            } else {
                failures.saturating_add(1)
            };
            sleep(Duration::from_millis(pause_ms(failures, refused, random()))).await;
        }
    }

    async fn connect(&self) -> anyhow::Result<WebSocketStream<Upgraded>> {
        timeout(HANDSHAKE_TIMEOUT, self.handshake())
            .await
            .context("no answer in time")?
    }

    async fn handshake(&self) -> anyhow::Result<WebSocketStream<Upgraded>> {
        let beacon = self.reporter.beacon.borrow().clone();
        let identity = &self.identity;
        let request = Request {
            method: "GET",
            target_uri: &identity.public_url.link(identity.node_id, &beacon),
            body: None,
        };
        let server_clock = *self.reporter.server_clock.borrow();
        let created_s = server_clock.now(self.clock.as_ref()).as_secs();
        let signature = http::signature_headers(identity, &request, created_s)?;
        let key = generate_key();
        let response = self
            .client
            .get(identity.url.link(identity.node_id, &beacon))
            .headers(signature)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key)
            .header(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
            .send()
            .await
            .map_err(|error| http::unreachable(&error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status();
            http::answer(response, REFUSAL_BYTES_MAX).await?;
            return Err(bad(format!("{status} instead of a WebSocket")));
        }
        let said = |name: HeaderName| response.headers().get(name)?.to_str().ok();
        if said(SEC_WEBSOCKET_ACCEPT) != Some(derive_accept_key(key.as_bytes()).as_str()) {
            return Err(bad("it isn't that of a WebSocket".to_owned()));
        }
        if said(SEC_WEBSOCKET_PROTOCOL) != Some(SUBPROTOCOL) {
            return Err(bad(format!(
                "it doesn't speak {SUBPROTOCOL}: is it older than this agent?"
            )));
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(MESSAGE_BYTES_MAX)
            .write_buffer_size(MESSAGE_BYTES_MAX)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let upgraded = response.upgrade().await?;
        Ok(WebSocketStream::from_raw_socket(upgraded, protocol::Role::Client, Some(config)).await)
    }

    /// Serves what the coordinator opens until the link ends; returns why it did.
    async fn keep(&self, socket: WebSocketStream<Upgraded>) -> anyhow::Error {
        let socket = ByteSocket::new(socket, Message::Binary, carried);
        let (socket, silence) = alive::listen(socket);
        let Started {
            session,
            accepted,
            driver,
        } = Session::start(socket, Role::Client);
        let end = tokio::select! {
            ended = driver => match ended {
                Ok(()) => anyhow::anyhow!("the coordinator closed the link"),
                Err(error) => error.into(),
            },
            () = silence.lasts(SILENCE_MAX) => {
                anyhow::anyhow!("nothing was heard for {} s", SILENCE_MAX.as_secs())
            }
            () = self.take_in(accepted) => anyhow::anyhow!("the link's streams ended"),
        };
        drop(session);
        end
    }

    /// Serves each stream; what still runs when this is dropped ends with it.
    async fn take_in(&self, mut accepted: mpsc::Receiver<Stream>) {
        let mut served = JoinSet::new();
        loop {
            tokio::select! {
                stream = accepted.recv() => match stream {
                    Some(stream) if served.len() < STREAMS_MAX => {
                        let nudge = Arc::clone(&self.reporter.nudge);
                        served.spawn(serve(stream, nudge, Arc::clone(&self.streams)));
                    }
                    // as many as may be: dropping it resets it
                    Some(_) => {}
                    None => return,
                },
                Some(ended) = served.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a stream's task failed");
                    }
                }
            }
        }
    }
}

async fn serve(mut stream: Stream, nudge: Arc<Notify>, streams: Arc<Streams>) {
    let opened = match open::receive::<Open>(&mut stream).await {
        Ok(Open::Control {}) => return hear(stream, &nudge).await,
        Ok(open) => return streams.serve(open, stream).await,
        // of a newer coordinator, or cut
        Err(error) => Opened::refused(code::NOT_SUPPORTED, error.to_string()),
    };
    if let Err(error) = open::send(&mut stream, &opened).await {
        tracing::debug!(%error, "a stream ended before it was answered");
    }
}

/// The control stream: passes nudges on and says that we are here.
async fn hear(mut stream: Stream, nudge: &Notify) {
    let heard = async {
        open::send(&mut stream, &Opened::Ready {}).await?;
        let mut lines = Lines::new(stream);
        while let Some(control) = lines.next::<Control>().await? {
            match control {
                Control::Beat => nudge.notify_one(),
                Control::Ping => lines::write(lines.stream(), &Control::Pong).await?,
                Control::Pong => {}
            }
        }
        std::io::Result::Ok(())
    };
    if let Err(error) = heard.await {
        tracing::debug!(%error, "the control stream ended");
    }
}

fn bad(why: String) -> anyhow::Error {
    http::RequestError::BadAnswer(why).into()
}

/// What a message brings to the session.
fn carried(message: Message) -> Carried {
    match message {
        Message::Binary(bytes) => Carried::Bytes(bytes),
        Message::Ping(_) | Message::Pong(_) => Carried::Nothing,
        Message::Close(_) => Carried::End,
        Message::Text(_) | Message::Frame(_) => Carried::Violation,
    }
}

/// Whether the coordinator was there and said no.
fn is_refusal(error: &anyhow::Error) -> bool {
    use http::RequestError::{BadAnswer, Refused, Unreachable};
    match error.downcast_ref() {
        // it is busy, or starts
        Some(Refused { status, .. }) => *status < 500,
        Some(BadAnswer(_)) => true,
        Some(Unreachable(_)) | None => false,
    }
}

/// Doubles from half a second to five seconds, or for who is refused to a minute, of which at least half is waited.
fn pause_ms(failures: u32, refused: bool, random: u64) -> u64 {
    let longest = if refused {
        REFUSED_PAUSE_MAX_MS
    } else {
        PAUSE_MAX_MS
    };
    let whole = ((2 * PAUSE_MIN_MS) << failures.clamp(1, 7).saturating_sub(1)).min(longest);
    whole / 2 + random % (whole / 2 + 1)
}

fn random() -> u64 {
    http::random_hex(4)
        .ok()
        .and_then(|hex| u64::from_str_radix(&hex, 16).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_within_bounds() {
        for (refused, longest) in [(false, PAUSE_MAX_MS), (true, REFUSED_PAUSE_MAX_MS)] {
            for failures in [1, 2, 6, u32::MAX] {
                for random in [0, 1, u64::MAX] {
                    let pause = pause_ms(failures, refused, random);
                    assert!((PAUSE_MIN_MS..=longest).contains(&pause), "{pause}");
                }
            }
            assert!(pause_ms(6, refused, 0) > pause_ms(1, refused, u64::MAX));
        }
        assert!(pause_ms(7, true, 0) > PAUSE_MAX_MS);
    }

    #[test]
    fn who_is_refused_isnt_in_a_hurry() {
        let refused = |status| {
            let refused = http::RequestError::Refused {
                status,
                code: "link_version".to_owned(),
                detail: String::new(),
                recover: None,
                retry_after_s: None,
            };
            is_refusal(&anyhow::Error::from(refused))
        };
        assert!(refused(400) && refused(401) && !refused(503));
        let away = http::RequestError::Unreachable(String::new());
        assert!(!is_refusal(&anyhow::Error::from(away)));
    }
}
