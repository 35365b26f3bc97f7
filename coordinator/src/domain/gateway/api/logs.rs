//! `GET /rentals/{id}/logs`: what a rental wrote, as a page or as server-sent events.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse as _, Response, sse::Event as Sse},
};
use serde::{Deserialize, Serialize};
use shared::{
    id::RentalId,
    link::open::{Entry, LogsQuery, Open, Output},
    time::Timestamp,
};
use utoipa::{IntoParams, ToSchema};

use super::{
    super::access::Verb,
    follow::{self, PAGE_LINES_MAX, Page},
    pass,
};
use crate::{
    app::App,
    context::OpCtx,
    error::{Error, Result},
    http::{Json, Path, Problems, Query},
};

/// Lines from the end where nothing else is asked for.
const TAIL: u32 = 1_000;
const SEARCH_CHARS_MAX: usize = 256;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct LogsParams {
    /// Not before, by the node's clock.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// So many lines from the end, at most 10000; without it and `since`, 1000.
    tail: Option<u32>,
    /// `stdout` or `stderr`; without it, both.
    #[param(value_type = Option<String>)]
    stream: Option<Output>,
    /// Lines with this text only.
    search: Option<String>,
    /// Whether what is written from now on follows; the answer is a stream of events then.
    follow: Option<bool>,
    /// A ticket instead of credentials, for browsers.
    ticket: Option<String>,
}

/// A line that a rental wrote.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LogLine {
    /// When, by the node's clock.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// `stdout` or `stderr`.
    #[schema(value_type = String, example = "stdout")]
    stream: Output,
    /// Without its end.
    #[schema(example = "listening on port 8080")]
    line: String,
}

/// Lines, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LogsPage {
    /// The lines.
    items: Vec<LogLine>,
    /// Whether there were more than fit: ask again `since` the last one's time.
    more: bool,
}

impl From<Entry> for LogLine {
    fn from(entry: Entry) -> Self {
        Self {
            at: entry.at,
            stream: entry.stream,
            line: entry.line,
        }
    }
}

#[utoipa::path(
    get, path = "/rentals/{id}/logs", operation_id = "rental_logs", tag = "rentals",
    params(("id" = String, Path), LogsParams,
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was received")),
    description = "What a rental wrote, also after its end for as long as its node keeps it. With `follow=true`, or where `Accept` says \
        text/event-stream, as server-sent events: `line` with a line as JSON, at the end `end`, and `cut` when the node's connection broke. Send the \
        last `id` as `Last-Event-ID` to go on after it.",
    responses((status = 200, content((LogsPage = "application/json"), (crate::http::openapi::ServerSentEvent = "text/event-stream"))), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
pub(super) async fn logs(
    State(app): State<Arc<App>>,
    ctx: OpCtx,
    Path(id): Path<RentalId>,
    Query(params): Query<LogsParams>,
    headers: HeaderMap,
) -> Result<Response> {
    let streams = params.follow.unwrap_or_else(|| accepts_events(&headers));
    let after = Place::of(&headers)?;
    let query = params.query(streams, after)?;
    let pass = pass::admit(&app, ctx, id, Verb::Logs, params.ticket).await?;
    let open = Open::Logs {
        rental_id: id,
        query,
    };
    let stream = app.gateway.open(id, &open).await?;
    if streams || accepts_events(&headers) {
        let mut place = after.unwrap_or_default();
        let mut to_skip = place.count;
        place.count = 0;
        return Ok(follow::follow(pass, stream, move |entry: Entry| {
            place.pass(entry.at);
            if after.is_some_and(|after| entry.at.as_micros() == after.at_us) && to_skip > 0 {
                to_skip -= 1;
                return None;
            }
            let id = place.to_string();
            let event = Sse::default().id(id).event("line");
            event.json_data(LogLine::from(entry)).ok()
        }));
    }
    let page = follow::page(stream, |entry: &Entry| entry.line.len()).await?;
    let Page { lines, more, place } = page;
    let items = lines.into_iter().map(LogLine::from).collect();
    let answer = Json(LogsPage { items, more }).into_response();
    drop(place);
    Ok(answer)
}

/// The last lines that a rental wrote, at most `tail`, and whether there were more than fit, for whoever rents it.
///
/// # Errors
/// As of the API: 404, 409 and 503.
pub(crate) async fn recent(
    app: &Arc<App>,
    ctx: OpCtx,
    id: RentalId,
    tail: u32,
) -> Result<(Vec<Entry>, bool)> {
    pass::admit(app, ctx, id, Verb::Logs, None).await?;
    let query = LogsQuery {
        tail: Some(tail),
        ..LogsQuery::default()
    };
    let open = Open::Logs {
        rental_id: id,
        query,
    };
    let stream = app.gateway.open(id, &open).await?;
    let page = follow::page(stream, |entry: &Entry| entry.line.len()).await?;
    Ok((page.lines, page.more))
}

impl LogsParams {
    fn query(&self, follow: bool, after: Option<Place>) -> Result<LogsQuery> {
        let tail_max = u32::try_from(PAGE_LINES_MAX).unwrap_or(u32::MAX);
        if self.tail.is_some_and(|tail| tail > tail_max) {
            return Err(Error::invalid(
                "/tail",
                format!("ask for at most {tail_max} lines"),
            ));
        }
        let search = self.search.clone().filter(|text| !text.is_empty());
        if search
            .as_ref()
            .is_some_and(|text| text.chars().count() > SEARCH_CHARS_MAX)
        {
            let why = format!("search for at most {SEARCH_CHARS_MAX} characters");
            return Err(Error::invalid("/search", why));
        }
        let since = after.map_or(self.since, |after| {
            Some(Timestamp::from_micros(after.at_us))
        });
        Ok(LogsQuery {
            since,
            tail: if after.is_some() {
                None
            } else {
                self.tail.or((since.is_none()).then_some(TAIL))
            },
            stream: self.stream,
            search,
            follow,
        })
    }
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/event-stream"))
}

/// A place in the lines: a moment, and how many lines of that moment were sent. `<microseconds>-<count>`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    at_us: i64,
    count: u32,
}

impl Place {
    fn of(headers: &HeaderMap) -> Result<Option<Self>> {
        let Some(value) = headers.get("last-event-id") else {
            return Ok(None);
        };
        let parsed = value.to_str().ok().and_then(|text| {
            let (at_us, count) = text.split_once('-')?;
            Some(Self {
                at_us: at_us.parse().ok().filter(|at_us| *at_us >= 0)?,
                count: count.parse().ok()?,
            })
        });
        parsed.map(Some).ok_or_else(|| {
            Error::bad_request(
                "last_event_id",
                "Last-Event-ID is the id of an event of these logs",
            )
        })
    }

    fn pass(&mut self, at: Timestamp) {
        if at.as_micros() == self.at_us {
            self.count = self.count.saturating_add(1);
        } else {
            (self.at_us, self.count) = (at.as_micros(), 1);
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.at_us, self.count)
    }
}
