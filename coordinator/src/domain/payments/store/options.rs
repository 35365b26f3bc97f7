//! SQL of the ways to pay a quote besides its own.

use shared::{
    id::QuoteId,
    money::{Amount, Asset},
    time::Timestamp,
    x402::{
        address::Address,
        network::{self, Token},
    },
};

use crate::{
    domain::{payments::ways::Way, rates::model::FixedRate},
    error::{Error, Result},
    params,
    store::{Row, Tx},
};

const OPTION: &str = "network, token, eip712_name, eip712_version, asset, pay_to, amount, rate_numerator, rate_denominator, \
     rate_source, rate_at";

fn parse(quote: QuoteId, row: &Row) -> Result<Way> {
    let bad = |column: &str| Error::corrupt("quote_options", &quote.to_string(), column);
    let network = network::by_caip2(row.text(0)?).ok_or_else(|| bad("network"))?;
    let address: Address = row.text(1)?.parse().map_err(|_| bad("token"))?;
    let token = network.token_at(&address).ok_or_else(|| bad("token"))?;
    if (token.eip712_name, token.eip712_version) != (row.text(2)?, row.text(3)?) {
        return Err(bad("eip712_name"));
    }
    Ok(Way {
        network,
        token: Token { ..*token },
        asset: Asset::from_code(row.text(4)?).ok_or_else(|| bad("asset"))?,
        pay_to: row.text(5)?.parse().map_err(|_| bad("pay_to"))?,
        amount: Amount::from_atomic(row.int(6)?).map_err(|_| bad("amount"))?,
        rate: match row.opt_int(7)? {
            None => None,
            Some(numerator) => Some(FixedRate {
                numerator,
                denominator: row.int(8)?,
                source: row.text(9)?.to_owned(),
                at: Timestamp::from_micros(row.int(10)?),
            }),
        },
    })
}

pub(in super::super) fn insert(tx: &mut dyn Tx, quote: QuoteId, ways: &[Way]) -> Result<()> {
    for (place, way) in (1_i64..).zip(ways) {
        let rate = way.rate.as_ref();
        tx.execute(
            &format!(
                "INSERT INTO quote_options (quote_id, place, {OPTION})
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
            ),
            params![
                quote,
                place,
                way.network.caip2,
                way.token.address.to_string(),
                way.token.eip712_name,
                way.token.eip712_version,
                way.asset.code(),
                way.pay_to.to_string(),
                way.amount,
                rate.map(|rate| rate.numerator),
                rate.map(|rate| rate.denominator),
                rate.map(|rate| rate.source.as_str()),
                rate.map(|rate| rate.at)
            ],
        )?;
    }
    Ok(())
}

pub(in super::super) fn of(tx: &mut dyn Tx, quote: QuoteId) -> Result<Vec<Way>> {
    let rows = tx.query(
        &format!("SELECT {OPTION} FROM quote_options WHERE quote_id = $1 ORDER BY place"),
        params![quote],
    )?;
    rows.iter().map(|row| parse(quote, row)).collect()
}

/// Ids of open quotes of a request that may be paid so, newest first.
pub(in super::super) fn open(
    tx: &mut dyn Tx,
    request_sha256: &[u8],
    (network, token, amount): (&str, &str, i64),
    now: Timestamp,
) -> Result<Vec<QuoteId>> {
    let rows = tx.query(
        "SELECT q.id FROM quotes q JOIN quote_options o ON o.quote_id = q.id
         WHERE q.request_sha256 = $1 AND q.payment_id IS NULL AND q.expires_at > $2
         AND o.network = $3 AND o.token = $4 AND o.amount = $5 ORDER BY q.created_at DESC, q.id DESC LIMIT 64",
        params![request_sha256, now, network, token, amount],
    )?;
    let id = |row: &Row| {
        let id = row.text(0)?;
        id.parse().map_err(|_| Error::corrupt("quotes", id, "id"))
    };
    rows.iter().map(id).collect()
}
