//! SQL of quotes and payments; of idempotency keys in [`keys`], of clients' own names in [`identifiers`], of ways to pay in
//! [`options`], of exchanges in [`exchanges`], of networks in
//! [`networks`], of their invariants in [`check`].

pub(super) mod check;
pub(super) mod exchanges;
pub(super) mod identifiers;
pub(super) mod keys;
pub(super) mod networks;
pub(super) mod options;

use shared::{
    id::{PaymentId, QuoteId, RentalId},
    money::{Amount, Asset, Rate},
    resources::Resources,
    time::Timestamp,
    x402::network,
};

use super::model::{Payment, PaymentState, Purpose, Quote, Slice, Target};
use crate::{
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

const QUOTE: &str = "id, purpose, request_sha256, rental_id, offer_id, ram_bytes, cpu_millis, duration_ms, rate_micro, fee_bps, \
     amount, asset, network, pay_to, payment_id, created_at, expires_at, user_id, gpu_count, disk_bytes, pinned_image";
const PAYMENT: &str = "id, quote_id, rental_id, network, asset, payer, nonce, pay_to, amount, valid_after, valid_before, \
     x402_version, payload, payload_sha256, state, attempts, tx_hash, last_error, next_try_at, created_at, updated_at, \
     user_id, log_index";

fn parse_quote(row: &Row) -> Result<Quote> {
    let id = row.text(0)?;
    let bad = |column: &str| Error::corrupt("quotes", id, column);
    let asset = Asset::from_code(row.text(11)?).ok_or_else(|| bad("asset"))?;
    let network = network::by_caip2(row.text(12)?).ok_or_else(|| bad("network"))?;
    Ok(Quote {
        id: id.parse().map_err(|_| bad("id"))?,
        purpose: parse_purpose(row)?,
        image: row
            .opt_text(20)?
            .map(serde_json::from_str)
            .transpose()
            .map_err(|_| bad("pinned_image"))?,
        request_sha256: row.blob(2)?.try_into().map_err(|_| bad("request_sha256"))?,
        amount: Amount::from_atomic(row.int(10)?).map_err(|_| bad("amount"))?,
        asset,
        network,
        token: *network.token(asset).ok_or_else(|| bad("asset"))?,
        pay_to: row.text(13)?.parse().map_err(|_| bad("pay_to"))?,
        others: Vec::new(),
        payment_id: row
            .opt_text(14)?
            .map(str::parse)
            .transpose()
            .map_err(|_| bad("payment_id"))?,
        created_at: Timestamp::from_micros(row.int(15)?),
        expires_at: Timestamp::from_micros(row.int(16)?),
    })
}

fn parse_purpose(row: &Row) -> Result<Purpose> {
    let bad = |column: &str| Error::corrupt("quotes", row.text(0).unwrap_or_default(), column);
    let rental = || {
        row.opt_text(3)?
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| bad("rental_id"))
    };
    match row.text(1)? {
        "rent" => Ok(Purpose::Rent(parse_slice(row)?)),
        "extend" => Ok(Purpose::Extend(rental()?, parse_slice(row)?)),
        "top_up" => {
            let user = row.opt_text(17)?.and_then(|id| id.parse().ok());
            user.map(Purpose::TopUp).ok_or_else(|| bad("user_id"))
        }
        _ => Err(bad("purpose")),
    }
}

fn parse_slice(row: &Row) -> Result<Slice> {
    let bad = |column: &str| Error::corrupt("quotes", row.text(0).unwrap_or_default(), column);
    let number = |column: usize, name: &str| row.opt_int(column)?.ok_or_else(|| bad(name));
    let offer = row.opt_text(4)?.and_then(|id| id.parse().ok());
    Ok(Slice {
        offer_id: offer.ok_or_else(|| bad("offer_id"))?,
        resources: Resources {
            ram_bytes: number(5, "ram_bytes")?,
            cpu_millis: number(6, "cpu_millis")?,
            gpu_count: row.int(18)?,
            disk_bytes: row.int(19)?,
        },
        duration_ms: number(7, "duration_ms")?,
        rate: Rate::from_micro_per_hour(number(8, "rate_micro")?).map_err(|_| bad("rate_micro"))?,
        fee_bps: u32::try_from(number(9, "fee_bps")?).map_err(|_| bad("fee_bps"))?,
    })
}

fn parse_target(row: &Row) -> Result<Target> {
    let bad = |column: &str| Error::corrupt("payments", row.text(0).unwrap_or_default(), column);
    match (row.opt_text(2)?, row.opt_text(21)?) {
        (Some(rental), None) => rental
            .parse()
            .map(Target::Rental)
            .map_err(|_| bad("rental_id")),
        (None, Some(user)) => user
            .parse()
            .map(Target::Balance)
            .map_err(|_| bad("user_id")),
        _ => Err(bad("rental_id")),
    }
}

fn parse_payment(row: &Row) -> Result<Payment> {
    let id = row.text(0)?;
    let bad = |column: &str| Error::corrupt("payments", id, column);
    Ok(Payment {
        id: id.parse().map_err(|_| bad("id"))?,
        quote_id: row.text(1)?.parse().map_err(|_| bad("quote_id"))?,
        target: parse_target(row)?,
        network: row.text(3)?.to_owned(),
        token: row.text(4)?.to_owned(),
        payer: row.text(5)?.to_owned(),
        nonce: row.text(6)?.to_owned(),
        pay_to: row.text(7)?.to_owned(),
        amount: Amount::from_atomic(row.int(8)?).map_err(|_| bad("amount"))?,
        valid_after_s: row.int(9)?,
        valid_before_s: row.int(10)?,
        x402_version: row.int(11)?,
        payload: row.text(12)?.to_owned(),
        payload_sha256: row
            .blob(13)?
            .try_into()
            .map_err(|_| bad("payload_sha256"))?,
        state: PaymentState::from_name(row.text(14)?).ok_or_else(|| bad("state"))?,
        attempts: row.int(15)?,
        tx_hash: row.opt_text(16)?.map(str::to_owned),
        log_index: row.opt_int(22)?,
        last_error: row.opt_text(17)?.map(str::to_owned),
        next_try_at: Timestamp::from_micros(row.int(18)?),
        created_at: Timestamp::from_micros(row.int(19)?),
        updated_at: Timestamp::from_micros(row.int(20)?),
    })
}

pub(super) fn insert_quote(tx: &mut dyn Tx, quote: &Quote) -> Result<()> {
    let slice = quote.purpose.slice();
    let image = quote.image.as_ref().map(serde_json::to_string);
    let image = image.transpose().map_err(Error::internal)?;
    let user = match quote.purpose {
        Purpose::TopUp(user) => Some(user),
        Purpose::Rent(_) | Purpose::Extend(..) => None,
    };
    tx.execute(
        &format!(
            "INSERT INTO quotes ({QUOTE}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, \
             $19, $20, $21)"
        ),
        params![
            quote.id,
            quote.purpose.name(),
            quote.request_sha256.as_slice(),
            quote.purpose.rental(),
            slice.map(|slice| slice.offer_id),
            slice.map(|slice| slice.resources.ram_bytes),
            slice.map(|slice| slice.resources.cpu_millis),
            slice.map(|slice| slice.duration_ms),
            slice.map(|slice| slice.rate.micro_per_hour()),
            slice.map(|slice| i64::from(slice.fee_bps)),
            quote.amount,
            quote.asset.code(),
            quote.network.caip2,
            quote.pay_to.to_string(),
            quote.payment_id,
            quote.created_at,
            quote.expires_at,
            user,
            slice.map_or(0, |slice| slice.resources.gpu_count),
            slice.map_or(0, |slice| slice.resources.disk_bytes),
            image
        ],
    )?;
    Ok(())
}

pub(super) fn quote(tx: &mut dyn Tx, id: QuoteId) -> Result<Option<Quote>> {
    let rows = tx.query(
        &format!("SELECT {QUOTE} FROM quotes WHERE id = $1"),
        params![id],
    )?;
    rows.first().map(parse_quote).transpose()
}

/// Unused, unexpired quotes that a request was answered with, newest first.
pub(super) fn open_quotes(
    tx: &mut dyn Tx,
    request_sha256: &[u8],
    amount: i64,
    now: Timestamp,
) -> Result<Vec<Quote>> {
    let rows = tx.query(
        &format!(
            "SELECT {QUOTE} FROM quotes WHERE request_sha256 = $1 AND payment_id IS NULL AND expires_at > $2 AND amount = $3
             ORDER BY created_at DESC, id DESC LIMIT 64"
        ),
        params![request_sha256, now, amount],
    )?;
    rows.iter().map(parse_quote).collect()
}

pub(super) fn claim_quote(tx: &mut dyn Tx, id: QuoteId, payment: PaymentId) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE quotes SET payment_id = $1 WHERE id = $2 AND payment_id IS NULL",
        params![payment, id],
    )? == 1)
}

pub(super) fn delete_old_quotes(tx: &mut dyn Tx, before: Timestamp) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM quotes WHERE payment_id IS NULL AND expires_at < $1",
        params![before],
    )?)
}

/// Inserts a payment; false if its nonce or its quote is taken.
pub(super) fn insert_payment(tx: &mut dyn Tx, payment: &Payment) -> Result<bool> {
    let inserted = tx.execute(
        &format!(
            "INSERT INTO payments ({PAYMENT}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
             $18, $19, $20, $21, $22, $23) ON CONFLICT DO NOTHING"
        ),
        params![
            payment.id,
            payment.quote_id,
            payment.target.rental(),
            payment.network.as_str(),
            payment.token.as_str(),
            payment.payer.as_str(),
            payment.nonce.as_str(),
            payment.pay_to.as_str(),
            payment.amount,
            payment.valid_after_s,
            payment.valid_before_s,
            payment.x402_version,
            payment.payload.as_str(),
            payment.payload_sha256.as_slice(),
            payment.state.name(),
            payment.attempts,
            payment.tx_hash.as_deref(),
            payment.last_error.as_deref(),
            payment.next_try_at,
            payment.created_at,
            payment.updated_at,
            payment.target.user(),
            payment.log_index
        ],
    )?;
    Ok(inserted == 1)
}

pub(super) fn payment(tx: &mut dyn Tx, id: PaymentId) -> Result<Option<Payment>> {
    let rows = tx.query(
        &format!("SELECT {PAYMENT} FROM payments WHERE id = $1"),
        params![id],
    )?;
    rows.first().map(parse_payment).transpose()
}

/// The latest payment for a rental.
pub(super) fn payment_of_rental(tx: &mut dyn Tx, id: RentalId) -> Result<Option<Payment>> {
    let rows = tx.query(
        &format!("SELECT {PAYMENT} FROM payments WHERE rental_id = $1 ORDER BY created_at DESC, id DESC LIMIT 1"),
        params![id],
    )?;
    rows.first().map(parse_payment).transpose()
}

pub(super) fn payment_by_nonce(
    tx: &mut dyn Tx,
    network: &str,
    token: &str,
    payer: &str,
    nonce: &str,
) -> Result<Option<Payment>> {
    let rows = tx.query(
        &format!("SELECT {PAYMENT} FROM payments WHERE network = $1 AND asset = $2 AND payer = $3 AND nonce = $4"),
        params![network, token, payer, nonce],
    )?;
    rows.first().map(parse_payment).transpose()
}

/// Moves a payment on; false if it is no longer in the state, or no longer at the attempt, that was read.
pub(super) fn advance(tx: &mut dyn Tx, payment: &Payment, read: &Payment) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE payments SET state = $1, attempts = $2, tx_hash = $3, last_error = $4, next_try_at = $5, updated_at = $6
         WHERE id = $7 AND state = $8 AND attempts = $9",
        params![
            payment.state.name(),
            payment.attempts,
            payment.tx_hash.as_deref(),
            payment.last_error.as_deref(),
            payment.next_try_at,
            payment.updated_at,
            payment.id,
            read.state.name(),
            read.attempts
        ],
    )? == 1)
}

/// Credits a payment; false if it has ended, if nobody asked to settle it, or if its transfer was credited for another one.
pub(super) fn credit(tx: &mut dyn Tx, payment: &Payment) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE payments SET state = $1, tx_hash = $2, log_index = $3, last_error = NULL, updated_at = $4
         WHERE id = $5 AND state IN ('settling', 'pending') AND NOT EXISTS (
             SELECT 1 FROM payments other WHERE other.network = $6 AND other.tx_hash = $2 AND other.log_index = $3)",
        params![
            payment.state.name(),
            payment.tx_hash.as_deref(),
            payment.log_index,
            payment.updated_at,
            payment.id,
            payment.network.as_str()
        ],
    )? == 1)
}

/// The payment that was credited for a transfer, if that is another one.
pub(super) fn credited_by(tx: &mut dyn Tx, payment: &Payment) -> Result<Option<String>> {
    let rows = tx.query(
        "SELECT id FROM payments WHERE network = $1 AND tx_hash = $2 AND log_index = $3 AND id <> $4",
        params![
            payment.network.as_str(),
            payment.tx_hash.as_deref(),
            payment.log_index,
            payment.id
        ],
    )?;
    let id = rows.first().map(|row| row.text(0)).transpose()?;
    Ok(id.map(str::to_owned))
}

/// Payments that wait for something, due now.
pub(super) fn due(
    tx: &mut dyn Tx,
    now: Timestamp,
    after: (Timestamp, &str),
    limit: i64,
) -> Result<Vec<Payment>> {
    let rows = tx.query(
        &format!(
            "SELECT {PAYMENT} FROM payments WHERE state IN ('received', 'verified', 'settling', 'pending') AND next_try_at <= $1
             AND (next_try_at, id) > ($2, $3) ORDER BY next_try_at, id LIMIT $4"
        ),
        params![now, after.0, after.1, limit],
    )?;
    rows.iter().map(parse_payment).collect()
}
