//! The engine (with live-restore) is killed at any moment under a running agent: rentals go on, and so does the agent.

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
