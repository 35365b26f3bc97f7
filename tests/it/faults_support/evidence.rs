//! What the market's database holds, read beside the coordinator.

use coordinator::store::{DatabaseUrl, Db, Row, Value};
use shared::time::Timestamp;
use system_tests::market::Market;

/// The market's database.
async fn database(market: &Market) -> Db {
    let url: DatabaseUrl = market.database().parse().expect("a URL");
    Db::open(&url).await.expect("a database")
}

async fn rows(market: &Market, sql: &'static str, key: &str) -> Vec<Row> {
    let key = Value::Text(key.to_owned());
    let db = database(market).await;
    let read = db.read("test.evidence", move |tx| {
        Ok(tx.query(sql, std::slice::from_ref(&key))?)
    });
    read.await.expect("rows")
}

/// Sequence numbers of a node's usage records, ascending.
pub(crate) async fn records(market: &Market, node_id: &str) -> Vec<i64> {
    let sql = "SELECT seq FROM usage_records WHERE node_id = $1 ORDER BY seq";
    let found = rows(market, sql, node_id).await;
    found
        .iter()
        .map(|row| row.int(0).expect("a number"))
        .collect()
}

/// When usage records of a rental arrived, ascending.
pub(crate) async fn arrivals(market: &Market, rental_id: &str) -> Vec<Timestamp> {
    let sql = "SELECT received_at FROM usage_records WHERE rental_id = $1 ORDER BY seq";
    let found = rows(market, sql, rental_id).await;
    let moment = |row: &Row| Timestamp::from_micros(row.int(0).expect("a number"));
    found.iter().map(moment).collect()
}

/// What a payer of play money has spent, atomic units.
pub(crate) async fn spent(market: &Market, address: &str) -> i64 {
    let sql = "SELECT granted - balance FROM sandbox_wallets WHERE lower(address) = lower($1)";
    let found = rows(market, sql, address).await;
    found.first().map_or(0, |row| row.int(0).expect("a number"))
}
