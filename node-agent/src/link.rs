//! The link: an outbound WebSocket on which the coordinator says "beat now", so that a paid rental starts at once.
//!
//! # Invariants
//! - It carries no data: whatever comes, the worst it can do is an early beat. The agent works without it.
//! - A dead link is noticed within [`SILENCE_MAX`] and made anew, with pauses that grow and have jitter.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::{
    StatusCode, Upgraded,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE},
};
use shared::{clock::Clock, http_signature::Request, wire::heartbeat::Nudge};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{http, identity::Identity, report::Reporter};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const PING_EVERY: Duration = Duration::from_secs(10);
/// After this long without a frame, pongs included, the link is dead.
const SILENCE_MAX: Duration = Duration::from_secs(25);
/// A nudge is a few bytes.
const MESSAGE_BYTES_MAX: usize = 4 * 1024;
/// A refusal's problem document.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
const PAUSE_MIN_MS: u64 = 1_000;
const PAUSE_MAX_MS: u64 = 30_000;
/// A link that lived this long wasn't refused at the door: pauses start over.
const GOOD_AFTER: Duration = Duration::from_secs(30);

/// Keeps the link up until `shutdown`.
///
/// # Errors
/// The HTTP client can't be set up.
pub fn start(
    identity: Identity,
    reporter: Reporter,
    clock: Arc<dyn Clock>,
    shutdown: &CancellationToken,
    tracker: &TaskTracker,
) -> anyhow::Result<()> {
    let link = Link {
        client: http::link_client(&identity.url)?,
        identity,
        reporter,
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
            let end = match self.connect().await {
                Ok(socket) => {
                    tracing::info!("link is up");
                    said = false;
                    self.listen(socket).await
                }
                Err(error) => error,
            };
            if !said {
                tracing::info!(
                    reason = format!("{end:#}"),
                    "no link; beats go on at their interval"
                );
                said = true;
            }
            failures = if started.elapsed() >= GOOD_AFTER {
                1
            } else {
                failures.saturating_add(1)
            };
            sleep(Duration::from_millis(pause_ms(failures, random()))).await;
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
            .send()
            .await
            .map_err(|error| http::unreachable(&error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let status = response.status();
            http::answer(response, REFUSAL_BYTES_MAX).await?;
            anyhow::bail!("the coordinator answered {status} instead of opening a WebSocket");
        }
        let accept = response
            .headers()
            .get(SEC_WEBSOCKET_ACCEPT)
            .and_then(|value| value.to_str().ok());
        anyhow::ensure!(
            accept == Some(derive_accept_key(key.as_bytes()).as_str()),
            "the answer isn't that of a WebSocket"
        );
        let config = WebSocketConfig::default()
            .read_buffer_size(MESSAGE_BYTES_MAX)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let upgraded = response.upgrade().await?;
        Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await)
    }

    /// Passes nudges on until the link ends; returns why it did.
    async fn listen(&self, mut socket: WebSocketStream<Upgraded>) -> anyhow::Error {
        let mut heard = Instant::now();
        let mut next_ping = heard + PING_EVERY;
        loop {
            tokio::select! {
                frame = socket.next() => match frame {
                    Some(Ok(message)) => {
                        heard = Instant::now();
                        self.hear(&message);
                    }
                    Some(Err(error)) => return error.into(),
                    None => return anyhow::anyhow!("the coordinator closed the link"),
                },
                () = sleep_until(next_ping) => {
                    next_ping += PING_EVERY;
                    // a peer that takes no bytes is as dead as a silent one
                    match timeout(PING_EVERY, socket.send(Message::Ping(Vec::new().into()))).await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => return error.into(),
                        Err(_) => return anyhow::anyhow!("the link takes no bytes any more"),
                    }
                }
                () = sleep_until(heard + SILENCE_MAX) => {
                    return anyhow::anyhow!("nothing was heard for {} s", SILENCE_MAX.as_secs());
                }
            }
        }
    }

    fn hear(&self, message: &Message) {
        if let Message::Text(text) = message {
            match serde_json::from_str::<Nudge>(text) {
                Ok(Nudge::Fetch) => self.reporter.nudge.notify_one(),
                // of a newer coordinator
                Err(error) => tracing::debug!(%error, "an unknown word on the link"),
            }
        }
    }
}

/// Doubles from one second to half a minute, of which at least half is waited.
fn pause_ms(failures: u32, random: u64) -> u64 {
    let whole = (PAUSE_MIN_MS << failures.clamp(1, 6).saturating_sub(1)).min(PAUSE_MAX_MS);
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
        for failures in [1, 2, 6, u32::MAX] {
            for random in [0, 1, u64::MAX] {
                let pause = pause_ms(failures, random);
                assert!(
                    (PAUSE_MIN_MS / 2..=PAUSE_MAX_MS).contains(&pause),
                    "{pause}"
                );
            }
        }
        assert!(pause_ms(6, 0) > pause_ms(1, u64::MAX));
    }
}
