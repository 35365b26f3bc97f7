//! `GET /rentals/{id}/metrics`: what a rental used, as a page or as server-sent events.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse as _, Response, sse::Event as Sse},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::{id::RentalId, link::open::Open};
use utoipa::{IntoParams, ToSchema};

use super::{
    super::access::Verb,
    follow::{self, Page},
    pass,
};
use crate::{
    app::App,
    context::OpCtx,
    error::Result,
    http::{Json, Path, Problems, Query},
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricsParams {
    /// Whether new samples follow; the answer is a stream of events then.
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    follow: bool,
}

/// A sample as its node wrote it. Looked at no further: a tree of values takes many times the memory of its text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "Box<RawValue>")]
struct Sample(Box<RawValue>);

impl TryFrom<Box<RawValue>> for Sample {
    type Error = &'static str;

    fn try_from(raw: Box<RawValue>) -> std::result::Result<Self, Self::Error> {
        if raw.get().starts_with('{') {
            Ok(Self(raw))
        } else {
            Err("a sample is an object")
        }
    }
}

/// Samples, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MetricsPage {
    /// Each as its node measured it, every 10 s for the last hour and every 5 min before that: `at`, `cpu_ns`, `ram_bytes`, `rx_bytes`,
    /// `tx_bytes`, `disk_bytes`, and `gpus` with `uuid`, `busy_percent` and `vram_used_bytes`. Counters begin with its container.
    #[schema(value_type = Vec<Object>)]
    items: Vec<Sample>,
    /// Whether there were more than fit.
    more: bool,
}

#[utoipa::path(
    get, path = "/rentals/{id}/metrics", operation_id = "rental_metrics", tag = "rentals",
    params(("id" = String, Path), MetricsParams),
    description = "What a rental used, as its node measured it: processors, memory, disk, network and GPUs. With `follow=true` as server-sent events: \
        `sample` with a sample as JSON, at the end `end`, and `cut` when the node's connection broke.",
    responses((status = 200, content((MetricsPage = "application/json"), (crate::http::openapi::ServerSentEvent = "text/event-stream"))), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
pub(super) async fn metrics(
    State(app): State<Arc<App>>,
    ctx: OpCtx,
    Path(id): Path<RentalId>,
    Query(params): Query<MetricsParams>,
) -> Result<Response> {
    let pass = pass::admit(&app, ctx, id, Verb::Logs, None).await?;
    let open = Open::Metrics {
        rental_id: id,
        follow: params.follow,
    };
    let stream = app.gateway.open(id, &open).await?;
    if params.follow {
        return Ok(follow::follow(pass, stream, |sample: Sample| {
            Sse::default().event("sample").json_data(sample).ok()
        }));
    }
    let page = follow::page(stream, |sample: &Sample| sample.0.get().len()).await?;
    let Page { lines, more, place } = page;
    let answer = Json(MetricsPage { items: lines, more }).into_response();
    drop(place);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_an_object_and_its_text_is_kept() {
        for text in ["{\"at\": 1.50, \"gpus\":[]}", "{}"] {
            let sample: Sample = serde_json::from_str(&format!(" {text}\n")).expect("a sample");
            assert_eq!(serde_json::to_string(&sample).expect("JSON"), text);
        }
        for other in ["[{}]", "1", "null", "\"{}\"", "{", "{\"a\"}"] {
            assert!(serde_json::from_str::<Sample>(other).is_err(), "{other}");
        }
    }
}
