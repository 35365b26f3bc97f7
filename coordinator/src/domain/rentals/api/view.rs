//! A rental as clients see it.

use serde::Serialize;
use shared::{
    id::{NodeId, OfferId, RentalId},
    money::{Amount, Asset, Money},
    resources::Resources,
    time::Timestamp,
    wire::observed::Phase,
};
use utoipa::ToSchema;

use crate::{
    app::App,
    domain::{
        payments::{model::Quote, ways::Way},
        rentals::model::{EndReason, Rental},
    },
    error::Result,
    ssh::Face,
};

/// A rental.
#[derive(Debug, Serialize, ToSchema)]
pub struct RentalView {
    #[schema(value_type = String)]
    id: RentalId,
    /// `awaiting_payment`, `scheduled`, `pulling`, `starting`, `running`, `stopping`, `ended`.
    #[schema(example = "running")]
    state: &'static str,
    /// Why it ended: `completed`, `stopped`, `out_of_funds`, `failed_to_start`, `exited`, `oom_killed`, `disk_exceeded`, `node_lost`, `preempted`,
    /// `expired`, `banned`, `reported`.
    reason: Option<&'static str>,
    /// The state's reason in words.
    state_reason: String,
    /// What the node reports, pull progress included.
    #[schema(value_type = Object)]
    phase: Phase,
    #[schema(value_type = String)]
    offer_id: OfferId,
    #[schema(value_type = String)]
    node_id: NodeId,
    #[schema(value_type = Object)]
    resources: Resources,
    /// UUIDs of its GPUs.
    gpus: Vec<String>,
    image: String,
    /// What runs, whatever its tag means by now; known from the start where the market asked its registry.
    image_digest: Option<String>,
    /// How long before its provider ends it ahead of its time you are told.
    notice_seconds: i64,
    price: RentalPriceView,
    duration_seconds: i64,
    /// Until when its time is paid; set once it runs, since loading isn't billed.
    #[schema(value_type = Option<String>, format = DateTime)]
    paid_until: Option<Timestamp>,
    /// Until when it runs on without its node hearing from us.
    #[schema(value_type = String, format = DateTime)]
    lease_until: Timestamp,
    /// What is billed, or will be for the time since the last window.
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    cost_so_far: Money,
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    paid: Money,
    /// From the balance in which currency it is extended, unless another one is named.
    #[schema(value_type = String, example = "USDC")]
    balance_currency: Asset,
    /// The platform's part of what was billed.
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    platform_fee: Money,
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    refunded: Money,
    billed_ms: i64,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
    /// When its money was split for good.
    #[schema(value_type = Option<String>, format = DateTime)]
    settled_at: Option<Timestamp>,
    connect: ConnectView,
    receipts_url: String,
    /// Opens this rental to whoever holds it; only in the answer to its payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rental_token: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RentalPriceView {
    /// Rounded down; billing uses the exact rate.
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    per_hour: Money,
    platform_fee_bps: u32,
}

/// How to reach it.
#[derive(Debug, Serialize, ToSchema)]
struct ConnectView {
    /// Nothing where this market offers no SSH, and once it has ended.
    #[schema(value_type = Option<SshConnectView>)]
    ssh: Option<SshConnectView>,
    /// Ports that the web reaches.
    #[schema(example = "/api/v1/rentals/rnt_0192f0c1a2b37c4d8e5f60718293a4b5/ports")]
    ports_url: String,
}

/// How to reach it with an SSH client, by a key of the rental or of the account that rents it.
#[derive(Debug, Serialize, ToSchema)]
struct SshConnectView {
    #[schema(example = "ssh -p 2222 rnt_0192f0c1a2b37c4d8e5f60718293a4b5@market.example")]
    command: String,
    #[schema(example = "market.example")]
    host: String,
    #[schema(example = 2222)]
    port: u16,
    /// The rental's id.
    #[schema(value_type = String)]
    user: RentalId,
    /// Of the gateway's host key, as the client shows it at its first connection.
    #[schema(example = "SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE")]
    fingerprint: String,
}

fn connect(face: Option<&Face>, rental: &Rental) -> ConnectView {
    let face = face.filter(|_| rental.ended_at.is_none());
    ConnectView {
        ssh: face.map(|face| SshConnectView {
            command: face.command(rental.id),
            host: face.host.clone(),
            port: face.port,
            user: rental.id,
            fingerprint: face.fingerprint.clone(),
        }),
        ports_url: format!("/api/v1/rentals/{}/ports", rental.id),
    }
}

const HOUR_MS: i64 = 3_600_000;

/// The view of a rental at a moment.
///
/// # Errors
/// Its figures leave the ledger's range.
pub fn view(app: &App, rental: &Rental, now: Timestamp) -> Result<RentalView> {
    let money = |amount: Amount| Money {
        amount,
        currency: rental.asset,
    };
    Ok(RentalView {
        id: rental.id,
        state: rental.client_state(),
        reason: rental.end_reason.map(EndReason::name),
        state_reason: rental.detail.clone(),
        phase: rental.phase.clone(),
        offer_id: rental.offer_id,
        node_id: rental.node_id,
        resources: rental.resources,
        gpus: rental.gpus.clone(),
        image: rental.spec.image().to_owned(),
        image_digest: rental.image_digest.clone(),
        notice_seconds: rental.notice_ms / 1_000,
        price: RentalPriceView {
            per_hour: money(rental.rate.charge_for_ms(HOUR_MS)?),
            platform_fee_bps: rental.fee_bps,
        },
        duration_seconds: rental.duration_ms / 1_000,
        paid_until: rental.paid_until(),
        lease_until: rental.lease_until,
        cost_so_far: money(rental.cost_so_far(now)?),
        paid: money(rental.paid),
        balance_currency: rental.balance_asset,
        platform_fee: money(rental.fee),
        refunded: money(rental.refunded),
        billed_ms: rental.billed_ms,
        created_at: rental.created_at,
        started_at: rental.started_at,
        finished_at: rental.finished_at,
        ended_at: rental.ended_at,
        settled_at: rental.settled_at,
        connect: connect(app.ssh.as_ref(), rental),
        receipts_url: format!("/api/v1/rentals/{}/receipts", rental.id),
        rental_token: None,
    })
}

/// A quote.
#[derive(Debug, Serialize, ToSchema)]
pub struct QuoteView {
    #[schema(value_type = String)]
    pub(super) id: shared::id::QuoteId,
    #[schema(value_type = String)]
    pub(super) offer_id: OfferId,
    /// What is to be paid now; time that isn't billed comes back.
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    pub(super) price: Money,
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    pub(super) platform_fee: Money,
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    pub(super) provider_share: Money,
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    pub(super) rate_per_hour: Money,
    pub(super) duration_seconds: i64,
    #[schema(value_type = String, format = DateTime)]
    pub(super) expires_at: Timestamp,
    /// Every way to pay it, in the order of the terms.
    pub(super) options: Vec<PayOptionView>,
}

/// A way to pay a quote.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PayOptionView {
    /// CAIP-2.
    #[schema(example = "eip155:84532")]
    network: &'static str,
    /// The token's contract.
    token: String,
    #[schema(value_type = crate::http::openapi::MoneySchema)]
    amount: Money,
    /// What was promised, where it isn't the price's own currency.
    rate: Option<RateView>,
}

/// An exchange rate that a quote promises.
#[derive(Debug, Serialize, ToSchema)]
struct RateView {
    /// Of this currency for one of the price's, rounded up to 8 places; our spread is in it.
    #[schema(example = "0.92592593")]
    rate: String,
    /// Who says so.
    source: String,
    /// When it held.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

/// The ways to pay a quote, its own first.
pub(super) fn options(quote: &Quote) -> Vec<PayOptionView> {
    let option = |way: Way| PayOptionView {
        network: way.network.caip2,
        token: way.token.address.to_string(),
        amount: Money {
            amount: way.amount,
            currency: way.asset,
        },
        rate: way.rate.map(|rate| RateView {
            rate: rate.text(),
            at: rate.at,
            source: rate.source,
        }),
    };
    quote.ways().map(option).collect()
}
