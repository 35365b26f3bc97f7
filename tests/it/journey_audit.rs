//! The audit log by its command: whole after a start and some use, broken once somebody edits the database.

use std::process::Output;

use coordinator::store::{DatabaseUrl, Db};
use serde_json::Value;
use system_tests::{
    market::{Market, Store},
    people, wait,
};

fn verify(market: &Market) -> (Output, Value) {
    let output = market
        .command(&["audit", "verify", "--json"])
        .output()
        .expect("it runs");
    let verdict = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output, verdict)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_hand_is_found() {
    let mut market = Market::with(Store::Sqlite, &[("audit.checkpoint_s", "1")]).await;
    people::provider(&market).await;
    people::consumer(&market).await;
    people::admin(&market).await;
    let (_, whole) = wait::until("the last row is signed", || async {
        let (output, verdict) = verify(&market);
        assert!(output.status.success(), "{output:?}");
        let report = &verdict["report"];
        (report["anchored_to"] == report["last_seq"]).then_some((output, verdict))
    })
    .await;
    assert!(
        whole["report"]["rows"]
            .as_i64()
            .is_some_and(|rows| rows >= 3),
        "{whole}"
    );
    assert!(
        market.log().contains("audit.checkpoint"),
        "the log carries the checkpoint"
    );
    market.stop();

    let url: DatabaseUrl = market.database().parse().expect("a URL");
    let db = Db::open(&url).await.expect("it opens");
    let body = |tx: &mut dyn coordinator::store::Tx| {
        tx.execute("DROP TRIGGER audit_log_no_update", &[])?;
        Ok(tx.execute("UPDATE audit_log SET actor = 'nobody' WHERE seq = 2", &[])?)
    };
    assert_eq!(db.write("tamper", body).await.expect("done"), 1);
    let (output, verdict) = verify(&market);
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(verdict["report"]["findings"][0]["seq"], 2, "{verdict}");
}
