//! SQL of documents, their numbers and what they are about.

use shared::{
    id::{InvoiceId, RentalId, UserId},
    money::{Amount, Asset},
    time::Timestamp,
};

use super::model::{Invoice, Kind, number};
use crate::{
    error::{Error, Result},
    params,
    store::{Row, Tx, Value},
};

const COLUMNS: &str = "id, series, year, number, kind, rental_id, consumer, provider, asset, total, corrects, given_back, content, \
     issued_at";

fn parse(row: &Row) -> Result<Invoice> {
    let id = row.text(0)?;
    let bad = |column: &str| Error::corrupt("invoices", id, column);
    Ok(Invoice {
        id: id.parse().map_err(|_| bad("id"))?,
        number: number(row.text(1)?, row.int(2)?, row.int(3)?),
        kind: Kind::from_name(row.text(4)?).ok_or_else(|| bad("kind"))?,
        rental: row.text(5)?.parse().map_err(|_| bad("rental_id"))?,
        consumer: row
            .opt_text(6)?
            .map(str::parse)
            .transpose()
            .map_err(|_| bad("consumer"))?,
        provider: row.text(7)?.parse().map_err(|_| bad("provider"))?,
        asset: Asset::from_code(row.text(8)?).ok_or_else(|| bad("asset"))?,
        total: Amount::from_atomic(row.int(9)?).map_err(|_| bad("total"))?,
        corrects: row
            .opt_text(10)?
            .map(str::parse)
            .transpose()
            .map_err(|_| bad("corrects"))?,
        given_back: row.opt_text(11)?.map(str::to_owned),
        content: serde_json::from_str(row.text(12)?).map_err(|_| bad("content"))?,
        issued_at: Timestamp::from_micros(row.int(13)?),
    })
}

/// The next number of a series in a year; held until the transaction ends.
pub(super) fn next_number(tx: &mut dyn Tx, series: &str, year: i64) -> Result<i64> {
    let rows = tx.query(
        "INSERT INTO invoice_series (series, year, last) VALUES ($1, $2, 1)
         ON CONFLICT (series, year) DO UPDATE SET last = invoice_series.last + 1 RETURNING last",
        params![series, year],
    )?;
    let row = rows
        .first()
        .ok_or_else(|| Error::corrupt("invoice_series", series, "last"))?;
    Ok(row.int(0)?)
}

/// Writes a document under a number that [`next_number`] gave.
pub(super) fn insert(tx: &mut dyn Tx, invoice: &Invoice, year: i64, number: i64) -> Result<()> {
    let content = serde_json::to_string(&invoice.content).map_err(Error::internal)?;
    tx.execute(
        "INSERT INTO invoices (id, series, year, number, kind, rental_id, consumer, provider, asset, total, corrects, given_back, content,
             issued_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        params![
            invoice.id,
            invoice.kind.series(),
            year,
            number,
            invoice.kind.name(),
            invoice.rental,
            invoice.consumer,
            invoice.provider,
            invoice.asset.code(),
            invoice.total,
            invoice.corrects,
            invoice.given_back.as_deref(),
            content,
            invoice.issued_at
        ],
    )?;
    Ok(())
}

/// What a document is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum About<'a> {
    /// The charges out of an escrow account that are on no document yet.
    Charges(&'a str),
    /// What was given back, by its reference.
    GivenBack(&'a str),
}

impl About<'_> {
    const fn transfers(self) -> &'static str {
        match self {
            Self::Charges(_) => {
                "FROM transfers t LEFT JOIN invoice_transfers x ON x.transfer_id = t.id
                 WHERE t.debit = $1 AND t.code IN ('window_provider', 'window_fee') AND x.transfer_id IS NULL"
            }
            Self::GivenBack(_) => {
                "FROM transfers t WHERE t.ref = $1
                 AND t.code IN ('goodwill', 'dispute_pending', 'dispute_available', 'dispute_fee', 'dispute_goodwill')"
            }
        }
    }

    const fn key(&self) -> &str {
        match self {
            Self::Charges(key) | Self::GivenBack(key) => key,
        }
    }
}

/// Its transfers by code: how many, and their sum.
pub(super) fn sums(tx: &mut dyn Tx, about: About<'_>) -> Result<Vec<(String, i64, Amount)>> {
    let sql = format!(
        "SELECT t.code, COUNT(*), CAST(SUM(t.amount) AS BIGINT) {} GROUP BY t.code ORDER BY t.code DESC",
        about.transfers()
    );
    let rows = tx.query(&sql, params![about.key()])?;
    rows.iter()
        .map(|row| {
            let amount = Amount::from_atomic(row.int(2)?)?;
            Ok((row.text(0)?.to_owned(), row.int(1)?, amount))
        })
        .collect()
}

/// Notes that these transfers are on a document.
pub(super) fn link(tx: &mut dyn Tx, invoice: InvoiceId, about: About<'_>) -> Result<()> {
    let sql = format!(
        "INSERT INTO invoice_transfers (transfer_id, invoice_id) SELECT t.id, CAST($2 AS TEXT) {}",
        about.transfers()
    );
    tx.execute(&sql, params![about.key(), invoice])?;
    Ok(())
}

fn many(tx: &mut dyn Tx, rest: &str, params: &[Value]) -> Result<Vec<Invoice>> {
    tx.query(&format!("SELECT {COLUMNS} FROM invoices {rest}"), params)?
        .iter()
        .map(parse)
        .collect()
}

pub(super) fn by_id(tx: &mut dyn Tx, id: InvoiceId) -> Result<Option<Invoice>> {
    Ok(many(tx, "WHERE id = $1", params![id])?.pop())
}

/// The documents of a rental, oldest first.
pub(super) fn of_rental(tx: &mut dyn Tx, rental: RentalId) -> Result<Vec<Invoice>> {
    many(tx, "WHERE rental_id = $1 ORDER BY id", params![rental])
}

/// Documents of what somebody rents, newest first, before an id (or a text above all ids).
pub(super) fn of_consumer(
    tx: &mut dyn Tx,
    user: UserId,
    before: &str,
    limit: i64,
) -> Result<Vec<Invoice>> {
    many(
        tx,
        "WHERE consumer = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
        params![user, before, limit],
    )
}

/// Documents of what ran on somebody's machines, likewise.
pub(super) fn of_provider(
    tx: &mut dyn Tx,
    user: UserId,
    before: &str,
    limit: i64,
) -> Result<Vec<Invoice>> {
    many(
        tx,
        "WHERE provider = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
        params![user, before, limit],
    )
}

/// A transfer that is on a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linked {
    /// Which.
    pub id: String,
    /// Why, as the ledger says it.
    pub code: String,
    /// How much.
    pub amount: Amount,
    /// When.
    pub at: Timestamp,
}

/// The transfers of a document after an id.
pub(super) fn transfers(
    tx: &mut dyn Tx,
    invoice: InvoiceId,
    after: &str,
    limit: i64,
) -> Result<Vec<Linked>> {
    let rows = tx.query(
        "SELECT t.id, t.code, t.amount, t.created_at FROM invoice_transfers x JOIN transfers t ON t.id = x.transfer_id
         WHERE x.invoice_id = $1 AND x.transfer_id > $2 ORDER BY x.transfer_id LIMIT $3",
        params![invoice, after, limit],
    )?;
    rows.iter()
        .map(|row| {
            Ok(Linked {
                id: row.text(0)?.to_owned(),
                code: row.text(1)?.to_owned(),
                amount: Amount::from_atomic(row.int(2)?)?,
                at: Timestamp::from_micros(row.int(3)?),
            })
        })
        .collect()
}

/// Texts of a query's first column: what breaks an invariant.
pub(super) fn broken(tx: &mut dyn Tx, sql: &str, params: &[Value]) -> Result<Vec<String>> {
    let rows = tx.query(sql, params)?;
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}
