//! An agent that is cut off stops a rental when its lease ends, and no later; the market gives it up, and the rest goes back.

use serde_json::Value;
use shared::time::Timestamp;
use system_tests::{books, market::Store, node::Node, payer::Rented, wait};

use crate::faults_support::{CutLink, Life, Stage, arrivals};

/// How much later than its lease a container may end.
const LATE_MS_MAX: i64 = 1_000;
/// Short leases, and a market that sees soon that a node is silent.
const SETTINGS: [(&str, &str); 3] = [
    ("market.horizon_s", "6"),
    ("market.lease_step_s", "1"),
    ("agents.suspect_after_s", "1"),
];

/// A process that doesn't end when asked to.
fn deaf() -> Value {
    serde_json::json!(["sleep", "3600"])
}

struct Cut {
    stage: Stage,
    link: CutLink,
    rented: Rented,
}

/// A rental that runs on a node that nobody reaches any more, ended by its own agent.
async fn cut_off_until_it_ended() -> (Cut, Life) {
    let mut stage = Stage::new(Store::Sqlite, &SETTINGS).await;
    let link = CutLink::to(stage.market.port());
    let command = stage.node.command(&["run"]);
    stage.node.kill9();
    stage.node.launch_by(link.inside(&command));
    let mut order = stage.order();
    order["command"] = deaf();
    let payer = system_tests::payer::Payer::new();
    let rented = payer.rent(&stage.market.api(), &order).await;
    rented.until("running").await;
    wait::until("its lease was extended", || async {
        let life = stage.witness.life_of(&rented.id).await;
        let end = lease_end(&stage.node, &rented.id)?;
        (end.ms_since(life.started_at) > 9_000).then_some(())
    })
    .await;
    link.cut();
    let life = stage.witness.end_of(&rented.id).await;
    let lease_end = lease_end(&stage.node, &rented.id).expect("a lease");
    let late_ms = life.finished_at.expect("it ended").ms_since(lease_end);
    eprintln!("faults_lease: ended {late_ms} ms after its lease");
    assert!((0..=LATE_MS_MAX).contains(&late_ms), "{late_ms} ms");
    (
        Cut {
            stage,
            link,
            rented,
        },
        life,
    )
}

/// Until when the agent may run a rental, as it keeps it on disk.
fn lease_end(node: &Node, rental_id: &str) -> Option<Timestamp> {
    let text = std::fs::read_to_string(node.data_dir().join("desired.json")).ok()?;
    // the first line is a checksum
    let wish: Value = serde_json::from_str(text.split_once('\n')?.1).expect("JSON");
    let ends = wish["leases"]["ends"].as_array().expect("leases");
    let end = ends.iter().find(|end| end["rental_id"] == rental_id)?;
    let moment = end["end_wall"].as_str().expect("a moment");
    Some(Timestamp::parse_rfc3339(moment).expect("a moment"))
}

#[tokio::test(flavor = "multi_thread")]
async fn back_soon_the_agent_tells_of_the_end_and_all_that_ran_is_billed() {
    let (cut, _) = cut_off_until_it_ended().await;
    cut.link.heal();
    cut.stage.billed_as_docker_says(&cut.rented, 0).await;
    let view = cut.rented.view().await;
    assert_eq!(view["reason"], "node_lost", "{view}");
    cut.stage.nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_up_by_the_market_it_is_billed_as_far_as_it_was_heard_and_never_comes_back() {
    let (cut, life) = cut_off_until_it_ended().await;
    let id = cut.rented.id.as_str();
    let view = cut.rented.until_settled().await;
    assert_eq!(
        (&view["state"], &view["reason"]),
        (&"ended".into(), &"node_lost".into())
    );
    let heard = arrivals(&cut.stage.market, id).await;
    let heard_ms = heard.last().expect("usage").ms_since(life.started_at);
    let billed_ms = view["billed_ms"].as_i64().expect("a figure");
    eprintln!("faults_lease: heard for {heard_ms} ms, billed {billed_ms} ms");
    assert!((billed_ms - heard_ms).abs() <= 1_000, "{view}");
    let split = cut.rented.split().await;
    books::adds_up(&split);
    assert!(books::atomic(&split["refund"]) > 0, "{split}");

    cut.link.heal();
    cut.stage.node.until_online().await;
    cut.stage.nothing_left().await;
    let after = cut.rented.view().await;
    assert_eq!(after["billed_ms"], view["billed_ms"]);
    assert_eq!(
        cut.stage.witness.life_of(id).await,
        life,
        "nothing ran again"
    );
}
