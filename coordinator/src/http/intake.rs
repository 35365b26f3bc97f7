//! What a request must be like before a handler sees it: its head within bounds, its query and body as the document of
//! the API says, its body here in whole, and a place in its lane.
//!
//! # Invariants
//! - A body arrives within [`BODY_TIME_MAX`] or is refused; it is counted against its lane's memory while it arrives.
//! - What the document doesn't list isn't passed over in silence: an unknown parameter, a body where none is taken.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, HttpBody as _},
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, Method, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures_util::StreamExt as _;

use super::{
    contract::Contract,
    extract::BODY_BYTES_MAX,
    lanes::{BodyMemory, Lane, Lanes},
};
use crate::{
    config::LimitsConfig,
    error::{Error, Kind, Result},
};

/// A body arrives within this.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(30);
const URL_BYTES_MAX: usize = 8 * 1024;
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// What the layer needs.
#[derive(Debug)]
pub struct Intake {
    lanes: Lanes,
    contract: Contract,
}

impl Intake {
    /// For an API and its limits.
    #[must_use]
    pub fn new(config: &LimitsConfig, contract: Contract) -> Arc<Self> {
        Arc::new(Self {
            lanes: Lanes::new(config),
            contract,
        })
    }
}

/// The layer.
pub async fn admit(State(intake): State<Arc<Intake>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    match take_in(&intake, route, request).await {
        Ok((request, held)) => {
            let response = next.run(request).await;
            drop(held);
            response
        }
        Err(error) => error.into_response(),
    }
}

/// The request with its body in memory, and what it holds while it is handled.
async fn take_in(
    intake: &Intake,
    route: &str,
    request: Request,
) -> Result<(
    Request,
    (
        Option<BodyMemory>,
        Option<tokio::sync::OwnedSemaphorePermit>,
    ),
)> {
    check_head(request.uri(), request.headers())?;
    let operation = intake.contract.operation(request.method(), route);
    if let Some(operation) = operation {
        operation.check_query(request.uri().query())?;
    }
    let Some(lane) = intake.lanes.of(request.method(), route) else {
        return Ok((request, (None, None)));
    };
    // a stream by its nature, or a body of a size that its own route bounds
    let passes = request.method() == Method::CONNECT
        || operation.is_some_and(super::contract::Operation::takes_files)
        || request.body().is_end_stream();
    if passes {
        return Ok((request, (None, Some(lane.enter()?))));
    }
    let (parts, body) = request.into_parts();
    check_length(&parts.headers)?;
    let (bytes, memory) = tokio::time::timeout(BODY_TIME_MAX, receive(lane, body))
        .await
        .map_err(|_| {
            Error::new(
                Kind::Slow,
                "body_too_slow",
                format!(
                    "the body wasn't here within {} s: send it again",
                    BODY_TIME_MAX.as_secs()
                ),
            )
        })??;
    if let Some(operation) = operation {
        operation.check_body(&bytes)?;
    }
    let request = Request::from_parts(parts, Body::from(bytes));
    Ok((request, (Some(memory), Some(lane.enter()?))))
}

fn check_head(uri: &Uri, headers: &HeaderMap) -> Result<()> {
    let url_bytes = uri.path().len() + uri.query().map_or(0, str::len);
    if url_bytes > URL_BYTES_MAX {
        return Err(Error::new(
            Kind::LongUrl,
            "url_too_long",
            format!("a URL may have at most {URL_BYTES_MAX} bytes"),
        ));
    }
    let bytes = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum::<usize>();
    if headers.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
        return Err(Error::new(
            Kind::LargeHead,
            "headers_too_large",
            format!(
                "a request may have at most {HEADERS_MAX} headers of together {HEADER_BYTES_MAX} bytes"
            ),
        ));
    }
    Ok(())
}

fn check_length(headers: &HeaderMap) -> Result<()> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<u64>().ok());
    let max = u64::try_from(BODY_BYTES_MAX).unwrap_or(u64::MAX);
    if announced.is_some_and(|bytes| bytes > max) {
        return Err(too_large());
    }
    Ok(())
}

/// The body in memory. One for which there is no memory is read to its end all the same, and thrown away: a client that is
/// cut off while it sends never reads why.
async fn receive(lane: &Lane, body: Body) -> Result<(Vec<u8>, BodyMemory)> {
    let mut memory = lane.memory();
    let (mut bytes, mut length) = (Vec::new(), 0);
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| {
            Error::bad_request("body_unreadable", "the body ended early or can't be read")
        })?;
        length += piece.len();
        if length > BODY_BYTES_MAX {
            return Err(too_large());
        }
        if let Ok(held) = &mut memory
            && let Err(full) = held.grow_to(lane, length)
        {
            memory = Err(full);
            bytes = Vec::new();
        }
        if memory.is_ok() {
            bytes.extend_from_slice(&piece);
        }
    }
    memory.map(|memory| (bytes, memory))
}

fn too_large() -> Error {
    Error::new(
        Kind::TooLarge,
        "body_too_large",
        format!("a body may have at most {BODY_BYTES_MAX} bytes"),
    )
}
