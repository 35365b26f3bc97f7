//! The market as it is searched: filters, order, pages without gap or repeat, and an index that follows what happens.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use shared::{
    id::OfferId,
    resources::{Finding, FindingStatus, Isolation, IsolationClass},
};

use crate::{
    tasks::market_feed,
    testing::{
        TestApp,
        market::{Market, RAM_BYTES, offer, order, rental_of},
        node::ScriptedNode,
        payer::Payer,
        request,
    },
};

async fn items(test: &TestApp, query: &str) -> Vec<Value> {
    let answer = test.get(&format!("/api/v1/offers?{query}"), "").await;
    assert_eq!(answer.status, 200, "{query}: {answer:?}");
    let items = answer.json()["items"].as_array().cloned();
    items.expect("a list")
}

async fn ids(test: &TestApp, query: &str) -> Vec<String> {
    let items = items(test, query).await;
    items
        .iter()
        .map(|item| item["id"].as_str().expect("an id").to_owned())
        .collect()
}

/// All ids, page by page.
async fn walk(test: &TestApp, query: &str) -> Vec<String> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = test
            .get(&format!("/api/v1/offers?limit=3&{query}{cursor}"), "")
            .await;
        let page = answer.json();
        let items = page["items"].as_array().expect("a list");
        assert!(items.len() <= 3);
        all.extend(
            items
                .iter()
                .map(|item| item["id"].as_str().unwrap_or("").to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

async fn load(test: &TestApp) {
    market_feed::load(&test.app).await.expect("the index loads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_have_no_gap_and_no_repeat_under_equal_prices() {
    let market = Market::open(TestApp::new().await).await;
    let test = &market.test;
    let mut prices = vec!["0.002".to_owned()];
    for price in [
        "0.001", "0.002", "0.002", "0.002", "0.002", "0.003", "0.003",
    ] {
        offer(test, &market.provider, &market.node, price).await;
        prices.push(price.to_owned());
    }
    load(test).await;
    for sort in ["price", "ram", "created"] {
        for order in ["asc", "desc"] {
            let query = format!("sort={sort}&order={order}");
            let walked = walk(test, &query).await;
            let distinct: BTreeSet<&String> = walked.iter().collect();
            assert_eq!((walked.len(), distinct.len()), (8, 8), "{query}");
            assert_eq!(walked, ids(test, &query).await, "{query}");
        }
    }
    let shown = items(test, "sort=price").await;
    let shown = shown
        .iter()
        .map(|item| item["prices"]["ram_gib_hour"].clone());
    let shown: Vec<String> = shown.map(|p| p.as_str().unwrap_or("").to_owned()).collect();
    prices.sort();
    let number = |text: &String| text.parse::<f64>().expect("a price");
    assert_eq!(
        shown.iter().map(number).collect::<Vec<_>>(),
        prices.iter().map(number).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_find_what_they_say() {
    let market = Market::open(TestApp::new().await).await;
    let test = &market.test;
    let mut small = ScriptedNode::enrol(test, &market.provider, 4 << 30).await;
    small.beat(test).await;
    let body = json!({
        "node_id": small.id, "region": "eu-north", "max_duration_seconds": 3_600,
        "prices": {"ram_gib_hour": "0.001", "cpu_hour": "0"},
    });
    let created = test.post("/api/v1/offers", &market.provider, &body).await;
    assert_eq!(created.status, 201, "{created:?}");
    let cheap = created.json()["id"].as_str().expect("an id").to_owned();
    let large = market.offer.to_string();
    load(test).await;
    let both = vec![cheap.clone(), large.clone()];
    let cases: [(&str, Vec<String>); 12] = [
        ("", both.clone()),
        ("order=desc", vec![large.clone(), cheap.clone()]),
        ("ram_gib_min=8", vec![large.clone()]),
        ("ram_gib_max=8", vec![cheap.clone()]),
        ("price_max=0.0015", vec![cheap.clone()]),
        ("price_max=0.0005", vec![]),
        ("region=EU-NORTH", vec![cheap.clone()]),
        ("duration_seconds=7200", vec![large.clone()]),
        ("cpu_min=0.5", both),
        ("gpu_count_min=1", vec![]),
        ("gpu_model=h100", vec![]),
        ("sort=ram&order=desc&currency=USDC", vec![large, cheap]),
    ];
    for (query, expected) in cases {
        assert_eq!(ids(test, query).await, expected, "{query}");
    }
    for bad in [
        "order=up",
        "sort=age",
        "currency=eur",
        "ram_gib_min=-1",
        "colour=red",
        "cursor=x",
    ] {
        let answer = test.get(&format!("/api/v1/offers?{bad}"), "").await;
        assert_eq!(answer.status, 400, "{bad}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_requirement_is_placed_where_the_slice_costs_least() {
    let market = Market::open(TestApp::new().await).await;
    let test = &market.test;
    // cheaper RAM, but dear CPU: of this slice the other one is the cheaper
    let body = json!({
        "node_id": market.node.id, "prices": {"ram_gib_hour": "0.001", "cpu_hour": "1"},
    });
    let created = test.post("/api/v1/offers", &market.provider, &body).await;
    assert_eq!(created.status, 201, "{created:?}");
    load(test).await;
    let mut wanted = order(market.offer, 600);
    wanted["offer_id"] = Value::Null;
    wanted["requirements"] = json!({});
    let bought = Payer::numbered(3)
        .buy(test, "/api/v1/rentals", "", &wanted)
        .await;
    rental_of(&bought);
    assert_eq!(bought.json()["offer_id"], json!(market.offer));
    wanted["requirements"] = json!({"price_max": "0.0001"});
    let refused = test.post("/api/v1/rentals", "", &wanted).await;
    assert_eq!(refused.json()["code"], "capacity_gone", "{refused:?}");
    wanted["offer_id"] = json!(market.offer);
    let refused = test.post("/api/v1/rentals", "", &wanted).await;
    assert_eq!(refused.status, 422, "{refused:?}");
}

/// Waits until the only offer shows this much free memory; 0: no offer shows.
async fn shows(test: &TestApp, ram_free: i64) {
    let seen = async {
        loop {
            let items = items(test, "").await;
            let free = items
                .first()
                .map_or(0, |item| item["ram_free_bytes"].as_i64().unwrap_or(-1));
            if free == ram_free {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let patience = Duration::from_secs(20);
    let seen = tokio::time::timeout(patience, seen).await;
    assert!(
        seen.is_ok(),
        "never {ram_free}: {:?}",
        items(test, "").await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_follows_capacity_prices_and_owners() {
    let test = TestApp::new().await;
    let lifecycle = test.start_tasks();
    let provider = test.signup("provider@example.org", &["provider"]).await;
    let mut node = ScriptedNode::enrol(&test, &provider, 16 << 30).await;
    node.beat(&test).await;
    let id = offer(&test, &provider, &node, "0.002").await;
    let path = format!("/api/v1/nodes/{}", node.id);
    let shown = test.get(&path, &provider).await.json();
    let whole = shown["free"]["ram_bytes"].as_i64().expect("bytes");
    shows(&test, whole).await;
    let mut payer = Payer::numbered(2);
    let bought = payer
        .buy(&test, "/api/v1/rentals", "", &order(id, 600))
        .await;
    let rental = rental_of(&bought);
    shows(&test, whole - RAM_BYTES).await;
    node.beat(&test).await;
    node.fail(rental, "image_not_found");
    node.beat(&test).await;
    shows(&test, whole).await;
    let offer_path = format!("/api/v1/offers/{id}");
    let paused = json!({"state": "paused"});
    let changed = test.send(request("PATCH", &offer_path, &provider, &paused));
    assert_eq!(changed.await.status, 200);
    shows(&test, 0).await;
    let refused = test.post("/api/v1/rentals", "", &order(id, 600)).await;
    assert_eq!(refused.json()["code"], "offer_gone", "{refused:?}");
    let active = json!({"state": "active"});
    let changed = test.send(request("PATCH", &offer_path, &provider, &active));
    assert_eq!(changed.await.status, 200);
    shows(&test, whole).await;
    let cordon = format!("{path}/cordon");
    assert_eq!(
        test.post(&cordon, &provider, &Value::Null).await.status,
        200
    );
    shows(&test, 0).await;
    let uncordon = format!("{path}/uncordon");
    assert_eq!(
        test.post(&uncordon, &provider, &Value::Null).await.status,
        200
    );
    shows(&test, whole).await;
    let deleted = test.send(request("DELETE", &offer_path, &provider, &Value::Null));
    assert_eq!(deleted.await.status, 204);
    shows(&test, 0).await;
    assert_eq!(test.get(&offer_path, "").await.status, 404);
    lifecycle.stop().await.expect("timers stop");
}

fn isolation(class: IsolationClass, network: bool, breach: Option<&str>) -> Isolation {
    Isolation {
        class,
        network,
        breach: breach.map(str::to_owned),
        findings: vec![
            Finding::new(
                "runc_version",
                FindingStatus::Warning,
                "runc is 1.1.5",
                "upgrade",
            ),
            Finding::new("seccomp", FindingStatus::Ok, "filtered", ""),
        ],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nodes_isolation_is_shown_and_searched() {
    let mut market = Market::open(TestApp::new().await).await;
    let unsaid = items(&market.test, "").await;
    assert_eq!(unsaid[0]["isolation"], Value::Null);
    assert_eq!(unsaid[0]["internet"], true);
    let found = async |market: &Market, query: &str| {
        load(&market.test).await;
        ids(&market.test, query).await.len()
    };
    // nobody is taken for more than it says
    assert_eq!(found(&market, "isolation=shared_kernel").await, 0);
    market.node.inventory.isolation = Some(isolation(IsolationClass::Sandbox, true, None));
    market.node.beat(&market.test).await;
    for (query, count) in [
        ("isolation=shared_kernel", 1),
        ("isolation=sandbox", 1),
        ("isolation=vm", 0),
        ("internet=true", 1),
        ("internet=false", 0),
    ] {
        assert_eq!(found(&market, query).await, count, "{query}");
    }
    let shown = items(&market.test, "").await[0]["isolation"].clone();
    assert_eq!(
        (&shown["class"], &shown["network"]),
        (&json!("sandbox"), &json!(true))
    );
    // what is well needs no words
    assert_eq!(
        shown["findings"].as_array().map(Vec::len),
        Some(1),
        "{shown}"
    );
    assert_eq!(shown["findings"][0]["check"], "runc_version");
    let bad = market.test.get("/api/v1/offers?isolation=best", "").await;
    assert_eq!(bad.status, 400, "{bad:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_open_takes_no_rentals_until_it_is_closed_again() {
    let mut market = Market::open(TestApp::new().await).await;
    let body = order(market.offer, 600);
    let breach = "a rental can reach this machine at 192.0.2.2:22";
    market.node.inventory.isolation =
        Some(isolation(IsolationClass::SharedKernel, true, Some(breach)));
    market.node.beat(&market.test).await;
    load(&market.test).await;
    let refused = market.test.post("/api/v1/rentals", "", &body).await;
    assert_eq!(refused.status, 409, "{refused:?}");
    let problem = refused.json();
    assert_eq!(problem["code"], "node_not_isolated");
    assert!(
        problem["detail"]
            .as_str()
            .is_some_and(|text| text.contains(breach)),
        "{problem}"
    );
    assert_eq!(ids(&market.test, "").await.len(), 0, "it isn't found");
    market.node.inventory.isolation = Some(isolation(IsolationClass::SharedKernel, true, None));
    market.node.beat(&market.test).await;
    load(&market.test).await;
    assert_eq!(
        market.test.post("/api/v1/rentals", "", &body).await.status,
        402
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_firewall_only_offers_without_internet_are_rented_and_the_node_is_told() {
    let mut market = Market::open(TestApp::new().await).await;
    let body = json!({
        "node_id": market.node.id, "internet": false, "prices": {"ram_gib_hour": "0.001", "cpu_hour": "0"},
    });
    let created = market
        .test
        .post("/api/v1/offers", &market.provider, &body)
        .await;
    assert_eq!(
        (created.status.as_u16(), &created.json()["internet"]),
        (201, &json!(false)),
        "{created:?}"
    );
    let shut: OfferId = created.json()["id"]
        .as_str()
        .expect("an id")
        .parse()
        .expect("an id");
    market.node.inventory.isolation = Some(isolation(IsolationClass::SharedKernel, false, None));
    market.node.beat(&market.test).await;
    load(&market.test).await;
    assert_eq!(ids(&market.test, "").await, [shut.to_string()]);
    let refused = market
        .test
        .post("/api/v1/rentals", "", &order(market.offer, 600))
        .await;
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["code"]),
        (409, &json!("node_not_isolated"))
    );
    market.offer = shut;
    market.rent(600).await;
    let reply = market.node.beat(&market.test).await;
    let desired = reply.desired;
    let rental = desired.rentals.first().expect("one");
    assert!(!rental.internet);
    assert_eq!(
        rental.isolation,
        Some(IsolationClass::SharedKernel),
        "it was promised that"
    );
}
