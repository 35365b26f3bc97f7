//! A rental's bill held against the node's signed records: without the market, without a network.
//!
//! # Invariants
//! - Nothing of a bundle is believed that isn't signed by the node's key, but for the bill itself, which is what is checked.
//! - A check that can't be made counts as one that doesn't hold.

use serde::{Deserialize, Serialize};
use shared::{
    id::{NodeId, RentalId},
    journal::{Record, SignedRecord},
    money::{Amount, Money},
    sign::PublicKey,
    time::Timestamp,
};

use crate::{
    failure::{Failure, Result},
    units::show_ms,
};

/// The format of a bundle.
pub const FORMAT: &str = shared::journal::BUNDLE_FORMAT;
const HOUR_MS: i128 = 3_600_000;
/// By how much the node's wall clock and ours may differ over a rental, plus a thousandth of it.
const CLOCK_SLACK_MS: i64 = 5_000;

/// Everything that a check needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bundle {
    /// [`FORMAT`].
    pub format: String,
    /// The bill.
    pub rental: Bill,
    /// Its windows, oldest first.
    pub usage: Vec<Window>,
    /// The node's records, oldest first.
    pub receipts: Vec<Receipt>,
}

/// What of a rental's view is checked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bill {
    /// Which rental.
    pub id: RentalId,
    /// On which node.
    pub node_id: NodeId,
    /// What an hour costs.
    pub price: Price,
    /// What was billed.
    pub billed_ms: i64,
    /// What that costs.
    pub cost_so_far: Money,
    /// What was paid.
    pub paid: Money,
    /// What went back.
    pub refunded: Money,
    /// When it was split for good.
    pub settled_at: Option<Timestamp>,
}

/// What an hour costs, rounded down to the atomic unit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Price {
    /// All of it.
    pub per_hour: Money,
}

/// A billing window.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Window {
    /// From.
    pub start: Timestamp,
    /// Until.
    pub end: Timestamp,
    /// What of it is billed.
    pub billable_ms: i64,
    /// What that costs.
    pub amount: Money,
}

/// A record as the market gives it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Receipt {
    /// The record.
    pub record: SignedRecord,
    /// Under which key it holds.
    pub node_key: PublicKey,
    /// When the market had it.
    pub received_at: Timestamp,
}

/// What came of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// In words.
    pub detail: String,
}

/// Reads a bundle.
///
/// # Errors
/// It is no bundle, or of another version.
pub fn parse(text: &str) -> Result<Bundle> {
    let bundle: Bundle = serde_json::from_str(text)
        .map_err(|error| Failure::failed(format!("not a bundle of receipts: {error}")))?;
    if bundle.format == FORMAT {
        return Ok(bundle);
    }
    Err(Failure::failed(format!(
        "a bundle of the format {}, and only {FORMAT} is known: use a newer ramarket",
        bundle.format
    )))
}

/// Checks everything; `known` is the node's key as somebody knows it from elsewhere.
pub fn verify(bundle: &Bundle, known: Option<&PublicKey>) -> Vec<Check> {
    let records: Vec<&Record> = bundle
        .receipts
        .iter()
        .map(|receipt| &receipt.record.record)
        .collect();
    let checks = [
        ("one key", one_key(bundle, known)),
        ("signatures", signatures(bundle)),
        ("subject", subject(bundle, &records)),
        ("chain", chain(&records)),
        ("counters", counters(&records)),
        ("windows", windows(bundle)),
        ("running time", running(bundle, &records)),
        ("price", price(bundle)),
        ("split", split(bundle)),
    ];
    let told = checks.into_iter().map(|(name, outcome)| Check {
        name,
        holds: outcome.is_ok(),
        detail: outcome.unwrap_or_else(|why| why),
    });
    told.collect()
}

type Outcome = std::result::Result<String, String>;

fn one_key(bundle: &Bundle, known: Option<&PublicKey>) -> Outcome {
    let Some(first) = bundle.receipts.first() else {
        return if bundle.rental.billed_ms == 0 {
            Ok("no record, and nothing was billed".into())
        } else {
            Err("there is no record at all".into())
        };
    };
    let key = &first.node_key;
    if bundle.receipts.iter().any(|other| other.node_key != *key) {
        return Err("the records name several keys".into());
    }
    match known {
        Some(known) if known != key => Err(format!("the node's key is {key}, not {known}")),
        Some(_) => Ok(format!("{key}, as you know it")),
        None => Ok(format!("{key}, as the bundle says")),
    }
}

fn signatures(bundle: &Bundle) -> Outcome {
    for receipt in &bundle.receipts {
        let seq = receipt.record.record.seq;
        let signed = receipt.record.verify(&receipt.node_key);
        signed.map_err(|_| format!("record {seq} isn't signed by the node's key"))?;
    }
    Ok(format!("{} records are signed", bundle.receipts.len()))
}

fn subject(bundle: &Bundle, records: &[&Record]) -> Outcome {
    let bill = &bundle.rental;
    for record in records {
        if record.rental_id != bill.id || record.node_id != bill.node_id {
            return Err(format!(
                "record {} is of {} on {}",
                record.seq, record.rental_id, record.node_id
            ));
        }
    }
    Ok(format!("all are of {} on {}", bill.id, bill.node_id))
}

/// A node's chain has the records of all its rentals: those in between are other people's.
fn chain(records: &[&Record]) -> Outcome {
    let mut links = 0;
    for pair in records.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        if after.seq <= before.seq {
            return Err(format!("record {} comes after {}", after.seq, before.seq));
        }
        if after.seq == before.seq + 1 {
            if after.prev_hash != before.hash() {
                return Err(format!(
                    "record {} doesn't point to the one before it",
                    after.seq
                ));
            }
            links += 1;
        }
    }
    Ok(format!(
        "in order; {links} of {} point to one that is here",
        records.len().saturating_sub(1)
    ))
}

fn counters(records: &[&Record]) -> Outcome {
    for pair in records.windows(2) {
        let (before, after) = (pair[0], pair[1]);
        let shrinks = after.cum_cpu_ns < before.cum_cpu_ns
            || after.cum_mem_byte_s < before.cum_mem_byte_s
            || after.cum_rx_bytes < before.cum_rx_bytes
            || after.cum_tx_bytes < before.cum_tx_bytes;
        if shrinks && after.container_id == before.container_id {
            return Err(format!("a counter goes down in record {}", after.seq));
        }
        if after.boot_id == before.boot_id && after.t_boot_ms < before.t_boot_ms {
            return Err(format!(
                "the node's clock goes back in record {}",
                after.seq
            ));
        }
    }
    let last = records.last();
    let cpu_s = last.map_or(0, |record| record.cum_cpu_ns / 1_000_000_000);
    Ok(format!("none goes down; {cpu_s} s of CPU time were used"))
}

fn windows(bundle: &Bundle) -> Outcome {
    let mut billed_ms = 0_i64;
    let mut until: Option<Timestamp> = None;
    for window in &bundle.usage {
        let length_ms = window.end.ms_since(window.start);
        if window.billable_ms < 0 || window.billable_ms > length_ms {
            return Err(format!(
                "the window from {} is {length_ms} ms long and bills {}",
                window.start, window.billable_ms
            ));
        }
        if until.is_some_and(|until| window.start < until) {
            return Err(format!(
                "the window from {} overlaps the one before",
                window.start
            ));
        }
        until = Some(window.end);
        billed_ms = billed_ms.saturating_add(window.billable_ms);
    }
    let bill = &bundle.rental;
    let agrees = match bill.settled_at {
        Some(_) => billed_ms == bill.billed_ms,
        // it goes on: windows were closed between two questions
        None => billed_ms <= bill.billed_ms,
    };
    let told = format!(
        "{} windows bill {billed_ms} ms, the bill {} ms",
        bundle.usage.len(),
        bill.billed_ms
    );
    if agrees { Ok(told) } else { Err(told) }
}

/// What was billed isn't more than the time for which the node itself says that the container ran.
fn running(bundle: &Bundle, records: &[&Record]) -> Outcome {
    let billed_ms = bundle.rental.billed_ms;
    let started = records.iter().filter_map(|record| record.started_at).min();
    let Some(started) = started else {
        return if billed_ms == 0 {
            Ok("it never ran, and nothing was billed".into())
        } else {
            Err(format!(
                "{billed_ms} ms were billed and no record says that it ran"
            ))
        };
    };
    let seen = records
        .iter()
        .map(|record| record.finished_at.unwrap_or(record.t_wall));
    let until = seen.max().unwrap_or(started);
    let ran_ms = until.ms_since(started).max(0);
    let told = format!(
        "it ran for {} by the node's records, {} were billed",
        show_ms(ran_ms),
        show_ms(billed_ms)
    );
    if billed_ms <= ran_ms + CLOCK_SLACK_MS + ran_ms / 1_000 {
        Ok(told)
    } else {
        Err(told)
    }
}

fn price(bundle: &Bundle) -> Outcome {
    let bill = &bundle.rental;
    let currency = bill.price.per_hour.currency;
    let sum = bundle.usage.iter().try_fold(Amount::ZERO, |sum, window| {
        let same = window.amount.currency == currency;
        same.then(|| sum.plus(window.amount.amount).ok())?
    });
    let sum = sum.ok_or("the windows are in several currencies, or their sum is too large")?;
    let billed_ms: i128 = bundle
        .usage
        .iter()
        .map(|window| i128::from(window.billable_ms))
        .sum();
    let per_hour = i128::from(bill.price.per_hour.amount.atomic());
    // the shown rate is rounded down by less than a unit, and so is each window
    let least = per_hour * billed_ms / HOUR_MS;
    let most = (per_hour + 1) * billed_ms / HOUR_MS + 1;
    let in_all = i128::from(sum.atomic());
    let rounding = i128::try_from(bundle.usage.len()).unwrap_or(i128::MAX);
    if in_all + rounding < least || in_all > most.saturating_add(rounding) {
        return Err(format!(
            "{sum} {currency} were charged for {billed_ms} ms at {} an hour",
            bill.price.per_hour.amount
        ));
    }
    let cost = bill.cost_so_far.amount;
    let agrees = if bill.settled_at.is_some() {
        sum == cost
    } else {
        sum <= cost
    };
    let told = format!("the windows come to {sum} {currency}, the bill to {cost}");
    if agrees { Ok(told) } else { Err(told) }
}

fn split(bundle: &Bundle) -> Outcome {
    let bill = &bundle.rental;
    let (paid, cost, back) = (
        bill.paid.amount,
        bill.cost_so_far.amount,
        bill.refunded.amount,
    );
    let told = format!("{paid} were paid, {cost} are charged, {back} went back");
    let parts = cost.plus(back).ok();
    let holds = match bill.settled_at {
        Some(_) => parts == Some(paid),
        None => parts.is_some_and(|parts| parts <= paid),
    };
    if holds { Ok(told) } else { Err(told) }
}

#[cfg(test)]
mod tests;
