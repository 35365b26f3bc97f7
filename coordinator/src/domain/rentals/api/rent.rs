//! `POST /rentals` and `POST /rentals/{id}/extend`: by balance at once, by x402 through 402.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use shared::{id::RentalId, money::Rate, time::Timestamp, x402::network};
use utoipa::ToSchema;

use super::{
    body::{self, PayWith, RentBody, request_sha256},
    view::{RentalView, view},
};
use crate::{
    app::App,
    context::{Actor, OpCtx},
    domain::{
        offers,
        payments::{
            self, Order,
            idempotency::IdempotencyKey,
            model::{Payment, PaymentState, Purpose, Quote},
            x402_http,
        },
        rentals::{
            self,
            model::Rental,
            order,
            purchase::{Reception, Until, Wanted},
        },
    },
    error::{Error, Result},
    http::{
        Json, Path, Problems, RawBody,
        error::{problem, respond},
        extract::parse_json,
    },
};

/// How long a paying client is kept waiting before it gets 202.
const PATIENCE: Duration = Duration::from_secs(10);

#[utoipa::path(
    post, path = "/rentals", operation_id = "create_rental", tag = "rentals",
    description = "Without payment the answer is 402 with x402 terms: v2 in the header PAYMENT-REQUIRED, v1 in the body. Repeat the \
        same request with PAYMENT-SIGNATURE (or X-PAYMENT). Payer and nonce are the idempotency key: the same paid request again gets \
        the same rental. No account is needed; the answer's rental_token opens the rental.",
    request_body = RentBody,
    responses(
        (status = 201, body = RentalView, description = "paid, and about to run"),
        (status = 202, description = "the payment's outcome isn't known yet: see GET /payments/{id}"),
        (status = 402, description = "the terms"),
        Problems
    ),
    security((), ("access_token" = []), ("cookie" = []))
)]
pub(super) async fn create(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    RawBody(raw): RawBody,
) -> Result<Response> {
    let request: RentBody = parse_json(&raw)?;
    // a repeat is answered before anything is placed: its own rental may have taken the last room
    if let Some(response) = answer_repeat(&app, &ctx, &headers).await? {
        return Ok(response);
    }
    let order = request.order(&app)?;
    if request.pay_with == PayWith::Balance {
        let key = idempotency_key(&ctx, &headers, "rent", &raw)?;
        let rules = app.purchases.rules;
        let now = ctx.now;
        let rental = app
            .db
            .write("rental.buy", move |tx| {
                order::buy(tx, &ctx, &rules, &order, &key)
            })
            .await?;
        app.agents.nudger.nudge(rental.node_id);
        return Ok(created(&app, &rental, now, HeaderMap::new())?.into_response());
    }
    let hash = request_sha256("POST", "/api/v1/rentals", &raw);
    let wanted = Wanted::Rent {
        order,
        quote_id: request.quote_id,
    };
    pay_or_ask(&app, ctx, &headers, wanted, hash).await
}

/// More time for a rental.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExtendBody {
    #[schema(example = 600)]
    duration_seconds: i64,
    #[serde(default)]
    pay_with: PayWith,
}

#[utoipa::path(
    post, path = "/rentals/{id}/extend", operation_id = "extend_rental", tag = "rentals", params(("id" = String, Path)),
    description = "More time: by x402 as in create_rental, or from the balance.",
    request_body = ExtendBody,
    responses((status = 201, body = RentalView), (status = 202), (status = 402), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []))
)]
pub(super) async fn extend(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<RentalId>,
    headers: HeaderMap,
    RawBody(raw): RawBody,
) -> Result<Response> {
    let request: ExtendBody = parse_json(&raw)?;
    let duration_ms = body::duration_ms(request.duration_seconds)?;
    if request.pay_with == PayWith::Balance {
        let key = idempotency_key(&ctx, &headers, "extend", &raw)?;
        let rules = app.purchases.rules;
        let now = ctx.now;
        let buy = move |tx: &mut dyn crate::store::Tx| {
            order::buy_extension(tx, &ctx, &rules, id, duration_ms, &key)
        };
        let rental = app.db.write("rental.buy_extension", buy).await?;
        app.agents.nudger.nudge(rental.node_id);
        return Ok(created(&app, &rental, now, HeaderMap::new())?.into_response());
    }
    let hash = request_sha256("POST", &format!("/api/v1/rentals/{id}/extend"), &raw);
    pay_or_ask(
        &app,
        ctx,
        &headers,
        Wanted::Extend {
            rental_id: id,
            duration_ms,
        },
        hash,
    )
    .await
}

fn idempotency_key(
    ctx: &OpCtx,
    headers: &HeaderMap,
    action: &str,
    raw: &[u8],
) -> Result<IdempotencyKey> {
    let header = headers
        .get("idempotency-key")
        .and_then(|value| value.to_str().ok());
    IdempotencyKey::parse(header, ctx.user()?.id, action, raw)
}

/// The answer to a signed payment that came before, if the request carries one.
async fn answer_repeat(app: &App, ctx: &OpCtx, headers: &HeaderMap) -> Result<Option<Response>> {
    let Ok(Some(presented)) = x402_http::presented(headers) else {
        return Ok(None);
    };
    let find = move |tx: &mut dyn crate::store::Tx| payments::find_presented(tx, &presented);
    let Some(payment) = app.db.read("payment.repeat", find).await? else {
        return Ok(None);
    };
    let held = matches!(
        payment.state,
        PaymentState::Received | PaymentState::Verified
    );
    let payment = if held && payment.next_try_at <= ctx.now {
        // whoever worked on it is gone, or was told nothing clear: this request takes over
        settle(app, payment).await?
    } else {
        app.purchases.wait(payment.id, PATIENCE).await?
    };
    answer(app, ctx, &payment).await.map(Some)
}

/// Settles a payment, which goes on even if this client hangs up; where it is after a while.
async fn settle(app: &App, payment: Payment) -> Result<Payment> {
    let (purchases, id) = (Arc::clone(&app.purchases), payment.id);
    let work = app
        .background
        .spawn(async move { purchases.drive(id, Until::Settled).await });
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done.map_err(Error::internal)?,
        Err(_) => Ok(payment),
    }
}

async fn pay_or_ask(
    app: &Arc<App>,
    ctx: OpCtx,
    headers: &HeaderMap,
    wanted: Wanted,
    hash: [u8; 32],
) -> Result<Response> {
    let presented = match x402_http::presented(headers) {
        Ok(Some(presented)) => presented,
        Ok(None) => return ask(app, ctx, wanted, hash, "payment required").await,
        Err(unreadable) => return ask(app, ctx, wanted, hash, &unreadable.to_string()).await,
    };
    match app
        .purchases
        .receive(&ctx, presented, wanted.clone(), hash)
        .await?
    {
        Reception::AskAgain(why) => ask(app, ctx, wanted, hash, &why).await,
        Reception::New(payment) => {
            let payment = settle(app, payment).await?;
            answer(app, &ctx, &payment).await
        }
        Reception::Before(payment) => {
            let payment = app.purchases.wait(payment.id, PATIENCE).await?;
            answer(app, &ctx, &payment).await
        }
    }
}

/// 402 with the terms of a fresh quote.
pub(super) async fn ask(
    app: &App,
    ctx: OpCtx,
    wanted: Wanted,
    hash: [u8; 32],
    why: &str,
) -> Result<Response> {
    let (rules, payee) = (app.purchases.rules, app.purchases.payee.clone());
    let quote = app
        .db
        .write("payment.quote", move |tx| {
            quote_for(tx, &ctx, &rules, &payee, &wanted, hash)
        })
        .await?;
    let mut parts = x402_http::payment_required(&quote.terms(&app.purchases.public_url), why);
    if let Some(body) = parts.body.as_object_mut() {
        body.insert("quote_id".to_owned(), json!(quote.id));
        body.insert("quote_expires_at".to_owned(), json!(quote.expires_at));
    }
    Ok((
        StatusCode::PAYMENT_REQUIRED,
        parts.headers,
        Json(parts.body),
    )
        .into_response())
}

fn quote_for(
    tx: &mut dyn crate::store::Tx,
    ctx: &OpCtx,
    rules: &rentals::Rules,
    payee: &payments::model::Payee,
    wanted: &Wanted,
    request_sha256: [u8; 32],
) -> Result<Quote> {
    match wanted {
        Wanted::Rent { order, quote_id } => {
            if let Some(id) = quote_id {
                let quote = payments::open_quote(tx, ctx, *id)?;
                rentals::purchase::matches_order(&quote, order)?;
                return Ok(quote);
            }
            let priced = order::price(
                tx,
                rules,
                order.offer_id,
                &order.resources,
                order.duration_ms,
            )?;
            order::check_spend(order, priced.amount)?;
            let purchase = Order {
                purpose: Purpose::Rent,
                request_sha256,
                rental_id: None,
                resources: order.resources,
                duration_ms: order.duration_ms,
                rate: priced.rate,
                fee_bps: rules.fee_bps,
            };
            payments::quote(tx, ctx, payee, &priced.offer, &purchase, rules.quote_ttl_ms)
        }
        Wanted::Extend {
            rental_id,
            duration_ms,
        } => {
            let rental = order::extendable(tx, ctx, rules, *rental_id, *duration_ms)?;
            let offer = offers::get_any(tx, rental.offer_id)?;
            let purchase = Order {
                purpose: Purpose::Extend,
                request_sha256,
                rental_id: Some(rental.id),
                resources: rental.resources,
                duration_ms: *duration_ms,
                rate: rental.rate,
                fee_bps: rental.fee_bps,
            };
            payments::quote(tx, ctx, payee, &offer, &purchase, rules.quote_ttl_ms)
        }
    }
}

/// What a payment came to.
pub(super) async fn answer(app: &App, ctx: &OpCtx, payment: &Payment) -> Result<Response> {
    let network = network::by_caip2(&payment.network)
        .ok_or_else(|| Error::corrupt("payments", &payment.id.to_string(), "network"))?;
    let payer = payment
        .payer
        .parse()
        .map_err(|_| Error::corrupt("payments", &payment.id.to_string(), "payer"))?;
    match payment.state {
        PaymentState::Credited => {
            let id = payment.rental_id;
            let rental = app
                .db
                .read("rental.paid", move |tx| rentals::find(tx, id))
                .await?;
            app.agents.nudger.nudge(rental.node_id);
            let transaction = payment.tx_hash.as_deref().unwrap_or_default();
            let receipt = x402_http::settled(network, transaction, &payer);
            Ok(created(app, &rental, ctx.now, receipt)?.into_response())
        }
        PaymentState::Rejected => {
            let reason = payment.last_error.as_deref().unwrap_or("refused");
            let error = Error::conflict(
                "payment_rejected",
                format!("the payment was refused: {reason}"),
            );
            let mut response = respond(
                StatusCode::PAYMENT_REQUIRED,
                &problem(&error, StatusCode::PAYMENT_REQUIRED),
            );
            response
                .headers_mut()
                .extend(x402_http::refused(network, reason, &payer));
            Ok(response)
        }
        PaymentState::Expired => Err(Error::conflict(
            "payment_expired",
            "this payment was never settled: order again and sign anew",
        )),
        PaymentState::Received
        | PaymentState::Verified
        | PaymentState::Settling
        | PaymentState::Pending => {
            let body = json!({
                "payment_id": payment.id,
                "rental_id": payment.rental_id,
                "state": payment.state.name(),
                "detail": "the payment is being settled: look at GET /payments/{id}, or repeat this request as it is",
            });
            let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
            Ok(response)
        }
    }
}

/// 201 with the rental; its token goes to whoever paid without an account, or as the account that rents it.
pub(super) fn created(
    app: &App,
    rental: &Rental,
    now: Timestamp,
    headers: HeaderMap,
) -> Result<(StatusCode, HeaderMap, Json<RentalView>)> {
    let mut body = view(rental, now)?;
    body.rental_token = Some(app.rental_tokens.mint(rental.id).expose().clone());
    Ok((StatusCode::CREATED, headers, Json(body)))
}

/// Whoever repeats a signed payment knows it; an account's payment belongs to the account.
pub(super) fn may_see(ctx: &OpCtx, rental: &Rental) -> bool {
    match (&ctx.actor, rental.consumer) {
        (Actor::User(user), Some(consumer)) => user.id == consumer || ctx.is_admin(),
        (Actor::RentalToken(id), _) => *id == rental.id,
        (Actor::System, _) => true,
        (_, None) => true,
        _ => false,
    }
}

/// An hour's price of a rate, rounded down.
pub(super) fn per_hour(rate: Rate) -> Result<shared::money::Amount> {
    Ok(rate.charge_for_ms(3_600_000)?)
}
