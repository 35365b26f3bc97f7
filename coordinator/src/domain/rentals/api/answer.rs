//! The answer to a payment: the rental, a refusal, or "not known yet".

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use shared::{time::Timestamp, x402::network};

use super::view::{RentalView, view};
use crate::{
    app::App,
    context::{Actor, OpCtx},
    domain::{
        nodes,
        payments::{
            model::{Payment, PaymentState},
            x402_http,
        },
        rentals::{self, model::Rental},
    },
    error::{Error, Result},
    http::{
        Json,
        error::{problem, respond},
    },
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
            let id = payment.rental_id;
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
        (Actor::User(_) | Actor::ApiKey(_), Some(consumer)) => {
            ctx.user().is_ok_and(|person| person.id == consumer) || ctx.is_admin()
        }
        (Actor::RentalToken(id), Some(_)) => *id == rental.id,
        (Actor::System, _) | (_, None) => true,
        _ => false,
    }
}
