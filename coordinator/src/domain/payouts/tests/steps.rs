//! The state machine and the decision what to do next: every state with every event, every view of the chain at every time.

use shared::{
    id::Ids,
    money::{Amount, Asset},
    time::Timestamp,
};

use super::desk::wallet;
use crate::domain::{
    ledger::holds::Owner,
    payouts::model::{Event, Payout, SIGNATURES_MAX, Seen, State, Step, decide, nonce},
};

const NOW_S: i64 = 1_800_000_000;

fn at(state: State) -> Payout {
    Payout {
        id: Ids::counting().mint(),
        owner: Owner::Payer("0x0".into()),
        asset: Asset::from_code("USDC").expect("an asset"),
        amount: Amount::from_atomic(5).expect("positive"),
        network: "eip155:84532".to_owned(),
        token: "0x1".to_owned(),
        pay_to: wallet(9),
        state,
        note: None,
        payload: None,
        valid_before_s: NOW_S + 600,
        signatures: 1,
        attempts: 1,
        doubtful: false,
        tx_hash: None,
        next_try_at: Timestamp::from_secs(0),
        created_at: Timestamp::from_secs(0),
        updated_at: Timestamp::from_secs(0),
        version: 1,
    }
}

#[test]
fn every_pair_of_state_and_event_is_decided() {
    use Event as E;
    use State as S;
    let allowed = [
        (S::AwaitingApproval, E::Approve, S::Requested),
        (S::AwaitingApproval, E::Reject, S::Failed),
        (S::Requested, E::Reject, S::Failed),
        (S::Requested, E::Begin, S::Sending),
        (S::Requested, E::SettleByHand, S::Paid),
        (S::Sending, E::Begin, S::Sending),
        (S::Sending, E::Unclear, S::Sent),
        (S::Sending, E::Settle, S::Paid),
        (S::Sending, E::GiveUp, S::Failed),
        (S::Sent, E::Begin, S::Sending),
        (S::Sent, E::Unclear, S::Sent),
        (S::Sent, E::Settle, S::Paid),
        (S::Sent, E::GiveUp, S::Failed),
        (S::Sent, E::SettleByHand, S::Paid),
    ];
    let events = [
        E::Approve,
        E::Reject,
        E::Begin,
        E::Unclear,
        E::Settle,
        E::GiveUp,
        E::SettleByHand,
    ];
    for state in State::ALL {
        for event in events {
            let found = allowed.iter().find(|(s, e, _)| (*s, *e) == (state, event));
            let expected = found.map(|(_, _, to)| *to);
            assert_eq!(state.next(event).ok(), expected, "{state:?} {event:?}");
        }
        assert_eq!(State::from_name(state.name()), Some(state));
    }
}

/// Whatever the chain shows, money goes back only of what is dead, or was refused each time and has expired.
#[test]
fn money_goes_back_only_when_nothing_can_be_taken() {
    let seen = [
        Seen::NoChain,
        Seen::Paid("0x1".to_owned()),
        Seen::UsedOtherwise("0x1".to_owned()),
        Seen::Dead,
        Seen::Open,
    ];
    let mut gave_up = 0;
    for state in State::ALL {
        for seen in &seen {
            for doubtful in [false, true] {
                for signatures in 1..=SIGNATURES_MAX {
                    for left_s in [-3_600, -61, -59, 0, 9, 11, 600] {
                        let payout = Payout {
                            doubtful,
                            signatures,
                            valid_before_s: NOW_S + left_s,
                            ..at(state)
                        };
                        let step = decide(&payout, seen, Timestamp::from_secs(NOW_S));
                        if step == Step::GiveUp {
                            gave_up += 1;
                            let by_word = *seen == Seen::NoChain
                                && !doubtful
                                && left_s < -60
                                && state == State::Sent;
                            assert!(state.is_in_flight(), "{state:?}");
                            assert_eq!(signatures, SIGNATURES_MAX);
                            assert!(*seen == Seen::Dead || by_word, "{seen:?} {left_s}");
                        }
                        // nothing is signed anew while what was signed may be taken
                        if step == (Step::Ask { sign: true }) && state.is_in_flight() {
                            let over = *seen == Seen::NoChain && left_s <= -60;
                            assert!(*seen == Seen::Dead || over, "{seen:?} {left_s}");
                        }
                        if let Step::Wait(until) = step {
                            assert!(until > Timestamp::from_secs(NOW_S));
                        }
                    }
                }
            }
        }
    }
    assert!(gave_up > 0);
}

#[test]
fn the_nonce_is_the_payouts_own() {
    let ids = Ids::counting();
    let (one, other) = (ids.mint(), ids.mint());
    assert_eq!(nonce(one), nonce(one));
    assert_ne!(nonce(one), nonce(other));
    let first = "out_00000000000000000000000000000001"
        .parse()
        .expect("an id");
    let expected =
        shared::x402::eip712::keccak256(b"ramarket/payout/v1out_00000000000000000000000000000001");
    assert_eq!(nonce(first), expected);
}
