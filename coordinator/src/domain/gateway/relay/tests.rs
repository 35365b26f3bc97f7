//! Streams over connections in memory, to coordinators and nodes that don't do what they should.

use shared::{
    clock::ManualClock,
    id::{Ids, RentalId},
    time::Timestamp,
};
use tokio::{
    io::duplex,
    sync::{mpsc, watch},
};

use super::{super::links::Held, *};

/// What isn't there by then isn't coming.
const PATIENCE: Duration = Duration::from_secs(5);
const URL: &str = "http://two.test";
/// Streams that the protocol lets wait for a first byte.
const WAITING_MAX: usize = 256;

fn pair() -> (Session, mpsc::Receiver<Stream>) {
    let (near, far) = duplex(64 * 1_024);
    let near = Session::start(near, Role::Client);
    let far = Session::start(far, Role::Server);
    tokio::spawn(near.driver);
    tokio::spawn(async move {
        // a handle keeps it alive
        let _far = far.session;
        far.driver.await
    });
    (near.session, far.accepted)
}

/// A coordinator that holds links, as the other end of a connection.
fn coordinator(links: &Arc<Links>) -> Session {
    let (near, far) = duplex(64 * 1_024);
    tokio::spawn(serve(Arc::clone(links), far));
    let near = Session::start(near, Role::Client);
    tokio::spawn(near.driver);
    near.session
}

/// A relay with connections to one other coordinator.
fn relay_over(sessions: Vec<Session>) -> Arc<Relay> {
    let clock = ManualClock::starting_at(Timestamp::from_secs(1_800_000_000));
    let clock: Arc<dyn Clock> = Arc::new(clock);
    let secret = TokenSecret::from_bytes([7; 32]);
    let relay = Relay::new("http://one.test", &clock, &secret).expect("a relay");
    let peer = Arc::new(Peer::default());
    *peer.sessions() = sessions;
    let mut peers = relay.peers.lock().expect("fine");
    peers.insert(URL.to_owned(), peer);
    drop(peers);
    Arc::new(relay)
}

fn dial() -> Open {
    Open::Dial {
        rental_id: Ids::System.mint::<RentalId>(),
        host: "localhost".to_owned(),
        port: 7,
    }
}

fn hold(links: &Arc<Links>, session: Session) -> Held {
    links.hold(Ids::System.mint(), session, Timestamp::from_secs(0))
}

/// A node that gives whatever is asked for.
fn willing(links: &Arc<Links>) -> Held {
    let (session, mut accepted) = pair();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Some(mut stream) = accepted.recv().await {
            let asked: Open = open::receive(&mut stream).await.expect("asked");
            assert_ne!(asked, Open::Control {});
            let sent = open::send(&mut stream, &Opened::Ready {}).await;
            sent.expect("answered");
            open.push(stream);
        }
    });
    hold(links, session)
}

/// A node that answers nothing; with how many streams it was sent.
fn silent(links: &Arc<Links>) -> (Held, watch::Receiver<usize>) {
    let (session, mut accepted) = pair();
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Some(stream) = accepted.recv().await {
            open.push(stream);
            count.send_replace(open.len());
        }
    });
    (hold(links, session), counted)
}

#[tokio::test]
async fn a_node_that_never_answers_stops_streams_to_itself_only() {
    let links = Arc::new(Links::default());
    let (bad, mut sent) = silent(&links);
    let good = willing(&links);
    let relay = relay_over(vec![coordinator(&links)]);
    let mut waiting = JoinSet::new();
    for number in 1..=WAITING_MAX + 40 {
        let (relay, node) = (Arc::clone(&relay), bad.node);
        waiting.spawn(async move { relay.reach(URL, node, &dial()).await });
        let there = sent.wait_for(|sent| *sent >= number.min(WAITING_MAX));
        let there = timeout(PATIENCE, there).await;
        drop(there.expect("sent to the node").expect("a node"));
    }
    for _ in 0..20 {
        let reached = timeout(PATIENCE, relay.reach(URL, good.node, &dial())).await;
        reached.expect("nobody waits").expect("a stream");
    }
}

#[tokio::test]
async fn a_connection_without_room_keeps_nobody_from_another() {
    let links = Arc::new(Links::default());
    let good = willing(&links);
    let (full, _unanswered) = pair();
    let mut there = Vec::new();
    for _ in 0..WAITING_MAX {
        there.push(full.stream().await.expect("room"));
    }
    let other = coordinator(&links);
    let relay = relay_over(vec![full, other.clone()]);
    let mut asked = JoinSet::new();
    for _ in 0..20 {
        let (relay, node) = (Arc::clone(&relay), good.node);
        asked.spawn(async move { relay.reach(URL, node, &dial()).await });
    }
    let all = timeout(PATIENCE, asked.join_all()).await;
    for reached in all.expect("nobody waits for the full one") {
        reached.expect("a stream");
    }
    let peer = Arc::clone(&relay.peers.lock().expect("fine")[URL]);
    assert!(peer.sessions()[0].is(&other), "the full one is asked last");
}

#[tokio::test]
async fn a_coordinator_of_another_version_is_no_stream() {
    let (session, mut accepted) = pair();
    tokio::spawn(async move {
        while let Some(mut stream) = accepted.recv().await {
            let _asked: Asked = open::receive(&mut stream).await.expect("asked");
            let _open: Open = open::receive(&mut stream).await.expect("asked");
            let sent = open::send(&mut stream, &Opened::Ready {}).await;
            sent.expect("answered");
        }
    });
    let relay = relay_over(vec![session]);
    let reached = relay.reach(URL, Ids::System.mint(), &dial()).await;
    assert_eq!(reached.expect_err("refused").code(), "node_unreachable");
}
