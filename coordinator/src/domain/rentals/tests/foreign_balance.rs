//! Rentals that are paid from a balance in another currency than their price: bought, extended, extended by themselves, on paper and in
//! the books. One euro is 1.25 dollars, and 256 MiB for an hour are 500 units of a dollar: 400 of a euro.

use serde_json::{Value, json};
use shared::{
    clock::Clock as _,
    id::RentalId,
    money::{Amount, Asset},
};

use super::{
    currencies::{euros, signed_in_euros},
    payments::{RENT, count},
};
use crate::{
    books::watch,
    domain::rentals::model::{EndReason, State},
    params,
    store::Tx,
    tasks::{Task as _, spending::Spending},
    testing::{
        Answer, TestApp,
        market::{Market, rental_of},
        payer::paid,
        request,
    },
};

/// A case on both databases, on a market that takes both currencies.
macro_rules! on_both_stores_with_euros {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::TestApp::with(super::euros).await).await;
            })+
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::TestApp::on_postgres_with(super::euros).await).await;
            })+
        }
    };
}

on_both_stores_with_euros!(
    a_balance_in_euros_buys_what_is_priced_in_dollars,
    it_extends_itself_in_the_currency_that_it_was_bought_with,
    papers_name_the_rate,
    a_torn_exchange_is_found_by_the_next_pass,
);

async fn rates(market: &Market) {
    let rates = &market.test.app.purchases.rates;
    let now = market.test.clock.now();
    rates.refresh(now).await.expect("the settings' rates");
}

async fn keyed(
    market: &Market,
    path: &str,
    token: &str,
    body: &Value,
    key: &'static str,
) -> Answer {
    let mut request = request("POST", path, token, body);
    let key = axum::http::HeaderValue::from_static(key);
    request.headers_mut().insert("idempotency-key", key);
    market.test.send(request).await
}

async fn fill(market: &Market, token: &str, amount: &str, currency: &str, key: &'static str) {
    let money = json!({"amount": {"amount": amount, "currency": currency}, "source": "sandbox"});
    let filled = keyed(market, "/api/v1/balance/topups", token, &money, key).await;
    assert_eq!(filled.status, 201, "{filled:?}");
}

/// What a person has to spend: dollars and euros, in units.
async fn balances(market: &Market, token: &str) -> [i64; 2] {
    let answer = market.test.get("/api/v1/balance", token).await.json();
    let of = |at: usize| -> i64 {
        let text = answer["items"][at]["available"]["amount"].as_str();
        let amount: Amount = text.expect("an amount").parse().expect("an amount");
        amount.atomic()
    };
    [of(0), of(1)]
}

/// Signs in again: a token is good for minutes.
async fn again(market: &Market) -> String {
    let login = json!({"email": "ada@example.org", "password": "a long password"});
    let login = market.test.post("/api/v1/auth/login", "", &login).await;
    let token = login.json()["access_token"].as_str().map(str::to_owned);
    token.unwrap_or_else(|| panic!("{login:?}"))
}

fn in_euros(market: &Market, seconds: i64) -> Value {
    let mut order = market.order(seconds);
    order["pay_with"] = json!("balance");
    order["currency"] = json!("EURC");
    order
}

async fn starts(market: &mut Market, id: RentalId) {
    market.node.beat(&market.test).await;
    market.node.start(id);
    market.node.beat(&market.test).await;
}

async fn a_balance_in_euros_buys_what_is_priced_in_dollars(test: TestApp) {
    let mut market = Market::open(test).await;
    let ada = market.test.signup("ada@example.org", &["consumer"]).await;
    fill(&market, &ada, "0.001000", "EURC", "fill").await;
    let mut order = in_euros(&market, 3_600);
    order["max_spend"] = json!({"amount": "0.000600", "currency": "USDC"});
    // without a rate nothing is bought, and nothing is written
    let rows = "SELECT (SELECT COUNT(*) FROM rentals) + (SELECT COUNT(*) FROM transfers) + (SELECT COUNT(*) FROM exchanges)
                + (SELECT COUNT(*) FROM idempotency_keys) + (SELECT COUNT(*) FROM events)";
    let before = count(&market, rows).await;
    let refused = keyed(&market, RENT, &ada, &order, "rent").await;
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["code"]),
        (409, &json!("no_exchange_rate")),
        "{refused:?}"
    );
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(count(&market, rows).await, before);
    rates(&market).await;
    let id = rental_of(&keyed(&market, RENT, &ada, &order, "rent").await);
    assert_eq!(balances(&market, &ada).await, [0, 600]);
    // the same again is the same, though the rate is gone by now
    market.test.clock.advance_ms(700_000);
    market.node.beat(&market.test).await;
    let ada = again(&market).await;
    assert_eq!(
        rental_of(&keyed(&market, RENT, &ada, &order, "rent").await),
        id
    );
    rates(&market).await;
    let rental = market.rental(id).await;
    assert_eq!(
        (rental.asset, rental.balance_asset, rental.paid.atomic()),
        (Asset::USDC, Asset::EURC, 500)
    );
    assert_eq!(
        market.test.get(&format!("{RENT}/{id}"), &ada).await.json()["balance_currency"],
        "EURC"
    );
    starts(&mut market, id).await;
    // more time, in the same currency unless another is named; max_spend counts in the price's
    let path = format!("{RENT}/{id}/extend");
    let more = json!({"duration_seconds": 360, "pay_with": "balance"});
    for _ in 0..2 {
        rental_of(&keyed(&market, &path, &ada, &more, "more").await);
        assert_eq!(balances(&market, &ada).await, [0, 560]);
    }
    let too_much = json!({"duration_seconds": 3_600, "pay_with": "balance"});
    let refused = keyed(&market, &path, &ada, &too_much, "too-much").await;
    assert_eq!(refused.status, 422, "{refused:?}");
    fill(&market, &ada, "0.000050", "USDC", "dollars").await;
    let dollars = json!({"duration_seconds": 360, "pay_with": "balance", "currency": "USDC"});
    rental_of(&keyed(&market, &path, &ada, &dollars, "dollars").await);
    assert_eq!(balances(&market, &ada).await, [0, 560]);
    refusals(&market, &ada).await;
    for (sql, expected) in [
        ("SELECT COUNT(*) FROM exchanges", 2),
        ("SELECT CAST(SUM(paid) AS BIGINT) FROM exchanges", 440),
        ("SELECT CAST(SUM(given) AS BIGINT) FROM exchanges", 550),
        (
            "SELECT balance FROM accounts WHERE id = 'EURC/external:exchange'",
            440,
        ),
        (
            "SELECT balance FROM accounts WHERE id = 'USDC/external:exchange'",
            -550,
        ),
    ] {
        assert_eq!(count(&market, sql).await, expected, "{sql}");
    }
    // what it costs is told in the currency that it draws on
    let balance = market.test.get("/api/v1/balance", &ada).await.json();
    let burn = |at: usize| balance["items"][at]["burn_rate_per_hour"]["amount"].clone();
    assert_eq!([burn(0), burn(1)], ["0.000000", "0.000400"], "{balance}");
    market.check_books().await;
}

/// What can't be bought so.
async fn refusals(market: &Market, ada: &str) {
    let mut unknown = in_euros(market, 60);
    unknown["currency"] = json!("GBPX");
    let mut by_wallet = in_euros(market, 60);
    by_wallet["pay_with"] = json!("x402");
    for (order, key) in [(unknown, "unknown"), (by_wallet, "by-wallet")] {
        let refused = keyed(market, RENT, ada, &order, key).await;
        assert_eq!(refused.status, 422, "{refused:?}");
        assert_eq!(refused.json()["errors"][0]["pointer"], "/currency");
    }
    let much = in_euros(market, 86_400);
    let refused = keyed(market, RENT, ada, &much, "much").await;
    assert_eq!(refused.json()["code"], "insufficient_funds", "{refused:?}");
    let said = refused.json()["detail"].to_string();
    assert!(said.contains("0.009600 EURC"), "{said}");
}

/// Time passes, rates are known of it, and each 30 s what runs out is looked at.
async fn pass(market: &mut Market, seconds: i64, with_rates: bool) {
    for _ in 0..seconds / 30 {
        if with_rates {
            rates(market).await;
        }
        market.pass(30_000).await;
        let app = std::sync::Arc::clone(&market.test.app);
        let looked = Spending(app).activate().await.expect("it looks");
        assert_eq!(looked["failed"], 0, "{looked}");
    }
}

async fn it_extends_itself_in_the_currency_that_it_was_bought_with(test: TestApp) {
    let mut market = Market::open(test).await;
    rates(&market).await;
    let ada = market.test.signup("ada@example.org", &["consumer"]).await;
    // 500 units of a euro are 625 of a dollar; the dollars beside them aren't touched
    fill(&market, &ada, "0.000500", "EURC", "euros").await;
    fill(&market, &ada, "0.005000", "USDC", "dollars").await;
    let mut order = in_euros(&market, 600);
    order["auto_extend"] = json!(true);
    let id = rental_of(&keyed(&market, RENT, &ada, &order, "rent").await);
    starts(&mut market, id).await;
    pass(&mut market, 1_200, true).await;
    let rental = market.rental(id).await;
    assert!(rental.duration_ms >= 1_800_000, "{rental:?}");
    let paid_in_euros = count(&market, "SELECT CAST(SUM(paid) AS BIGINT) FROM exchanges").await;
    assert_eq!(
        count(&market, "SELECT CAST(SUM(given) AS BIGINT) FROM exchanges").await,
        rental.paid.atomic()
    );
    let ada = again(&market).await;
    assert_eq!(balances(&market, &ada).await, [5_000, 500 - paid_in_euros]);
    market.check_books().await;
    // without a rate it ends, and it is said why
    pass(&mut market, 1_800, false).await;
    let read = market.test.app.db.read("test.told", |tx| {
        let sql = "SELECT payload FROM events WHERE kind = 'rental.out_of_funds'";
        Ok(tx.query(sql, params![])?[0].text(0)?.to_owned())
    });
    let told = read.await.expect("it was told");
    assert!(told.contains("\"exchange_rate\""), "{told}");
    let ended = market.rental(id).await;
    assert_eq!(ended.state, State::Ended, "{ended:?}");
    assert_eq!(ended.end_reason, Some(EndReason::OutOfFunds));
    market.settle().await;
    market.check_books().await;
}

async fn papers_name_the_rate(test: TestApp) {
    let mut market = Market::open(test).await;
    rates(&market).await;
    let ada = market.test.signup("ada@example.org", &["consumer"]).await;
    fill(&market, &ada, "0.001000", "EURC", "fill").await;
    // by x402 in euros, then more time from the balance in euros
    let order = market.order(300);
    let asked = market.test.post(RENT, &ada, &order).await;
    let signed = signed_in_euros(&asked, &market, 1);
    let id = rental_of(
        &market
            .test
            .send(paid(RENT, &ada, &order, &signed.header_v2))
            .await,
    );
    starts(&mut market, id).await;
    let more = json!({"duration_seconds": 60, "pay_with": "balance", "currency": "EURC"});
    let path = format!("{RENT}/{id}/extend");
    rental_of(&keyed(&market, &path, &ada, &more, "more").await);
    market.pass(400_000).await;
    market.settle().await;
    let path = format!("{RENT}/{id}/invoice");
    let invoice = market.test.get(&path, &ada).await.json();
    let rental = market.rental(id).await;
    assert_eq!(invoice["total"]["amount"], rental.charged.to_string());
    let exchanges = invoice["exchanges"].as_array().expect("a list").clone();
    assert_eq!(exchanges.len(), 2, "{invoice}");
    // 41.7 units of a dollar rounded up to 42 are 33.6, rounded up to 34
    for (at, paid, price) in [(0, "0.000034", "0.000042"), (1, "0.000007", "0.000008")] {
        let one = &exchanges[at];
        assert_eq!(
            one["paid"],
            json!({"amount": paid, "currency": "EURC"}),
            "{one}"
        );
        assert_eq!(
            one["price"],
            json!({"amount": price, "currency": "USDC"}),
            "{one}"
        );
        assert_eq!(
            (&one["rate"], &one["rate_source"], &one["payments"]),
            (&json!("0.80000000"), &json!("settings"), &json!(1))
        );
        assert!(one["rate_at"].is_string() && one["at"].is_string(), "{one}");
    }
    assert_eq!(rental.paid.atomic(), 50);
    let rate_at = exchanges[1]["rate_at"].as_str().expect("a moment");
    let words = format!("0.000007 EURC for 0.000008 USDC, at 0.80000000 (settings, {rate_at})");
    let id_of = invoice["id"].as_str().expect("an id");
    let text = async |path: &str, token: &str| {
        let answer = market.test.get(path, token).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        String::from_utf8(answer.body.to_vec()).expect("text")
    };
    let csv = text(&format!("/api/v1/invoices/{id_of}?format=csv"), &ada).await;
    let cells =
        format!("USDC,0.000008,0.000007,EURC,0.000008,USDC,0.80000000,settings,{rate_at}\r\n");
    assert!(csv.contains(&cells), "{csv}");
    let page = text(&format!("/invoices/{id_of}"), &ada).await;
    assert!(page.contains(&words), "{page}");
    // so does the statement, line by line
    let lines = text("/api/v1/statements/2027-01/transfers", &ada).await;
    assert!(lines.contains("\"rate\":\"0.80000000\""), "{lines}");
    let csv = text("/api/v1/statements?month=2027-01&format=csv", &ada).await;
    let cells = format!("-0.000007,0.000007,EURC,0.000008,USDC,0.80000000,settings,{rate_at}\r\n");
    assert!(csv.contains(&cells), "{csv}");
    assert!(text("/statements/2027-01", &ada).await.contains(&words));
    // whose machine it was isn't told what it was paid with
    let provider = market.provider.clone();
    let earned = text(&format!("/api/v1/invoices/{id_of}"), &provider).await;
    let earned: Value = serde_json::from_str(&earned).expect("JSON");
    assert!(earned["exchanges"].is_null(), "{earned}");
    // and nothing of it changes with the rates
    market.test.clock.advance_ms(100_000);
    rates(&market).await;
    assert_eq!(market.test.get(&path, &ada).await.json(), invoice);
    market.check_books().await;
}

/// Lets rows of the books be tampered with.
async fn unlock(market: &Market) {
    let is_sqlite = format!("{:?}", market.test.app.db).contains("sqlite");
    let statements = if is_sqlite {
        [
            "DROP TRIGGER transfers_no_delete",
            "DROP TRIGGER exchanges_no_delete",
        ]
    } else {
        [
            "DROP TRIGGER transfers_no_change ON transfers",
            "DROP TRIGGER exchanges_kept ON exchanges",
        ]
    };
    for sql in statements {
        let drop = move |tx: &mut dyn Tx| Ok(tx.execute(sql, params![])?);
        market
            .test
            .app
            .db
            .write("test.unlock", drop)
            .await
            .expect(sql);
    }
}

async fn a_torn_exchange_is_found_by_the_next_pass(test: TestApp) {
    let mut market = Market::open(test).await;
    rates(&market).await;
    let ada = market.test.signup("ada@example.org", &["consumer"]).await;
    fill(&market, &ada, "0.001000", "EURC", "fill").await;
    let pass = async |market: &Market| {
        let passed = watch::pass(&market.test.app.db, market.test.clock.now()).await;
        let findings = passed.expect("a pass").findings;
        let i7 = findings.into_iter().find(|found| found.invariant == "I7");
        i7.map(|found| found.broken).unwrap_or_default()
    };
    unlock(&market).await;
    for (at, sql) in [
        "DELETE FROM transfers WHERE code = 'exchange' AND created_at = (SELECT MAX(created_at) FROM transfers)",
        "DELETE FROM transfers WHERE code = 'balance_purchase' AND created_at = (SELECT MAX(created_at) FROM transfers)",
        "DELETE FROM exchanges WHERE created_at = (SELECT MAX(created_at) FROM exchanges)",
    ]
    .into_iter()
    .enumerate()
    {
        let keys = ["one", "two", "three"];
        let order = in_euros(&market, 60);
        rental_of(&keyed(&market, RENT, &ada, &order, keys[at]).await);
        market.test.clock.advance_ms(1);
        assert_eq!(pass(&market).await, Vec::<String>::new());
        let tear = move |tx: &mut dyn Tx| Ok(tx.execute(sql, params![])?);
        let torn = market.test.app.db.write("test.tear", tear).await;
        assert_eq!(torn.expect(sql), 1, "{sql}");
        // the pass looks at the last minute again, and no further
        let broken = pass(&market).await;
        assert!(!broken.is_empty(), "{sql}");
        market.test.clock.advance_ms(200_000);
        market.node.beat(&market.test).await;
        pass(&market).await;
        market.test.clock.advance_ms(100_000);
        market.node.beat(&market.test).await;
        rates(&market).await;
        assert_eq!(pass(&market).await, Vec::<String>::new(), "{sql}: long ago");
    }
}
