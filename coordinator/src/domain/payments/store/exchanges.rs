//! SQL of exchanges, and of the part of I7 that is about them.

use shared::{
    id::RentalId,
    money::{Amount, Asset, Money},
    time::Timestamp,
};

use crate::{
    domain::{payments::exchange::Exchange, rates::model::FixedRate},
    error::{Error, Result},
    params,
    store::{Row, Tx, Value},
};

const COLUMNS: &str = "ref, code, rental_id, paid_asset, paid, given_asset, given, rate_numerator, rate_denominator, rate_source, \
     rate_at, created_at";
/// References that one statement is asked about.
const AT_ONCE: usize = 50;

fn parse(row: &Row) -> Result<Exchange> {
    let reference = row.text(0)?;
    let bad = |column: &str| Error::corrupt("exchanges", reference, column);
    let money = |at: usize, name: &str| {
        Ok::<_, Error>(Money {
            currency: Asset::from_code(row.text(at)?).ok_or_else(|| bad(name))?,
            amount: Amount::from_atomic(row.int(at + 1)?).map_err(|_| bad(name))?,
        })
    };
    Ok(Exchange {
        reference: reference.to_owned(),
        code: row.text(1)?.to_owned(),
        rental: row
            .opt_text(2)?
            .map(str::parse)
            .transpose()
            .map_err(|_| bad("rental_id"))?,
        paid: money(3, "paid")?,
        given: money(5, "given")?,
        rate: FixedRate {
            numerator: row.int(7)?,
            denominator: row.int(8)?,
            source: row.text(9)?.to_owned(),
            at: Timestamp::from_micros(row.int(10)?),
        },
        at: Timestamp::from_micros(row.int(11)?),
    })
}

pub(in super::super) fn insert(tx: &mut dyn Tx, done: &Exchange) -> Result<()> {
    tx.execute(
        &format!(
            "INSERT INTO exchanges ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"
        ),
        params![
            done.reference.as_str(),
            done.code.as_str(),
            done.rental,
            done.paid.currency.code(),
            done.paid.amount,
            done.given.currency.code(),
            done.given.amount,
            done.rate.numerator,
            done.rate.denominator,
            done.rate.source.as_str(),
            done.rate.at,
            done.at
        ],
    )?;
    Ok(())
}

/// Of a rental, up to a moment, oldest first.
pub(in super::super) fn of_rental(
    tx: &mut dyn Tx,
    rental: RentalId,
    until: Timestamp,
    limit: i64,
) -> Result<Vec<Exchange>> {
    let rows = tx.query(
        &format!(
            "SELECT {COLUMNS} FROM exchanges WHERE rental_id = $1 AND created_at <= $2 ORDER BY created_at, ref LIMIT $3"
        ),
        params![rental, until, limit],
    )?;
    rows.iter().map(parse).collect()
}

/// Their sums by currency: (what was paid in, how often, paid, given).
pub(in super::super) fn sums_of_rental(
    tx: &mut dyn Tx,
    rental: RentalId,
    until: Timestamp,
) -> Result<Vec<(Asset, i64, i64, i64)>> {
    let rows = tx.query(
        "SELECT paid_asset, COUNT(*), CAST(SUM(paid) AS BIGINT), CAST(SUM(given) AS BIGINT) FROM exchanges
         WHERE rental_id = $1 AND created_at <= $2 GROUP BY paid_asset ORDER BY paid_asset",
        params![rental, until],
    )?;
    rows.iter()
        .map(|row| {
            let code = row.text(0)?;
            let asset = Asset::from_code(code)
                .ok_or_else(|| Error::corrupt("exchanges", &rental.to_string(), "paid_asset"))?;
            Ok((asset, row.int(1)?, row.int(2)?, row.int(3)?))
        })
        .collect()
}

/// Those of some references.
pub(in super::super) fn of_references(
    tx: &mut dyn Tx,
    references: &[&str],
) -> Result<Vec<Exchange>> {
    let listed: Vec<String> = (1..=AT_ONCE).map(|n| format!("${n}")).collect();
    let sql = format!(
        "SELECT {COLUMNS} FROM exchanges WHERE ref IN ({})",
        listed.join(", ")
    );
    let mut found = Vec::new();
    for some in references.chunks(AT_ONCE) {
        // always as many, so that there is one statement to be prepared: the last is repeated
        let padding = some.last().into_iter().cycle();
        let asked = some.iter().chain(padding).take(AT_ONCE);
        let values: Vec<Value> = asked.map(|reference| Value::from(*reference)).collect();
        for row in &tx.query(&sql, &values)? {
            found.push(parse(row)?);
        }
    }
    Ok(found)
}

/// An exchange of which a transfer is missing, or says something else than its row.
const TORN: &str = "SELECT x.ref FROM exchanges x
     LEFT JOIN transfers came ON came.code = x.code AND came.ref = x.ref
         AND came.asset = x.paid_asset AND came.amount = x.paid AND came.credit = x.paid_asset || '/external:exchange'
     LEFT JOIN transfers given ON given.code = 'exchange' AND given.ref = x.ref
         AND given.asset = x.given_asset AND given.amount = x.given AND given.debit = x.given_asset || '/external:exchange'
     WHERE (came.id IS NULL OR given.id IS NULL)";
/// A transfer from or to the exchange desk that belongs to no exchange.
const LOOSE: &str = "SELECT t.id FROM transfers t LEFT JOIN exchanges x ON x.ref = t.ref AND (t.code = 'exchange' OR t.code = x.code)
     WHERE (t.debit = t.asset || '/external:exchange' OR t.credit = t.asset || '/external:exchange') AND x.ref IS NULL";

/// I7: exchanges of which not both halves are in the books, and halves of none.
pub(in super::super) fn torn(tx: &mut dyn Tx) -> Result<Vec<String>> {
    broken(tx, "", "", &[])
}

/// The same of what was exchanged and posted after one moment, up to another.
pub(in super::super) fn torn_in(
    tx: &mut dyn Tx,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<String>> {
    broken(
        tx,
        "AND x.created_at > $1 AND x.created_at <= $2",
        "AND t.created_at > $1 AND t.created_at <= $2",
        params![from, to],
    )
}

/// The same of the `limit` exchanges after a reference; the last of these, if there are more.
pub(in super::super) fn torn_after(
    tx: &mut dyn Tx,
    after: &str,
    limit: i64,
) -> Result<(Option<String>, Vec<String>)> {
    let rows = tx.query(
        "SELECT ref FROM exchanges WHERE ref > $1 ORDER BY ref LIMIT 1 OFFSET $2",
        params![after, limit],
    )?;
    let last = rows.first().map(|row| row.text(0)).transpose()?;
    let broken = broken(
        tx,
        "AND x.ref > $1 AND (CAST($2 AS TEXT) = '' OR x.ref <= $2)",
        // first halves without anything that belongs to them show by their payment, or by the escrow that lacks its money
        "AND t.code = 'exchange' AND t.ref > $1 AND (CAST($2 AS TEXT) = '' OR t.ref <= $2)",
        params![after, last.unwrap_or_default()],
    )?;
    Ok((last.map(str::to_owned), broken))
}

fn broken(
    tx: &mut dyn Tx,
    of_exchanges: &str,
    of_transfers: &str,
    params: &[Value],
) -> Result<Vec<String>> {
    let sql = format!("{TORN} {of_exchanges} UNION ALL {LOOSE} {of_transfers}");
    let rows = tx.query(&sql, params)?;
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}
