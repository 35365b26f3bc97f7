//! SQL of disputes, of what is said about them, and of what was given back.

use serde_json::{Value as Json, json};
use shared::{
    id::{DisputeId, RentalId, UserId},
    money::Amount,
    time::Timestamp,
};

use super::{
    given_back::{GivenBack, Kind},
    model::{Author, Dispute, Outcome, Parts, Reason, State, Statement},
};
use crate::{
    error::{Error, Result},
    params,
    store::{Row, Tx, Value},
};

const COLUMNS: &str = "id, rental_id, consumer, provider, reason, statement, evidence, reported_at, state, refund, decision, \
     decided_by, decided_at";

fn parse(row: &Row) -> Result<Dispute> {
    let id = row.text(0)?;
    let bad = |column: &str| Error::corrupt("disputes", id, column);
    let outcome = match State::from_name(row.text(8)?).ok_or_else(|| bad("state"))? {
        State::Open => None,
        State::Decided => Some(Outcome {
            refund: Amount::from_atomic(row.int(9)?).map_err(|_| bad("refund"))?,
            reason: row.text(10)?.to_owned(),
            decided_by: row.text(11)?.parse().map_err(|_| bad("decided_by"))?,
            decided_at: Timestamp::from_micros(row.int(12)?),
        }),
    };
    Ok(Dispute {
        id: id.parse().map_err(|_| bad("id"))?,
        rental: row.text(1)?.parse().map_err(|_| bad("rental_id"))?,
        consumer: row
            .opt_text(2)?
            .map(str::parse)
            .transpose()
            .map_err(|_| bad("consumer"))?,
        provider: row.text(3)?.parse().map_err(|_| bad("provider"))?,
        reason: Reason::from_name(row.text(4)?).ok_or_else(|| bad("reason"))?,
        statement: row.text(5)?.to_owned(),
        evidence: serde_json::from_str(row.text(6)?).map_err(|_| bad("evidence"))?,
        reported_at: Timestamp::from_micros(row.int(7)?),
        outcome,
    })
}

/// Writes a new dispute; false if the rental has one.
pub(super) fn insert(tx: &mut dyn Tx, dispute: &Dispute) -> Result<bool> {
    let evidence = serde_json::to_string(&dispute.evidence).map_err(Error::internal)?;
    Ok(tx.execute(
        "INSERT INTO disputes (id, rental_id, consumer, provider, reason, statement, evidence, reported_at, state)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'open') ON CONFLICT (rental_id) DO NOTHING",
        params![
            dispute.id,
            dispute.rental,
            dispute.consumer,
            dispute.provider,
            dispute.reason.name(),
            dispute.statement.as_str(),
            evidence,
            dispute.reported_at
        ],
    )? == 1)
}

/// Decides an open dispute; false if it was decided meanwhile.
pub(super) fn decide(tx: &mut dyn Tx, id: DisputeId, outcome: &Outcome) -> Result<bool> {
    Ok(tx.execute(
        "UPDATE disputes SET state = 'decided', refund = $1, decision = $2, decided_by = $3, decided_at = $4
         WHERE id = $5 AND state = 'open'",
        params![
            outcome.refund,
            outcome.reason.as_str(),
            outcome.decided_by,
            outcome.decided_at,
            id
        ],
    )? == 1)
}

fn many(tx: &mut dyn Tx, rest: &str, params: &[Value]) -> Result<Vec<Dispute>> {
    tx.query(&format!("SELECT {COLUMNS} FROM disputes {rest}"), params)?
        .iter()
        .map(parse)
        .collect()
}

pub(super) fn by_id(tx: &mut dyn Tx, id: DisputeId) -> Result<Option<Dispute>> {
    Ok(many(tx, "WHERE id = $1", params![id])?.pop())
}

pub(super) fn of_rental(tx: &mut dyn Tx, rental: RentalId) -> Result<Option<Dispute>> {
    Ok(many(tx, "WHERE rental_id = $1", params![rental])?.pop())
}

/// When a rental was reported, and whether that isn't decided yet.
pub(super) fn reported(tx: &mut dyn Tx, rental: RentalId) -> Result<Option<(Timestamp, bool)>> {
    let rows = tx.query(
        "SELECT reported_at, state FROM disputes WHERE rental_id = $1",
        params![rental],
    )?;
    rows.first()
        .map(|row| {
            let open = row.text(1)? == State::Open.name();
            Ok((Timestamp::from_micros(row.int(0)?), open))
        })
        .transpose()
}

/// Whose disputes a list shows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whose {
    Consumer(UserId),
    Provider(UserId),
    In(State),
}

/// Newest first, after a cursor (an id, or a text above all ids).
pub(super) fn page(
    tx: &mut dyn Tx,
    whose: Whose,
    before: &str,
    limit: i64,
) -> Result<Vec<Dispute>> {
    match whose {
        Whose::Consumer(user) => many(
            tx,
            "WHERE consumer = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
            params![user, before, limit],
        ),
        Whose::Provider(user) => many(
            tx,
            "WHERE provider = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
            params![user, before, limit],
        ),
        Whose::In(state) => many(
            tx,
            "WHERE state = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
            params![state.name(), before, limit],
        ),
    }
}

pub(super) fn statements(tx: &mut dyn Tx, id: DisputeId) -> Result<Vec<Statement>> {
    let rows = tx.query(
        "SELECT place, author, statement, created_at FROM dispute_statements WHERE dispute_id = $1 ORDER BY place",
        params![id],
    )?;
    rows.iter()
        .map(|row| {
            let author = Author::from_name(row.text(1)?)
                .ok_or_else(|| Error::corrupt("dispute_statements", &id.to_string(), "author"))?;
            Ok(Statement {
                place: row.int(0)?,
                author,
                text: row.text(2)?.to_owned(),
                at: Timestamp::from_micros(row.int(3)?),
            })
        })
        .collect()
}

/// Writes a statement; false if another took its place.
pub(super) fn insert_statement(
    tx: &mut dyn Tx,
    id: DisputeId,
    statement: &Statement,
) -> Result<bool> {
    Ok(tx.execute(
        "INSERT INTO dispute_statements (dispute_id, place, author, statement, created_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (dispute_id, place) DO NOTHING",
        params![
            id,
            statement.place,
            statement.author.name(),
            statement.text.as_str(),
            statement.at
        ],
    )? == 1)
}

/// The newest billing windows of a rental, as evidence.
pub(super) fn windows(tx: &mut dyn Tx, rental: RentalId, limit: i64) -> Result<Vec<Json>> {
    let rows = tx.query(
        "SELECT window_start, window_end, billable_ms, amount, fee FROM billing_windows WHERE rental_id = $1
         ORDER BY window_start DESC LIMIT $2",
        params![rental, limit],
    )?;
    rows.iter()
        .map(|row| {
            Ok(json!({
                "start": Timestamp::from_micros(row.int(0)?),
                "end": Timestamp::from_micros(row.int(1)?),
                "billable_ms": row.int(2)?,
                "amount": Amount::from_atomic(row.int(3)?)?,
                "fee": Amount::from_atomic(row.int(4)?)?,
            }))
        })
        .collect()
}

/// Writes what was given back; false if that was written before.
pub(super) fn insert_given_back(tx: &mut dyn Tx, given: &GivenBack) -> Result<bool> {
    Ok(tx.execute(
        "INSERT INTO given_back (ref, rental_id, kind, of_provider, of_fee, goodwill, reason, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (ref) DO NOTHING",
        params![
            given.reference.as_str(),
            given.rental,
            given.kind.name(),
            given.parts.of_provider,
            given.parts.of_fee,
            given.parts.goodwill,
            given.reason.as_str(),
            given.at
        ],
    )? == 1)
}

/// What was given back of a rental, oldest first.
pub(super) fn given_back(tx: &mut dyn Tx, rental: RentalId) -> Result<Vec<GivenBack>> {
    let rows = tx.query(
        "SELECT ref, kind, of_provider, of_fee, goodwill, reason, created_at FROM given_back WHERE rental_id = $1
         ORDER BY created_at, ref",
        params![rental],
    )?;
    rows.iter()
        .map(|row| {
            let reference = row.text(0)?;
            let bad = |column: &str| Error::corrupt("given_back", reference, column);
            let amount =
                |at: usize, name: &str| Amount::from_atomic(row.int(at)?).map_err(|_| bad(name));
            Ok(GivenBack {
                reference: reference.to_owned(),
                rental,
                kind: Kind::from_name(row.text(1)?).ok_or_else(|| bad("kind"))?,
                parts: Parts {
                    of_provider: amount(2, "of_provider")?,
                    of_fee: amount(3, "of_fee")?,
                    goodwill: amount(4, "goodwill")?,
                },
                reason: row.text(5)?.to_owned(),
                at: Timestamp::from_micros(row.int(6)?),
            })
        })
        .collect()
}

/// Texts of a query's first column (at most 100): what breaks an invariant.
pub(super) fn broken(tx: &mut dyn Tx, sql: &str) -> Result<Vec<String>> {
    let rows = tx.query(sql, params![])?;
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}
