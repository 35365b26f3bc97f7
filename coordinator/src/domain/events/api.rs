//! `GET /events`: the stream as server-sent events, resumable by `Last-Event-ID`.
//!
//! # Invariants
//! - A viewer sees what concerns them and nothing else, and stops seeing it when their session ends.
//! - A slow reader costs one page of memory: it is served from the table until it has caught up.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event as Sse, Sse as SseResponse},
    },
};
use futures_util::{Stream, stream};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, MissedTickBehavior},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Feed, StoredEvent, Viewer};
use crate::{
    app::App,
    context::{Actor, OpCtx},
    error::{Error, Kind, Result},
    http::{Problems, credentials},
};

/// A comment is sent after so much silence, and the session is looked at again.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The routes of this slice.
#[must_use]
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(follow))
}

/// Follows what happens to one's rentals and nodes, as server-sent events: `id` is the place in the stream, `event` what
/// happened, `data` a JSON object. Send the last `id` as `Last-Event-ID` to go on without a gap; without it the stream
/// starts now.
#[utoipa::path(get, path = "/events", operation_id = "follow_events", tag = "live",
    params(("Last-Event-ID" = Option<i64>, Header, description = "The id of the last event that was received")),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = [])),
    responses((status = 200, description = "A stream without end", body = String, content_type = "text/event-stream"),
        Problems))]
async fn follow(State(app): State<Arc<App>>, ctx: OpCtx, headers: HeaderMap) -> Result<Response> {
    let viewer = Viewer::of(&ctx)?;
    let after = last_event_id(&headers)?;
    let place = Arc::clone(&app.events.streams)
        .try_acquire_owned()
        .map_err(|_| {
            Error::new(
                Kind::Unavailable { retry_after_s: 10 },
                "too_many_streams",
                "too many streams are open; try again",
            )
        })?;
    let follower = Follower {
        feed: Feed::open(&app.db, &app.events, after).await?,
        heartbeat: heartbeat(),
        app,
        viewer,
        actor: ctx.actor,
        _place: Place::new(place),
    };
    // a proxy that collects before it passes on would hold events back
    let unbuffered = [("x-accel-buffering", "no")];
    Ok((unbuffered, SseResponse::new(follower.stream())).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|seq| *seq >= 0)
        .map(Some)
        .ok_or_else(|| {
            Error::bad_request(
                "last_event_id",
                "Last-Event-ID is the id of an event, a number",
            )
        })
}

fn heartbeat() -> tokio::time::Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

struct Follower {
    app: Arc<App>,
    viewer: Viewer,
    actor: Actor,
    feed: Feed,
    heartbeat: tokio::time::Interval,
    _place: Place,
}

/// One of so many streams, counted while it is open.
struct Place(#[expect(dead_code, reason = "it is held")] OwnedSemaphorePermit);

impl Place {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        metrics::gauge!("event_streams").increment(1.0);
        Self(permit)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        metrics::gauge!("event_streams").decrement(1.0);
    }
}

impl Follower {
    fn stream(self) -> impl Stream<Item = std::result::Result<Sse, Infallible>> {
        // the head goes out with the first byte: a client knows at once that it is connected
        let hello = Sse::default()
            .comment("ramarket")
            .retry(Duration::from_secs(2));
        stream::unfold((self, Some(hello)), |(mut follower, hello)| async move {
            let next = match hello {
                Some(hello) => Some(hello),
                None => follower.next().await,
            };
            next.map(|event| (Ok(event), (follower, None)))
        })
    }

    /// What to send next; nothing ends the stream, and the client comes again with its `Last-Event-ID`.
    async fn next(&mut self) -> Option<Sse> {
        let shutdown = self.app.shutdown.clone();
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return None,
                _ = self.heartbeat.tick() => return Box::pin(self.beat()).await,
                event = self.feed.next() => event,
            };
            match event {
                Ok(Some(event)) if self.viewer.sees(&event) => return to_sse(&event),
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => {
                    tracing::warn!(%error, "event stream ended by a failure");
                    return None;
                }
            }
        }
    }

    async fn beat(&self) -> Option<Sse> {
        match credentials::still_holds(&self.app, &self.actor).await {
            Ok(true) => Some(Sse::default().comment("")),
            Ok(false) => None,
            Err(error) => {
                tracing::warn!(%error, "event stream ended: its session can't be checked");
                None
            }
        }
    }
}

fn to_sse(event: &StoredEvent) -> Option<Sse> {
    let sse = Sse::default()
        .id(event.seq.to_string())
        .event(&event.kind)
        .json_data(event);
    match sse {
        Ok(sse) => Some(sse),
        Err(error) => {
            tracing::error!(event.id = %event.id, %error, "event can't be written");
            None
        }
    }
}
