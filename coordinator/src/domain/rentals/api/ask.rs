//! The answer to an order without payment: 402 with the terms of a quote that is kept.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    image::{image_view, pin},
    view::options,
};
use crate::{
    app::App,
    context::OpCtx,
    domain::{
        payments::{
            self, Order, extensions,
            model::{Purpose, Quote, Slice},
            x402_http,
        },
        rentals::{self, order, purchase::Wanted},
        settings, wallets,
    },
    error::Result,
    http::{ClientIp, Json},
    limits::{Action, Caller},
};

/// Counts a quote of a client's: anybody may ask, and each one is a row.
///
/// # Errors
/// 429.
pub(super) fn count_quote(app: &App, client: ClientIp) -> Result<()> {
    let client = Caller::Address(client.group());
    app.limits.count(Action::Quote, client, app.clock.boot_ms())
}

/// 402 with the terms of a fresh quote.
pub(super) async fn ask(
    app: &App,
    ctx: OpCtx,
    client: ClientIp,
    mut wanted: Wanted,
    hash: [u8; 32],
    why: &str,
) -> Result<Response> {
    let has_quote = matches!(
        &wanted,
        Wanted::Rent {
            quote_id: Some(_),
            ..
        }
    );
    if !has_quote {
        count_quote(app, client)?;
    }
    let start = match &mut wanted {
        Wanted::Rent { order, .. } => pin(app, &ctx, order).await?,
        Wanted::Extend { .. } | Wanted::TopUp { .. } => None,
    };
    let (rules, payees) = (app.purchases.rules, app.purchases.payees.clone());
    let quote = app
        .db
        .write("payment.quote", move |tx| {
            quote_for(tx, &ctx, &rules, &payees, &wanted, hash)
        })
        .await?;
    let site = wallets::site(app);
    let sign_in = wallets::challenge(app, &site, app.purchases.chains())?;
    let extensions = extensions::offered(&quote.purpose, &sign_in);
    let public_url = &app.purchases.public_url;
    let mut parts = x402_http::payment_required(&quote.terms(public_url), why, &extensions);
    let others = quote.others.iter();
    let others: Vec<_> = others.map(|way| quote.terms_of(way, public_url)).collect();
    parts.also(&others)?;
    if let Some(body) = parts.body.as_object_mut() {
        body.insert("quote_id".to_owned(), json!(quote.id));
        body.insert("quote_expires_at".to_owned(), json!(quote.expires_at));
        body.insert("options".to_owned(), json!(options(&quote)));
        if let Some(image) = &quote.image {
            body.insert("image".to_owned(), image_view(image, start));
        }
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
    payees: &payments::payees::Payees,
    wanted: &Wanted,
    request_sha256: [u8; 32],
) -> Result<Quote> {
    let (purpose, amount, asset) = match wanted {
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
            order::check_spend(order, priced.amount, priced.offer.terms.asset)?;
            let slice = Slice {
                offer_id: priced.offer.id,
                resources: order.resources,
                duration_ms: order.duration_ms,
                rate: priced.rate,
                fee_bps: settings::fee_bps(tx, rules.fee_bps)?,
            };
            (
                Purpose::Rent(slice),
                priced.amount,
                priced.offer.terms.asset,
            )
        }
        Wanted::Extend {
            rental_id,
            duration_ms,
        } => {
            let rental = order::extendable(tx, ctx, rules, *rental_id, *duration_ms)?;
            let slice = Slice {
                offer_id: rental.offer_id,
                resources: rental.resources,
                duration_ms: *duration_ms,
                rate: rental.rate,
                fee_bps: rental.fee_bps,
            };
            (
                Purpose::Extend(rental.id, slice),
                slice.price()?,
                rental.asset,
            )
        }
        Wanted::TopUp { amount, asset } => (Purpose::TopUp(ctx.user()?.id), *amount, *asset),
    };
    let image = match wanted {
        Wanted::Rent { order, .. } => order.image.clone(),
        Wanted::Extend { .. } | Wanted::TopUp { .. } => None,
    };
    let order = Order {
        purpose,
        image,
        request_sha256,
        amount,
        asset,
    };
    payments::quote(tx, ctx, payees, &order, rules.quote_ttl_ms)
}
