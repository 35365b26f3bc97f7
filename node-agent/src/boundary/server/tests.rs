//! Agent and helper over a real socket, the engine in memory.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use shared::link::{
    frame::{self, Frame},
    open::{self, Exec, Open, Opened},
    session::{Role, Session},
};
use tokio::{io::AsyncWriteExt as _, task::JoinHandle};

use super::*;
use crate::{
    boundary::{
        HelperRuntime,
        guard::tests::{MIB, engine, rental},
        socket,
    },
    runtime::{
        ContainerRuntime as _, ContainerState, Created, RuntimeError, code,
        fake::{FakeRuntime, Op},
    },
    testing::TempDir,
};

const SCOPE: &str = "nod_1";

/// A helper that serves.
struct Serving {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    tracker: TaskTracker,
}

fn socket_in(dir: &TempDir) -> PathBuf {
    dir.path().join("helper.sock")
}

fn start(dir: &TempDir, engine: &FakeRuntime) -> Serving {
    let shutdown = CancellationToken::new();
    let engine = engine.clone();
    let room = Room {
        ram_bytes: 1_024 * MIB,
        cpu_millis: 4_000,
    };
    let helper = Helper::new(
        Box::new(move |_| Ok(Arc::new(engine.clone()) as Arc<dyn Engine>)),
        room,
        Peers {
            agent_uid: Some(rustix::process::getuid().as_raw()),
        },
        dir.path(),
        shutdown.clone(),
    );
    let helper = Arc::new(helper.expect("a state folder"));
    let listener = socket::listen(&socket_in(dir), None).expect("a socket");
    let tracker = TaskTracker::new();
    let task = tokio::spawn(helper.serve(listener, tracker.clone()));
    Serving {
        shutdown,
        task,
        tracker,
    }
}

impl Serving {
    async fn end(self) {
        self.shutdown.cancel();
        self.task.await.expect("served");
        self.tracker.close();
        self.tracker.wait().await;
    }
}

fn client(dir: &TempDir) -> HelperRuntime {
    HelperRuntime::new(socket_in(dir), SCOPE.to_owned())
}

fn unavailable(result: Result<impl fmt::Debug, RuntimeError>) -> String {
    match result.expect_err("unavailable") {
        RuntimeError::Unavailable(why) => why,
        other => panic!("{other}"),
    }
}

async fn until(what: impl Fn() -> bool) {
    let waited = async {
        while !what() {
            tokio::task::yield_now().await;
        }
    };
    let in_time = timeout(Duration::from_secs(60), waited).await;
    in_time.expect("it came to hold");
}

#[tokio::test]
async fn a_rental_lives_through_the_helper_as_on_the_engine_itself() {
    let (dir, engine) = (TempDir::new(), engine());
    let serving = start(&dir, &engine);
    let runtime = client(&dir);
    assert_eq!(runtime.facts().await, engine.facts().await);
    let mut events = runtime.events(Timestamp::from_micros(0));
    let rental = rental(64 * MIB, 100);
    // the events of before they were followed aren't told by this engine
    let first = tokio::spawn(async move { events.next().await });
    let told = async {
        loop {
            let id = match runtime.create(&rental).await.expect("created") {
                Created::Fresh(id) => id,
                other => panic!("{other:?}"),
            };
            if first.is_finished() {
                return id;
            }
            runtime.remove(&id).await.expect("removed");
        }
    };
    let id = timeout(Duration::from_secs(60), told)
        .await
        .expect("an event");
    let event = first
        .await
        .expect("a task")
        .expect("one")
        .expect("an event");
    assert_eq!(event.rental_id, Some(rental.rental_id));
    assert_eq!(runtime.list().await, Ok(engine.containers()));
    runtime.start(&id).await.expect("started");
    let held = runtime
        .inspect(&id)
        .await
        .expect("an answer")
        .expect("there");
    assert_eq!(Some(&held), engine.containers().first());
    assert_eq!(held.state, ContainerState::Running);
    runtime
        .stop(&id, Duration::from_secs(3))
        .await
        .expect("stopped");
    assert_eq!(engine.graces(), [Duration::from_secs(3)]);
    runtime.remove(&id).await.expect("removed");
    assert_eq!(runtime.list().await, Ok(Vec::new()));
    assert_eq!(runtime.inspect(&id).await, Ok(None));
    let refused = runtime.start(&id).await.expect_err("gone");
    assert!(matches!(
        refused,
        RuntimeError::Refused {
            code: code::START_FAILED,
            ..
        }
    ));
    serving.end().await;
}

#[tokio::test]
async fn a_pull_tells_how_far_it_is_and_ends_with_its_connection() {
    let (dir, engine) = (TempDir::new(), engine());
    let serving = start(&dir, &engine);
    let runtime = client(&dir);
    let missing = runtime
        .pull(&Fetch::of("nowhere:1"), &|_| {})
        .await
        .expect_err("absent");
    assert!(matches!(
        missing,
        RuntimeError::Refused {
            code: code::IMAGE_NOT_FOUND,
            ..
        }
    ));
    engine.add_to_registry("somewhere:1");
    engine.hold(Op::Pull);
    let told = Arc::new(Mutex::new(Vec::new()));
    let pull = |runtime: HelperRuntime| {
        let told = Arc::clone(&told);
        tokio::spawn(async move {
            let tell = |progress: PullProgress| {
                told.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(progress);
            };
            runtime.pull(&Fetch::of("somewhere:1"), &tell).await
        })
    };
    let dropped = pull(runtime.clone());
    until(|| !told.lock().expect("progress").is_empty()).await;
    assert_eq!(engine.waiting(Op::Pull), 1);
    dropped.abort();
    until(|| engine.waiting(Op::Pull) == 0).await;
    let kept = pull(runtime.clone());
    until(|| engine.waiting(Op::Pull) == 1).await;
    engine.release(Op::Pull);
    kept.await.expect("a task").expect("pulled");
    serving.end().await;
}

#[tokio::test]
async fn a_helper_may_go_and_come_back_at_any_time() {
    let (dir, engine) = (TempDir::new(), engine());
    let runtime = client(&dir);
    let why = unavailable(runtime.list().await);
    assert!(why.contains("helper.sock"), "{why}");
    let serving = start(&dir, &engine);
    runtime.list().await.expect("a list");
    let mut events = runtime.events(Timestamp::from_micros(0));
    engine.add_to_registry("somewhere:1");
    engine.hold(Op::Pull);
    let pulling = runtime.clone();
    let pull = tokio::spawn(async move { pulling.pull(&Fetch::of("somewhere:1"), &|_| {}).await });
    let followed = tokio::spawn(async move { while events.next().await.is_some() {} });
    until(|| engine.waiting(Op::Pull) == 1).await;
    serving.end().await;
    unavailable(pull.await.expect("a task"));
    followed.await.expect("events end");
    unavailable(runtime.list().await);
    let again = start(&dir, &engine);
    runtime.list().await.expect("a list");
    again.end().await;
}

#[tokio::test]
async fn another_scope_is_not_served_and_none_gets_facts_alone() {
    let (dir, engine) = (TempDir::new(), engine());
    let serving = start(&dir, &engine);
    let nobody = HelperRuntime::new(socket_in(&dir), String::new());
    nobody.facts().await.expect("facts");
    unavailable(nobody.list().await);
    client(&dir).list().await.expect("the first");
    let other = HelperRuntime::new(socket_in(&dir), "nod_2".to_owned());
    let why = unavailable(other.list().await);
    assert!(why.contains("works for nod_1"), "{why}");
    unavailable(other.facts().await);
    let mut events = other.events(Timestamp::from_micros(0));
    unavailable(events.next().await.expect("an answer").map(|_| ()));
    assert_eq!(engine.calls(Op::List), 1);
    serving.end().await;
}

#[tokio::test]
async fn a_connection_into_a_container_is_handed_over_and_ends_with_either_program() {
    let (dir, engine) = (TempDir::new(), engine());
    let serving = start(&dir, &engine);
    let runtime = client(&dir);
    let rental = rental(64 * MIB, 100);
    let id = match runtime.create(&rental).await.expect("created") {
        Created::Fresh(id) => id,
        other => panic!("{other:?}"),
    };
    // none for what doesn't run, isn't there, or is another node's
    for (client, id) in [
        (&runtime, id.as_str()),
        (&runtime, "nobody"),
        (
            &HelperRuntime::new(socket_in(&dir), "nod_2".to_owned()),
            &id,
        ),
    ] {
        client.enter(id).await.map(drop).expect_err("refused");
    }
    assert_eq!(engine.calls(Op::Enter), 0, "the engine wasn't asked");
    runtime.start(&id).await.expect("started");
    let mut pipes = Vec::new();
    for _ in 0..limits::ENTERED_MAX {
        pipes.push(runtime.enter(&id).await.expect("entered"));
    }
    let why = unavailable(runtime.enter(&id).await);
    assert!(why.contains("too many"), "{why}");
    let session = Session::start(pipes.pop().expect("a pipe"), Role::Client);
    let (driver, opener) = (tokio::spawn(session.driver), session.session);
    let mut stream = opener.stream().await.expect("a stream");
    let exec = Open::Exec {
        rental_id: rental.rental_id,
        exec: Exec {
            command: vec!["cat".to_owned()],
            ..Exec::default()
        },
    };
    open::send(&mut stream, &exec).await.expect("sent");
    let opened: Opened = open::receive(&mut stream).await.expect("an answer");
    assert_eq!(opened, Opened::Ready {});
    // one that is dropped makes room for another
    pipes.truncate(1);
    let again = timeout(Duration::from_secs(60), async {
        loop {
            match runtime.enter(&id).await {
                Ok(pipe) => return pipe,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    drop(again.await.expect("room again"));
    let typed = Frame::Stdin(b"hello".to_vec());
    frame::write(&mut stream, &typed).await.expect("sent");
    let said = frame::read(&mut stream).await.expect("a frame");
    assert_eq!(said, Some(Frame::Stdout(b"hello".to_vec())));
    serving.end().await;
    frame::read(&mut stream).await.expect_err("cut");
    driver.await.expect("a task").expect_err("broken");
}

async fn send_raw(path: &Path, bytes: &[u8]) -> Option<Reply> {
    let mut stream = UnixStream::connect(path).await.expect("connected");
    // it may be closed before all was sent
    drop(stream.write_all(bytes).await);
    let frame = protocol::receive(&mut stream, REPLY_BYTES_MAX).await.ok()?;
    Some(protocol::parse(&frame).expect("a reply"))
}

fn framed(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("short");
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

#[tokio::test]
async fn whatever_comes_is_answered_and_the_next_is_served() {
    let (dir, engine) = (TempDir::new(), engine());
    let serving = start(&dir, &engine);
    let path = socket_in(&dir);
    for (text, wanted) in [
        ("", "no request"),
        ("[]", "no request"),
        (
            r#"{"version":3,"scope":"nod_1","call":{"later":{}}}"#,
            "version 3",
        ),
        (
            r#"{"version":2,"scope":"nod_1","call":{"exec":{}}}"#,
            "isn't understood",
        ),
        (
            r#"{"version":2,"scope":"nod_1","call":{"list":{"all":true}}}"#,
            "isn't understood",
        ),
        (
            r#"{"version":2,"scope":"nod_1","call":{"list":{}},"more":1}"#,
            "isn't understood",
        ),
        (
            r#"{"version":2,"scope":"nod_1","call":{"create":{"rental":{}}}}"#,
            "isn't understood",
        ),
        (
            r#"{"version":2,"scope":"a b","call":{"list":{}}}"#,
            "isn't a node id",
        ),
    ] {
        match send_raw(&path, &framed(text)).await {
            Some(Reply::NotServed(why)) => assert!(why.contains(wanted), "{text}: {why}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    // too large to be read, or cut off
    assert!(send_raw(&path, &u32::MAX.to_be_bytes()).await.is_none());
    let mut cut = UnixStream::connect(&path).await.expect("connected");
    cut.write_all(&framed("{}")[..5]).await.expect("sent");
    drop(cut);
    assert_eq!(engine.calls(Op::List), 0);
    client(&dir).list().await.expect("a list");
    serving.end().await;
}

#[tokio::test]
async fn a_connection_that_asks_nothing_is_closed() {
    let (dir, engine) = (TempDir::new(), engine());
    let serving = start(&dir, &engine);
    let mut silent = UnixStream::connect(&socket_in(&dir))
        .await
        .expect("connected");
    assert_eq!(silent.read(&mut [0; 1]).await.expect("closed"), 0);
    serving.end().await;
}

#[test]
fn root_and_the_agent_may_speak_and_nobody_else() {
    let peers = Peers {
        agent_uid: Some(998),
    };
    assert!(peers.admit(0) && peers.admit(998) && !peers.admit(1_000));
    assert!(!Peers { agent_uid: None }.admit(998));
}

#[test]
fn the_socket_is_open_to_its_group_alone_and_nothing_else_is_replaced() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = TempDir::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let _entered = runtime.enter();
    let path = socket_in(&dir);
    drop(socket::listen(&path, None).expect("a socket"));
    let listener = socket::listen(&path, None).expect("in the place of the one that was left");
    let mode = std::fs::metadata(&path)
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    drop(listener);
    let file = dir.path().join("file");
    std::fs::write(&file, "mine").expect("written");
    socket::listen(&file, None).expect_err("no socket");
    assert_eq!(std::fs::read(&file).expect("still there"), b"mine");
}
