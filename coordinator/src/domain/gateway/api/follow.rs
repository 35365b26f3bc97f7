//! Lines from a rental's node: as a page, or as server-sent events while they come.
//!
//! # Invariants
//! - Of what a client doesn't take there are at most [`WAITING_MAX`] events in memory; a client that takes nothing is dropped.
//! - A page's memory is bounded by its text, and its stream keeps its place until the answer is made.

use std::{convert::Infallible, time::Duration};

use axum::response::{
    IntoResponse as _, Response,
    sse::{Event as Sse, Sse as SseResponse},
};
use futures_util::stream;
use serde::de::DeserializeOwned;
use shared::link::lines::Lines;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use super::{
    super::reached::Reached,
    pass::Pass,
    watch::{End, Watch},
};
use crate::error::{Error, Kind, Result};

/// Events that wait for a client.
const WAITING_MAX: usize = 8;
/// A comment is sent after so much silence.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Lines of a page.
pub(super) const PAGE_LINES_MAX: usize = 10_000;
/// Bytes of a page's lines.
const PAGE_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// A page is there within this.
const PAGE_TIME_MAX: Duration = Duration::from_secs(30);

/// Lines that were there, oldest first.
#[derive(Debug)]
pub(super) struct Page<T> {
    pub(super) lines: Vec<T>,
    /// Whether there was more than fits.
    pub(super) more: bool,
    /// For whoever makes an answer of it: until that is made it is memory that counts.
    pub(super) place: Lines<Reached>,
}

/// What is there now; `bytes` is the size of a line.
pub(super) async fn page<T: DeserializeOwned>(
    stream: Reached,
    bytes: impl Fn(&T) -> usize,
) -> Result<Page<T>> {
    let mut lines = Lines::new(stream);
    let read = async {
        let (mut page, mut size) = (Vec::new(), 0);
        while let Some(line) = lines.next::<T>().await? {
            size += bytes(&line);
            if page.len() == PAGE_LINES_MAX || size > PAGE_BYTES_MAX {
                return Ok((page, true));
            }
            page.push(line);
        }
        std::io::Result::Ok((page, false))
    };
    let broken = |why: String| {
        tracing::debug!(why, "what a rental's node keeps couldn't be read");
        Error::new(
            Kind::Unavailable { retry_after_s: 5 },
            "node_unreachable",
            "the connection to the rental's node broke: try again",
        )
    };
    match timeout(PAGE_TIME_MAX, read).await {
        Ok(Ok((page, more))) => Ok(Page {
            lines: page,
            more,
            place: lines,
        }),
        Ok(Err(error)) => Err(broken(error.to_string())),
        Err(_) => Err(broken("it took too long".to_owned())),
    }
}

/// Lines as events, as `event` makes them, until there are no more; `end` comes last, or `cut` when they broke off.
pub(super) fn follow<T, F>(pass: Pass, stream: Reached, event: F) -> Response
where
    T: DeserializeOwned + Send + 'static,
    F: FnMut(T) -> Option<Sse> + Send + 'static,
{
    let (events, taken) = mpsc::channel(WAITING_MAX);
    let tracker = pass.app.background.clone();
    tracker.spawn(send(pass, stream, event, events));
    let body = stream::unfold(taken, |mut taken| async move {
        let next = taken.recv().await?;
        Some((Ok::<_, Infallible>(next), taken))
    });
    // a proxy that collects before it passes on would hold events back
    let unbuffered = [("x-accel-buffering", "no")];
    (unbuffered, SseResponse::new(body)).into_response()
}

async fn send<T, F>(pass: Pass, stream: Reached, mut event: F, events: mpsc::Sender<Sse>)
where
    T: DeserializeOwned,
    F: FnMut(T) -> Option<Sse>,
{
    let watch = Watch::patient(pass);
    let mut lines = Lines::new(stream);
    let mut keepalive = interval_at(Instant::now() + KEEPALIVE, KEEPALIVE);
    keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // the head goes out with the first byte: a client knows at once that it is connected
    let hello = Sse::default()
        .comment("ramarket")
        .retry(Duration::from_secs(2));
    let mut next = Some(hello);
    let mut over = Box::pin(watch.over());
    let end = loop {
        if let Some(event) = next.take() {
            match timeout(watch.stall(), events.send(event)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => break End::Gone,
                Err(_) => break End::Stalled,
            }
        }
        next = tokio::select! {
            end = &mut over => break end,
            () = events.closed() => break End::Gone,
            _ = keepalive.tick() => Some(Sse::default().comment("")),
            line = lines.next::<T>() => match line {
                Ok(Some(line)) => event(line),
                Ok(None) => break End::Ended,
                Err(error) => {
                    tracing::debug!(%error, "a rental's node broke off");
                    break End::Cut;
                }
            }
        };
    };
    let last = match end {
        End::Ended => Some("end"),
        End::Cut => Some("cut"),
        _ => None,
    };
    if let Some(last) = last {
        // whoever takes nothing doesn't miss it
        drop(
            timeout(
                watch.stall(),
                events.send(Sse::default().event(last).data("{}")),
            )
            .await,
        );
    }
    watch.ended("events", end);
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use shared::link::open::Open;

    use super::*;
    use crate::testing::{TestApp, link::ScriptedLink, market::Market};

    #[tokio::test]
    async fn a_page_keeps_its_place_until_it_is_let_go_of() {
        let mut market = Market::open(TestApp::new().await).await;
        let rental_id = market.run(600).await;
        let _link = ScriptedLink::hold(&market.test, market.node.id).await;
        let gateway = &market.test.app.gateway;
        let open = Open::Metrics {
            rental_id,
            follow: false,
        };
        let stream = gateway.open(rental_id, &open).await.expect("a stream");
        let page = page(stream, |_: &Value| 1).await.expect("a page");
        assert_eq!((page.lines.len(), page.more), (3, false));
        assert_eq!(gateway.open_streams(), 1);
        drop(page);
        assert_eq!(gateway.open_streams(), 0);
    }
}
