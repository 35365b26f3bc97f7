//! The order in four steps: quote, authorize (verify and hold), complete (credit and start); settle is in `settlement`.
//! Besides: looking at a payment, and the balance.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use shared::{
    id::{PaymentId, RentalId},
    money::Money,
    time::Timestamp,
    x402::network,
};
use utoipa::ToSchema;

use super::{
    answer, ask,
    body::{self, QuoteBody, RentBody, request_sha256},
    image::pin,
    rent,
    view::{QuoteView, options},
};
use crate::{
    app::App,
    context::OpCtx,
    domain::{
        nodes,
        payments::{
            self, Order,
            model::{Payment, PaymentState, Purpose, Quote, Slice},
            x402_http,
        },
        rentals::{
            order::{self, Customer},
            purchase::{Reception, Until, Wanted},
        },
        settings,
    },
    error::{Error, Result},
    http::{ClientIp, Json, Path, Problems, RawBody, extract::parse_json},
};

#[utoipa::path(
    post, path = "/payments/quote", operation_id = "create_quote", tag = "payments",
    description = "What a rental costs; holds for five minutes, reserves nothing.",
    request_body = QuoteBody, responses((status = 201, body = QuoteView), Problems), security(())
)]
pub(super) async fn quote(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    client: ClientIp,
    RawBody(raw): RawBody,
) -> Result<(StatusCode, Json<QuoteView>)> {
    let request: QuoteBody = parse_json(&raw)?;
    let resources = request.resources.parse()?;
    let duration_ms = body::duration_ms(request.duration_seconds)?;
    let offer = body::place(
        &app,
        request.offer_id,
        request.requirements.as_ref(),
        &resources,
        duration_ms,
    )?;
    let (rules, payees) = (app.purchases.rules, app.purchases.payees.clone());
    let hash = request_sha256("POST", "/api/v1/payments/quote", &raw);
    ask::count_quote(&app, client)?;
    let quote = app
        .db
        .write("payment.quote", move |tx| {
            let priced = order::price(tx, &rules, offer, &resources, duration_ms)?;
            let slice = Slice {
                offer_id: priced.offer.id,
                resources,
                duration_ms,
                rate: priced.rate,
                fee_bps: settings::fee_bps(tx, rules.fee_bps)?,
            };
            let customer = Customer {
                user: ctx.user().ok().map(|user| user.id),
                wallet: None,
            };
            let node = nodes::get(tx, priced.offer.node_id)?;
            order::check_choice(tx, &node, &customer, None)?;
            let order = Order {
                purpose: Purpose::Rent(slice),
                image: None,
                request_sha256: hash,
                amount: priced.amount,
                asset: priced.offer.terms.asset,
            };
            let quote = payments::quote(tx, &ctx, &payees, &order, rules.quote_ttl_ms)?;
            Ok((quote, slice))
        })
        .await?;
    Ok((StatusCode::CREATED, Json(quote_view(&quote.0, &quote.1)?)))
}

fn quote_view(quote: &Quote, slice: &Slice) -> Result<QuoteView> {
    let fee = quote.platform_fee()?;
    let money = |amount| Money {
        amount,
        currency: quote.asset,
    };
    Ok(QuoteView {
        id: quote.id,
        offer_id: slice.offer_id,
        price: money(quote.amount),
        platform_fee: money(fee),
        provider_share: money(quote.amount.minus(fee)?),
        rate_per_hour: money(rent::per_hour(slice.rate)?),
        duration_seconds: slice.duration_ms / 1_000,
        expires_at: quote.expires_at,
        options: options(quote),
    })
}

/// A payment.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PaymentView {
    #[schema(value_type = String)]
    id: PaymentId,
    /// `received`, `verified`, `settling`, `pending`, `credited`, `rejected`, `expired`.
    state: &'static str,
    /// What it pays for; absent when it fills a balance.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    rental_id: Option<RentalId>,
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    amount: Money,
    network: String,
    payer: String,
    transaction: Option<String>,
    error: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

fn payment_view(payment: Payment) -> Result<PaymentView> {
    let (network, token) = (
        network::by_caip2(&payment.network),
        payment.token.parse().ok(),
    );
    let token = network
        .zip(token)
        .and_then(|(network, token)| network.token_at(&token));
    let corrupt = || Error::corrupt("payments", &payment.id.to_string(), "asset");
    let currency = token.ok_or_else(corrupt)?.asset;
    Ok(PaymentView {
        id: payment.id,
        state: payment.state.name(),
        rental_id: payment.target.rental(),
        amount: Money {
            amount: payment.amount,
            currency,
        },
        network: payment.network,
        payer: payment.payer,
        transaction: payment.tx_hash,
        error: payment.last_error,
        created_at: payment.created_at,
        updated_at: payment.updated_at,
    })
}

#[utoipa::path(
    post, path = "/payments/authorize", operation_id = "authorize_payment", tag = "payments",
    description = "The body of create_rental with a quote_id, and the signed payment in its header: verified, and the room held for \
        two minutes. Nothing is charged before complete.",
    request_body = RentBody,
    responses((status = 201, body = PaymentView), (status = 202, body = PaymentView), (status = 402), Problems), security(())
)]
pub(super) async fn authorize(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    client: ClientIp,
    headers: HeaderMap,
    RawBody(raw): RawBody,
) -> Result<Response> {
    let request: RentBody = parse_json(&raw)?;
    let quote_id = request.quote_id.ok_or_else(|| {
        Error::invalid("/quote_id", "ask for a quote first: POST /payments/quote")
    })?;
    let mut order = request.order(&app)?;
    pin(&app, &ctx, &mut order).await?;
    let wanted = Wanted::Rent {
        order,
        quote_id: Some(quote_id),
    };
    // with a quote_id the quote is found by it, not by the request
    let hash = request_sha256("POST", "/api/v1/payments/authorize", &raw);
    let presented = match x402_http::presented(&headers) {
        Ok(Some(presented)) => presented,
        Ok(None) => return ask::ask(&app, ctx, client, wanted, hash, "payment required").await,
        Err(unreadable) => {
            return ask::ask(&app, ctx, client, wanted, hash, &unreadable.to_string()).await;
        }
    };
    rent::count_order(&app, &ctx, client)?;
    let payment = match app
        .purchases
        .receive(&ctx, presented, wanted.clone(), hash)
        .await?
    {
        Reception::AskAgain(why) => return ask::ask(&app, ctx, client, wanted, hash, &why).await,
        Reception::New(payment, _) | Reception::Before(payment) => payment,
    };
    let payment = app.purchases.drive(payment.id, Until::Verified).await?;
    match payment.state {
        PaymentState::Rejected | PaymentState::Expired => {
            answer::answer(&app, &ctx, &payment).await
        }
        PaymentState::Received => {
            Ok((StatusCode::ACCEPTED, Json(payment_view(payment)?)).into_response())
        }
        _ => Ok((StatusCode::CREATED, Json(payment_view(payment)?)).into_response()),
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CompleteBody {
    #[schema(value_type = String)]
    payment_id: PaymentId,
}

#[utoipa::path(
    post, path = "/payments/complete", operation_id = "complete_payment", tag = "payments",
    description = "Settles an authorized payment and starts its rental. Repeating it finds the same rental.",
    request_body = CompleteBody,
    responses((status = 201, body = super::view::RentalView), (status = 202), (status = 402), Problems),
    security(())
)]
pub(super) async fn complete(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Json(request): Json<CompleteBody>,
) -> Result<Response> {
    let id = request.payment_id;
    visible(&app, ctx.clone(), id).await?;
    let purchases = Arc::clone(&app.purchases);
    let work = app
        .background
        .spawn(async move { purchases.drive(id, Until::Settled).await });
    let payment = work.await.map_err(Error::internal)??;
    answer::answer(&app, &ctx, &payment).await
}

/// A payment is known to whoever holds its id (it is random and shown only to the payer), unless an account made it.
async fn visible(app: &App, ctx: OpCtx, id: PaymentId) -> Result<Payment> {
    app.db
        .read("payment.get", move |tx| {
            let payment = payments::get(tx, id)?;
            answer::visible(tx, &ctx, &payment)?;
            Ok(payment)
        })
        .await
}

#[utoipa::path(
    get, path = "/payments/{id}", operation_id = "get_payment", tag = "payments", params(("id" = String, Path)),
    responses((status = 200, body = PaymentView), Problems), security(())
)]
pub(super) async fn get(
    ctx: OpCtx,
    State(app): State<Arc<App>>,
    Path(id): Path<PaymentId>,
) -> Result<Json<PaymentView>> {
    visible(&app, ctx, id)
        .await
        .and_then(payment_view)
        .map(Json)
}
