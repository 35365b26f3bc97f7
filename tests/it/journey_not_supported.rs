//! What can't be enforced yet is refused, each field by its name, before anything is asked for or paid.

use serde_json::{Value, json};
use system_tests::{
    market::{Market, Store},
    node::Node,
    people,
};

/// A field, a value that asks for something, and the pointer that the refusal names.
fn unsupported() -> [(&'static str, Value, &'static str); 1] {
    [("/ports", json!([{"container": 80}]), "/ports")]
}

fn set(body: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = body.pointer_mut(parent).expect("its parent");
    parent[name] = value;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_field_that_nothing_enforces_is_refused_by_its_pointer() {
    let market = Market::start(Store::Sqlite).await;
    let provider = people::provider(&market).await;
    let node = Node::start(&market, &provider).await;
    let offer = node.offer("3.60", "0.36").await;
    let api = market.api();
    let order = json!({
        "offer_id": offer["id"],
        "resources": {"ram_bytes": 256 << 20, "cpu_millis": 100},
        "duration_seconds": 600,
        "image": "busybox:latest",
    });
    assert_eq!(
        api.post("/rentals", &order).await.status,
        402,
        "as it is it can be paid"
    );
    for (field, value, pointer) in unsupported() {
        let mut asked = order.clone();
        set(&mut asked, field, value);
        let problem = api
            .post("/rentals", &asked)
            .await
            .refused(422, "not_supported");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    // what says "nothing of it" is no request for it
    let mut nothing = order.clone();
    for (field, value) in [
        ("/resources/gpu_count", json!(0)),
        ("/resources/disk_bytes", json!(0)),
        ("/ports", json!([])),
        ("/ssh_keys", json!([])),
        ("/registry_auth", Value::Null),
    ] {
        set(&mut nothing, field, value);
    }
    assert_eq!(api.post("/rentals", &nothing).await.status, 402);
    let mut quote =
        json!({"offer_id": offer["id"], "resources": order["resources"], "duration_seconds": 600});
    // a machine without GPUs doesn't offer any
    quote["resources"]["gpu_count"] = json!(1);
    let problem = api
        .post("/payments/quote", &quote)
        .await
        .refused(422, "invalid");
    assert_eq!(problem["errors"][0]["pointer"], "/resources/gpu_count");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_we_dont_know_is_refused_and_so_is_a_wrong_value() {
    let market = Market::start(Store::Sqlite).await;
    let api = market.api();
    let order = json!({
        "offer_id": "ofr_00000000000000000000000000000001",
        "resources": {"ram_bytes": 256 << 20, "cpu_millis": 100},
        "duration_seconds": 600,
        "image": "busybox:latest",
    });
    assert_eq!(
        api.post("/rentals", &order).await.status,
        404,
        "no such offer"
    );
    for (field, value) in [
        ("/gpu_model", json!("H100")),
        ("/resources/tpu_count", json!(1)),
        ("/privileged", json!(true)),
        ("/duration_seconds", json!(-5)),
        ("/duration_seconds", json!(i64::MAX)),
        ("/resources/ram_bytes", json!(-1)),
        ("/resources/ram_bytes", json!(1)),
        ("/resources/ram_bytes", json!("256MiB")),
        ("/image", json!("")),
        ("/image", json!("../../etc/passwd")),
        ("/registry_auth", json!({"username": "me"})),
        (
            "/registry_auth",
            json!({"username": "a:b", "password": "x"}),
        ),
        ("/env", json!({"A=B": "c"})),
        ("/ssh_keys", json!(["ssh-ed25519 AAAA me"])),
    ] {
        let mut asked = order.clone();
        set(&mut asked, field, value);
        let answer = api.post("/rentals", &asked).await;
        assert_eq!(answer.status, 422, "{field}: {}", answer.body);
        let pointer = answer.body["errors"][0]["pointer"].as_str();
        assert!(
            pointer.is_some_and(|it| it.starts_with('/')),
            "{field}: {}",
            answer.body
        );
    }
}
