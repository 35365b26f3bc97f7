//! A provider's choice: whom and what a node doesn't serve is refused at the quote and again at the sale, with its reason; the notice of an
//! offer stays with what was rented under it. And what a node is told of private images.

use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::image::{
    Platform,
    rules::{ImageRules, NodeImages},
};

use crate::testing::{
    Answer, TestApp,
    market::{Market, rental_of},
    node::inventory,
    payer::{Payer, paid},
    request,
};

fn refused(answer: &Answer, code: &str) {
    let told = answer.json();
    assert_eq!(
        (answer.status, told["code"].as_str()),
        (StatusCode::CONFLICT, Some(code)),
        "{told}"
    );
}

impl Market {
    async fn block(&self, lists: &Value) -> Answer {
        let path = format!("/api/v1/nodes/{}/blocklists", self.node.id);
        self.test
            .send(request("PUT", &path, &self.provider, lists))
            .await
    }

    pub(crate) async fn change_offer(&self, change: &Value) -> Answer {
        let path = format!("/api/v1/offers/{}", self.offer);
        self.test
            .send(request("PATCH", &path, &self.provider, change))
            .await
    }

    async fn ask(&self, token: &str, order: &Value) -> Answer {
        self.test.post("/api/v1/rentals", token, order).await
    }
}

fn with_image(mut order: Value, image: &str) -> Value {
    order["image"] = json!(image);
    order
}

async fn blocklists_hold_at_the_quote_and_at_the_sale(test: TestApp) {
    let mut market = Market::open(test).await;
    let consumer = market.test.signup("c@example.org", &["consumer"]).await;
    let me = market.test.get("/api/v1/auth/me", &consumer).await.json();
    let order = market.order(600);
    assert_eq!(market.ask(&consumer, &order).await.status, 402);

    let wallet = market.payer.address();
    let lists = json!({"consumers": [me["id"], wallet], "images": ["docker.io/evil/*"], "registries": ["*.example.org"]});
    let blocked = market.block(&lists).await;
    assert_eq!(blocked.status, StatusCode::OK, "{blocked:?}");
    let path = format!("/api/v1/nodes/{}/blocklists", market.node.id);
    let shown = market.test.get(&path, &market.provider).await.json();
    assert_eq!(shown["images"], lists["images"]);
    assert_eq!(shown["consumers"].as_array().map(Vec::len), Some(2));

    // an account, at each place where something is quoted
    refused(&market.ask(&consumer, &order).await, "consumer_not_served");
    let quote =
        json!({"offer_id": market.offer, "resources": order["resources"], "duration_seconds": 600});
    let quoted = market
        .test
        .post("/api/v1/payments/quote", &consumer, &quote)
        .await;
    refused(&quoted, "consumer_not_served");
    // a wallet isn't known before it pays: then it keeps its money
    let sold = market
        .payer
        .buy(&market.test, "/api/v1/rentals", "", &order)
        .await;
    refused(&sold, "consumer_not_served");
    // images by whatever name
    for image in ["evil/miner", "index.docker.io/evil/miner:2"] {
        let answer = market.ask("", &with_image(order.clone(), image)).await;
        refused(&answer, "image_not_allowed");
    }
    let answer = market
        .ask("", &with_image(order.clone(), "r.example.org/x"))
        .await;
    refused(&answer, "registry_not_allowed");

    // blocked between quote and sale
    market.block(&json!({})).await;
    let mut other = Payer::numbered(2);
    let asked = market.ask("", &order).await;
    market
        .block(&json!({"images": ["docker.io/library/busybox"]}))
        .await;
    let signed = other.sign(&asked, &market.test);
    let repeated = paid("/api/v1/rentals", "", &order, &signed.header_v2);
    let sold = market.test.send(repeated).await;
    refused(&sold, "image_not_allowed");
    market.block(&json!({})).await;
    assert_eq!(market.ask(&consumer, &order).await.status, 402);
    market.rent(600).await;
}

async fn lists_are_bounded_and_edited_as_they_were_seen(test: TestApp) {
    let market = Market::open(test).await;
    for bad in [
        json!({"consumers": ["ada"]}),
        json!({"images": ["busybox"]}),
        json!({"images": ["docker.io/A"]}),
        json!({"registries": ["a b"]}),
        json!({"registries": vec!["x.io"; 257]}),
        json!({"others": []}),
    ] {
        let answer = market.block(&bad).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
    let notice = json!({"notice_seconds": 3_600});
    let changed = market.change_offer(&notice).await.json();
    assert_eq!(changed["notice_seconds"], 3_600, "{changed}");
    let bad = market.change_offer(&json!({"notice_seconds": -1})).await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);
}

async fn a_nodes_own_rules_hold_and_notice_stays_with_a_rental(test: TestApp) {
    let mut market = Market::open(test).await;
    let mut seen = inventory(16 << 30);
    let mut rules = ImageRules::default();
    rules
        .denied
        .push("docker.io/evil/*".parse().expect("a pattern"));
    seen.images = Some(NodeImages {
        platform: Platform::here(),
        rules,
        cached: Vec::new(),
        pull_bytes_per_s: Some(1_000_000),
    });
    market.node.inventory = seen;
    market.node.beat(&market.test).await;
    let order = market.order(600);
    let lan = market
        .ask("", &with_image(order.clone(), "192.168.1.1:5000/x"))
        .await;
    refused(&lan, "registry_not_allowed");
    let evil = market.ask("", &with_image(order, "evil/x")).await;
    refused(&evil, "image_not_allowed");

    let changed = market.change_offer(&json!({"notice_seconds": 600})).await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    let id = market.rent(600).await;
    market.change_offer(&json!({"notice_seconds": 0})).await;
    assert_eq!(market.rental(id).await.notice_ms, 600_000);
}

async fn credentials_are_told_until_a_container_is_there_and_never_shown(test: TestApp) {
    let mut market = Market::open(test).await;
    let mut order = market.order(600);
    order["registry_auth"] = json!({"username": "ada", "password": "let-me-pull-4711"});
    let sold = market
        .payer
        .buy(&market.test, "/api/v1/rentals", "", &order)
        .await;
    assert!(!format!("{sold:?}").contains("4711"));
    let id = rental_of(&sold);
    let told = market.node.beat(&market.test).await;
    let [secret] = told.pull_secrets.as_slice() else {
        panic!("{:?}", told.pull_secrets);
    };
    assert_eq!((secret.rental_id, secret.auth.username()), (id, "ada"));
    assert_eq!(secret.auth.password().expose(), "let-me-pull-4711");
    let desired = serde_json::to_string(&told.desired).expect("JSON");
    assert!(!desired.contains("4711"));
    market.node.start(id);
    market.node.beat(&market.test).await;
    let told = market.node.beat(&market.test).await;
    assert!(told.pull_secrets.is_empty());
    assert_eq!(told.desired.rentals.len(), 1);
}

crate::testing::on_both_stores!(
    blocklists_hold_at_the_quote_and_at_the_sale,
    lists_are_bounded_and_edited_as_they_were_seen,
    a_nodes_own_rules_hold_and_notice_stays_with_a_rental,
    credentials_are_told_until_a_container_is_there_and_never_shown,
);
