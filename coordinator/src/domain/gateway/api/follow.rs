//! Lines from a rental's node: as a page, or as server-sent events while they come.
//!
//! # Invariants
//! - Of what a client doesn't take there are at most [`WAITING_MAX`] events in memory; a client that takes nothing is dropped.

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

/// What is there now, and whether there was more than a page holds; `bytes` is the size of a line.
pub(super) async fn page<T: DeserializeOwned>(
    stream: Reached,
    bytes: impl Fn(&T) -> usize,
) -> Result<(Vec<T>, bool)> {
    let read = async {
        let mut lines = Lines::new(stream);
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
        Ok(Ok(page)) => Ok(page),
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
