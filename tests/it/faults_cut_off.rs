//! Agent and coordinator can't reach each other for longer than silence is billed: by the link, which costs the provider the rest;
//! or because the coordinator is down, which costs the provider nothing.

use std::time::Duration;

use shared::{
    clock::{Clock as _, SystemClock},
    time::Timestamp,
};
use system_tests::{market::Store, wait};

use crate::faults_support::{Chance, CutLink, Stage, arrivals, is_full, records};

/// How long the outage is, and how much of a silence is billed.
fn outage() -> (Duration, u16) {
    if is_full() {
        (Duration::from_secs(100), 90)
    } else {
        (Duration::from_secs(15), 10)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_link_rentals_go_on_and_silence_is_billed_up_to_the_limit() {
    let (outage, billed_s) = outage();
    eprintln!("faults_cut_off: {outage:?}, of which {billed_s} s are billed");
    let gap_s = billed_s.to_string();
    let mut stage = Stage::new(Store::Sqlite, &[("agents.coverage_gap_s", &gap_s)]).await;
    let link = CutLink::to(stage.market.port());
    let command = stage.node.command(&["run"]);
    stage.node.kill9();
    stage.node.launch_by(link.inside(&command));
    let rentals = [stage.running().await];
    let id = rentals[0].0.id.clone();
    wait::until("some usage arrived", || async {
        (arrivals(&stage.market, &id).await.len() >= 3).then_some(())
    })
    .await;

    link.cut();
    wait::pass(outage).await;
    let while_cut = arrivals(&stage.market, &id).await.len();
    link.heal();
    wait::until("usage arrives again", || async {
        (arrivals(&stage.market, &id).await.len() > while_cut + 3).then_some(())
    })
    .await;
    stage.untouched(&rentals, 0).await;

    let silent_ms = longest_silence_ms(&arrivals(&stage.market, &id).await);
    let outage_ms = i64::try_from(outage.as_millis()).expect("a length");
    assert!(
        silent_ms > outage_ms - 1_000,
        "silent for {silent_ms} ms only"
    );
    eprintln!("faults_cut_off: nothing was heard for {silent_ms} ms");
    let unbilled_ms = (silent_ms - i64::from(billed_s) * 1_000).max(0);
    stage.end(&rentals, unbilled_ms).await;
    assert_dense(&records(&stage.market, stage.node.id()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_coordinator_being_down_rentals_go_on_and_all_is_billed() {
    let (outage, billed_s) = outage();
    eprintln!("faults_cut_off: down for {outage:?}, of silence {billed_s} s are billed");
    let gap_s = billed_s.to_string();
    let mut stage = Stage::new(Store::Sqlite, &[("agents.coverage_gap_s", &gap_s)]).await;
    let rentals = [stage.running().await];
    let id = rentals[0].0.id.clone();
    // kept by its own record, so that it counts as up until then
    let mut chance = Chance::new("faults_cut_off, coordinator down");
    chance.moment(2_500..4_500).await;
    stage.market.kill9();
    let down_from = SystemClock.now();
    wait::pass(outage).await;
    let up_from = SystemClock.now();
    stage.market.restart().await;
    let at_start = arrivals(&stage.market, &id).await.len();
    wait::until("usage arrives again", || async {
        (arrivals(&stage.market, &id).await.len() > at_start + 3).then_some(())
    })
    .await;
    stage.untouched(&rentals, 0).await;
    // silence counts while the coordinator is up: the agent's pause between two tries may be longer than the short limit of the
    // reduced test, and never is longer than the real one
    let heard = arrivals(&stage.market, &id).await;
    let last = heard.iter().rfind(|at| **at <= down_from).expect("usage");
    let first = heard.iter().find(|at| **at > up_from).expect("usage");
    let silent_ms = down_from.ms_since(*last) + first.ms_since(up_from);
    eprintln!("faults_cut_off: {silent_ms} ms of silence while the coordinator was up");
    let unbilled_ms = (silent_ms - i64::from(billed_s) * 1_000).max(0);
    assert!(!is_full() || unbilled_ms == 0, "all is to be billed");
    stage.end(&rentals, unbilled_ms).await;
    assert_dense(&records(&stage.market, stage.node.id()).await);
}

fn longest_silence_ms(arrivals: &[Timestamp]) -> i64 {
    let pairs = arrivals.windows(2).map(|pair| pair[1].ms_since(pair[0]));
    pairs.max().expect("several arrivals")
}

/// Each record is there once: they are numbered without a gap, and a number is the key.
fn assert_dense(seqs: &[i64]) {
    let wanted: Vec<i64> = (1..).take(seqs.len()).collect();
    assert!(seqs.len() > 5, "{seqs:?}");
    assert_eq!(seqs, wanted);
}
