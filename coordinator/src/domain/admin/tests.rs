//! What administrators do, through the router: the books add up afterwards, and the audit log tells of it.

use axum::http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use shared::{
    money::{Amount, Asset},
    wire::problem::agent_codes,
};

use crate::{
    context::Role,
    domain::{
        auth::{self, model::Email},
        ledger::{self, model::Account},
        rentals::model::{EndReason, State},
    },
    testing::{
        Answer, TestApp,
        market::{Market, rental_of},
        on_both_stores, request,
    },
};

on_both_stores!(
    a_disabled_account_has_no_sessions_and_no_keys,
    a_banned_node_is_refused_and_its_rentals_are_paid_back,
    a_refund_is_paid_once_from_the_fees,
    settings_are_versioned_and_count_at_once
);

async fn admin(test: &TestApp) -> String {
    let token = test.signup("admin@example.org", &[]).await;
    let email = Email::parse("admin@example.org").expect("fine");
    let ctx = test.app.task_context("test");
    let grant = test
        .app
        .db
        .write("test", move |tx| auth::grant(tx, &ctx, &email, Role::Admin));
    grant.await.expect("granted");
    token
}

/// Their password again: what follows needs a fresh proof.
async fn prove(test: &TestApp, token: &str) {
    let body = json!({"password": "a long password"});
    let proven = test.post("/api/v1/auth/step-up", token, &body).await;
    assert_eq!(proven.status, StatusCode::NO_CONTENT, "{proven:?}");
}

/// The newest entry of the audit log.
async fn last_entry(test: &TestApp, admin: &str) -> Value {
    let log = test.get("/api/v1/admin/audit?limit=1", admin).await;
    log.json()["items"][0].clone()
}

fn code(answer: &Answer) -> String {
    answer.json()["code"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

async fn a_banned_node_is_refused_and_its_rentals_are_paid_back(test: TestApp) {
    let admin = admin(&test).await;
    let mut market = Market::open(test).await;
    let id = market.run(600).await;
    market.pass(120_000).await;
    let test = &market.test;
    let ban = format!("/api/v1/admin/nodes/{}/ban", market.node.id);
    let why = json!({"reason": "its disk is somebody else's"});
    let stale = {
        market.test.clock.advance_ms(300_000);
        test.post(&ban, &admin, &why).await
    };
    assert_eq!(
        (stale.status, code(&stale).as_str()),
        (StatusCode::FORBIDDEN, "step_up_required")
    );
    prove(test, &admin).await;
    let unsaid = test.post(&ban, &admin, &json!({"reason": " "})).await;
    assert_eq!(unsaid.status, StatusCode::UNPROCESSABLE_ENTITY);
    let banned = test.post(&ban, &admin, &why).await;
    assert_eq!(banned.json()["lifecycle"], "banned", "{banned:?}");
    let entry = last_entry(test, &admin).await;
    assert_eq!(entry["action"], "node.banned");
    assert_eq!(entry["reason"], "its disk is somebody else's");
    let rental = market.rental(id).await;
    assert_eq!(
        (rental.state, rental.end_reason),
        (State::Ended, Some(EndReason::Banned))
    );
    let beat = market.node.try_beat(&market.test).await;
    assert_eq!(
        (beat.status, code(&beat).as_str()),
        (StatusCode::UNAUTHORIZED, agent_codes::NODE_BANNED)
    );
    // past the time in which late evidence is waited for
    market.test.clock.advance_ms(3_600_000);
    market.settle().await;
    let settled = market.rental(id).await;
    assert!(
        settled.settled_at.is_some() && settled.refunded > Amount::ZERO,
        "{settled:?}"
    );
    market.check_books().await;
    let test = &market.test;
    prove(test, &test_login(test).await).await;
    let admin = test_login(test).await;
    let unban = ban.replace("/ban", "/unban");
    let back = test.post(&unban, &admin, &why).await;
    assert_eq!(back.json()["lifecycle"], "member", "{back:?}");
    market.node.beat(&market.test).await;
}

/// The administrator signs in again: hours have passed.
async fn test_login(test: &TestApp) -> String {
    let body = json!({"email": "admin@example.org", "password": "a long password"});
    let answer = test.post("/api/v1/auth/login", "", &body).await;
    answer.json()["access_token"]
        .as_str()
        .expect("a token")
        .to_owned()
}

async fn refund(test: &TestApp, token: &str, key: &str, body: &Value) -> Answer {
    let mut request = request("POST", "/api/v1/admin/refunds", token, body);
    let key = HeaderValue::from_str(key).expect("a header value");
    request.headers_mut().insert("idempotency-key", key);
    test.send(request).await
}

async fn a_refund_is_paid_once_from_the_fees(test: TestApp) {
    admin(&test).await;
    let mut market = Market::open(test).await;
    let consumer = market.test.signup("consumer@example.org", &[]).await;
    let order = market.order(600);
    let bought = market
        .payer
        .buy(&market.test, "/api/v1/rentals", &consumer, &order);
    let id = rental_of(&bought.await);
    market.node.beat(&market.test).await;
    market.node.start(id);
    market.node.beat(&market.test).await;
    market.pass(600_000).await;
    market.settle().await;
    let test = &market.test;
    let rental = market.rental(id).await;
    assert!(rental.fee > Amount::ZERO, "{rental:?}");
    let admin = test_login(test).await;
    let body = json!({"rental_id": id, "amount": {"amount": rental.fee, "currency": "USDC"}, "reason": "slow"});
    let missing = test.post("/api/v1/admin/refunds", &admin, &body).await;
    assert_eq!(code(&missing), "idempotency_key_missing");
    for _ in 0..2 {
        let paid = refund(test, &admin, "one", &body).await;
        assert_eq!(paid.status, StatusCode::CREATED, "{paid:?}");
    }
    assert_eq!(last_entry(test, &admin).await["action"], "rental.refunded");
    let me = rental.consumer.expect("an account");
    let db = &test.app.db;
    let balance = db.read("test", move |tx| {
        ledger::balance(tx, Asset::USDC, &Account::UserAvailable(me))
    });
    let due = rental.refunded.plus(rental.fee).expect("fits");
    assert_eq!(balance.await.expect("read"), due, "once");
    // the fees are empty now
    let again = refund(test, &admin, "two", &body).await;
    assert_eq!(
        (again.status, code(&again).as_str()),
        (StatusCode::CONFLICT, "insufficient_funds")
    );
    let much = json!({"rental_id": id, "amount": {"amount": "1000", "currency": "USDC"}, "reason": "slow"});
    let much = refund(test, &admin, "three", &much).await;
    assert_eq!(much.status, StatusCode::UNPROCESSABLE_ENTITY);
    market.check_books().await;
}

async fn put(test: &TestApp, token: &str, tag: &str, settings: &Value) -> Answer {
    let mut request = request("PUT", "/api/v1/admin/settings", token, settings);
    let tag = HeaderValue::from_str(tag).expect("a header value");
    request.headers_mut().insert("if-match", tag);
    test.send(request).await
}

async fn settings_are_versioned_and_count_at_once(test: TestApp) {
    let admin = admin(&test).await;
    let market = Market::open(test).await;
    let test = &market.test;
    let seen = test.get("/api/v1/admin/settings", &admin).await;
    let tag = seen.headers["etag"].to_str().expect("text").to_owned();
    assert_eq!(
        seen.json(),
        json!({"fee_bps": null, "signups_open": true, "announcement": null})
    );
    let quote = json!({"offer_id": market.offer, "resources": {"ram_bytes": 268_435_456, "cpu_millis": 100},
        "duration_seconds": 3600});
    let fee = async || {
        let quoted = test.post("/api/v1/payments/quote", "", &quote).await;
        quoted.json()["platform_fee"]["amount"].clone()
    };
    assert_ne!(fee().await, "0.000000");
    let wanted = json!({"fee_bps": 0, "signups_open": false, "announcement": "back on Sunday", "reason": "move"});
    let unread = test
        .send(request("PUT", "/api/v1/admin/settings", &admin, &wanted))
        .await;
    assert_eq!(code(&unread), "if_match");
    let done = put(test, &admin, &tag, &wanted).await;
    assert_eq!(done.status, StatusCode::OK, "{done:?}");
    let late = put(test, &admin, &tag, &wanted).await;
    assert_eq!(code(&late), "changed_meanwhile");
    let entry = last_entry(test, &admin).await;
    assert_eq!(
        (&entry["action"], &entry["after"]["fee_bps"]),
        (&json!("settings.changed"), &json!(0))
    );
    let told = test.get("/api/v1/announcement", "").await.json();
    assert_eq!(told["announcement"], "back on Sunday");
    assert_eq!(
        fee()
            .await
            .as_str()
            .map(|text| text.trim_end_matches(['0', '.']).is_empty()),
        Some(true)
    );
    let body = json!({"email": "late@example.org", "password": "a long password"});
    let closed = test.post("/api/v1/auth/signup", "", &body).await;
    assert_eq!(code(&closed), "signups_closed");
    let bad = json!({"fee_bps": 5001, "signups_open": true, "announcement": null, "reason": "x"});
    let tag = done.headers["etag"].to_str().expect("text").to_owned();
    assert_eq!(
        put(test, &admin, &tag, &bad).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
}

/// The id of an account, by its address.
async fn id_of(test: &TestApp, admin: &str, email: &str) -> String {
    let path = format!("/api/v1/admin/users?email={email}");
    let found = test.get(&path, admin).await.json();
    found["items"][0]["id"].as_str().expect("an id").to_owned()
}

async fn a_disabled_account_has_no_sessions_and_no_keys(test: TestApp) {
    let admin = admin(&test).await;
    let ada = test.signup("ada@example.org", &[]).await;
    let wish = json!({"name": "a program", "scopes": ["account:read"]});
    let key = test.post("/api/v1/api-keys", &ada, &wish).await.json();
    let key = key["key"].as_str().expect("a key").to_owned();
    let id = id_of(&test, &admin, "ada@example.org").await;
    let me = async |token: &str| test.get("/api/v1/auth/me", token).await.status;
    assert_eq!(
        (me(&ada).await, me(&key).await),
        (StatusCode::OK, StatusCode::OK)
    );

    let why = json!({"reason": "stolen card"});
    let users = format!("/api/v1/admin/users/{id}");
    let own = id_of(&test, &admin, "admin@example.org").await;
    let own = format!("/api/v1/admin/users/{own}/disable");
    assert_eq!(code(&test.post(&own, &admin, &why).await), "own_account");
    let closed = test.post(&format!("{users}/disable"), &admin, &why).await;
    assert!(closed.json()["disabled_at"].is_string(), "{closed:?}");
    let entry = last_entry(&test, &admin).await;
    assert_eq!(
        (&entry["action"], &entry["after"]["sessions_ended"]),
        (&json!("account.disabled"), &json!(1))
    );
    assert_eq!(me(&ada).await, StatusCode::UNAUTHORIZED);
    test.clock.advance_ms(30_000);
    assert_eq!(me(&key).await, StatusCode::UNAUTHORIZED);
    let login = json!({"email": "ada@example.org", "password": "a long password"});
    let refused = test.post("/api/v1/auth/login", "", &login).await;
    assert_eq!(
        (refused.status, code(&refused).as_str()),
        (StatusCode::FORBIDDEN, "account_disabled")
    );

    let open = test.post(&format!("{users}/enable"), &admin, &why).await;
    assert_eq!(open.json()["disabled_at"], Value::Null, "{open:?}");
    // what ended stays ended
    assert_eq!(me(&ada).await, StatusCode::UNAUTHORIZED);
    let again = test.post("/api/v1/auth/login", "", &login).await.json();
    let again = again["access_token"].as_str().expect("a token").to_owned();
    test.clock.advance_ms(30_000);
    assert_eq!(
        (me(&again).await, me(&key).await),
        (StatusCode::OK, StatusCode::OK)
    );

    let ended = test
        .post(&format!("{users}/end-sessions"), &admin, &why)
        .await;
    assert_eq!(ended.json()["sessions"].as_array().map(Vec::len), Some(1));
    assert_eq!(me(&again).await, StatusCode::UNAUTHORIZED);
    assert_eq!(last_entry(&test, &admin).await["action"], "sessions.ended");
}

#[tokio::test]
async fn roles_are_given_and_taken_but_not_ones_own() {
    let test = TestApp::new().await;
    let admin = admin(&test).await;
    let ada = test.signup("ada@example.org", &[]).await;
    let found = test
        .get("/api/v1/admin/users?email=ada@example.org", &admin)
        .await
        .json();
    assert_eq!(found["items"][0]["roles"], json!(["consumer"]));
    let id = found["items"][0]["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/v1/admin/users/{id}/roles");
    let grant = json!({"grant": ["provider", "admin"], "reason": "joins"});
    let granted = test.post(&path, &admin, &grant).await;
    assert_eq!(
        granted.json()["roles"],
        json!(["consumer", "provider", "admin"]),
        "{granted:?}"
    );
    let entry = last_entry(&test, &admin).await;
    assert_eq!(
        (&entry["action"], &entry["reason"]),
        (&json!("roles.changed"), &json!("joins"))
    );
    // ada's session notices, and ada may now do the same
    test.clock.advance_ms(30_000);
    let take = json!({"revoke": ["admin"], "reason": "leaves"});
    let own = test.post(&path, &ada, &take).await;
    assert_eq!(code(&own), "own_role");
    let taken = test.post(&path, &admin, &take).await;
    assert_eq!(taken.json()["roles"], json!(["consumer", "provider"]));
    test.clock.advance_ms(30_000);
    assert_eq!(
        test.get("/api/v1/admin/users", &ada).await.status,
        StatusCode::FORBIDDEN
    );
    let users = test.get("/api/v1/admin/users?limit=1", &admin).await.json();
    assert!(users["next_cursor"].is_string());
    let both = json!({"grant": ["provider"], "revoke": ["provider"], "reason": "x"});
    assert_eq!(
        test.post(&path, &admin, &both).await.status,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    let books = test.get("/api/v1/admin/ledger/check", &admin).await.json();
    assert!(
        books["findings"]
            .as_array()
            .is_some_and(|found| found.len() > 5),
        "{books}"
    );
    let figures = test.get("/api/v1/admin/metrics", &admin).await.json();
    assert_eq!(figures["running_rentals"], 0, "{figures}");
}
