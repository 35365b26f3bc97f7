//! `/admin/disputes`: what waits for a decision, and deciding it.

use std::sync::Arc;

use axum::extract::State as AxumState;
use serde::Deserialize;
use shared::{id::DisputeId, money::Money};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    context::OpCtx,
    domain::{
        admin,
        disputes::{
            self, Side,
            api::view::DisputeView,
            model::{State, Wanted},
        },
        invoices,
    },
    error::{Error, Result},
    http::{Json, Page, Paging, Path, Problems, Query},
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DisputesParams {
    /// `open`, the default, or `decided`.
    #[param(value_type = Option<String>)]
    state: Option<State>,
    limit: Option<u32>,
    cursor: Option<String>,
}

#[utoipa::path(
    get, path = "/admin/disputes", operation_id = "admin_list_disputes", tag = "admin", params(DisputesParams),
    description = "Disputes of a state, newest first. Each with its evidence: GET /disputes/{id}.",
    responses((status = 200, body = Page<DisputeView>), Problems), security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn list(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    Query(params): Query<DisputesParams>,
) -> Result<Json<Page<DisputeView>>> {
    let paging = Paging::new(params.limit, params.cursor)?;
    let side = Side::In(params.state.unwrap_or(State::Open));
    disputes::api::page(&app, ctx, side, &paging)
        .await
        .map(Json)
}

/// How much is given back.
#[derive(Deserialize)]
#[serde(untagged)]
enum RefundWanted {
    /// `all` or `none`.
    Word(Word),
    /// So much.
    Exactly(Money),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    All,
    None,
}

/// A decision.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DisputeDecisionBody {
    /// `"all"`, `"none"` or an amount in the rental's currency, at most what was charged.
    #[schema(value_type = Value, example = json!({"amount": "0.0005", "currency": "USDC"}))]
    refund: RefundWanted,
    /// Both parties read it, and it goes into the audit log.
    #[schema(example = "the journal shows that it was cut off")]
    reason: String,
}

#[utoipa::path(
    post, path = "/admin/disputes/{id}/decision", operation_id = "decide_dispute", tag = "admin", params(("id" = String, Path)),
    description = "Decides a dispute, for good. What is given back comes from the provider's part and the fee, in the proportion of the \
        charge; what the provider has no more comes from the platform's fees.",
    request_body = DisputeDecisionBody, responses((status = 200, body = DisputeView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn decide(
    ctx: OpCtx,
    AxumState(app): AxumState<Arc<App>>,
    Path(id): Path<DisputeId>,
    Json(body): Json<DisputeDecisionBody>,
) -> Result<Json<DisputeView>> {
    let reason = admin::reason(&body.reason)?;
    let wanted = match body.refund {
        RefundWanted::Word(Word::All) => Wanted::All,
        RefundWanted::Word(Word::None) => Wanted::Nothing,
        RefundWanted::Exactly(money) if money.amount.is_zero() => {
            return Err(Error::invalid("/refund", "more than zero, or \"none\""));
        }
        RefundWanted::Exactly(money) => Wanted::Exactly(money),
    };
    let (postbox, rules) = (Arc::clone(&app.postbox), invoices::api::rules(&app));
    let decided = app
        .db
        .write("dispute.decide", move |tx| {
            admin::decide_dispute(tx, &ctx, (&postbox, &rules), id, &wanted, &reason)
        })
        .await?;
    Ok(Json(DisputeView::from(decided)))
}
