//! No statement that users or timers run reads a whole table that grows: SQLite is asked for the plan of each that a day on the
//! market runs. (`ledger check` may: it is proof, run by an operator.)

use axum::http::StatusCode;
use serde_json::{Value as Json, json};
use shared::{
    clock::Clock as _,
    id::{PaymentId, RentalId},
    time::Timestamp,
};

use super::stall::{Stall, id_of};
use crate::{
    context::Role,
    domain::{
        auth,
        metering::{self, model::Interval},
        rentals::{self, changes, model::EndReason},
        settlement, sshkeys,
    },
    store::{Tx, Value, testing::statements},
    tasks::{
        Task,
        analytics::Analytics,
        event_relay::EventRelay,
        expiry::Expiry,
        forgetting::Forgetting,
        invoices::Invoices,
        kyc::Kyc,
        leases::Leases,
        ledger_check::{LedgerCheck, LedgerSweep},
        liveness::Liveness,
        mail::MailRound,
        market_feed,
        payments::Payments,
        payouts::Payouts,
        retention::Retention,
        settlement::Settlement,
        spending::Spending,
        upkeep::Upkeep,
        uptime::Uptime,
        webhook_courier::WebhookCourier,
        webhooks::Webhooks,
    },
    testing::TestApp,
};

/// Tables that grow with use.
const GROWING: [&str; 68] = [
    "account_closings",
    "account_folds",
    "account_links",
    "accounts",
    "api_keys",
    "audit_log",
    "billing_windows",
    "consumer_figures",
    "consumer_spending",
    "device_logins",
    "dispute_statements",
    "disputes",
    "enrollment_tokens",
    "events",
    "exchanges",
    "given_back",
    "idempotency_keys",
    "invoice_transfers",
    "invoices",
    "kyc_cases",
    "kyc_documents",
    "kyc_events",
    "identities",
    "mail_outbox",
    "market_prices",
    "market_samples",
    "node_chains",
    "node_coverage",
    "node_earnings",
    "node_figures",
    "node_flags",
    "node_links",
    "node_orders",
    "nodes",
    "offer_prices",
    "offers",
    "oidc_used",
    "payers_owed",
    "payment_identifiers",
    "payments",
    "payout_addresses",
    "payout_approvals",
    "payout_days",
    "payouts",
    "provider_earnings",
    "quotes",
    "recovery_codes",
    "refresh_tokens",
    "rental_alerts",
    "rental_faults",
    "rental_gpus",
    "rental_ports",
    "rental_ssh_keys",
    "rentals",
    "sandbox_settlements",
    "sandbox_wallets",
    "second_factors",
    "sessions",
    "sign_in_delays",
    "ssh_keys",
    "stream_tickets",
    "transfers",
    "usage_records",
    "users",
    "wallet_nonces",
    "webhook_deliveries",
    "webhook_secrets",
    "webhooks",
];
/// Indexes of a part of a table that stays small, however long the table gets: reading all of it is what is wanted.
const SMALL: [&str; 9] = [
    "accounts_outside",
    "billing_windows_to_roll",
    "events_waiting",
    "payments_due",
    "rentals_running",
    "rentals_to_invoice",
    "rentals_to_settle",
    "user_roles_admin",
    "webhooks_due",
];

/// Why a plan's step is too much, if it is.
fn too_much(step: &str) -> bool {
    let mut words = step.split(' ');
    if words.next() != Some("SCAN") {
        return false;
    }
    let table = words.next().unwrap_or_default();
    GROWING.contains(&table) && !SMALL.iter().any(|index| step.ends_with(index))
}

#[test]
fn a_scan_is_noticed() {
    assert!(too_much("SCAN rentals"));
    assert!(too_much("SCAN rentals USING INDEX rentals_by_consumer"));
    assert!(!too_much(
        "SCAN rentals USING COVERING INDEX rentals_running"
    ));
    assert!(!too_much(
        "SEARCH rentals USING INDEX rentals_live (node_id=?)"
    ));
    assert!(!too_much("SCAN event_head"));
}

/// Rents, extends, looks, stops and settles, by balance and by x402.
async fn trade(stall: &Stall) -> (String, RentalId) {
    let consumer = stall.consumer().await;
    let mut by_balance = stall.order(600);
    by_balance["resources"]["gpu_count"] = json!(1);
    by_balance["pay_with"] = json!("balance");
    let bought = stall.keyed("/api/v1/rentals", &consumer, "one", &by_balance);
    let bought: RentalId = id_of(&bought.await);
    let signed = stall
        .signed("/api/v1/rentals", "", &stall.order(600), 1)
        .await;
    let paid: RentalId = id_of(&stall.pay(&signed, "").await);
    stall.pay(&signed, "").await;
    let token = stall.test.app.rental_tokens.mint(paid).expose().clone();
    let more = json!({"duration_seconds": 600});
    let path = format!("/api/v1/rentals/{paid}/extend");
    let extended = stall.signed(&path, &token, &more, 2).await;
    assert_eq!(
        stall.pay(&extended, &token).await.status,
        StatusCode::CREATED
    );
    let db = &stall.test.app.db;
    let payment = db.read("test.payment", move |tx| {
        crate::domain::payments::of_rental(tx, paid)
    });
    let payment: PaymentId = payment.await.expect("read").expect("a payment").id;
    for (path, token) in [
        ("/api/v1/rentals?as=consumer", &consumer),
        ("/api/v1/rentals?as=provider", &stall.provider),
        (&format!("/api/v1/rentals/{paid}"), &token),
        (&format!("/api/v1/rentals/{paid}/events"), &token),
        (&format!("/api/v1/rentals/{paid}/usage"), &token),
        (&format!("/api/v1/rentals/{paid}/ssh-keys"), &token),
        ("/api/v1/ssh-keys", &consumer),
        (&format!("/api/v1/rentals/{paid}/receipts"), &token),
        (&format!("/api/v1/payments/{payment}"), &token),
        ("/api/v1/balance", &consumer),
        ("/api/v1/payouts", &stall.provider),
        ("/api/v1/payout-address", &stall.provider),
        ("/api/v1/analytics/consumer", &consumer),
        ("/api/v1/analytics/provider", &stall.provider),
        ("/api/v1/analytics/market?resource=ram", &stall.provider),
        ("/api/v1/offers?mine=true", &stall.provider),
        ("/api/v1/nodes", &stall.provider),
        (&format!("/api/v1/nodes/{}", stall.node), &stall.provider),
        ("/api/v1/auth/me", &consumer),
        ("/api/v1/sessions", &consumer),
        ("/api/v1/kyc", &consumer),
        ("/api/v1/auth/identities", &consumer),
    ] {
        let answer = stall.test.get(path, token).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
    }
    let asked = stall.test.get("/api/v1/auth/wallet/challenge", "").await;
    let claim = crate::testing::payer::Payer::numbered(1).sign_in(&asked.json());
    let mut list = crate::testing::request("GET", "/api/v1/rentals", "", &serde_json::Value::Null);
    let claim = claim.parse().expect("a header value");
    list.headers_mut().insert("sign-in-with-x", claim);
    assert_eq!(stall.test.send(list).await.status, StatusCode::OK);
    let fill = json!({"amount": {"amount": "1", "currency": "USDC"}});
    let fill_path = "/api/v1/balance/topups";
    let signed = stall.signed(fill_path, &consumer, &fill, 3).await;
    assert_eq!(
        stall.pay(&signed, &consumer).await.status,
        StatusCode::CREATED
    );
    device_login(stall, &consumer).await;
    ssh_keys(stall, &consumer, bought).await;
    let hook = json!({"url": "http://127.0.0.1:9/"});
    let hook = stall.test.post("/api/v1/webhooks", &consumer, &hook).await;
    let hook = format!(
        "/api/v1/webhooks/{}",
        hook.json()["id"].as_str().expect("id")
    );
    for path in ["/api/v1/webhooks", &hook, &format!("{hook}/deliveries")] {
        let answer = stall.test.get(path, &consumer).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
    }
    for (what, body) in [
        ("test", serde_json::Value::Null),
        ("rotate-secret", json!({})),
    ] {
        let path = format!("{hook}/{what}");
        let answer = stall.test.post(&path, &consumer, &body).await;
        assert!(answer.status.is_success(), "{path}: {answer:?}");
    }
    reach(stall, paid, &token).await;
    let tokens = "/api/v1/nodes/enrollment-tokens";
    let answer = stall.test.post(tokens, &stall.provider, &json!({})).await;
    assert!(answer.status.is_success(), "{answer:?}");
    dispute(stall, paid, &token).await;
    end(stall, bought).await;
    (consumer, bought)
}

/// Adds a key, opens a rental with it, gives the rental another one and takes the first away.
async fn ssh_keys(stall: &Stall, consumer: &str, rental: RentalId) {
    let test = &stall.test;
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    let added = json!({"public_key": key});
    let added = test.post("/api/v1/ssh-keys", consumer, &added).await.json();
    let parsed = sshkeys::model::PublicKey::parse(key).expect("a key");
    let db = &test.app.db;
    let opened = db.write("test.opener", move |tx| {
        let owner = rentals::find(tx, rental)?.consumer;
        let opener = sshkeys::opener(tx, rental, owner, &parsed)?;
        if let Some(sshkeys::model::Opener::Account(id)) = opener {
            sshkeys::note_use(tx, id, Timestamp::from_micros(1))?;
        }
        Ok(opener)
    });
    assert!(opened.await.expect("asked").is_some());
    let path = format!("/api/v1/rentals/{rental}/ssh-keys");
    let body = json!({"ssh_keys": [key]});
    let put = crate::testing::request("PUT", &path, consumer, &body);
    assert_eq!(test.send(put).await.status, StatusCode::OK);
    let path = format!("/api/v1/ssh-keys/{}", added["id"].as_str().expect("an id"));
    let nothing = serde_json::Value::Null;
    let remove = crate::testing::request("DELETE", &path, consumer, &nothing);
    assert_eq!(test.send(remove).await.status, StatusCode::NO_CONTENT);
}

/// Asks for a ticket and uses it, with the node linked.
async fn reach(stall: &Stall, rental: RentalId, token: &str) {
    let link = crate::testing::link::ScriptedLink::hold(&stall.test, stall.node).await;
    let path = format!("/api/v1/rentals/{rental}");
    let asked = stall
        .test
        .post(&format!("{path}/tickets"), token, &json!({"verb": "logs"}))
        .await;
    assert_eq!(asked.status, StatusCode::CREATED, "{asked:?}");
    let ticket = asked.json()["ticket"].as_str().map(str::to_owned);
    let by_ticket = format!("{path}/logs?ticket={}", ticket.expect("a ticket"));
    let logs = stall.test.get(&by_ticket, "").await;
    assert_eq!(logs.status, StatusCode::OK, "{logs:?}");
    link.cut().await;
    let port = format!("{path}/ports/8080");
    for (method, body) in [("PUT", json!({"public": true})), ("DELETE", Json::Null)] {
        let asked = crate::testing::request(method, &port, token, &body);
        let answer = stall.test.send(asked).await;
        let refused = method == "PUT" && answer.status == StatusCode::CONFLICT;
        assert!(refused || answer.status.is_success(), "{answer:?}");
    }
}

/// A device asks, its person confirms, it redeems.
async fn device_login(stall: &Stall, consumer: &str) {
    let wish = json!({"client_name": "a test", "scopes": ["rentals:read"]});
    let begun = stall.test.post("/api/v1/auth/device", "", &wish).await;
    let code = begun.json()["user_code"]
        .as_str()
        .expect("a code")
        .to_owned();
    let page = format!("/device?code={code}");
    assert_eq!(stall.test.get(&page, consumer).await.status, StatusCode::OK);
    let redeem = json!({"device_code": begun.json()["device_code"]});
    let path = "/api/v1/auth/device/token";
    let asked = stall.test.post(path, "", &redeem).await;
    assert_eq!(asked.json()["code"], "authorization_pending");
    let code = crate::domain::device_login::model::UserCode::parse(&code).expect("a code");
    let app = &stall.test.app;
    let user = auth::authenticate(app, consumer).await.expect("a person");
    let ctx = app.context(crate::context::Actor::User(user), "test".to_owned());
    let decide = move |tx: &mut dyn Tx| {
        crate::domain::device_login::decide(tx, &ctx, &code, true).map(|_| ())
    };
    let db = &stall.test.app.db;
    db.write("test.decide", decide).await.expect("decided");
    let asked = stall.test.post(path, "", &redeem).await;
    assert_eq!(asked.status, StatusCode::OK, "{asked:?}");
}

/// Reports a rental, speaks of it, and looks at what was said.
async fn dispute(stall: &Stall, rental: RentalId, token: &str) {
    let report = json!({"reason": "slow", "text": "a test"});
    let path = format!("/api/v1/rentals/{rental}/report");
    let told = stall.test.post(&path, token, &report).await.json();
    let path = format!("/api/v1/disputes/{}", told["id"].as_str().expect("an id"));
    let say = json!({"text": "a test"});
    let said = stall
        .test
        .post(&format!("{path}/evidence"), token, &say)
        .await;
    assert_eq!(said.status, StatusCode::CREATED, "{said:?}");
    for (path, who) in [
        (path.as_str(), &stall.provider),
        ("/api/v1/disputes?as=provider", &stall.provider),
        ("/api/v1/disputes", &stall.provider),
    ] {
        let answer = stall.test.get(path, who).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
    }
}

/// What is issued of a rental that is over, and a month's statement.
async fn papers(stall: &Stall, consumer: &str, rental: RentalId) {
    let path = format!("/api/v1/rentals/{rental}/invoice");
    let invoice = stall.test.get(&path, consumer).await.json();
    let invoice = format!(
        "/api/v1/invoices/{}",
        invoice["id"].as_str().expect("an id")
    );
    for (path, who) in [
        ("/api/v1/invoices", consumer),
        ("/api/v1/invoices?as=provider", &stall.provider),
        (&invoice, consumer),
        (&format!("{invoice}/transfers"), consumer),
        ("/api/v1/statements?month=2027-01", &stall.provider),
        ("/api/v1/statements?month=2020-01", consumer),
        ("/api/v1/statements/2027-01/transfers", consumer),
    ] {
        let answer = stall.test.get(path, who).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
    }
    let since = stall.test.clock.now();
    let db = &stall.test.app.db;
    let check = db.read("test.check", move |tx| {
        crate::domain::invoices::check::check_since(tx, since)
    });
    check.await.expect("checked");
}

/// What administrators look at.
async fn administrate(stall: &Stall) {
    let admin = stall.test.signup("root@example.org", &[]).await;
    let ctx = stall.system();
    let grant = move |tx: &mut dyn Tx| {
        let email = auth::model::Email::parse("root@example.org")?;
        auth::grant(tx, &ctx, &email, Role::Admin)
    };
    let db = &stall.test.app.db;
    db.write("test.grant", grant).await.expect("granted");
    let first = stall.test.get("/api/v1/admin/audit?limit=1", &admin).await;
    let cursor = first.json()["next_cursor"]
        .as_str()
        .expect("more")
        .to_owned();
    let payouts = stall.test.get("/api/v1/admin/payouts?state=sent", &admin);
    assert_eq!(payouts.await.status, StatusCode::OK);
    for query in [
        format!("cursor={cursor}"),
        format!("actor=system&cursor={cursor}"),
        "action=role.granted&from=2020-01-01T00:00:00Z".to_owned(),
        format!("object={}&to=2020-01-01T00:00:00Z", stall.node),
    ] {
        let path = format!("/api/v1/admin/audit?{query}");
        let answer = stall.test.get(&path, &admin).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
    }
}

/// What beats and the end of a rental write.
async fn end(stall: &Stall, id: RentalId) {
    let (ctx, node, db) = (stall.system(), stall.node, &stall.test.app.db);
    let day = Interval {
        start: Timestamp::from_secs(0),
        end: stall.test.clock.now(),
    };
    let body = move |tx: &mut dyn Tx| {
        metering::head(tx, node)?;
        metering::coverage(tx, node, &day)?;
        metering::working_coverage(tx, node, id, &day)?;
        metering::forget_faults(tx, day.start, 10)?;
        metering::records_of(tx, node, id, 0, 10)?;
        metering::last_spoken_of(tx, node, id)?;
        metering::keep_alive(tx, "epoch", day.start, day.end)?;
        let row = crate::domain::nodes::get(tx, node)?;
        crate::domain::nodes::flag(tx, &ctx, &row, "code", "detail")?;
        rentals::of_node(tx, node)?;
        let stopping = rentals::find(tx, id)?;
        let stopping = changes::stop(tx, &ctx, &stopping, EndReason::Stopped)?;
        changes::finish(tx, &ctx, &stopping, EndReason::Stopped, "over")?;
        settlement::settle(tx, &ctx, id)?;
        crate::domain::auth::account::administrators(tx).map(|_| ())
    };
    db.write("test.end", body).await.expect("ended");
}

/// Every timer, once.
async fn turn_timers(stall: &Stall) {
    let app = || stall.test.app.clone();
    market_feed::load(&app()).await.expect("the index");
    let mut tasks: Vec<Box<dyn Task>> = vec![
        Box::new(EventRelay::new(&app())),
        Box::new(Uptime(app())),
        Box::new(Liveness(app())),
        Box::new(Leases(app())),
        Box::new(Spending(app())),
        Box::new(Expiry(app())),
        Box::new(Upkeep(app())),
        Box::new(Payments(app())),
        Box::new(Payouts::new(app())),
        Box::new(Forgetting(app())),
        Box::new(MailRound(app())),
        Box::new(Settlement::new(app())),
        Box::new(LedgerCheck::new(app())),
        Box::new(LedgerSweep::new(app())),
        Box::new(Kyc(app())),
        Box::new(Invoices(app())),
        Box::new(Analytics(app())),
        Box::new(Webhooks(app())),
        Box::new(Retention::new(app())),
        Box::new(WebhookCourier(app())),
    ];
    for task in &mut tasks {
        let name = task.name();
        task.activate()
            .await
            .unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[tokio::test]
async fn no_statement_reads_a_whole_growing_table() {
    let stall = Stall::open(TestApp::new().await).await;
    let (consumer, over) = trade(&stall).await;
    administrate(&stall).await;
    turn_timers(&stall).await;
    papers(&stall, &consumer, over).await;

    let mut bad = Vec::new();
    let run = statements::seen_in(stall.test.folder().path());
    for sql in &run {
        let word = sql.split_whitespace().next().unwrap_or_default();
        if !["SELECT", "UPDATE", "DELETE", "INSERT"].contains(&word) {
            continue;
        }
        let values = (1..).take_while(|n| sql.contains(&format!("${n}")));
        let values: Vec<Value> = values.map(|_| Value::Null).collect();
        let explain = format!("EXPLAIN QUERY PLAN {sql}");
        let db = &stall.test.app.db;
        let plan = db.read("test.plan", move |tx| Ok(tx.query(&explain, &values)?));
        for step in plan.await.unwrap_or_else(|e| panic!("{e:?}: {sql}")) {
            let step = step.text(3).expect("a step").to_owned();
            if too_much(&step) {
                bad.push(format!("{step}\n    {sql}"));
            }
            if sql.contains("FROM node_coverage") {
                assert!(
                    step.contains("node_coverage_by_end"),
                    "{step}: the past isn't read"
                );
            }
        }
    }
    assert!(run.len() > 70, "only {} statements were run", run.len());
    assert!(
        bad.is_empty(),
        "these read a whole table:\n{}",
        bad.join("\n")
    );
}
