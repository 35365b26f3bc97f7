//! `POST /balance/topups`: money onto the caller's balance, by x402 as a rental is paid, or play money from the sandbox.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use shared::money::Money;
use utoipa::ToSchema;

use super::{
    balance::{BalanceView, Shown, balances},
    body::request_sha256,
    rent::{answer_repeat, count_top_up, pay_or_ask},
};
use crate::{
    app::App,
    config::PaymentsMode,
    context::{OpCtx, Role},
    domain::{
        payments::{
            self,
            idempotency::{self, IdempotencyKey},
        },
        rentals::purchase::Wanted,
    },
    error::{Error, Result},
    http::{ClientIp, Json, Problems, RawBody, extract::parse_json},
};

/// Where the money comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Source {
    /// From a wallet: the answer without payment is 402 with the terms.
    #[default]
    X402,
    /// Play money, where there is any; needs an `Idempotency-Key`.
    Sandbox,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TopupBody {
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    amount: Money,
    #[serde(default)]
    source: Source,
}

#[utoipa::path(
    post, path = "/balance/topups", operation_id = "top_up", tag = "payments",
    description = "Fills the balance. By x402 (`source: x402`, the default) as create_rental is paid: 402 with the terms, then the same \
        request with the signed payment; payer and nonce are the idempotency key. In a sandbox also with play money (`source: sandbox`), \
        up to a limit and with an Idempotency-Key.",
    request_body = TopupBody,
    responses(
        (status = 201, body = BalanceView, description = "credited"),
        (status = 202, description = "the payment's outcome isn't known yet: see GET /payments/{id}"),
        (status = 402, description = "the terms"),
        Problems
    ),
    security(("access_token" = []), ("cookie" = []))
)]
pub(super) async fn top_up(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    client: ClientIp,
    headers: HeaderMap,
    RawBody(raw): RawBody,
) -> Result<Response> {
    let request: TopupBody = parse_json(&raw)?;
    let user = ctx.user_with(Role::Consumer)?.id;
    let asset = request.amount.currency;
    app.purchases.payees.accept(asset, "/amount/currency")?;
    let amount = request.amount.amount;
    match request.source {
        Source::Sandbox => grant(&app, ctx, &headers, &raw, request.amount).await,
        Source::X402 => {
            // the request says nothing of its sender, and what one person asked for must not be credited to another
            let path = format!("/api/v1/balance/topups?user={user}");
            let hash = request_sha256("POST", &path, &raw);
            // a repeat isn't counted
            if let Some(response) = answer_repeat(&app, &ctx, &headers, hash).await? {
                return Ok(response);
            }
            let wanted = Wanted::TopUp { amount, asset };
            pay_or_ask(&app, ctx, client, &headers, wanted, hash).await
        }
    }
}

async fn grant(
    app: &App,
    ctx: OpCtx,
    headers: &HeaderMap,
    raw: &[u8],
    money: Money,
) -> Result<Response> {
    if app.config.payments.mode != PaymentsMode::Sandbox {
        return Err(Error::conflict(
            "sandbox_only",
            "this market takes real money and gives none away: leave `source` out and pay by x402",
        ));
    }
    if money.amount.is_zero() {
        return Err(Error::invalid("/amount/amount", "more than zero"));
    }
    let key = IdempotencyKey::read(headers, &ctx, "topup", raw)?;
    count_top_up(app, &ctx)?;
    let limit = app.config.payments.sandbox_grant;
    let shown = Shown::of(app);
    let view = app
        .db
        .write("balance.topup", move |tx| {
            if idempotency::find(tx, &key)?.is_none() {
                idempotency::remember(tx, &ctx, &key, "topup")?;
                let reference = key.reference();
                payments::funds::grant(tx, &ctx, &money, limit, &reference)?;
            }
            balances(tx, &ctx, &shown)
        })
        .await?;
    Ok((StatusCode::CREATED, Json(view)).into_response())
}
