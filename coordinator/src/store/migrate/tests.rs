//! Migrations that move rows: a database as an older version left it is brought up to date, and nothing of it is lost.

use refinery::Target;

use crate::{
    params,
    store::{
        DatabaseUrl, Db, Driver, Tx,
        testing::{TempDir, postgres_url},
    },
};

/// The rows of an older market: an account, an offer's quotes, a payment of each purpose.
const OLD_ROWS: [&str; 6] = [
    "INSERT INTO quotes (id, purpose, request_sha256, rental_id, offer_id, ram_bytes, cpu_millis, duration_ms, rate_micro, fee_bps,
         amount, asset, network, pay_to, payment_id, created_at, expires_at)
     VALUES ('quo_1', 'rent', 'a', NULL, 'ofr_1', 16, 10, 600000, 500, 5, 84, 'USDC', 'eip155:84532', '0x1', 'pay_1', 1, 2)",
    "INSERT INTO quotes (id, purpose, request_sha256, rental_id, offer_id, ram_bytes, cpu_millis, duration_ms, rate_micro, fee_bps,
         amount, asset, network, pay_to, payment_id, created_at, expires_at)
     VALUES ('quo_2', 'extend', 'b', 'rnt_1', 'ofr_1', 16, 10, 300000, 500, 5, 42, 'USDC', 'eip155:84532', '0x1', 'pay_2', 3, 4)",
    "INSERT INTO quotes (id, purpose, request_sha256, rental_id, offer_id, ram_bytes, cpu_millis, duration_ms, rate_micro, fee_bps,
         amount, asset, network, pay_to, payment_id, created_at, expires_at)
     VALUES ('quo_3', 'rent', 'c', NULL, 'ofr_2', 32, 20, 900000, 700, 5, 99, 'USDC', 'eip155:84532', '0x1', NULL, 5, 6)",
    "INSERT INTO payments (id, quote_id, rental_id, network, asset, payer, nonce, pay_to, amount, valid_after, valid_before,
         x402_version, payload, payload_sha256, state, attempts, tx_hash, last_error, next_try_at, created_at, updated_at)
     VALUES ('pay_1', 'quo_1', 'rnt_1', 'eip155:84532', '0x2', '0x3', '0x4', '0x1', 84, 0, 9, 2, '{}', 'a', 'credited', 1, '0x5', NULL,
         7, 8, 9)",
    "INSERT INTO payments (id, quote_id, rental_id, network, asset, payer, nonce, pay_to, amount, valid_after, valid_before,
         x402_version, payload, payload_sha256, state, attempts, tx_hash, last_error, next_try_at, created_at, updated_at)
     VALUES ('pay_2', 'quo_2', 'rnt_1', 'eip155:84532', '0x2', '0x3', '0x6', '0x1', 42, 0, 9, 2, '{}', 'b', 'pending', 2, NULL, 'odd',
         7, 8, 9)",
    "INSERT INTO users (id, email, password_hash, created_us) VALUES ('usr_1', 'a@example.org', 'x', 1)",
];

const QUOTES: &str = "SELECT id, purpose, rental_id, offer_id, ram_bytes, cpu_millis, duration_ms, rate_micro, fee_bps, amount, \
     payment_id, created_at, expires_at FROM quotes ORDER BY id";
const PAYMENTS: &str = "SELECT id, quote_id, rental_id, amount, state, attempts, tx_hash, last_error, next_try_at FROM payments ORDER BY id";

async fn both(test: impl AsyncFn(Db)) {
    let folder = TempDir::new();
    let file = DatabaseUrl::Sqlite(folder.path().join("market.db"));
    for url in [file, postgres_url().await] {
        test(Db::open(&url).await.expect("it opens")).await;
    }
}

async fn rows(db: &Db, sql: &'static str) -> Vec<crate::store::Row> {
    let read = db.read("test.rows", move |tx| Ok(tx.query(sql, &[])?));
    read.await.expect("rows are read")
}

async fn run(db: &Db, sql: &str) -> crate::error::Result<u64> {
    let sql = if matches!(db.inner.driver, Driver::Postgres(_)) {
        sql.replace("'a',", "'a'::bytea,")
            .replace("'b',", "'b'::bytea,")
            .replace("'c',", "'c'::bytea,")
    } else {
        // STRICT: bytes are bytes
        sql.replace("'a',", "x'61',")
            .replace("'b',", "x'62',")
            .replace("'c',", "x'63',")
    };
    let body = move |tx: &mut dyn Tx| Ok(tx.execute(&sql, params![])?);
    db.write("test.run", body).await
}

#[tokio::test]
async fn quotes_and_payments_of_before_top_ups_stay_as_they_were() {
    both(async |db| {
        db.apply(Target::Version(34)).await.expect("the old schema");
        for sql in OLD_ROWS {
            run(&db, sql).await.expect(sql);
        }
        let before = (rows(&db, QUOTES).await, rows(&db, PAYMENTS).await);
        assert_eq!((before.0.len(), before.1.len()), (3, 2));
        let applied = db.migrate().await.expect("it is migrated");
        assert!(
            applied.iter().any(|name| name.contains("top_ups")),
            "{applied:?}"
        );
        let after = (rows(&db, QUOTES).await, rows(&db, PAYMENTS).await);
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
        // what leads from one to the other still does: a used quote can't go
        run(&db, "DELETE FROM quotes WHERE id = 'quo_1'")
            .await
            .expect_err("a payment names it");
        run(&db, "DELETE FROM quotes WHERE id = 'quo_3'")
            .await
            .expect("nothing names it");
        // and nothing is sold that is neither of a rental nor of a balance
        for sql in [
            "UPDATE quotes SET offer_id = NULL WHERE id = 'quo_1'",
            "UPDATE quotes SET purpose = 'top_up' WHERE id = 'quo_1'",
            "UPDATE quotes SET purpose = 'gift' WHERE id = 'quo_1'",
            "UPDATE payments SET rental_id = NULL WHERE id = 'pay_1'",
            "UPDATE payments SET user_id = 'usr_1' WHERE id = 'pay_1'",
            "UPDATE payments SET rental_id = NULL, user_id = 'usr_2' WHERE id = 'pay_1'",
        ] {
            run(&db, sql).await.expect_err(sql);
        }
        let filled = "UPDATE payments SET rental_id = NULL, user_id = 'usr_1' WHERE id = 'pay_1'";
        assert_eq!(run(&db, filled).await.ok(), Some(1));
    })
    .await;
}
