//! Money over time: an hour that comes out to the unit, and random lives whose windows and splits always add up.

#![expect(clippy::arithmetic_side_effects, reason = "tests count small numbers")]

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use shared::{id::RentalId, wire::observed::ExitCause};

use super::*;
use crate::testing::{TestApp, market::Market, on_both_stores};

on_both_stores!(
    a_quarter_of_a_gib_for_an_hour_costs_500_units,
    random_lives_add_up
);

async fn a_quarter_of_a_gib_for_an_hour_costs_500_units(test: TestApp) {
    let mut market = Market::open(test).await;
    let id = market.run(3_600).await;
    market.pass(3_600_000).await;
    // the paid time is over: it was told to stop, and did
    market.pass(10_000).await;
    market.settle().await;
    market.check_books().await;
    let rental = market.rental(id).await;
    assert_eq!(rental.state, State::Ended, "{rental:?}");
    let split = split(&rental, &Parts::default()).expect("it adds up");
    let units = [
        split.paid,
        split.provider,
        split.fee,
        split.refund,
        split.escrow,
    ];
    assert_eq!(units.map(Amount::atomic), [500, 475, 25, 0, 0]);
    assert_eq!(
        (rental.billed_ms, rental.charged.atomic()),
        (3_600_000, 500)
    );
    let windows = market.windows(id).await;
    assert!(windows.len() >= 60, "{} windows", windows.len());
}

#[derive(Debug, Clone, Copy)]
enum Turn {
    Beat(u8),
    CutOff(u16),
    Down(u16),
    Reboot,
    RestartAgent,
    Settle,
    End,
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        6 => (1..30_u8).prop_map(Turn::Beat),
        2 => (1..400_u16).prop_map(Turn::CutOff),
        2 => (1..400_u16).prop_map(Turn::Down),
        1 => Just(Turn::Reboot),
        1 => Just(Turn::RestartAgent),
        2 => Just(Turn::Settle),
        1 => Just(Turn::End),
    ]
}

async fn take(mut market: Market, id: RentalId, turn: Turn) -> Market {
    match turn {
        Turn::Beat(beats) => market.pass(i64::from(beats) * 5_000 + 137).await,
        Turn::CutOff(seconds) => market.cut_off(i64::from(seconds) * 1_000 + 11).await,
        Turn::Down(seconds) => {
            market = market.coordinator_down(i64::from(seconds) * 1_000).await;
        }
        Turn::Reboot => market.node.reboot(),
        Turn::RestartAgent => market.node.restart_agent(),
        Turn::Settle => market.settle().await,
        Turn::End => {
            let containers = &market.node.containers;
            let runs = containers.get(&id).is_some_and(|container| {
                container.seen.phase == shared::wire::observed::Phase::Running
            });
            if runs {
                market.node.finish(id, 0, ExitCause::Itself);
            }
        }
    }
    market
}

/// Windows meet, add up to what was billed, and no more is billed than time went by.
async fn adds_up(market: &Market, id: RentalId) {
    market.check_books().await;
    let rental = market.rental(id).await;
    let windows = market.windows(id).await;
    for pair in windows.windows(2) {
        assert_eq!(pair[0].span.end, pair[1].span.start);
    }
    let billed: i64 = windows.iter().map(|window| window.billable_ms).sum();
    assert_eq!(billed, rental.billed_ms);
    let charged: i64 = windows.iter().map(|window| window.amount.atomic()).sum();
    assert_eq!(charged, rental.charged.atomic());
    let exact = rental.rate.charge_for_ms(billed).expect("it fits");
    assert_eq!(rental.charged, exact.min(rental.paid));
    assert!(billed <= crate::testing::market::running_ms(&market.test, &rental));
    assert!(billed <= market.covered_ms().await);
    assert!(billed <= rental.duration_ms);
    let split = split(&rental, &Parts::default()).expect("it adds up");
    let parts = [split.provider, split.fee, split.refund, split.escrow];
    let sum: i64 = parts.iter().map(|part| part.atomic()).sum();
    assert_eq!(sum, split.paid.atomic());
}

async fn random_lives_add_up(test: TestApp) {
    let mut market = Market::open(test).await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..5 {
        let turns = proptest::collection::vec(turn(), 3..9)
            .new_tree(&mut runner)
            .expect("turns")
            .current();
        market.node.beat(&market.test).await;
        let id = market.run(1_800).await;
        for turn in turns {
            market = take(market, id, turn).await;
            adds_up(&market, id).await;
        }
        market.pass(2_000_000).await;
        market.settle().await;
        adds_up(&market, id).await;
        let rental = market.rental(id).await;
        assert!(rental.settled_at.is_some(), "{rental:?}");
        assert_eq!(
            split(&rental, &Parts::default())
                .expect("it adds up")
                .escrow,
            Amount::ZERO
        );
    }
}
