//! Orders on disk, lines on the wire.

use shared::{
    id::{Ids, NodeId},
    resources::Resources,
    time::Timestamp,
    wire::operator::{DONE, ORDERS_MAX, Outcome, Standing, Wish},
};

use super::{
    orders::Orders,
    protocol::{self, Question},
};
use crate::testing::TempDir;

fn standing(orders_seen: i64) -> Standing {
    Standing {
        schedulability: "active".to_owned(),
        drain_deadline: None,
        maintenance: Vec::new(),
        rentable: Resources::default(),
        free: Resources::default(),
        rentable_max: Resources::default(),
        orders_seen,
        outcomes: vec![Outcome {
            number: orders_seen,
            code: DONE.to_owned(),
            detail: String::new(),
        }],
    }
}

#[test]
fn an_order_stays_over_restarts_until_the_market_answered() {
    let dir = TempDir::new();
    let path = dir.path().join("orders.json");
    let node: NodeId = Ids::counting().mint();
    let now = Timestamp::from_secs(100);
    let orders = Orders::open(path.clone(), node).expect("nothing yet");
    let first = orders.give(Wish::Cordon {}, now).expect("kept");
    assert_eq!(first, now.as_micros());
    assert!(orders.to_send().is_empty(), "an older market isn't asked");
    // the clock went back meanwhile
    let orders = Orders::open(path.clone(), node).expect("kept");
    let second = orders
        .give(Wish::Uncordon {}, Timestamp::from_secs(1))
        .expect("kept");
    assert_eq!((second, orders.waiting()), (first + 1, 2));
    orders.settle(standing(0)).expect("kept");
    assert_eq!(orders.to_send().len(), 2);
    orders.settle(standing(first)).expect("kept");
    assert_eq!(orders.outcome(first).expect("known").code, DONE);
    assert_eq!(orders.outcome(second), None);
    // the folder is an old copy: the market has seen more than it knows
    orders.settle(standing(second + 50)).expect("kept");
    assert_eq!(orders.waiting(), 0);
    let third = orders.give(Wish::Cordon {}, now).expect("kept");
    assert_eq!(third, second + 51);
    let waiting = Orders::open(path.clone(), node).expect("kept").waiting();
    assert_eq!(waiting, 1);
    // another node's orders are none of this one's
    let other: NodeId = Ids::System.mint();
    assert_eq!(Orders::open(path, other).expect("read").waiting(), 0);
}

#[test]
fn no_more_orders_wait_than_a_beat_may_carry() {
    let dir = TempDir::new();
    let path = dir.path().join("orders.json");
    let orders = Orders::open(path.clone(), Ids::counting().mint()).expect("nothing yet");
    let now = Timestamp::from_secs(1);
    for _ in 0..ORDERS_MAX {
        orders.give(Wish::Cordon {}, now).expect("kept");
    }
    assert!(orders.give(Wish::Cordon {}, now).is_err());
    std::fs::write(&path, "{").expect("damaged");
    assert!(Orders::open(path, Ids::counting().mint()).is_err());
}

#[tokio::test]
async fn a_line_is_one_question_and_bounded() {
    let read = |bytes: &'static [u8]| async move {
        let mut bytes = bytes;
        protocol::receive::<Question>(&mut bytes, 64).await
    };
    assert_eq!(
        read(b"{\"status\":{}}\n").await.expect("read"),
        Some(Question::Status {})
    );
    assert_eq!(read(b"").await.expect("read"), None);
    for wrong in [
        &b"{\"status\":{}}"[..],
        b"{\"status\":{\"all\":1}}\n",
        b"{\"stop\":{}}\n",
        b"\n",
        &[b'x'; 65],
    ] {
        assert!(read(wrong).await.is_err(), "{wrong:?}");
    }
}
