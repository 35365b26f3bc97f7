//! The answer to a payment: the rental, a refusal, or "not known yet".

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use shared::{time::Timestamp, x402::network};

use super::{
    balance::{Shown, balances},
    view::{RentalView, view},
};
use crate::{
    app::App,
    context::{Actor, OpCtx},
    domain::{
        nodes,
        payments::{
            model::{Payment, PaymentState, Target},
            x402_http,
        },
        rentals::{self, model::Rental},
    },
    error::{Error, Result},
    http::{
        Json,
        error::{problem, respond},
    },
    store::Tx,
};

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
            let transaction = payment.tx_hash.as_deref().unwrap_or_default();
            let receipt = x402_http::settled(network, transaction, &payer);
            let id = match payment.target {
                Target::Rental(id) => id,
                Target::Balance(_) => return credited(app, ctx, payment, receipt).await,
            };
            let (rental, generation) = app
                .db
                .read("rental.paid", move |tx| {
                    let rental = rentals::find(tx, id)?;
                    let node = nodes::get(tx, rental.node_id)?;
                    Ok((rental, node.generation))
                })
                .await?;
            app.agents.nudger.tell(rental.node_id, generation);
            if !may_see(ctx, &rental) {
                return Err(Error::not_found("payment"));
            }
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
            let mut body = json!({
                "payment_id": payment.id,
                "state": payment.state.name(),
                "detail": "the payment is being settled: look at GET /payments/{id}, or repeat this request as it is",
            });
            if let Some(rental) = payment.target.rental() {
                body["rental_id"] = json!(rental);
            }
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
    let mut body = view(app, rental, now)?;
    body.rental_token = Some(app.rental_tokens.mint(rental.id).expose().clone());
    Ok((StatusCode::CREATED, headers, Json(body)))
}

/// 201 with the balance, and where the payment that filled it is found.
async fn credited(
    app: &App,
    ctx: &OpCtx,
    payment: &Payment,
    receipt: HeaderMap,
) -> Result<Response> {
    let (reader, payment) = (ctx.clone(), payment.clone());
    let id = payment.id;
    let shown = Shown::of(app);
    let balance = app.db.read("balance.credited", move |tx| {
        visible(tx, &reader, &payment)?;
        balances(tx, &reader, &shown)
    });
    let mut response = (StatusCode::CREATED, receipt, Json(balance.await?)).into_response();
    let place = HeaderValue::try_from(format!("/api/v1/payments/{id}"));
    let place = place.map_err(Error::internal)?;
    response.headers_mut().insert(header::LOCATION, place);
    Ok(response)
}

/// Refuses whoever may not see a payment: it is known to whoever holds its id or its signature (both are shown only to the payer),
/// unless an account made it.
///
/// # Errors
/// 404.
pub(super) fn visible(tx: &mut dyn Tx, ctx: &OpCtx, payment: &Payment) -> Result<()> {
    let may = match payment.target {
        Target::Rental(rental) => may_see(ctx, &rentals::find(tx, rental)?),
        Target::Balance(owner) => {
            ctx.user().is_ok_and(|person| person.id == owner) || ctx.is_admin()
        }
    };
    if may {
        Ok(())
    } else {
        Err(Error::not_found("payment"))
    }
}

/// Whoever repeats a signed payment knows it; an account's payment belongs to the account.
fn may_see(ctx: &OpCtx, rental: &Rental) -> bool {
    match (&ctx.actor, rental.consumer) {
        (Actor::User(_) | Actor::ApiKey(_), Some(consumer)) => {
            ctx.user().is_ok_and(|person| person.id == consumer) || ctx.is_admin()
        }
        (Actor::RentalToken(id), Some(_)) => *id == rental.id,
        (Actor::System, _) | (_, None) => true,
        _ => false,
    }
}
