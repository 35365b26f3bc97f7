//! The engine (with live-restore) is killed at any moment under a running agent: rentals go on, and so does the agent.

use serde_json::Value;
use system_tests::{containers::Engine, market::Store, wait};

use crate::{
    docker_runtime::engine::PrivateEngine,
    faults_support::{Chance, Stage},
};

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_it_takes_no_rental_with_it() {
    let mut chance = Chance::new("faults_docker");
    let mut private = PrivateEngine::start();
    let host = private.address().host();
    let socket = host.strip_prefix("unix://").expect("a socket").to_owned();
    let stage = Stage::on(Engine::at(socket), Store::Sqlite, &[]).await;
    let rentals = [stage.running().await];
    for moment in 0..Chance::moments() {
        chance.moment(0..1_500).await;
        if moment % 2 == 0 {
            private.kill();
            // ordered while there is no engine
            let ordered = stage.rent().await;
            chance.moment(0..1_000).await;
            private.restart();
            ordered.until("running").await;
            stage.untouched(&rentals, 1).await;
            ordered.stop().await;
            stage.billed_as_docker_says(&ordered, 0).await;
        } else {
            // in the middle of a launch
            let launched = stage.rent().await;
            chance.moment(0..400).await;
            private.kill();
            chance.moment(0..1_000).await;
            private.restart();
            // an engine that died while it started a container may never be able to start that one: then nobody pays for it
            let view = wait::until("the launch has an outcome", || async {
                let view = launched.view().await;
                let over = view["state"] == "running" || view["state"] == "ended";
                over.then_some(view)
            })
            .await;
            if view["state"] == "running" {
                stage.untouched(&rentals, 1).await;
                launched.stop().await;
                stage.billed_as_docker_says(&launched, 0).await;
            } else {
                eprintln!("{}: {}", launched.id, view["state_reason"]);
                assert_eq!(view["reason"], "failed_to_start", "{view}");
                let settled = launched.until_settled().await;
                assert_eq!(settled["billed_ms"], 0, "{settled}");
                assert_eq!(settled["refunded"], settled["paid"], "{settled}");
            }
        }
        stage.untouched(&rentals, 0).await;
    }
    stage.end(&rentals, 0).await;
    drop(stage);
    drop(private);
}

/// What the doctor says of the engine on this machine.
fn docker_by_doctor(stage: &Stage) -> Value {
    let mut doctor = stage
        .node
        .command(&["doctor", "--json", "--only", "docker"]);
    let output = doctor.output().expect("it can be started");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    report["findings"][0]["status"].clone()
}

/// Waits until the market sells the node's capacity, or doesn't.
async fn until_sold(stage: &Stage, wanted: bool) {
    let path = format!("/offers/{}", stage.offer_id);
    wait::until("the offer is on the market, or off it", || async {
        let offer = stage.market.api().get(&path).await.is(200);
        (offer["available"] == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_is_away_everybody_is_told_and_when_it_is_back_nobody_need_do_anything() {
    let mut private = PrivateEngine::start();
    let host = private.address().host();
    let socket = host.strip_prefix("unix://").expect("a socket").to_owned();
    let stage = Stage::on(Engine::at(socket), Store::Sqlite, &[]).await;
    let rentals = [stage.running().await];
    assert_eq!(docker_by_doctor(&stage), "ok");

    private.kill();
    assert_eq!(docker_by_doctor(&stage), "failed");
    until_sold(&stage, false).await;
    let api = stage.market.api();
    let problem = api.post("/rentals", &stage.order()).await;
    let problem = problem.refused(409, "capacity_gone");
    let detail = problem["detail"].as_str().expect("a sentence");
    assert!(detail.contains("engine"), "{problem}");
    // what runs is still heard of and paid for
    assert_eq!(rentals[0].0.view().await["state"], "running");

    private.restart();
    until_sold(&stage, true).await;
    assert_eq!(docker_by_doctor(&stage), "ok");
    let second = stage.running().await;
    stage.untouched(&rentals, 1).await;
    let [first] = rentals;
    stage.end(&[first, second], 0).await;
    drop(stage);
    drop(private);
}
