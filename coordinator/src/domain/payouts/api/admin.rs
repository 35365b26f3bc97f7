//! `/admin/payouts`: looking at them, letting large ones go, ending those in doubt.

use std::sync::Arc;

use axum::extract::State as AppState;
use serde::{Deserialize, Serialize};
use shared::id::{PayoutId, UserId};
use utoipa::{IntoParams, ToSchema};

use super::{PayoutView, view};
use crate::{
    app::App,
    context::OpCtx,
    domain::payouts::{
        self,
        decisions::{self, Finding},
        model::{Payout, State},
    },
    error::{Error, Result},
    http::{Json, Page, Paging, Path, Problems, Query},
};

/// A payout as administrators see it.
#[derive(Serialize, ToSchema)]
pub(super) struct AdminPayoutView {
    /// Whose; nothing for a wallet without an account.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "usr_0192f0c1a2b37c4d8e5f60718293a4b5")]
    user_id: Option<UserId>,
    /// Which administrators let it go.
    #[schema(value_type = Vec<String>, example = json!([]))]
    approvals: Vec<UserId>,
    /// How often it was asked for.
    attempts: i64,
    #[serde(flatten)]
    payout: PayoutView,
}

fn admin_view(app: &App, payout: Payout, approvals: Vec<UserId>) -> AdminPayoutView {
    AdminPayoutView {
        user_id: payout.user(),
        approvals,
        attempts: payout.attempts,
        payout: view(app, payout),
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct AdminListParams {
    /// `awaiting_approval`, the default, `requested`, `sending`, `sent`, `paid` or `failed`.
    state: Option<String>,
    limit: Option<u32>,
    cursor: Option<String>,
}

#[utoipa::path(
    get, path = "/admin/payouts", operation_id = "admin_list_payouts", tag = "admin", params(AdminListParams),
    description = "Payouts of one state, oldest first.",
    responses((status = 200, body = Page<AdminPayoutView>), Problems), security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn list(
    ctx: OpCtx,
    AppState(app): AppState<Arc<App>>,
    Query(params): Query<AdminListParams>,
) -> Result<Json<Page<AdminPayoutView>>> {
    let paging = Paging::new(params.limit, params.cursor)?;
    let wanted = params.state.as_deref();
    let state = State::from_name(wanted.unwrap_or(State::AwaitingApproval.name()))
        .ok_or_else(|| Error::invalid("/state", "there is no such state of a payout"))?;
    let after: String = paging.after()?.unwrap_or_default();
    let fetch = paging.fetch();
    let rows = app
        .db
        .read("payout.list_all", move |tx| {
            payouts::list_all(tx, &ctx, state, &after, fetch)
        })
        .await?;
    let page = Page::of(rows, &paging, |(payout, _)| payout.id.to_string())?;
    Ok(Json(page.map(|(payout, approvals)| {
        admin_view(&app, payout, approvals)
    })))
}

/// Why.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PayoutDecisionRequest {
    /// Goes into the audit log; of a refusal its owner reads it.
    #[schema(example = "looked at the account's rentals")]
    reason: String,
}

fn reason(text: &str) -> Result<String> {
    let text = text.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(Error::invalid(
            "/reason",
            "one line that says why: it goes into the audit log",
        ));
    }
    Ok(text.to_owned())
}

#[utoipa::path(
    post, path = "/admin/payouts/{id}/approve", operation_id = "approve_payout", tag = "admin", params(("id" = String, Path)),
    description = "Lets a large payout go; two administrators must, neither of them its owner.",
    request_body = PayoutDecisionRequest, responses((status = 200, body = AdminPayoutView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn approve(
    ctx: OpCtx,
    AppState(app): AppState<Arc<App>>,
    Path(id): Path<PayoutId>,
    Json(body): Json<PayoutDecisionRequest>,
) -> Result<Json<AdminPayoutView>> {
    let reason = reason(&body.reason)?;
    let (payout, approvals) = app
        .db
        .write("payout.approve", move |tx| {
            decisions::approve(tx, &ctx, id, &reason)
        })
        .await?;
    app.tasks.poke(crate::tasks::payouts::NAME);
    Ok(Json(admin_view(&app, payout, approvals)))
}

#[utoipa::path(
    post, path = "/admin/payouts/{id}/reject", operation_id = "reject_payout", tag = "admin", params(("id" = String, Path)),
    description = "Refuses a payout that wasn't sent: its money goes back.",
    request_body = PayoutDecisionRequest, responses((status = 200, body = AdminPayoutView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn reject(
    ctx: OpCtx,
    AppState(app): AppState<Arc<App>>,
    Path(id): Path<PayoutId>,
    Json(body): Json<PayoutDecisionRequest>,
) -> Result<Json<AdminPayoutView>> {
    let (reason, payouts) = (reason(&body.reason)?, Arc::clone(&app.payouts));
    let payout = app
        .db
        .write("payout.reject", move |tx| {
            decisions::reject(tx, &ctx, &payouts.postbox, id, &reason)
        })
        .await?;
    Ok(Json(admin_view(&app, payout, Vec::new())))
}

/// What was found out.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PayoutResolutionRequest {
    /// The transaction that paid it; left out, it wasn't paid and its money goes back.
    #[schema(example = "0x5c504ed432cb51138bcf09aa5e8a410dd4a1e204ef84bfed1be16dfba1b22060")]
    transaction: Option<String>,
    /// Goes into the audit log.
    #[schema(example = "sent from the cold wallet")]
    reason: String,
}

#[utoipa::path(
    post, path = "/admin/payouts/{id}/resolve", operation_id = "resolve_payout", tag = "admin", params(("id" = String, Path)),
    description = "Ends a payout that was sent by hand, or whose end the market can't prove: by the transaction that paid it, or, once what was signed has expired, by giving the money back.",
    request_body = PayoutResolutionRequest, responses((status = 200, body = AdminPayoutView), Problems),
    security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn resolve(
    ctx: OpCtx,
    AppState(app): AppState<Arc<App>>,
    Path(id): Path<PayoutId>,
    Json(body): Json<PayoutResolutionRequest>,
) -> Result<Json<AdminPayoutView>> {
    let finding = match body.transaction {
        Some(transaction) => Finding::Paid(hash(transaction)?),
        None => Finding::NotPaid,
    };
    let (reason, payouts) = (reason(&body.reason)?, Arc::clone(&app.payouts));
    let payout = app
        .db
        .write("payout.resolve", move |tx| {
            decisions::resolve(tx, &ctx, &payouts.postbox, id, &finding, &reason)
        })
        .await?;
    Ok(Json(admin_view(&app, payout, Vec::new())))
}

fn hash(text: String) -> Result<String> {
    let digits = text.strip_prefix("0x").unwrap_or_default();
    if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(text)
    } else {
        Err(Error::invalid(
            "/transaction",
            "write the transaction's hash: 0x and 64 hexadecimal digits",
        ))
    }
}
