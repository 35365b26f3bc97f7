//! Several networks, each with a facilitator of its own: who is asked about which.

use std::sync::{Arc, Mutex};

use axum::{Router, extract::State, routing::any};
use serde_json::{Value, json};
use shared::{
    money::Asset,
    x402::network::{BASE, BASE_SEPOLIA},
};

use crate::{
    config::{AssetConfig, FacilitatorConfig, PaymentsMode},
    tasks::{Task as _, facilitator::FacilitatorCheck},
    testing::TestApp,
};

type Seen = Arc<Mutex<Vec<String>>>;

/// A facilitator that says what it settles on, and notes what it was asked.
async fn facilitator(network: &'static str) -> (String, Seen) {
    let seen = Seen::default();
    let answer = move |State(seen): State<Seen>, uri: axum::http::Uri| async move {
        seen.lock().expect("no panic").push(uri.path().to_owned());
        let kind = json!({"x402Version": 2, "scheme": "exact", "network": network});
        axum::Json(json!({ "kinds": [kind] }))
    };
    let routes = Router::new()
        .fallback(any(answer))
        .with_state(Arc::clone(&seen));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (url, seen)
}

fn on(network: &str, url: String) -> FacilitatorConfig {
    FacilitatorConfig {
        url,
        networks: vec![network.to_owned()],
        cdp_key_id: None,
        cdp_key_secret: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_network_is_settled_by_its_own_facilitator() {
    let (sepolia, sepolia_seen) = facilitator(BASE_SEPOLIA.caip2).await;
    // this one says that it settles elsewhere
    let (base, base_seen) = facilitator(BASE_SEPOLIA.caip2).await;
    let test = TestApp::with(move |config| {
        let payments = &mut config.payments;
        payments.mode = PaymentsMode::Facilitator;
        payments.pay_to = Some("0x90F79bf6EB2c4f870365E785982E1f101E93b906".into());
        let on_base = AssetConfig {
            network: Some(BASE.caip2.to_owned()),
            ..AssetConfig::of(Asset::EURC)
        };
        payments.assets = vec![AssetConfig::of(Asset::USDC), on_base];
        payments.facilitators = vec![on(BASE_SEPOLIA.caip2, sepolia), on(BASE.caip2, base)];
    })
    .await;
    let payees = &test.app.purchases.payees;
    assert_eq!(payees.assets(), [Asset::USDC, Asset::EURC]);
    let euros = payees.of(Asset::EURC).expect("accepted");
    assert_eq!(
        (euros.network, Some(&euros.token)),
        (&BASE, BASE.token(Asset::EURC))
    );
    let mut task = FacilitatorCheck::new(Arc::clone(&test.app));
    let shown = task.activate().await.expect("asked");
    let said = |network: &str| {
        let all = shown.as_array().expect("a list").iter();
        let mut of = all.filter(|one| one["network"] == network);
        of.next().map(|one| one["supported"].clone())
    };
    assert_eq!(said(BASE_SEPOLIA.caip2), Some(Value::from("yes")));
    assert_eq!(said(BASE.caip2), Some(Value::from("no")), "{shown}");
    for seen in [sepolia_seen, base_seen] {
        assert_eq!(*seen.lock().expect("no panic"), ["/supported"]);
    }
}
