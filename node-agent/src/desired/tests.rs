//! The wish over replies, restarts and broken files.

use shared::{
    clock::ManualClock,
    container::RawSpec,
    id::Ids,
    resources::Resources,
    time::Timestamp,
    wire::desired::{DesiredRental, Wanted},
};

use super::*;
use crate::testing::TempDir;

struct Bench {
    folder: TempDir,
    clock: ManualClock,
    rental: DesiredRental,
}

impl Bench {
    fn new() -> Self {
        let ids = Ids::counting();
        let spec = RawSpec {
            image: "busybox".to_owned(),
            ..RawSpec::default()
        };
        Self {
            folder: TempDir::new(),
            clock: ManualClock::starting_at(Timestamp::from_secs(1_800_000_000)),
            rental: DesiredRental {
                rental_id: ids.mint(),
                lease_id: ids.mint(),
                wanted: Wanted::Run,
                spec: spec.try_into().expect("valid"),
                resources: Resources::default(),
                gpus: Vec::new(),
                internet: true,
                isolation: None,
                image: None,
                private_image: false,
            },
        }
    }

    fn open(&self) -> Arc<DesiredStore> {
        let clock = Arc::new(self.clock.clone());
        let opened = DesiredStore::open(self.folder.path(), clock, "boot-a".to_owned());
        Arc::new(opened.expect("opened"))
    }

    fn state(&self, generation: i64, rentals: usize) -> DesiredState {
        DesiredState {
            generation,
            rentals: vec![self.rental.clone(); rentals],
        }
    }

    fn lease(&self, lease_ms: i64) -> Vec<Lease> {
        vec![Lease {
            rental_id: self.rental.rental_id,
            lease_id: self.rental.lease_id,
            lease_ms,
        }]
    }

    fn left_ms(&self, store: &Arc<DesiredStore>) -> i64 {
        let now = Now::read(&self.clock);
        let (rental_id, lease_id) = (self.rental.rental_id, self.rental.lease_id);
        store.current().leases.left_ms(rental_id, lease_id, now)
    }
}

#[tokio::test]
async fn a_reply_survives_a_restart() {
    let bench = Bench::new();
    let store = bench.open();
    assert_eq!(store.current().desired, None);
    let sent = bench.clock.boot_ms();
    store
        .apply(bench.state(3, 1), bench.lease(60_000), sent)
        .await
        .expect("durable");
    let again = bench.open();
    assert_eq!(again.current(), store.current());
    assert_eq!(again.current().generation(), 3);
    assert_eq!(bench.left_ms(&again), 60_000);
}

#[tokio::test]
async fn a_lower_generation_is_refused_with_its_leases() {
    let bench = Bench::new();
    let store = bench.open();
    let sent = bench.clock.boot_ms();
    store
        .apply(bench.state(5, 1), bench.lease(60_000), sent)
        .await
        .expect("durable");
    store
        .apply(bench.state(4, 0), bench.lease(600_000), sent)
        .await
        .expect("refusing isn't an error");
    assert_eq!(store.current().desired, Some(bench.state(5, 1)));
    assert_eq!(bench.left_ms(&store), 60_000);
}

#[tokio::test]
async fn an_equal_generation_moves_leases_only() {
    let bench = Bench::new();
    let store = bench.open();
    let sent = bench.clock.boot_ms();
    store
        .apply(bench.state(5, 1), bench.lease(60_000), sent)
        .await
        .expect("durable");
    store
        .apply(bench.state(5, 0), bench.lease(90_000), sent)
        .await
        .expect("durable");
    assert_eq!(store.current().desired, Some(bench.state(5, 1)));
    assert_eq!(bench.left_ms(&store), 90_000);
}

#[tokio::test]
async fn a_reply_that_changes_nothing_costs_no_write() {
    let bench = Bench::new();
    let store = bench.open();
    let sent = bench.clock.boot_ms();
    let (state, lease) = (bench.state(5, 1), bench.lease(60_000));
    store
        .apply(state.clone(), lease.clone(), sent)
        .await
        .expect("durable");
    let file = bench.folder.path().join(FILE_NAME);
    std::fs::remove_file(&file).expect("removed");
    store.apply(state, lease, sent + 10).await.expect("idle");
    assert!(!file.exists());
}

#[tokio::test]
async fn a_broken_file_means_nothing_is_known_and_any_reply_is_taken() {
    let bench = Bench::new();
    let store = bench.open();
    let sent = bench.clock.boot_ms();
    store
        .apply(bench.state(9, 1), bench.lease(60_000), sent)
        .await
        .expect("durable");
    let file = bench.folder.path().join(FILE_NAME);
    let whole = std::fs::read(&file).expect("readable");
    std::fs::write(&file, &whole[..whole.len() / 2]).expect("torn");
    let again = bench.open();
    assert_eq!(again.current().desired, None);
    assert!(bench.folder.path().join("desired.json.corrupt").exists());
    again
        .apply(bench.state(2, 1), bench.lease(60_000), sent)
        .await
        .expect("durable");
    assert_eq!(again.current().generation(), 2);
}

#[tokio::test]
async fn what_the_disk_refused_is_not_acted_on() {
    let bench = Bench::new();
    let store = bench.open();
    // a folder in the place of the temporary file makes the write fail, also for root
    std::fs::create_dir(bench.folder.path().join("desired.json.spare")).expect("made");
    let sent = bench.clock.boot_ms();
    store
        .apply(bench.state(1, 1), bench.lease(60_000), sent)
        .await
        .expect_err("not durable");
    assert_eq!(store.current().desired, None);
}
