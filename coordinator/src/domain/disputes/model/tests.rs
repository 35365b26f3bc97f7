//! The states of a dispute, statements, and who bears what.

#![expect(clippy::arithmetic_side_effects, reason = "tests count small numbers")]
use proptest::prelude::*;

use super::*;

#[test]
fn each_state_takes_what_it_may_and_nothing_else() {
    use Happening::{Decide, Report, Say};
    for (state, happening, next) in [
        (State::Open, Report, Some(State::Open)),
        (State::Open, Say, Some(State::Open)),
        (State::Open, Decide, Some(State::Decided)),
        (State::Decided, Report, None),
        (State::Decided, Say, None),
        (State::Decided, Decide, None),
    ] {
        let came = state.next(happening);
        assert_eq!(came.ok(), next, "{state:?} {happening:?}");
    }
}

#[test]
fn names_lead_back() {
    for reason in Reason::ALL {
        assert_eq!(Reason::from_name(reason.name()), Some(reason));
    }
    assert_eq!(Reason::from_name("bored"), None);
}

#[test]
fn statements_are_bounded_text() {
    assert_eq!(
        statement("/text", " it\nstopped ").expect("fine"),
        "it\nstopped"
    );
    assert!(statement("/text", " \n").is_err());
    assert!(statement("/text", "a\u{7}").is_err());
    assert!(statement("/text", &"x".repeat(STATEMENT_BYTES_MAX)).is_ok());
    assert!(statement("/text", &"x".repeat(STATEMENT_BYTES_MAX + 1)).is_err());
}

proptest! {
    #[test]
    fn parts_add_up_and_nobody_gives_what_they_did_not_get(
        charged in 1..i64::MAX / 2, fee_bps in 0..=5_000_u32, part in 0..=1_000_i64, has in 0..i64::MAX / 2,
    ) {
        let charged = Amount::from_atomic(charged).expect("positive");
        let fee = charged.basis_points(fee_bps).expect("less");
        let refund = i128::from(charged.atomic()) * i128::from(part) / 1_000;
        let refund = Amount::from_atomic(i64::try_from(refund).expect("less")).expect("positive");
        let has = Amount::from_atomic(has).expect("positive");
        let parts = parts(refund, charged, fee, has).expect("they add up");
        prop_assert_eq!(parts.total().expect("fits"), refund);
        prop_assert!(parts.of_fee <= fee);
        prop_assert!(parts.of_provider <= has);
        let earned = charged.minus(fee).expect("less");
        prop_assert!(parts.of_provider.plus(parts.goodwill).expect("fits") <= earned);
    }
}

#[test]
fn all_of_it_takes_the_whole_fee() {
    let amount = |atomic| Amount::from_atomic(atomic).expect("positive");
    let all = parts(amount(500), amount(500), amount(25), amount(475)).expect("adds up");
    assert_eq!(
        (all.of_provider, all.of_fee, all.goodwill),
        (amount(475), amount(25), Amount::ZERO)
    );
    let gone = parts(amount(500), amount(500), amount(25), amount(100)).expect("adds up");
    assert_eq!(gone.goodwill, amount(375));
    assert!(parts(amount(501), amount(500), amount(25), amount(500)).is_err());
}
