//! `POST /rentals` and `POST /rentals/{id}/extend`: by balance at once, by x402 through 402.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use shared::{
    id::RentalId,
    money::{Asset, Rate},
};
use utoipa::ToSchema;

use super::{
    answer::{answer, created},
    ask::ask,
    body::{self, PayWith, RentBody, request_sha256},
    image::pin,
    view::RentalView,
};
use crate::{
    app::App,
    context::OpCtx,
    domain::{
        payments::{
            self,
            idempotency::{self, IdempotencyKey},
            model::{Payment, PaymentState},
            x402_http,
        },
        rentals::{
            buy::{self, FromBalance},
            model::Rental,
            purchase::{Reception, Until, Wanted},
        },
    },
    error::{Error, Result},
    http::{ClientIp, Path, Problems, RawBody, extract::parse_json},
    limits::{Action, Caller},
};

/// Within this time whoever works on a payment moves it on, or is taken for dead.
const ALIVE: Duration = Duration::from_secs(2);
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
    client: ClientIp,
    headers: HeaderMap,
    RawBody(raw): RawBody,
) -> Result<Response> {
    let request: RentBody = parse_json(&raw)?;
    let hash = request_sha256("POST", "/api/v1/rentals", &raw);
    // a repeat is answered before anything is placed: its own rental may have taken the last room
    if let Some(response) = answer_repeat(&app, &ctx, &headers, hash).await? {
        return Ok(response);
    }
    if request.pay_with == PayWith::Balance {
        let key = IdempotencyKey::read(&headers, &ctx, "rent", &raw)?;
        if let Some(rental) = bought_before(&app, &key).await? {
            return Ok(created(&app, &rental, ctx.now, HeaderMap::new())?.into_response());
        }
        count_order(&app, &ctx, client)?;
        let mut order = request.order(&app)?;
        pin(&app, &ctx, &mut order).await?;
        let from = from_balance(&app, key, request.currency)?;
        let (desk, now) = (app.purchases.desk(), ctx.now);
        let rental = app
            .db
            .write("rental.buy", move |tx| {
                buy::rental(tx, &ctx, &desk, &order, &from)
            })
            .await?;
        app.agents.nudger.nudge(rental.node_id);
        return Ok(created(&app, &rental, now, HeaderMap::new())?.into_response());
    }
    refuse_currency(request.currency)?;
    let wanted = Wanted::Rent {
        order: request.order(&app)?,
        quote_id: request.quote_id,
    };
    pay_or_ask(&app, ctx, client, &headers, wanted, hash).await
}

/// More time for a rental.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExtendBody {
    #[schema(example = 600)]
    duration_seconds: i64,
    #[serde(default)]
    pay_with: PayWith,
    /// In which currency it is paid from the balance; the one that the rental was bought with unless set. Only with `pay_with: balance`.
    #[schema(value_type = Option<String>, example = "EURC")]
    currency: Option<Asset>,
}

/// How a balance pays.
///
/// # Errors
/// 422 for a currency that isn't accepted here.
fn from_balance(app: &App, key: IdempotencyKey, currency: Option<Asset>) -> Result<FromBalance> {
    if let Some(asset) = currency {
        app.purchases.payees.accept(asset, "/currency")?;
    }
    Ok(FromBalance { key, currency })
}

/// Who pays by x402 chooses among the terms.
///
/// # Errors
/// 422.
fn refuse_currency(currency: Option<Asset>) -> Result<()> {
    match currency {
        None => Ok(()),
        Some(_) => Err(Error::invalid(
            "/currency",
            "only with pay_with: balance; by x402 take one of the terms that are offered",
        )),
    }
}

#[utoipa::path(
    post, path = "/rentals/{id}/extend", operation_id = "extend_rental", tag = "rentals", params(("id" = String, Path)),
    description = "More time: by x402 as in create_rental, or from the balance.",
    request_body = ExtendBody,
    responses((status = 201, body = RentalView), (status = 202), (status = 402), Problems),
    security(("access_token" = []), ("cookie" = []), ("rental_token" = []), ("wallet" = []))
)]
pub(super) async fn extend(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    client: ClientIp,
    Path(id): Path<RentalId>,
    headers: HeaderMap,
    RawBody(raw): RawBody,
) -> Result<Response> {
    let request: ExtendBody = parse_json(&raw)?;
    let duration_ms = body::duration_ms(request.duration_seconds)?;
    if request.pay_with == PayWith::Balance {
        // the rental is no part of the body, so it belongs to the key's scope
        let key = IdempotencyKey::read(&headers, &ctx, &format!("extend:{id}"), &raw)?;
        count_order(&app, &ctx, client)?;
        let from = from_balance(&app, key, request.currency)?;
        let (desk, now) = (app.purchases.desk(), ctx.now);
        let extend = move |tx: &mut dyn crate::store::Tx| {
            buy::extension(tx, &ctx, &desk, (id, duration_ms), &from)
        };
        let rental = app.db.write("rental.buy_extension", extend).await?;
        app.agents.nudger.nudge(rental.node_id);
        return Ok(created(&app, &rental, now, HeaderMap::new())?.into_response());
    }
    refuse_currency(request.currency)?;
    let hash = request_sha256("POST", &format!("/api/v1/rentals/{id}/extend"), &raw);
    pay_or_ask(
        &app,
        ctx,
        client,
        &headers,
        Wanted::Extend {
            rental_id: id,
            duration_ms,
        },
        hash,
    )
    .await
}

/// Counts an order that is paid: of an account, or else of the client's address.
///
/// # Errors
/// 429.
pub(super) fn count_order(app: &App, ctx: &OpCtx, client: ClientIp) -> Result<()> {
    let caller = match ctx.user() {
        Ok(user) => Caller::User(user.id),
        Err(_) => Caller::Address(client.group()),
    };
    app.limits.count(Action::Rent, caller, app.clock.boot_ms())
}

/// Counts a filling of the caller's balance.
///
/// # Errors
/// 401, 429.
pub(super) fn count_top_up(app: &App, ctx: &OpCtx) -> Result<()> {
    let caller = Caller::User(ctx.user()?.id);
    app.limits.count(Action::TopUp, caller, app.clock.boot_ms())
}

/// The answer to a signed payment that came before, if the request carries one.
pub(super) async fn answer_repeat(
    app: &Arc<App>,
    ctx: &OpCtx,
    headers: &HeaderMap,
    hash: [u8; 32],
) -> Result<Option<Response>> {
    let Ok(Some(presented)) = x402_http::presented(headers) else {
        return Ok(None);
    };
    let find = move |tx: &mut dyn crate::store::Tx| payments::find_repeat(tx, &presented, &hash);
    let Some(payment) = app.db.read("payment.repeat", find).await? else {
        return Ok(None);
    };
    let payment = await_end(app, ctx, payment).await?;
    answer(app, ctx, &payment).await.map(Some)
}

/// Waits for the end of a payment that came before. One that nobody works on is taken up: at once when it was left to whoever wants it
/// settled, else when nothing happens, since whoever received it may have died.
async fn await_end(app: &Arc<App>, ctx: &OpCtx, payment: Payment) -> Result<Payment> {
    let held = |payment: &Payment| {
        matches!(
            payment.state,
            PaymentState::Received | PaymentState::Verified
        )
    };
    let now = if held(&payment) && payment.next_try_at <= ctx.now {
        payment
    } else {
        app.purchases.wait(payment.id, ALIVE).await?
    };
    let id = now.id;
    if held(&now) {
        let purchases = Arc::clone(&app.purchases);
        in_background(app, now, async move { purchases.pick_up(id).await }).await?;
    }
    app.purchases.wait(id, PATIENCE).await
}

/// Work on a payment that goes on even if this client hangs up; where the payment is after a while.
async fn in_background(
    app: &App,
    payment: Payment,
    work: impl Future<Output = Result<Payment>> + Send + 'static,
) -> Result<Payment> {
    match tokio::time::timeout(PATIENCE, app.background.spawn(work)).await {
        Ok(done) => done.map_err(Error::internal)?,
        Err(_) => Ok(payment),
    }
}

pub(super) async fn pay_or_ask(
    app: &Arc<App>,
    ctx: OpCtx,
    client: ClientIp,
    headers: &HeaderMap,
    mut wanted: Wanted,
    hash: [u8; 32],
) -> Result<Response> {
    let presented = match x402_http::presented(headers) {
        Ok(Some(presented)) => presented,
        Ok(None) => return ask(app, ctx, client, wanted, hash, "payment required").await,
        Err(unreadable) => {
            return ask(app, ctx, client, wanted, hash, &unreadable.to_string()).await;
        }
    };
    match &wanted {
        Wanted::TopUp { .. } => count_top_up(app, &ctx)?,
        Wanted::Rent { .. } | Wanted::Extend { .. } => count_order(app, &ctx, client)?,
    }
    // what was quoted by itself knows no image yet
    if let Wanted::Rent {
        order,
        quote_id: Some(_),
    } = &mut wanted
    {
        pin(app, &ctx, order).await?;
    }
    match app
        .purchases
        .receive(&ctx, presented, wanted.clone(), hash)
        .await?
    {
        Reception::AskAgain(why) => ask(app, ctx, client, wanted, hash, &why).await,
        Reception::New(payment, quote) => {
            let (purchases, id) = (Arc::clone(&app.purchases), payment.id);
            let fresh = payment.clone();
            let work = async move { purchases.drive_on(fresh, &quote, Until::Settled).await };
            let mut payment = in_background(app, payment, work).await?;
            if !payment.state.is_final() {
                // somebody who repeated the request may have taken it up
                payment = app.purchases.wait(id, ALIVE).await?;
            }
            answer(app, &ctx, &payment).await
        }
        Reception::Before(payment) => {
            let payment = await_end(app, &ctx, payment).await?;
            answer(app, &ctx, &payment).await
        }
    }
}

/// The rental that this key bought before: a repeat is answered before anything is placed.
async fn bought_before(app: &App, key: &IdempotencyKey) -> Result<Option<Rental>> {
    let key = key.clone();
    app.db
        .read("rental.bought", move |tx| {
            let id = idempotency::find(tx, &key)?;
            id.map(|id| buy::bought(tx, &id)).transpose()
        })
        .await
}

/// An hour's price of a rate, rounded down.
pub(super) fn per_hour(rate: Rate) -> Result<shared::money::Amount> {
    Ok(rate.charge_for_ms(3_600_000)?)
}
