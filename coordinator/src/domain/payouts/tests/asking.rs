//! Asking for money: where it goes, who may, how much, and how often.

use axum::http::StatusCode;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::desk::{
    ONE, amount, ask, at_once, balance, fund, holds, id_of, name_address, person, provider, wallet,
};
use crate::{
    config::KycGate,
    domain::{auth, ledger::model::Account, payouts::model::Kind},
    testing::{Answer, TestApp, on_both_stores, request},
};

on_both_stores!(
    a_change_of_address_waits_two_days,
    the_same_key_asks_once,
    a_day_has_its_limits_however_many_ask_at_once,
    identity_is_proven_first_where_that_is_wanted,
);

const ADDRESS: &str = "/api/v1/payout-address";

async fn put(test: &TestApp, token: &str, address: &str) -> Answer {
    let body = json!({ "address": address });
    test.send(request("PUT", ADDRESS, token, &body)).await
}

async fn keyed(test: &TestApp, path: &str, token: &str, key: &str, atomic: i64) -> Answer {
    let body = json!({"amount": {"amount": amount(atomic), "currency": "USDC"}});
    let mut request = request("POST", path, token, &body);
    let key = key.parse().expect("a header");
    request.headers_mut().insert("idempotency-key", key);
    test.send(request).await
}

async fn a_change_of_address_waits_two_days(test: TestApp) {
    let token = test.signup("provider@example.org", &["provider"]).await;
    let before = test.get(ADDRESS, &token).await;
    assert_eq!(before.json(), json!({}));
    let ours = test.app.payouts.pay_to[0].to_string();
    let zero = format!("0x{:0>40}", 0);
    let wrong = wallet(9)
        .to_string()
        .replacen(['A', 'B', 'C', 'D', 'E', 'F'], "a", 1);
    for bad in ["", "0x12", "nobody", &ours, &zero, &wrong] {
        let answer = put(&test, &token, bad).await;
        let is_refused = [StatusCode::UNPROCESSABLE_ENTITY, StatusCode::BAD_REQUEST];
        assert!(is_refused.contains(&answer.status), "{bad}: {answer:?}");
    }
    let wanted = wallet(9).to_string();
    let asked = put(&test, &token, &wanted.to_lowercase()).await;
    assert_eq!(asked.status, StatusCode::OK, "{asked:?}");
    assert_eq!(asked.json()["wanted"], Value::from(wanted.as_str()));
    assert_eq!(asked.json()["address"], Value::Null);
    let too_early = keyed(&test, "/api/v1/payouts", &token, "a", 2 * ONE).await;
    assert_eq!(too_early.json()["code"], "payout_address_missing");
    let mails = test.mails().await.join("\n");
    assert!(
        mails.contains("payout address") && mails.contains(&wanted),
        "{mails}"
    );
    // the session has ended meanwhile: its person signs in again
    let later = async |days: i64| {
        test.clock.advance_ms(days * 86_400_000);
        let body = json!({"email": "provider@example.org", "password": "a long password"});
        let answer = test.post("/api/v1/auth/login", "", &body).await.json();
        answer["access_token"].as_str().expect("a token").to_owned()
    };
    let token = later(2).await;
    assert_eq!(test.get(ADDRESS, &token).await.json()["address"], wanted);
    // another one is wanted, and kept away
    put(&test, &token, &wallet(8).to_string()).await;
    assert_eq!(test.get(ADDRESS, &token).await.json()["address"], wanted);
    let kept = test.send(request("DELETE", ADDRESS, &token, &Value::Null));
    assert_eq!(kept.await.status, StatusCode::NO_CONTENT);
    let token = later(3).await;
    let now = test.get(ADDRESS, &token).await.json();
    assert_eq!(now, json!({ "address": wanted }));
    // whoever proved long ago who they are doesn't move it
    test.clock.advance_ms(6 * 60_000);
    let stale = put(&test, &token, &wallet(8).to_string()).await;
    assert_eq!(stale.json()["code"], "step_up_required", "{stale:?}");
}

async fn the_same_key_asks_once(test: TestApp) {
    let test = at_once(test, |_| ());
    let token = test.signup("provider@example.org", &["provider"]).await;
    let user = auth::authenticate(&test.app, &token).await.expect("user");
    fund(&test, Account::ProviderAvailable(user.id), 9 * ONE, "money").await;
    put(&test, &token, &wallet(9).to_string()).await;
    let path = "/api/v1/payouts";
    let asked = keyed(&test, path, &token, "one", 4 * ONE).await;
    assert_eq!(asked.status, StatusCode::CREATED, "{asked:?}");
    let repeated = keyed(&test, path, &token, "one", 4 * ONE).await;
    assert_eq!(repeated.json()["id"], asked.json()["id"]);
    let other = keyed(&test, path, &token, "one", 5 * ONE).await;
    assert_eq!(other.json()["code"], "idempotency_key_reused");
    let dust = keyed(&test, path, &token, "two", ONE - 1).await;
    assert_eq!(dust.status, StatusCode::UNPROCESSABLE_ENTITY, "{dust:?}");
    let view = test.get("/api/v1/balance", &token).await.json();
    assert_eq!(view["items"][0]["held"]["amount"], "4.000000", "{view}");
    assert_eq!(view["items"][0]["earned"]["amount"], "5.000000", "{view}");
    let all = test.get(path, &token).await.json();
    assert_eq!(all["items"].as_array().map(Vec::len), Some(1), "{all}");
    let id = asked.json()["id"].as_str().expect("an id").to_owned();
    let stranger = test.signup("stranger@example.org", &["provider"]).await;
    let not_theirs = test.get(&format!("{path}/{id}"), &stranger).await;
    assert_eq!(not_theirs.status, StatusCode::NOT_FOUND);
    holds(&test).await;
}

async fn a_day_has_its_limits_however_many_ask_at_once(test: TestApp) {
    let test = at_once(test, |payouts| {
        payouts.rules.account_daily_max = amount(5 * ONE);
        payouts.rules.market_daily_max = amount(7 * ONE);
    });
    let one = provider(&test, 40 * ONE, wallet(9)).await;
    let asks = join_all((0..10).map(|_| ask(&test, &one, Kind::Earnings, ONE))).await;
    let taken = asks.iter().filter(|asked| asked.is_ok()).count();
    let limited = asks.iter().filter_map(|asked| asked.as_ref().err());
    assert!(
        limited
            .clone()
            .all(|error| ["payout_daily_limit", "busy"].contains(&error.code()))
    );
    assert!(taken <= 5, "{asks:?}");
    // the rest of it, one by one
    for _ in taken..5 {
        ask(&test, &one, Kind::Earnings, ONE)
            .await
            .expect("asked for");
    }
    let other = person(&test, "other@example.org", &["provider"]).await;
    fund(
        &test,
        Account::ProviderAvailable(id_of(&other)),
        9 * ONE,
        "other",
    )
    .await;
    name_address(&test, &other, wallet(8))
        .await
        .expect("an address");
    ask(&test, &other, Kind::Earnings, 2 * ONE)
        .await
        .expect("asked for");
    let refused = ask(&test, &other, Kind::Earnings, ONE).await;
    assert_eq!(
        refused.expect_err("the market's").code(),
        "payout_daily_limit"
    );
    assert_eq!(
        balance(&test, Account::UserHeld(id_of(&other))).await,
        2 * ONE
    );
    holds(&test).await;
    test.clock.advance_ms(86_400_000);
    ask(&test, &other, Kind::Earnings, ONE)
        .await
        .expect("a new day");
}

async fn identity_is_proven_first_where_that_is_wanted(test: TestApp) {
    let test = at_once(test, |payouts| payouts.kyc.gates = vec![KycGate::Payouts]);
    let who = provider(&test, 5 * ONE, wallet(9)).await;
    let refused = ask(&test, &who, Kind::Earnings, 5 * ONE).await;
    assert_eq!(refused.expect_err("no proof").code(), "kyc_required");
    assert_eq!(test.app.payouts.pay_earnings().await.expect("a round"), 0);
    holds(&test).await;
}
