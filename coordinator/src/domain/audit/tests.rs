//! The chain: dense under many writers, append-only, and every kind of tampering shows.

mod admin;
mod tampering;

use axum::http::StatusCode;
use serde_json::json;

use super::{Entry, record, store};
use crate::{
    store::Tx,
    testing::{TestApp, on_both_stores},
};

on_both_stores!(
    many_writers_make_one_chain,
    rows_are_neither_changed_nor_removed,
    an_entry_of_a_transaction_that_failed_never_was,
);

async fn write(test: &TestApp, number: i64) {
    let ctx = test.app.task_context("test");
    let body = move |tx: &mut dyn Tx| {
        let entry = Entry::of("test.done", format!("thing_{number}"));
        record(tx, &ctx, entry.after(json!({ "number": number })))
    };
    test.app
        .db
        .write("test.audit", body)
        .await
        .expect("recorded");
}

async fn many_writers_make_one_chain(test: TestApp) {
    futures_util::future::join_all((0..40).map(|number| write(&test, number))).await;
    let read = |tx: &mut dyn Tx| Ok((store::after(tx, 0, 100)?, store::head(tx)?));
    let (rows, head) = test.app.db.read("test.audit", read).await.expect("read");
    assert_eq!(rows.len(), 40);
    let (mut seq, mut hash) = (0, super::model::GENESIS);
    for row in rows {
        seq += 1;
        assert_eq!((row.seq, row.prev_hash), (seq, hash));
        assert_eq!(row.computed_hash(), row.hash);
        hash = row.hash;
    }
    assert_eq!(head, (seq, hash));
}

async fn rows_are_neither_changed_nor_removed(test: TestApp) {
    write(&test, 1).await;
    write(&test, 2).await;
    for sql in [
        "UPDATE audit_log SET actor = 'nobody' WHERE seq = 1",
        "DELETE FROM audit_log WHERE seq = 2",
        "DELETE FROM audit_head",
        "UPDATE audit_head SET seq = 1 WHERE one = 1",
    ] {
        let body = move |tx: &mut dyn Tx| Ok(tx.execute(sql, &[])?);
        let refused = test.app.db.write("test.tamper", body).await;
        let text = format!("{:?}", refused.expect_err(sql));
        assert!(text.contains("audit log"), "{sql}: {text}");
    }
}

async fn an_entry_of_a_transaction_that_failed_never_was(test: TestApp) {
    let ctx = test.app.task_context("test");
    let body = move |tx: &mut dyn Tx| -> crate::error::Result<()> {
        record(tx, &ctx, Entry::of("test.done", "thing"))?;
        Err(crate::error::Error::conflict("no", "no"))
    };
    assert!(test.app.db.write("test.audit", body).await.is_err());
    let head = test.app.db.read("test.audit", store::head).await;
    assert_eq!(head.expect("read"), (0, super::model::GENESIS));
    // a reason that is too long is the caller's fault
    let ctx = test.app.task_context("test");
    let body = move |tx: &mut dyn Tx| {
        record(
            tx,
            &ctx,
            Entry::of("test.done", "thing").reason(&"x".repeat(501)),
        )
    };
    let refused = test.app.db.write("test.audit", body).await;
    assert_eq!(
        refused.expect_err("too long").fields()[0].pointer,
        "/reason"
    );
}

#[tokio::test]
async fn who_and_from_where_comes_with_the_request() {
    let test = TestApp::new().await;
    let mut request = crate::testing::request(
        "POST",
        "/api/v1/auth/signup",
        "",
        &json!({"email": "ada@example.org", "password": "a long password"}),
    );
    let peer: std::net::SocketAddr = "203.0.113.9:4711".parse().expect("an address");
    request
        .extensions_mut()
        .insert(axum::extract::ConnectInfo(peer));
    request
        .headers_mut()
        .insert("x-request-id", "it-was-me".parse().expect("header"));
    assert_eq!(test.send(request).await.status, StatusCode::CREATED);
    let rows = test
        .app
        .db
        .read("test.audit", |tx| store::after(tx, 0, 10))
        .await;
    let row = &rows.expect("read")[0];
    assert_eq!(
        (row.action.as_str(), row.actor.as_str()),
        ("account.created", "anonymous")
    );
    assert_eq!(row.client.as_deref(), Some("203.0.113.9"));
    assert_eq!(row.request_id, "it-was-me");
    assert!(row.object.starts_with("usr_"), "{row:?}");
    assert!(!format!("{row:?}").contains("a long password"));
}
