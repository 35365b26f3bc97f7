//! Two sessions over a line in memory.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    time::{Instant, sleep_until},
};

use super::*;

fn pair() -> (Session, mpsc::Receiver<Stream>, Session) {
    let (one, two) = duplex(64 * 1_024);
    let client = Session::start(one, Role::Client);
    let server = Session::start(two, Role::Server);
    tokio::spawn(client.driver);
    tokio::spawn(server.driver);
    (server.session, client.accepted, client.session)
}

#[tokio::test]
async fn streams_carry_both_ways_and_end_one_way_at_a_time() {
    let (server, mut accepted, _client) = pair();
    let mut asked = server.stream().await.expect("a stream");
    asked.write_all(b"question").await.expect("written");
    asked.shutdown().await.expect("half closed");
    let mut answering = accepted.recv().await.expect("it came");
    let mut said = String::new();
    answering.read_to_string(&mut said).await.expect("read");
    assert_eq!(said, "question");
    answering.write_all(b"answer").await.expect("written");
    answering.shutdown().await.expect("ended");
    drop(answering);
    said.clear();
    asked.read_to_string(&mut said).await.expect("read");
    assert_eq!(said, "answer");
}

#[tokio::test]
async fn a_reader_that_never_reads_stops_its_own_stream_only() {
    let (server, mut accepted, _client) = pair();
    let mut full = server.stream().await.expect("a stream");
    let flood = tokio::spawn(async move {
        let chunk = vec![7; 64 * 1_024];
        let mut written = 0_usize;
        let stuck = tokio::time::timeout(std::time::Duration::from_millis(300), async {
            while full.write_all(&chunk).await.is_ok() {
                written += chunk.len();
            }
        });
        assert!(stuck.await.is_err(), "it was taken without being read");
        (full, written)
    });
    let unread = accepted.recv().await.expect("it came");
    let mut other = server.stream().await.expect("a stream");
    other.write_all(b"x").await.expect("written");
    let mut heard = accepted.recv().await.expect("it came");
    assert_eq!(heard.read_u8().await.expect("read"), b'x');
    let (_full, written) = flood.await.expect("it ended");
    assert!(written < 4 << 20, "{written} bytes went nowhere");
    drop(unread);
}

/// A line that takes its time: what goes in at one end comes out at the other so much later.
fn slow_line(delay: Duration) -> (DuplexStream, DuplexStream) {
    let (near, near_end) = duplex(64 * 1_024);
    let (far, far_end) = duplex(64 * 1_024);
    let (near_reads, near_writes) = tokio::io::split(near_end);
    let (far_reads, far_writes) = tokio::io::split(far_end);
    for (mut from, mut to) in [(near_reads, far_writes), (far_reads, near_writes)] {
        let (on_the_way, mut arriving) = mpsc::channel(4_096);
        tokio::spawn(async move {
            loop {
                let mut bytes = vec![0; 64 * 1_024];
                let count = from.read(&mut bytes).await.unwrap_or(0);
                bytes.truncate(count);
                let due = Instant::now() + delay;
                if count == 0 || on_the_way.send((due, bytes)).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            while let Some((due, bytes)) = arriving.recv().await {
                sleep_until(due).await;
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
    }
    (near, far)
}

#[tokio::test]
async fn a_fast_stream_on_a_long_line_gets_more_than_the_first_window() {
    let (near, far) = slow_line(Duration::from_millis(20));
    let client = Session::start(near, Role::Client);
    let server = Session::start(far, Role::Server);
    tokio::spawn(client.driver);
    tokio::spawn(server.driver);
    let (mut accepted, opener) = (client.accepted, server.session);
    let _keeps = client.session;
    let mut stream = opener.stream().await.expect("a stream");
    stream.write_all(b"x").await.expect("written");
    let mut reader = accepted.recv().await.expect("it came");
    let enough = 16 << 20;
    let reading = tokio::spawn(async move {
        let mut chunk = vec![0; 64 * 1_024];
        let mut read = 0;
        while read < enough {
            read += reader.read(&mut chunk).await.expect("read");
        }
        // kept, and not read any more
        (reader, read)
    });
    let chunk = vec![7; 64 * 1_024];
    let mut written = 1_usize;
    // what nobody reads is taken up to the window: a write that takes so long has come to its end
    let stuck = Duration::from_secs(2);
    while let Ok(taken) = tokio::time::timeout(stuck, stream.write(&chunk)).await {
        written += taken.expect("taken");
    }
    assert!(reading.is_finished(), "it stopped after {written} bytes");
    let (reader, read) = reading.await.expect("it read");
    let on_the_way = written - read;
    assert!(
        on_the_way > 512 * 1_024,
        "the window stayed at {on_the_way} bytes"
    );
    assert!(on_the_way <= 2 * WIDER_BYTES_MAX, "{on_the_way} bytes");
    drop(reader);
}

#[tokio::test]
async fn a_session_ends_with_its_connection_and_with_its_handles() {
    let (server, mut accepted, client) = pair();
    let mut stream = server.stream().await.expect("a stream");
    stream.write_all(b"x").await.expect("written");
    let mut peer = accepted.recv().await.expect("it came");
    assert_eq!(peer.read_u8().await.expect("read"), b'x');
    drop(client);
    server.ended().await;
    assert!(server.has_ended() && server.stream().await.is_err());
    let cut = stream.read(&mut [0; 1]).await.expect_err("not an end");
    assert_eq!(cut.kind(), io::ErrorKind::ConnectionReset);
    assert!(accepted.recv().await.is_none());
}

#[tokio::test]
async fn what_is_dropped_in_the_middle_is_cut_and_what_was_shut_down_has_ended() {
    let (server, mut accepted, _client) = pair();
    for whole in [true, false] {
        let mut stream = server.stream().await.expect("a stream");
        stream.write_all(b"x").await.expect("written");
        let mut peer = accepted.recv().await.expect("it came");
        peer.write_all(b"y").await.expect("written");
        if whole {
            peer.shutdown().await.expect("ended");
        }
        drop(peer);
        let mut said = Vec::new();
        let read = stream.read_to_end(&mut said).await;
        assert_eq!((read.is_ok(), said), (whole, b"y".to_vec()));
    }
}

#[tokio::test]
async fn one_stream_too_many_is_refused_and_the_others_go_on() {
    let (server, mut accepted, _client) = pair();
    let mut streams = Vec::new();
    let mut peers = Vec::new();
    for _ in 0..STREAMS_MAX {
        let mut stream = server.stream().await.expect("a stream");
        stream.write_all(b"x").await.expect("written");
        let mut peer = accepted.recv().await.expect("it came");
        // acknowledges it
        peer.write_all(b"y").await.expect("written");
        stream.read_u8().await.expect("read");
        streams.push(stream);
        peers.push(peer);
    }
    let refused = server.stream().await.expect_err("one too many");
    assert_eq!(refused.kind(), io::ErrorKind::QuotaExceeded);
    // the other end still holds what this one dropped
    drop(streams.split_off(STREAMS_MAX / 2));
    let mut again = server.stream().await.expect("room again");
    again.write_all(b"z").await.expect("written");
    let mut peer = accepted.recv().await.expect("it came");
    assert_eq!(peer.read_u8().await.expect("read"), b'z');
    assert!(!server.has_ended());
}
