//! What a provider may rent out: never more than was measured, never less than is rented, counted exactly.

use serde_json::{Value, json};
use system_tests::{MIB, books::check, market::Store, payer::Payer, stage::Stage, wait};

#[tokio::test(flavor = "multi_thread")]
async fn capacity_is_bounded_by_what_is_measured_and_by_what_is_rented() {
    let stage = Stage::set(Store::Sqlite).await;
    let node = stage.node.view().await;
    let path = format!("/nodes/{}", stage.node.id());
    let measured = node["inventory"]["ram_total_bytes"]
        .as_i64()
        .expect("a figure");
    let cpus = node["inventory"]["cpu_count"].as_i64().expect("a figure");
    let most = node["rentable_max"]["ram_bytes"]
        .as_i64()
        .expect("a figure");
    assert!(
        most < measured,
        "the host keeps something: {most} of {measured}"
    );
    let resize = async |ram_bytes: i64, cpu_millis: i64| {
        let body = json!({"rentable": {"ram_bytes": ram_bytes, "cpu_millis": cpu_millis}});
        stage.provider.patch(&path, &body).await
    };
    for (ram_bytes, cpu_millis, pointer) in [
        (most + 1, 1_000, "/rentable/ram_bytes"),
        (measured, 1_000, "/rentable/ram_bytes"),
        (-1, 1_000, "/rentable/ram_bytes"),
        (most, cpus * 1_000 + 1, "/rentable/cpu_millis"),
        (most, -1, "/rentable/cpu_millis"),
    ] {
        let refused = resize(ram_bytes, cpu_millis).await;
        assert_eq!(refused.status, 422, "{}", refused.body);
        assert_eq!(refused.body["errors"][0]["pointer"], pointer);
    }
    resize(1_024 * MIB, 1_000).await.is(200);
    assert_eq!(stage.node.free_ram_bytes().await, 1_024 * MIB);

    let (api, payer) = (stage.market.api(), Payer::new());
    let order = stage.order(&["sleep", "600"], 600);
    let mut rented = Vec::new();
    for count in 1..=3 {
        rented.push(payer.rent(&api, &order).await);
        assert_eq!(
            stage.node.free_ram_bytes().await,
            (1_024 - count * 256) * MIB
        );
    }
    resize(3 * 256 * MIB - 1, 1_000)
        .await
        .refused(409, "capacity_in_use");
    resize(1_024 * MIB, 299)
        .await
        .refused(409, "capacity_in_use");
    resize(3 * 256 * MIB, 300).await.is(200);
    assert_eq!(stage.node.free_ram_bytes().await, 0);
    api.post("/rentals", &order)
        .await
        .refused(409, "capacity_gone");
    let offer = format!("/offers/{}", stage.offer_id);
    wait::until("the offer shows that nothing is free", || async {
        let view = api.get(&offer).await.is(200);
        (view["ram_free_bytes"] == 0).then_some(())
    })
    .await;
    // two thirds of it come back, and more was allowed meanwhile
    resize(2_048 * MIB, 1_000).await.is(200);
    for one in &rented[..2] {
        one.stop().await;
        one.until_settled().await;
    }
    assert_eq!(stage.node.free_ram_bytes().await, (2_048 - 256) * MIB);
    // a node with rentals isn't taken away
    let request = stage.provider.request("DELETE", &path);
    system_tests::api::send(request)
        .await
        .refused(409, "capacity_in_use");
    check(&stage.market);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_is_paused_cordoned_or_somebody_elses_takes_no_rental() {
    let stage = Stage::set(Store::Sqlite).await;
    let api = stage.market.api();
    let order = stage.order(&["true"], 600);
    let offer = format!("/offers/{}", stage.offer_id);
    let node = format!("/nodes/{}", stage.node.id());
    let other = system_tests::people::signup(&stage.market, "other", &["provider"]).await;
    assert_eq!(
        other
            .patch(&offer, &json!({"state": "paused"}))
            .await
            .status,
        404
    );
    assert_eq!(other.get(&node).await.status, 404);
    let theirs =
        json!({"node_id": stage.node.id(), "prices": {"ram_gib_hour": "1", "cpu_hour": "1"}});
    assert_eq!(other.post("/offers", &theirs).await.status, 404);

    stage
        .provider
        .patch(&offer, &json!({"state": "paused"}))
        .await
        .is(200);
    let paused = api.post("/rentals", &order).await;
    assert!([404, 409].contains(&paused.status), "{}", paused.body);
    stage
        .provider
        .patch(&offer, &json!({"state": "active"}))
        .await
        .is(200);
    assert_eq!(api.post("/rentals", &order).await.status, 402);
    stage
        .provider
        .post(&format!("{node}/cordon"), &Value::Null)
        .await
        .is(200);
    api.post("/rentals", &order)
        .await
        .refused(409, "node_cordoned");
    stage
        .provider
        .post(&format!("{node}/uncordon"), &Value::Null)
        .await
        .is(200);
    assert_eq!(api.post("/rentals", &order).await.status, 402);
}
