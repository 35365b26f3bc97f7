//! How what is done within a rental ends: with its stream, with the program that serves it, with helper and agent; never with the rental.

use node_agent::runtime::{ContainerRuntime as _, RuntimeError};
use shared::link::{
    frame::{self, Frame},
    open::Opened,
};
use system_tests::wait;

use super::stage::{Stage, output};

/// What serves within the container.
const PROGRAM: &str = "/ramarket-inside";

/// Starts what is deaf to SIGHUP, and waits until it runs.
async fn deaf(stage: &Stage) -> shared::link::session::Stream {
    let script = "trap '' HUP; echo up; while :; do sleep $((1200+34)); done";
    let (mut stream, opened) = stage.open(&stage.exec(&["sh", "-c", script])).await;
    assert_eq!(opened, Opened::Ready {});
    let up = frame::read(&mut stream).await.expect("a frame");
    assert_eq!(up, Some(Frame::Stdout(b"up\n".to_vec())));
    stage.until_left_with("sleep 1234", 1).await;
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_program_ends_its_streams_and_the_next_one_works() {
    let stage = Stage::new("killed", &["sleep", "600"]).await;
    let mut stream = deaf(&stage).await;
    let serving = stage.processes(PROGRAM);
    assert_eq!(serving.len(), 1, "one serves");
    // as the kernel does for want of memory
    let killed = std::process::Command::new("kill")
        .args(["-9", &serving[0]])
        .status();
    assert!(killed.expect("kill runs").success());
    frame::read(&mut stream).await.expect_err("cut");
    stage.until_left_with("trap", 0).await;
    let (mut stream, opened) = stage.open(&stage.exec(&["echo", "hello"])).await;
    assert_eq!(opened, Opened::Ready {});
    assert_eq!(output(&mut stream).await.0, "hello\n");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_its_rental_removed_is_brought_again() {
    let stage = Stage::new("removed", &["sleep", "600"]).await;
    let (mut stream, _) = stage
        .open(&stage.exec(&["sh", "-c", "rm -rf /.ramarket-*"]))
        .await;
    output(&mut stream).await;
    for pid in stage.processes(PROGRAM) {
        let killed = std::process::Command::new("kill")
            .args(["-9", &pid])
            .status();
        assert!(killed.expect("kill runs").success());
    }
    wait::until("it serves again", || async {
        let (mut stream, opened) = stage.open(&stage.exec(&["echo", "hello"])).await;
        match opened {
            Opened::Ready {} => (output(&mut stream).await.0 == "hello\n").then_some(()),
            Opened::Refused { .. } => None,
        }
    })
    .await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn helper_and_agent_that_die_leave_nothing_behind_and_touch_no_rental() {
    for helper in [true, false] {
        let stage = Stage::new(
            if helper { "cut-helper" } else { "cut-agent" },
            &["sleep", "600"],
        )
        .await;
        let first = stage.processes("sleep 600");
        let mut stream = deaf(&stage).await;
        stage.cut(helper).await;
        frame::read(&mut stream).await.expect_err("cut");
        for words in [PROGRAM, "trap", "sleep 1234"] {
            stage.until_left_with(words, 0).await;
        }
        assert_eq!(stage.processes("sleep 600"), first, "the rental goes on");
        stage.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_that_is_killed_leaves_nothing_behind_and_the_next_serves() {
    let stage = Stage::new("kill9", &["sleep", "600"]).await;
    let mut helper = stage.through_program().await;
    let first = stage.processes("sleep 600");
    let mut stream = deaf(&stage).await;
    helper.kill();
    frame::read(&mut stream).await.expect_err("cut");
    for words in [PROGRAM, "trap", "sleep 1234"] {
        stage.until_left_with(words, 0).await;
    }
    assert_eq!(stage.processes("sleep 600"), first, "the rental goes on");
    let _next = stage.through_program().await;
    let (mut stream, opened) = stage.open(&stage.exec(&["echo", "hello"])).await;
    assert_eq!(opened, Opened::Ready {});
    assert_eq!(output(&mut stream).await.0, "hello\n");
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_others_are_not_entered() {
    let stage = Stage::new("others", &["sleep", "600"]).await;
    let other = Stage::new("others-2", &["sleep", "600"]).await;
    let own = stage.runtime_of(stage.scope());
    for id in [other.container.as_str(), &"0".repeat(64), "../x"] {
        let refused = own.enter(id).await.map(drop).expect_err("refused");
        assert!(
            matches!(refused, RuntimeError::Refused { .. }),
            "{id}: {refused}"
        );
    }
    // a helper works for one node
    let strange = stage.runtime_of(other.scope());
    let refused = strange
        .enter(&other.container)
        .await
        .map(drop)
        .expect_err("refused");
    assert!(matches!(refused, RuntimeError::Unavailable(_)), "{refused}");
    own.enter(&stage.container)
        .await
        .map(drop)
        .expect("its own");
    stage.engine().docker(&["kill", &stage.container]);
    let refused = own
        .enter(&stage.container)
        .await
        .map(drop)
        .expect_err("refused");
    assert!(matches!(refused, RuntimeError::Refused { .. }), "{refused}");
    stage.end().await;
    other.end().await;
}
