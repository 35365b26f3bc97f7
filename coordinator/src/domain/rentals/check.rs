//! Invariants that join rentals with the ledger, their windows and their nodes: I4 to I6 and the capacity counters.
//!
//! Each is one statement over all rentals, or over some of them by their ids. Of a rental that runs, watching looks at its own row and its
//! last two windows; all of its windows are added up when it is settled, and by the full check.

use shared::id::RentalId;

use super::store;
use crate::{
    domain::ledger::check::Finding,
    error::{Error, Result},
    store::{Tx, Value},
};

/// Rentals that one statement is asked about.
const AT_ONCE: usize = 50;
/// Joins a rental with its escrow.
const ESCROW: &str = "LEFT JOIN accounts a ON a.id = r.asset || '/rental:' || r.id || ':escrow'";
/// The rate's price for the billed time, in whole atomic units: micro-units times milliseconds would not fit, so it is divided in two steps,
/// which for natural numbers comes to the same. Rates above a thousand units of money an hour (with six decimals) aren't looked at.
const FORMULA: &str = "CASE WHEN r.rate_micro <= 1000000000000000 THEN
    ((r.rate_micro / 3600000) * r.billed_ms + ((r.rate_micro % 3600000) * r.billed_ms) / 3600000) / 1000000
    ELSE r.charged END";
/// The fee of what was charged.
const FEE: &str = "(r.charged / 10000) * r.fee_bps + ((r.charged % 10000) * r.fee_bps) / 10000";
/// What a rental is asked about, and its invariant.
struct Question {
    invariant: &'static str,
    statement: &'static str,
    /// `FROM` after `rentals r`, and the condition that no rental may meet.
    from: String,
    broken_if: String,
}

fn i4() -> Question {
    Question {
        invariant: "I4",
        statement: "of each settled rental: paid = charged + refunded, and its escrow is empty",
        from: ESCROW.to_owned(),
        broken_if: "r.settled_at IS NOT NULL AND (r.paid <> r.charged + r.refunded OR COALESCE(a.balance, 0) <> 0)"
            .to_owned(),
    }
}

fn i5() -> Question {
    Question {
        invariant: "I5",
        statement: "of each open rental: its escrow holds what is paid and not charged",
        from: ESCROW.to_owned(),
        broken_if:
            "r.settled_at IS NULL AND COALESCE(a.balance, 0) <> r.paid - r.charged - r.refunded"
                .to_owned(),
    }
}

const I6: &str = "a rental's windows add up to what it was billed, without overlap or gap, by its rate, within its lease";

/// I6 of all windows of the rentals that `of_windows` names: sums, and the formula.
fn i6_whole(of_windows: &str, and_if: &str) -> Question {
    Question {
        invariant: "I6",
        statement: I6,
        from: format!(
            "LEFT JOIN (
                SELECT rental_id, SUM(billable_ms) AS ms, SUM(amount) AS amount, SUM(fee) AS fee,
                       SUM(window_end - window_start) AS length, MIN(window_start) AS first, MAX(window_end) AS last
                FROM billing_windows {of_windows} GROUP BY rental_id) w ON w.rental_id = r.id"
        ),
        broken_if: format!(
            "{and_if} (COALESCE(w.ms, 0) <> r.billed_ms OR COALESCE(w.amount, 0) <> r.charged OR COALESCE(w.fee, 0) <> r.fee
              OR COALESCE(w.length, 0) <> COALESCE(w.last - w.first, 0) OR {})",
            i6_row()
        ),
    }
}

/// I6 of the rental's own row: the charge is the formula's (what was paid is the most), the fee too, and the lease is as long.
fn i6_row() -> String {
    format!(
        "(r.charged > {FORMULA} OR (r.charged < {FORMULA} AND r.charged < r.paid) OR r.fee <> {FEE}
          OR r.billed_ms > (r.lease_until - COALESCE(r.paid_at, r.created_at)) / 1000)"
    )
}

/// I6 of what changes while a rental runs: its row, its last window, and that this begins where another ended.
fn i6_latest() -> Question {
    Question {
        invariant: "I6",
        statement: I6,
        from: "LEFT JOIN billing_windows l ON l.rental_id = r.id AND l.window_end = r.window_end
               LEFT JOIN billing_windows b ON b.rental_id = r.id AND b.window_end = l.window_start"
            .to_owned(),
        broken_if: format!(
            "r.settled_at IS NULL AND ({} OR (r.window_end IS NOT NULL AND l.rental_id IS NULL)
              OR (b.rental_id IS NULL AND l.billable_ms <> r.billed_ms))",
            i6_row()
        ),
    }
}

/// Checks them all.
///
/// # Errors
/// The database's.
pub fn check(tx: &mut dyn Tx) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for question in [i4(), i5(), i6_whole("", "")] {
        let asked = format!("rentals r {} WHERE {}", question.from, question.broken_if);
        let broken = store::ids_where(tx, &asked, &[])?;
        findings.push(Finding::new(question.invariant, question.statement, broken));
    }
    Ok(findings)
}

/// The capacity counters: no money, but what is promised.
///
/// # Errors
/// The database's.
pub fn capacity(tx: &mut dyn Tx) -> Result<Finding> {
    let wrong = store::capacity_mismatches(tx)?;
    let wrong = wrong
        .iter()
        .map(|(id, free, expected)| format!("{id}: free {free}, expected {expected}"));
    Ok(Finding::new(
        "C1",
        "a node's free capacity is what is rentable less its live rentals",
        wrong.collect(),
    ))
}

/// Checks these rentals, of which something changed. All windows are added up of those that are settled, or of all if `whole`.
///
/// # Errors
/// The database's.
pub fn check_some(tx: &mut dyn Tx, ids: &[RentalId], whole: bool) -> Result<Vec<Finding>> {
    let listed: Vec<String> = (1..=AT_ONCE).map(|n| format!("${n}")).collect();
    let listed = listed.join(", ");
    let of_windows = format!("WHERE rental_id IN ({listed})");
    let windows = if whole {
        vec![i6_whole(&of_windows, "")]
    } else {
        let settled = "r.settled_at IS NOT NULL AND";
        vec![i6_latest(), i6_whole(&of_windows, settled)]
    };
    let mut findings = Vec::new();
    for question in [i4(), i5()].into_iter().chain(windows) {
        let mut broken = Vec::new();
        for some in ids.chunks(AT_ONCE) {
            // always as many, so that there is one statement to be prepared: the last is repeated
            let padding = some.last().into_iter().cycle();
            let asked = some.iter().chain(padding).take(AT_ONCE);
            let values: Vec<Value> = asked.map(|id| Value::from(*id)).collect();
            let rows = format!(
                "rentals r {} WHERE r.id IN ({listed}) AND {}",
                question.from, question.broken_if
            );
            broken.extend(store::ids_where(tx, &rows, &values)?);
        }
        findings.push(Finding::new(question.invariant, question.statement, broken));
    }
    Ok(findings)
}

/// Checks a page of all rentals, after an id; the id to go on after.
///
/// # Errors
/// The database's.
pub fn sweep(tx: &mut dyn Tx, after: &str, limit: i64) -> Result<(Vec<Finding>, Option<String>)> {
    let ids = store::ids_after(tx, after, limit)?;
    let is_full = i64::try_from(ids.len()).is_ok_and(|count| count == limit);
    let last = ids.last().filter(|_| is_full).map(ToString::to_string);
    Ok((check_some(tx, &ids, true)?, last))
}

/// The rentals of these escrow accounts, by the accounts' keys.
///
/// # Errors
/// A key isn't a rental's.
pub fn rentals_of_escrows(keys: &[String]) -> Result<Vec<RentalId>> {
    keys.iter()
        .map(|key| {
            key.split_once("/rental:")
                .and_then(|(_, rest)| rest.strip_suffix(":escrow")?.parse().ok())
                .ok_or_else(|| Error::corrupt("accounts", key, "id"))
        })
        .collect()
}
