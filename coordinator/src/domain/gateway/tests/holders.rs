//! Which coordinator holds a node's link, where several think that they do.

use shared::{
    id::NodeId,
    link::session::{Role, Session},
};
use tokio::time::timeout;

use super::PATIENCE;
use crate::{
    domain::gateway::{links::Held, store},
    params,
    testing::{TestApp, market::Market, on_both_stores},
};

const ONE: &str = "http://one.test";
const TWO: &str = "http://two.test";

on_both_stores!(
    the_newest_link_is_noted_whoever_says_so_last,
    a_note_that_was_lost_is_written_again,
);

fn hold(test: &TestApp, node: NodeId) -> Held {
    let started = Session::start(tokio::io::duplex(64).0, Role::Server);
    test.app.gateway.hold(node, started.session)
}

async fn holder(test: &TestApp, node: NodeId) -> Option<String> {
    let holder = test
        .app
        .db
        .read("test.holder", move |tx| store::holder(tx, node));
    holder.await.expect("read").map(|holder| holder.peer_url)
}

fn two(test: &TestApp) -> [TestApp; 2] {
    [ONE, TWO].map(|url| test.beside_with(|config| config.gateway.peer_url = Some(url.to_owned())))
}

async fn the_newest_link_is_noted_whoever_says_so_last(test: TestApp) {
    let market = Market::open(test).await;
    let (test, node) = (&market.test, market.node.id);
    let [one, two] = two(test);
    let older = hold(&one, node);
    test.clock.advance_ms(1);
    let newer = hold(&two, node);
    assert!(two.app.gateway.note(&newer).await);
    // the first one's database was away until now
    test.clock.advance_ms(5_000);
    assert!(!one.app.gateway.note(&older).await, "it isn't the newest");
    let ended = timeout(PATIENCE, one.app.gateway.keep_noted(&older)).await;
    ended.expect("who holds the older one ends it");
    one.app.gateway.forget(node, older.serial).await;
    assert_eq!(holder(test, node).await.as_deref(), Some(TWO));
    // it comes back to the first one
    test.clock.advance_ms(1);
    let newest = hold(&one, node);
    assert!(one.app.gateway.note(&newest).await);
    assert!(!two.app.gateway.note(&newer).await);
    two.app.gateway.forget(node, newer.serial).await;
    assert_eq!(holder(test, node).await.as_deref(), Some(ONE));
    one.app.gateway.forget(node, newest.serial).await;
    assert_eq!(holder(test, node).await, None);
}

async fn a_note_that_was_lost_is_written_again(test: TestApp) {
    let market = Market::open(test).await;
    let (test, node) = (&market.test, market.node.id);
    let [one, _] = two(test);
    let held = hold(&one, node);
    for _ in 0..2 {
        assert!(one.app.gateway.note(&held).await);
        assert_eq!(holder(test, node).await.as_deref(), Some(ONE));
        let lose = test.app.db.write("test.lose", move |tx| {
            Ok(tx.execute("DELETE FROM node_links WHERE node_id = $1", params![node])?)
        });
        assert_eq!(lose.await.expect("written"), 1);
    }
}
