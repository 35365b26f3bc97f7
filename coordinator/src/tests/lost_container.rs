//! A container that vanished without a trace is billed until its node's journal last spoke of it, not until somebody noticed.

use crate::{
    domain::rentals::model::{EndReason, State},
    testing::{TestApp, market::Market},
};

#[tokio::test]
async fn nothing_is_billed_after_the_journals_last_word() {
    let mut market = Market::open(TestApp::new().await).await;
    let id = market.run(3_600).await;
    market.pass(60_000).await;
    market.test.clock.advance_ms(20_000);
    market.node.fail(id, "container_lost");
    market.node.beat(&market.test).await;
    market.settle().await;
    let rental = market.rental(id).await;
    assert_eq!(rental.state, State::Ended);
    assert_eq!(rental.end_reason, Some(EndReason::NodeLost));
    assert_eq!(rental.billed_ms, 60_000, "{rental:?}");
    market.check_books().await;
}
