//! A link with a node at its other end whose engine is simulated.

use std::collections::BTreeMap;

use shared::{
    clock::{ManualClock, SystemClock},
    id::{Ids, LeaseId},
    link::{
        frame::{self, Exit, Frame},
        open::{Entry, Exec, LogsQuery, Output, Sample},
        session::{Role, Session, Started},
    },
    time::Timestamp,
    wire::observed::{ExitCause, ObservedRental},
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, duplex};

use super::*;
use crate::runtime::{
    Container, ContainerState, RuntimeError, code as engine_code,
    fake::{FakeRuntime, Op},
};
use crate::{journal::Counters, kept::Limits, measure::Used, testing::TempDir};

const CONTAINER: &str = "c1";

/// A link with this node at its other end, one rental, and its engine.
struct Stage {
    link: Session,
    engine: FakeRuntime,
    live: watch::Sender<Vec<LiveRental>>,
    rental_id: RentalId,
    shutdown: CancellationToken,
    kept: Arc<KeptLogs>,
    samples: Arc<Samples>,
    _home: TempDir,
}

fn observed(rental_id: RentalId, lease_id: LeaseId, phase: Phase) -> LiveRental {
    LiveRental {
        observed: ObservedRental {
            rental_id,
            lease_id,
            phase,
            container_id: Some(CONTAINER.to_owned()),
            image_digest: None,
            started_at: Some(Timestamp::from_secs(1)),
            finished_at: None,
        },
        spec_sha256: String::new(),
        pid: None,
        gpus: Vec::new(),
    }
}

fn stage() -> Stage {
    let ids = Ids::counting();
    let (rental_id, lease_id) = (ids.mint(), ids.mint());
    let engine = FakeRuntime::new(Arc::new(ManualClock::starting_at(Timestamp::from_secs(
        1_000,
    ))));
    engine.put(&Container {
        id: CONTAINER.to_owned(),
        rental_id: Some(rental_id),
        lease_id: Some(lease_id),
        spec_sha256: String::new(),
        gpus: Vec::new(),
        state: ContainerState::Running,
        pid: None,
        started_at: Some(Timestamp::from_secs(1)),
        finished_at: None,
        image_digest: None,
        over_disk: None,
    });
    let home = TempDir::new();
    let limits = Limits {
        bytes: 1 << 20,
        keep_ms: 1 << 40,
    };
    let kept = KeptLogs::open(home.path().join("logs"), limits, Arc::new(SystemClock));
    let kept = Arc::new(kept.expect("a folder"));
    let samples = Arc::new(Samples::open(home.path().join("samples")).expect("a folder"));
    let (live, now) = watch::channel(vec![observed(rental_id, lease_id, Phase::Running)]);
    let sources = Sources {
        runtime: Arc::new(engine.clone()),
        kept: Arc::clone(&kept),
        samples: Arc::clone(&samples),
        live: now,
    };
    let shutdown = CancellationToken::new();
    let streams = Streams::new(sources, shutdown.clone(), TaskTracker::new());
    Stage {
        link: link(streams),
        engine,
        live,
        rental_id,
        shutdown,
        kept,
        samples,
        _home: home,
    }
}

/// As the agent's link has it: reads what a stream is for, and hands it on.
fn link(streams: Arc<Streams>) -> Session {
    let (agent, coordinator) = duplex(64 * 1_024);
    let Started {
        session: own,
        mut accepted,
        driver,
    } = Session::start(agent, Role::Client);
    tokio::spawn(driver);
    tokio::spawn(async move {
        let _own = own;
        while let Some(mut stream) = accepted.recv().await {
            let streams = Arc::clone(&streams);
            tokio::spawn(async move {
                let open = open::receive(&mut stream).await.expect("what it is for");
                streams.serve(open, stream).await;
            });
        }
    });
    let started = Session::start(coordinator, Role::Server);
    tokio::spawn(started.driver);
    started.session
}

impl Stage {
    async fn open(&self, open: &Open) -> (Stream, Opened) {
        let mut stream = self.link.stream().await.expect("a stream");
        open::send(&mut stream, open).await.expect("sent");
        let opened = open::receive(&mut stream).await.expect("an answer");
        (stream, opened)
    }

    fn exec(&self, words: &[&str]) -> Open {
        Open::Exec {
            rental_id: self.rental_id,
            exec: Exec {
                command: words.iter().map(|&word| word.to_owned()).collect(),
                ..Exec::default()
            },
        }
    }

    fn logs(&self, query: LogsQuery) -> Open {
        Open::Logs {
            rental_id: self.rental_id,
            query,
        }
    }

    fn end(&self) {
        let exit = shared::journal::Exit {
            code: 0,
            oom_killed: false,
        };
        self.live.send_modify(|live| {
            live[0].observed.phase = Phase::Exited {
                exit,
                cause: ExitCause::Itself,
            };
        });
        self.engine.exit(self.rental_id, exit);
    }
}

fn refusal(opened: &Opened) -> &str {
    match opened {
        Opened::Refused { code, .. } => code,
        Opened::Ready {} => "none",
    }
}

async fn output(stream: &mut Stream) -> (Vec<u8>, Exit) {
    let mut out = Vec::new();
    loop {
        match frame::read(stream).await.expect("a frame") {
            Some(Frame::Stdout(bytes)) => out.extend(bytes),
            Some(Frame::Exit(exit)) => return (out, exit),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn programs_share_one_session_and_a_broken_one_is_replaced() {
    let stage = stage();
    for _ in 0..3 {
        let (mut stream, opened) = stage.open(&stage.exec(&["echo", "hello"])).await;
        assert_eq!(opened, Opened::Ready {});
        let (said, exit) = output(&mut stream).await;
        assert_eq!((said.as_slice(), exit), (&b"hello\n"[..], Exit::Code(0)));
    }
    assert_eq!(stage.engine.calls(Op::Enter), 1);
    let away = RuntimeError::refused(engine_code::ENGINE_REFUSED, "it can't");
    stage.engine.break_entered();
    stage.engine.fail_next(Op::Enter, away);
    let (_, opened) = stage.open(&stage.exec(&["true"])).await;
    assert_eq!(refusal(&opened), code::UNAVAILABLE);
    let (mut stream, opened) = stage.open(&stage.exec(&["true"])).await;
    assert_eq!(opened, Opened::Ready {});
    assert_eq!(output(&mut stream).await.1, Exit::Code(0));
}

#[tokio::test]
async fn what_is_not_here_or_does_not_run_is_refused() {
    let stage = stage();
    let stranger = Open::Sftp {
        rental_id: Ids::System.mint(),
    };
    assert_eq!(
        refusal(&stage.open(&stranger).await.1),
        code::UNKNOWN_RENTAL
    );
    stage
        .live
        .send_modify(|live| live[0].observed.phase = Phase::Starting);
    let (_, opened) = stage.open(&stage.exec(&["true"])).await;
    assert_eq!(refusal(&opened), code::NOT_RUNNING);
    assert_eq!(
        refusal(&stage.open(&Open::Control {}).await.1),
        code::NOT_SUPPORTED
    );
    assert_eq!(stage.engine.calls(Op::Enter), 0);
}

#[tokio::test]
async fn streams_end_with_their_rental_and_with_the_agent() {
    for by_agent in [false, true] {
        let stage = stage();
        let (mut stream, opened) = stage.open(&stage.exec(&["sleep", "1000"])).await;
        assert_eq!(opened, Opened::Ready {});
        match by_agent {
            true => stage.shutdown.cancel(),
            false => stage.end(),
        }
        // a program that didn't come to its end was cut
        frame::read(&mut stream).await.expect_err("cut");
    }
}

#[tokio::test]
async fn a_rental_has_so_many_streams_and_no_more() {
    let stage = stage();
    let follow = stage.logs(LogsQuery {
        follow: true,
        ..LogsQuery::default()
    });
    let mut open = Vec::new();
    for _ in 0..STREAMS_MAX {
        let (stream, opened) = stage.open(&follow).await;
        assert_eq!(opened, Opened::Ready {});
        open.push(stream);
    }
    let (_, opened) = stage.open(&follow).await;
    assert_eq!(refusal(&opened), code::TOO_MANY);
    drop(open.pop());
    let freed = async {
        while stage.open(&follow).await.1 != (Opened::Ready {}) {
            tokio::task::yield_now().await;
        }
    };
    let freed = tokio::time::timeout(Duration::from_secs(60), freed).await;
    freed.expect("one that is closed makes room");
}

#[tokio::test]
async fn samples_follow_until_the_rental_is_over() {
    let stage = stage();
    let rental_id = stage.rental_id;
    let metrics = Open::Metrics {
        rental_id,
        follow: true,
    };
    assert_eq!(refusal(&stage.open(&metrics).await.1), code::NOT_RUNNING);
    let used = [Used {
        rental_id,
        counters: Counters::default(),
        ram_bytes: Some(5),
    }];
    let none = BTreeMap::new();
    stage
        .samples
        .take(Timestamp::from_secs(1_000), &used, &none);
    let (stream, opened) = stage.open(&metrics).await;
    assert_eq!(opened, Opened::Ready {});
    let mut lines = BufReader::new(stream).lines();
    for second in [1_000, 1_010] {
        let line = lines.next_line().await.expect("read").expect("a line");
        let sample: Sample = serde_json::from_str(&line).expect("a sample");
        assert_eq!((sample.at.as_secs(), sample.ram_bytes), (second, Some(5)));
        stage
            .samples
            .take(Timestamp::from_secs(1_010), &used, &none);
    }
    stage.samples.take(Timestamp::from_secs(1_020), &[], &none);
    assert_eq!(lines.next_line().await.expect("an end"), None);
}

#[tokio::test]
async fn logs_are_followed_until_the_rental_ends() {
    let stage = stage();
    let entry = |line: &str| Entry {
        at: Timestamp::from_secs(2),
        stream: Output::Stdout,
        line: line.to_owned(),
    };
    for line in ["one", "two"] {
        stage.engine.write(stage.rental_id, entry(line));
    }
    let query = LogsQuery {
        tail: Some(1),
        follow: true,
        ..LogsQuery::default()
    };
    let (stream, opened) = stage.open(&stage.logs(query)).await;
    assert_eq!(opened, Opened::Ready {});
    let mut lines = BufReader::new(stream).lines();
    for expected in ["two", "three"] {
        let line = lines.next_line().await.expect("read").expect("a line");
        let told: Entry = serde_json::from_str(&line).expect("an entry");
        assert_eq!(told.line, expected);
        stage.engine.write(stage.rental_id, entry("three"));
    }
    stage.end();
    let engine = stage.engine.clone();
    stage
        .kept
        .keep(&engine, stage.rental_id, CONTAINER)
        .await
        .expect("kept");
    stage.engine.vanish(CONTAINER);
    stage.live.send_modify(Vec::clear);
    let mut rest = String::new();
    let mut stream = lines.into_inner();
    stream.read_to_string(&mut rest).await.expect("an end");
    let (stream, opened) = stage.open(&stage.logs(LogsQuery::default())).await;
    assert_eq!(opened, Opened::Ready {}, "it is readable after the end");
    let line = BufReader::new(stream)
        .lines()
        .next_line()
        .await
        .expect("read");
    let told: Entry = serde_json::from_str(&line.expect("a line")).expect("an entry");
    assert_eq!(told.line, "one");
}
