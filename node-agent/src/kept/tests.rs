//! Logs of a simulated engine in a folder of this machine.

use shared::{
    clock::{ManualClock, SystemClock},
    id::Ids,
    link::open::Output,
    time::Timestamp,
};

use super::*;
use crate::{
    runtime::{
        Container, ContainerState,
        fake::{FakeRuntime, Op},
    },
    testing::TempDir,
};

const DAY_MS: i64 = 24 * 3_600_000;

struct Stage {
    _home: TempDir,
    folder: PathBuf,
    engine: FakeRuntime,
    ids: Ids,
}

impl Stage {
    fn new() -> Self {
        let home = TempDir::new();
        Self {
            folder: home.path().join("logs"),
            _home: home,
            engine: FakeRuntime::new(Arc::new(SystemClock)),
            ids: Ids::counting(),
        }
    }

    fn open(&self, bytes: i64, clock: Arc<dyn Clock>) -> Arc<KeptLogs> {
        let limits = Limits {
            bytes,
            keep_ms: 7 * DAY_MS,
        };
        Arc::new(KeptLogs::open(self.folder.clone(), limits, clock).expect("opened"))
    }

    /// A rental that wrote these lines, and its container.
    fn rental(&self, lines: &[&str]) -> (RentalId, String) {
        let rental_id = self.ids.mint();
        let id = format!("{rental_id}");
        self.engine.put(&Container {
            id: id.clone(),
            rental_id: Some(rental_id),
            lease_id: None,
            spec_sha256: String::new(),
            gpus: Vec::new(),
            state: ContainerState::Running,
            pid: None,
            started_at: None,
            finished_at: None,
            image_digest: None,
            over_disk: None,
        });
        for line in lines {
            let entry = Entry {
                at: Timestamp::from_secs(5),
                stream: Output::Stdout,
                line: (*line).to_owned(),
            };
            self.engine.write(rental_id, entry);
        }
        (rental_id, id)
    }
}

async fn lines(kept: &KeptLogs, rental_id: RentalId, query: LogsQuery) -> Vec<String> {
    let entries = kept.logs(rental_id, query);
    entries
        .map(|entry| entry.expect("an entry").line)
        .collect()
        .await
}

#[tokio::test]
async fn a_log_is_kept_whole_and_told_as_a_live_one() {
    let stage = Stage::new();
    let kept = stage.open(1 << 30, Arc::new(SystemClock));
    let (rental_id, id) = stage.rental(&["one", "two", "three"]);
    assert!(!kept.has(rental_id));
    for _ in 0..2 {
        // once more after a crash between this and the removal
        kept.keep(&stage.engine, rental_id, &id)
            .await
            .expect("kept");
    }
    let again = stage.open(1 << 30, Arc::new(SystemClock));
    assert!(again.has(rental_id));
    let all = LogsQuery::default();
    assert_eq!(
        lines(&again, rental_id, all.clone()).await,
        ["one", "two", "three"]
    );
    let some = LogsQuery {
        tail: Some(1),
        search: Some("o".to_owned()),
        ..all
    };
    assert_eq!(lines(&again, rental_id, some).await, ["two"]);
    let (silent, id) = stage.rental(&[]);
    kept.keep(&stage.engine, silent, &id)
        .await
        .expect("nothing to keep");
    assert!(!kept.has(silent));
}

#[tokio::test]
async fn the_oldest_go_for_room_and_all_in_their_time() {
    let stage = Stage::new();
    let long = "x".repeat(8_000);
    let now = SystemClock.now();
    let clock = ManualClock::starting_at(now);
    let kept = stage.open(20_000, Arc::new(clock.clone()));
    let mut rentals = Vec::new();
    for _ in 0..3 {
        let (rental_id, id) = stage.rental(&[&long]);
        kept.keep(&stage.engine, rental_id, &id)
            .await
            .expect("kept");
        let age = Duration::from_secs(100 - u64::try_from(rentals.len()).expect("few"));
        let file = std::fs::File::open(kept.path(rental_id)).expect("there");
        let at = file
            .metadata()
            .and_then(|facts| facts.modified())
            .expect("a time");
        file.set_modified(at - age).expect("made older");
        rentals.push(rental_id);
    }
    let has: Vec<bool> = rentals.iter().map(|id| kept.has(*id)).collect();
    assert_eq!(has, [false, true, true]);
    clock.advance_ms(8 * DAY_MS);
    kept.make_room(0).expect("swept");
    assert!(!rentals.iter().any(|id| kept.has(*id)));
}

#[tokio::test]
async fn what_can_not_be_kept_never_stands_in_the_way_for_ever() {
    let stage = Stage::new();
    let kept = stage.open(1 << 30, Arc::new(SystemClock));
    let (rental_id, id) = stage.rental(&["one"]);
    stage.engine.set_down(true);
    for _ in 1..TRIES_MAX {
        kept.keep(&stage.engine, rental_id, &id)
            .await
            .expect_err("asked again");
    }
    kept.keep(&stage.engine, rental_id, &id)
        .await
        .expect("given up");
    stage.engine.set_down(false);
    // a folder in the way of the file
    std::fs::create_dir_all(kept.path(rental_id).join("x")).expect("made");
    kept.keep(&stage.engine, rental_id, &id)
        .await
        .expect("given up");
    assert_eq!(stage.engine.calls(Op::Logs), 4);
    let none = stage.open(0, Arc::new(SystemClock));
    kept.keep(&stage.engine, rental_id, &id)
        .await
        .expect("given up");
    none.keep(&stage.engine, rental_id, &id)
        .await
        .expect("none are kept");
    assert_eq!(stage.engine.calls(Op::Logs), 5);
}

#[tokio::test]
async fn others_who_read_a_lot_cost_no_tries() {
    let stage = Stage::new();
    let kept = stage.open(1 << 30, Arc::new(SystemClock));
    let (rental_id, id) = stage.rental(&["one"]);
    for _ in 0..2 * TRIES_MAX {
        let busy = RuntimeError::Busy("too many logs are being read already".to_owned());
        stage.engine.fail_next(Op::Logs, busy);
        kept.keep(&stage.engine, rental_id, &id)
            .await
            .expect_err("asked again");
    }
    kept.keep(&stage.engine, rental_id, &id)
        .await
        .expect("kept");
    assert!(kept.has(rental_id));
    // but not for ever: what is over holds its disk until it is removed
    let (other, id) = stage.rental(&["one"]);
    for tries in 1..=BUSY_TRIES_MAX {
        let busy = RuntimeError::Busy("too many logs are being read already".to_owned());
        stage.engine.fail_next(Op::Logs, busy);
        let again = kept.keep(&stage.engine, other, &id).await.is_err();
        assert_eq!(again, tries < BUSY_TRIES_MAX, "{tries}");
    }
}

#[tokio::test]
async fn a_log_takes_no_more_than_all_may_have() {
    let stage = Stage::new();
    let kept = stage.open(20_000, Arc::new(SystemClock));
    let long = "x".repeat(1_000);
    let (rental_id, id) = stage.rental(&[long.as_str(); 100]);
    kept.keep(&stage.engine, rental_id, &id)
        .await
        .expect("kept");
    let bytes = std::fs::metadata(kept.path(rental_id))
        .expect("there")
        .len();
    assert!((10_000..=20_000).contains(&bytes), "{bytes}");
}
