//! What is sent, how often, and what a crash may repeat.

use shared::clock::Clock as _;

use super::*;
use crate::testing::on_both_stores;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;

on_both_stores!(
    an_event_arrives_signed_where_its_owner_wants_it,
    what_fails_is_tried_again_for_days,
    a_crash_between_sending_and_writing_repeats_one_id,
    several_coordinators_hand_out_and_send_once,
    what_is_gone_or_fails_for_days_is_switched_off,
    an_endpoint_that_fails_holds_up_nobody,
    old_deliveries_are_forgotten,
);

async fn an_event_arrives_signed_where_its_owner_wants_it(test: TestApp) {
    let (ada, eve) = (
        test.signup("ada@example.org", &[]).await,
        test.signup("eve@example.org", &[]).await,
    );
    let (ada_id, eve_id) = (id_of(&test, &ada).await, id_of(&test, &eve).await);
    let receiver = Receiver::start().await;
    let others = Receiver::start().await;
    let webhook = create(&test, &ada, &receiver.url, &["rental.*"]).await;
    create(&test, &eve, &others.url, &[]).await;
    for (kind, whose) in [
        ("rental.started", ada_id),
        ("node.offline", ada_id),
        ("rental.started", eve_id),
    ] {
        happens(&test, kind, whose).await;
    }
    assert_eq!(hand_out(&test).await["deliveries"], 2);
    assert_eq!(send(&test).await["delivered"], 2);
    let heard = receiver.heard();
    assert_eq!((heard.len(), others.heard().len()), (1, 1));
    let body = heard[0].json();
    assert_eq!(body["type"], "rental.started");
    assert_eq!(body["data"]["payload"]["fact"], "Zoë");
    assert_eq!(body["data"]["id"], heard[0].header("webhook-id"));
    assert_eq!(heard[0].header("content-type"), "application/json");
    assert_eq!(heard[0].header("webhook-timestamp"), "1800000000");
    let secret = webhook["secret"].as_str().expect("a secret");
    assert!(heard[0].is_signed_by(secret));
    assert!(!others.heard()[0].is_signed_by(secret));
    assert!(!others.heard()[0].body.contains(&ada_id.to_string()));
    let listed = deliveries(&test, &ada, &webhook).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (
            listed[0]["state"].as_str(),
            listed[0]["last_attempt"]["status"].as_i64()
        ),
        (Some("delivered"), Some(204))
    );
    // nothing is handed out or sent twice
    assert_eq!(hand_out(&test).await["events"], 0);
    assert_eq!(send(&test).await["turns"], 0);
}

async fn what_fails_is_tried_again_for_days(test: TestApp) {
    let ada = test.signup("ada@example.org", &[]).await;
    let receiver = Receiver::start().await;
    let webhook = create(&test, &ada, &receiver.url, &[]).await;
    happens(&test, "rental.started", id_of(&test, &ada).await).await;
    receiver.answers(&[(500, "no\0pe"), (302, ""), (429, "retry after 7200")]);
    assert_eq!(deliver(&test).await["failed"], 1);
    let listed = deliveries(&test, &ada, &webhook).await;
    assert_eq!(listed[0]["state"], "pending");
    assert_eq!(listed[0]["last_attempt"]["answer"], "no\u{fffd}pe");
    let shown = test.get(&path_of(&webhook), &ada).await.json();
    assert!(shown["failing_since"].is_string());
    // not before its time
    assert_eq!(send(&test).await["turns"], 0);
    test.clock.advance_ms(11_000);
    assert_eq!(send(&test).await["failed"], 1);
    test.clock.advance_ms(6 * MINUTE_MS + 1);
    assert_eq!(send(&test).await["failed"], 1);
    // the receiver's wish is longer than the pause
    test.clock.advance_ms(119 * MINUTE_MS);
    assert_eq!(send(&test).await["turns"], 0);
    test.clock.advance_ms(MINUTE_MS);
    assert_eq!(send(&test).await["delivered"], 1);
    let heard = receiver.heard();
    assert_eq!(heard.len(), 4);
    let secret = webhook["secret"].as_str().expect("a secret");
    for one in &heard {
        assert_eq!(
            (one.header("webhook-id"), &one.body),
            (heard[0].header("webhook-id"), &heard[0].body)
        );
        assert!(one.is_signed_by(secret));
    }
    assert_ne!(
        heard[0].header("webhook-timestamp"),
        heard[3].header("webhook-timestamp")
    );
    let ada = again(&test, "ada@example.org").await;
    let shown = test.get(&path_of(&webhook), &ada).await.json();
    assert!(shown["failing_since"].is_null());

    // given up after ten attempts and three days
    happens(&test, "rental.ended", id_of(&test, &ada).await).await;
    receiver.answers(&[(500, ""); 10]);
    let began = test.clock.now();
    let mut tries = 0;
    while receiver.heard().len() < 4 + 10 {
        tries += 1;
        assert!(tries < 120, "it goes on trying");
        deliver(&test).await;
        test.clock.advance_ms(DAY_MS / 24);
    }
    let took_ms = test.clock.now().ms_since(began);
    let ada = again(&test, "ada@example.org").await;
    let given_up = deliveries(&test, &ada, &webhook).await[0].clone();
    assert_eq!(
        (given_up["state"].as_str(), given_up["attempts"].as_i64()),
        (Some("failed"), Some(10))
    );
    assert!(took_ms > 3 * DAY_MS && took_ms < 5 * DAY_MS, "{took_ms}");
}

async fn a_crash_between_sending_and_writing_repeats_one_id(test: TestApp) {
    let ada = test.signup("ada@example.org", &[]).await;
    let receiver = Receiver::start().await;
    let webhook = create(&test, &ada, &receiver.url, &[]).await;
    happens(&test, "rental.started", id_of(&test, &ada).await).await;
    hand_out(&test).await;
    receiver.script.held.send_replace(true);
    let app = Arc::clone(&test.app);
    let dying = tokio::spawn(async move { WebhookCourier(app).activate().await });
    receiver
        .script
        .count
        .subscribe()
        .wait_for(|count| *count == 1)
        .await
        .expect("it is there");
    dying.abort();
    assert!(dying.await.expect_err("aborted").is_cancelled());
    receiver.script.held.send_replace(false);
    let test = test.restarted();
    // its turn is still leased
    assert_eq!(send(&test).await["turns"], 0);
    test.clock.advance_ms(MINUTE_MS);
    assert_eq!(send(&test).await["delivered"], 1);
    test.clock.advance_ms(DAY_MS);
    assert_eq!(send(&test).await["turns"], 0);
    let heard = receiver.heard();
    assert_eq!(heard.len(), 2);
    assert_eq!(heard[0].header("webhook-id"), heard[1].header("webhook-id"));
    assert_eq!(heard[0].body, heard[1].body);
    let ada = again(&test, "ada@example.org").await;
    assert_eq!(deliveries(&test, &ada, &webhook).await.len(), 1);
}

async fn several_coordinators_hand_out_and_send_once(test: TestApp) {
    let ada = test.signup("ada@example.org", &[]).await;
    let whose = id_of(&test, &ada).await;
    let receiver = Receiver::start().await;
    create(&test, &ada, &receiver.url, &[]).await;
    create(&test, &ada, &receiver.url, &[]).await;
    for _ in 0..110 {
        happens(&test, "rental.started", whose).await;
    }
    let (one, two) = tokio::join!(hand_out(&test), hand_out(&test));
    let made = |report: &Value| report["deliveries"].as_u64().expect("a count");
    assert_eq!(made(&one) + made(&two), 220);
    for _ in 0..20 {
        tokio::join!(send(&test), send(&test));
    }
    let heard = receiver.heard();
    assert_eq!(heard.len(), 220);
    let mut ids: Vec<&str> = heard.iter().map(|one| one.header("webhook-id")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 110);
}

async fn what_is_gone_or_fails_for_days_is_switched_off(test: TestApp) {
    let ada = test.signup("ada@example.org", &[]).await;
    let whose = id_of(&test, &ada).await;
    let (gone, failing, watching) = (
        Receiver::start().await,
        Receiver::start().await,
        Receiver::start().await,
    );
    let gone_hook = create(&test, &ada, &gone.url, &["rental.started"]).await;
    let failing_hook = create(&test, &ada, &failing.url, &["rental.started"]).await;
    create(&test, &ada, &watching.url, &["webhook.disabled"]).await;
    gone.answers(&[(410, "")]);
    failing.answers(&[(500, ""); 50]);
    happens(&test, "rental.started", whose).await;
    deliver(&test).await;
    let state = async |webhook: &Value| {
        let ada = again(&test, "ada@example.org").await;
        let shown = test.get(&path_of(webhook), &ada).await.json();
        (
            shown["state"].as_str().map(str::to_owned),
            shown["disabled_reason"].as_str().map(str::to_owned),
        )
    };
    assert_eq!(
        state(&gone_hook).await,
        (Some("disabled".into()), Some("gone".into()))
    );
    assert_eq!(state(&failing_hook).await, (Some("active".into()), None));
    test.clock.advance_ms(5 * DAY_MS - MINUTE_MS);
    send(&test).await;
    assert_eq!(state(&failing_hook).await.0.as_deref(), Some("active"));
    happens(&test, "rental.started", whose).await;
    test.clock.advance_ms(6 * MINUTE_MS);
    deliver(&test).await;
    assert_eq!(
        state(&failing_hook).await,
        (Some("disabled".into()), Some("failing".into()))
    );
    assert_eq!(gone.heard().len(), 1);
    // the owner is told in the stream, and so by another webhook
    Relay::default()
        .run(&test.app.db, &test.app.events)
        .await
        .expect("relayed");
    deliver(&test).await;
    let told: Vec<Value> = watching
        .heard()
        .iter()
        .map(|one| one.json()["data"]["payload"]["reason"].clone())
        .collect();
    assert_eq!(told, ["gone", "failing"]);
    // nothing is sent there any more, until the owner says so: then also what waited
    let heard = failing.heard().len();
    happens(&test, "rental.started", whose).await;
    test.clock.advance_ms(DAY_MS);
    deliver(&test).await;
    assert_eq!(failing.heard().len(), heard);
    failing.script.answers.lock().expect("unpoisoned").clear();
    let path = path_of(&failing_hook);
    let ada = again(&test, "ada@example.org").await;
    let answer = call(&test, "PATCH", &path, &ada, &json!({ "state": "active" })).await;
    assert_eq!(
        (answer.status, answer.json()["state"].as_str()),
        (StatusCode::OK, Some("active"))
    );
    assert!(send(&test).await["delivered"].as_u64() >= Some(1));
}

async fn an_endpoint_that_fails_holds_up_nobody(test: TestApp) {
    let (ada, eve) = (
        test.signup("ada@example.org", &[]).await,
        test.signup("eve@example.org", &[]).await,
    );
    let (ada_id, eve_id) = (id_of(&test, &ada).await, id_of(&test, &eve).await);
    let (bad, good) = (Receiver::start().await, Receiver::start().await);
    create(&test, &ada, &bad.url, &[]).await;
    create(&test, &eve, &good.url, &[]).await;
    bad.answers(&[(500, ""); 100]);
    for _ in 0..40 {
        happens(&test, "rental.started", ada_id).await;
    }
    happens(&test, "rental.started", eve_id).await;
    deliver(&test).await;
    // one round of four showed that it fails; the other got what it waited for
    assert_eq!((bad.heard().len(), good.heard().len()), (4, 1));
    happens(&test, "rental.started", ada_id).await;
    assert_eq!(deliver(&test).await["turns"], 0);
    test.clock.advance_ms(10 * MINUTE_MS);
    assert_eq!(send(&test).await["failed"], 1);
    // it is back: all that waited arrives
    bad.script.answers.lock().expect("unpoisoned").clear();
    for _ in 0..20 {
        test.clock.advance_ms(10 * MINUTE_MS);
        send(&test).await;
    }
    let mut ids: Vec<String> = bad
        .heard()
        .iter()
        .map(|one| one.header("webhook-id").to_owned())
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), bad.heard().len()), (41, 41 + 5));
}

async fn old_deliveries_are_forgotten(test: TestApp) {
    let ada = test.signup("ada@example.org", &[]).await;
    let whose = id_of(&test, &ada).await;
    let receiver = Receiver::start().await;
    let webhook = create(&test, &ada, &receiver.url, &[]).await;
    let deleted = create(&test, &ada, &receiver.url, &[]).await;
    happens(&test, "rental.started", whose).await;
    deliver(&test).await;
    call(&test, "DELETE", &path_of(&deleted), &ada, &Value::Null).await;
    test.clock.advance_ms(29 * DAY_MS);
    happens(&test, "rental.ended", whose).await;
    assert_eq!(hand_out(&test).await["forgotten"], 0);
    test.clock.advance_ms(2 * DAY_MS);
    let report = hand_out(&test).await;
    // two deliveries, and the endpoint that was deleted
    let ada = again(&test, "ada@example.org").await;
    assert_eq!(report["forgotten"], 3);
    assert_eq!(deliveries(&test, &ada, &webhook).await.len(), 1);
}
