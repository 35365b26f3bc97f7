//! What isn't money, or isn't where money can go, is refused where money goes out or back: withdrawals, payouts and their address, refunds,
//! decisions of disputes, the platform's share.

use axum::http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use shared::id::RentalId;

use super::{RENT, not_sums};
use crate::{
    context::Role,
    domain::auth::{self, model::Email},
    store::Tx,
    testing::{
        Answer, TestApp,
        dump::{changed, dump},
        market::{Market, rental_of},
        request,
    },
};

/// What isn't an address of a network that money leaves by.
fn not_addresses() -> Vec<Value> {
    let texts = [
        "",
        " ",
        "0x",
        "0x1",
        "1",
        "ada@example.org",
        // one digit short, one too many, not a digit, not ASCII
        "0x70997970c51812dc3a010c7d01b50e0d17dc79c",
        "0x70997970c51812dc3a010c7d01b50e0d17dc79c80",
        "0x70997970c51812dc3a010c7d01b50e0d17dc79cg",
        "0x70997970c51812dc3a010c7d01b50e0d17dc79c８",
        // its checksum doesn't hold
        "0x70997970c51812dc3A010C7d01b50e0d17dc79C8",
        "70997970c51812dc3a010c7d01b50e0d17dc79c8",
        " 0x70997970c51812dc3a010c7d01b50e0d17dc79c8",
        // nobody's
        "0x0000000000000000000000000000000000000000",
        // of other networks
        "eip155:8453:0x70997970c51812dc3a010c7d01b50e0d17dc79c8",
        "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
    ];
    let mut all: Vec<Value> = texts.iter().map(|text| json!(text)).collect();
    all.extend([json!(null), json!(1), json!([]), json!({"address": "0x"})]);
    all
}

/// What isn't a share of the platform.
fn not_shares() -> Vec<Value> {
    vec![
        json!(-1),
        json!(5_001),
        json!(1.5),
        json!(1e3),
        json!("500"),
        json!("٥"),
        json!(4_294_967_296_u64),
        json!([]),
        json!(true),
    ]
}

/// Sums that are money elsewhere: nothing, and what isn't dealt in.
fn nothing_and_elsewhere() -> Vec<Value> {
    let sum = |amount: &str, currency: &str| json!({"amount": amount, "currency": currency});
    let mut all = vec![sum("0", "USDC"), sum("0.000000", "USDC")];
    for currency in ["EURC", "USDT", "ETH"] {
        all.push(sum("0.000001", currency));
        all.push(sum("1", currency));
    }
    all
}

/// A market with a rental that was charged, another that is in dispute, and whom all that concerns, just signed in.
struct Scene {
    market: Market,
    ada: String,
    provider: String,
    admin: String,
    rental: RentalId,
    dispute: String,
}

async fn sign_in(test: &TestApp, email: &str) -> String {
    // logins are counted by the minute
    test.clock.advance_ms(30_000);
    let body = json!({"email": email, "password": "a long password"});
    let answer = test.post("/api/v1/auth/login", "", &body).await;
    let token = answer.json()["access_token"].as_str().map(str::to_owned);
    token.unwrap_or_else(|| panic!("{answer:?}"))
}

async fn running(market: &mut Market, ada: &str) -> RentalId {
    let order = market.order(600);
    let bought = market.payer.buy(&market.test, RENT, ada, &order).await;
    let id = rental_of(&bought);
    market.node.beat(&market.test).await;
    market.node.start(id);
    market.node.beat(&market.test).await;
    id
}

impl Scene {
    async fn set() -> Self {
        let mut market = Market::open(TestApp::new().await).await;
        let ada = market.test.signup("ada@example.org", &["consumer"]).await;
        let rental = running(&mut market, &ada).await;
        let in_dispute = running(&mut market, &ada).await;
        market.pass(120_000).await;
        for (path, body) in [
            (format!("{RENT}/{rental}/stop"), json!({})),
            (
                format!("{RENT}/{in_dispute}/report"),
                json!({"reason": "unreachable", "text": "the port never answered"}),
            ),
        ] {
            let answer = market.test.post(&path, &ada, &body).await;
            assert!(answer.status.is_success(), "{answer:?}");
        }
        market.pass(10_000).await;
        market.settle().await;
        let test = &market.test;
        test.signup("admin@example.org", &[]).await;
        let email = Email::parse("admin@example.org").expect("fine");
        let ctx = test.app.task_context("test");
        let grant = move |tx: &mut dyn Tx| auth::grant(tx, &ctx, &email, Role::Admin);
        test.app.db.write("test", grant).await.expect("granted");
        let provider = sign_in(test, "provider@example.org").await;
        let ada = sign_in(test, "ada@example.org").await;
        let admin = sign_in(test, "admin@example.org").await;
        let disputes = test.get("/api/v1/admin/disputes", &admin).await.json();
        let dispute = disputes["items"][0]["id"].as_str().expect("one is open");
        Self {
            dispute: dispute.to_owned(),
            market,
            ada,
            provider,
            admin,
            rental,
        }
    }

    /// Everything that is wrong: method, path, who, what.
    fn wrong(&self) -> Vec<(&'static str, String, &str, Value)> {
        let mut all = Vec::new();
        let (out, payouts) = ("/api/v1/balance/withdrawals", "/api/v1/payouts");
        let decision = format!("/api/v1/admin/disputes/{}/decision", self.dispute);
        let reason = "a test";
        for sum in not_sums().into_iter().chain(nothing_and_elsewhere()) {
            let amount = json!({ "amount": sum });
            all.push(("POST", out.to_owned(), &*self.ada, amount.clone()));
            all.push(("POST", payouts.to_owned(), &*self.provider, amount));
            let refund = json!({"rental_id": self.rental, "amount": sum, "reason": reason});
            all.push((
                "POST",
                "/api/v1/admin/refunds".to_owned(),
                &*self.admin,
                refund,
            ));
            let decided = json!({"refund": sum, "reason": reason});
            all.push(("POST", decision.clone(), &*self.admin, decided));
        }
        for address in not_addresses() {
            let body = json!({ "address": address });
            all.push((
                "PUT",
                "/api/v1/payout-address".to_owned(),
                &*self.provider,
                body,
            ));
        }
        for share in not_shares() {
            let body = json!({
                "fee_bps": share, "signups_open": true, "announcement": null, "reason": reason,
            });
            all.push((
                "PUT",
                "/api/v1/admin/settings".to_owned(),
                &*self.admin,
                body,
            ));
        }
        all
    }

    async fn send(&self, number: usize, wrong: &(&'static str, String, &str, Value)) -> Answer {
        let (method, path, token, body) = wrong;
        let mut request = request(method, path, token, body);
        let key = HeaderValue::try_from(format!("key-{number}")).expect("a key");
        request.headers_mut().insert("idempotency-key", key);
        let version = HeaderValue::from_static("\"v0\"");
        request.headers_mut().insert(header::IF_MATCH, version);
        self.market.test.send(request).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_money_goes_nowhere() {
    let scene = Scene::set().await;
    let db = &scene.market.test.app.db;
    let before = dump(db, &[]).await;
    let all = scene.wrong();
    assert!(all.len() > 200, "{}", all.len());
    for (number, wrong) in all.iter().enumerate() {
        let answer = scene.send(number, wrong).await;
        let problem = answer.json();
        let code = problem["code"].as_str().unwrap_or_default();
        let clear = answer.status == StatusCode::UNPROCESSABLE_ENTITY
            && ["invalid", "amount_out_of_range"].contains(&code)
            && problem["detail"].as_str().is_some_and(|why| why.len() > 5);
        assert!(clear, "{wrong:?}: {answer:?}");
    }
    let after = dump(db, &[]).await;
    assert_eq!(changed(&before, &after), Vec::<String>::new());
    // what is right is taken
    let sum = json!({"amount": "0.000001", "currency": "USDC"});
    let path = format!("/api/v1/admin/disputes/{}/decision", scene.dispute);
    let decided = json!({"refund": sum, "reason": "a test"});
    let right = ("POST", path, &*scene.admin, decided);
    let answer = scene.send(all.len(), &right).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let address = json!({"address": "0x70997970c51812dc3a010c7d01b50e0d17dc79c8"});
    let path = "/api/v1/payout-address".to_owned();
    let right = ("PUT", path, &*scene.provider, address);
    let answer = scene.send(all.len(), &right).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    scene.market.check_books().await;
}
