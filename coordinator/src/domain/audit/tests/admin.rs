//! The administrators' view, and what the slices record.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::{
    context::Role,
    domain::{
        audit::settings,
        auth::{self, model::Email},
    },
    store::Tx,
    testing::{TestApp, market::Market, on_both_stores},
};

on_both_stores!(
    administrators_see_it_by_each_filter,
    settings_are_recorded_when_they_change,
    sign_ins_are_recorded_failed_ones_too,
);

const PATH: &str = "/api/v1/admin/audit";

async fn admin(test: &TestApp) -> String {
    let token = test.signup("root@example.org", &[]).await;
    let ctx = test.app.task_context("test");
    let body = move |tx: &mut dyn Tx| {
        auth::grant(tx, &ctx, &Email::parse("root@example.org")?, Role::Admin)
    };
    test.app
        .db
        .write("test.grant", body)
        .await
        .expect("granted");
    token
}

async fn items(test: &TestApp, token: &str, query: &str) -> Vec<Value> {
    let answer = test.get(&format!("{PATH}?{query}"), token).await;
    assert_eq!(answer.status, StatusCode::OK, "{query}: {answer:?}");
    answer.json()["items"].as_array().expect("items").clone()
}

async fn administrators_see_it_by_each_filter(test: TestApp) {
    let market = Market::open(test).await;
    let test = &market.test;
    let token = admin(test).await;
    let offer = json!({"region": "eu"});
    let path = format!("/api/v1/offers/{}", market.offer);
    let request = crate::testing::request("PATCH", &path, &market.provider, &offer);
    assert_eq!(test.send(request).await.status, StatusCode::OK);
    for verb in ["cordon", "uncordon"] {
        let path = format!("/api/v1/nodes/{}/{verb}", market.node.id);
        let answer = test.post(&path, &market.provider, &Value::Null).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    // who may look
    assert_eq!(test.get(PATH, "").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        test.get(PATH, &market.provider).await.status,
        StatusCode::FORBIDDEN
    );
    // everything, newest first, in pages of two
    let all = items(test, &token, "limit=100").await;
    let seqs: Vec<i64> = all
        .iter()
        .map(|it| it["seq"].as_i64().expect("seq"))
        .collect();
    let mut dense: Vec<i64> = (1..=i64::try_from(all.len()).expect("few")).collect();
    dense.reverse();
    assert_eq!(seqs, dense);
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = test
            .get(&format!("{PATH}?limit=2{cursor}"), &token)
            .await
            .json();
        paged.extend(answer["items"].as_array().expect("items").clone());
        match answer["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(paged, all);
    // by each filter
    let actions = |found: &[Value]| -> Vec<String> {
        found
            .iter()
            .map(|it| it["action"].as_str().expect("text").to_owned())
            .collect()
    };
    let of_offer = items(test, &token, &format!("object={}", market.offer)).await;
    assert_eq!(actions(&of_offer), ["offer.changed", "offer.created"]);
    assert_eq!(of_offer[0]["after"]["region"], "eu");
    assert_ne!(of_offer[0]["before"]["region"], "eu");
    let of_node = items(
        test,
        &token,
        &format!("object={}&action=node.scheduled", market.node.id),
    )
    .await;
    assert_eq!(of_node.len(), 2);
    assert_eq!(of_node[1]["after"], json!({"schedulability": "cordoned"}));
    let owner = of_node[0]["actor"].as_str().expect("text").to_owned();
    assert!(
        of_node[0]["via"]
            .as_str()
            .expect("text")
            .starts_with("ses_")
    );
    let by_owner = items(test, &token, &format!("actor={owner}")).await;
    assert!(by_owner.len() >= 5 && by_owner.iter().all(|it| it["actor"] == owner.as_str()));
    assert_eq!(
        actions(&items(test, &token, "action=role.granted").await),
        ["role.granted"]
    );
    assert!(!items(test, &token, "action=node.enrolled").await.is_empty());
    assert_eq!(
        items(test, &token, "from=2999-01-01T00:00:00Z").await,
        Vec::<Value>::new()
    );
    assert_eq!(
        items(test, &token, "limit=100&to=2999-01-01T00:00:00Z").await,
        all
    );
    assert_eq!(
        items(test, &token, "to=1999-01-01T00:00:00Z").await,
        Vec::<Value>::new()
    );
    let odd = test.get(&format!("{PATH}?who=me"), &token).await;
    assert_eq!(odd.status, StatusCode::BAD_REQUEST);
}

async fn settings_are_recorded_when_they_change(test: TestApp) {
    let token = admin(&test).await;
    let note = |fee_bps| {
        let mut config = test.app.config.clone();
        config.market.fee_bps = fee_bps;
        let ctx = test.app.task_context("start");
        let body = move |tx: &mut dyn Tx| settings::note(tx, &ctx, &config);
        test.app.db.write("test.settings", body)
    };
    for fee_bps in [500, 500, 700, 700] {
        note(fee_bps).await.expect("noted");
    }
    let found = items(&test, &token, "action=settings.changed").await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0]["before"], json!({"market.fee_bps": 500}));
    assert_eq!(found[0]["after"], json!({"market.fee_bps": 700}));
    assert!(!format!("{found:?}").contains(crate::testing::CRON_TOKEN));
}

async fn sign_ins_are_recorded_failed_ones_too(test: TestApp) {
    let admin = admin(&test).await;
    let recorded = async |action: &str| items(&test, &admin, &format!("action={action}")).await;
    let begun = recorded("session.begun").await.len();
    for (password, status) in [
        ("not that password", StatusCode::UNAUTHORIZED),
        ("a long password", StatusCode::OK),
    ] {
        let body = json!({"email": "root@example.org", "password": password});
        let answer = test.post("/api/v1/auth/login", "", &body).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    let failed = recorded("login.failed").await;
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0]["at"].is_string() && failed[0]["request_id"].is_string());
    assert!(!failed[0].to_string().contains("not that password"));
    assert_eq!(recorded("session.begun").await.len(), begun + 1);
}
