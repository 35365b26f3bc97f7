//! The helper's checks on an engine in memory.

use shared::{
    clock::{Clock, SystemClock},
    container::RawSpec,
    id::Ids,
    journal::Exit,
    wire::desired::Wanted,
};

use super::*;
use crate::runtime::fake::{FakeRuntime, Op};

mod generated;

#[async_trait]
impl Engine for FakeRuntime {
    async fn limits(&self, container_id: &str) -> Result<Option<HeldLimits>, RuntimeError> {
        Ok(self.limits_of(container_id))
    }
}

pub(in crate::boundary) const MIB: i64 = 1 << 20;
const IMAGE: &str = "busybox:latest";

pub(in crate::boundary) fn engine() -> FakeRuntime {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let engine = FakeRuntime::new(clock);
    engine.add_image(IMAGE, false);
    engine
}

pub(in crate::boundary) fn rental(ram_bytes: i64, cpu_millis: i64) -> DesiredRental {
    let spec = RawSpec {
        image: IMAGE.to_owned(),
        ..RawSpec::default()
    };
    DesiredRental {
        rental_id: Ids::System.mint(),
        lease_id: Ids::System.mint(),
        wanted: Wanted::Run,
        spec: spec.try_into().expect("valid"),
        resources: Resources {
            ram_bytes,
            cpu_millis,
            ..Resources::default()
        },
        gpus: Vec::new(),
        internet: true,
        isolation: None,
        image: None,
        private_image: false,
    }
}

fn guard(engine: &FakeRuntime) -> Guard {
    let room = Room {
        ram_bytes: 256 * MIB,
        cpu_millis: 2_000,
    };
    Guard::new(Arc::new(engine.clone()), room)
}

async fn created(guard: &Guard, rental: &DesiredRental) -> String {
    match guard.create(rental).await.expect("room") {
        Created::Fresh(id) => id,
        other => panic!("{other:?}"),
    }
}

fn is_refused(result: Result<impl std::fmt::Debug, RuntimeError>, wanted: &str) {
    match result.expect_err("refused") {
        RuntimeError::Refused { code, .. } => assert_eq!(code, wanted),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn the_limits_of_all_live_containers_stay_within_the_machine() {
    let engine = engine();
    let guard = guard(&engine);
    // alone too large, or not limited at all
    for (ram_mib, cpu_millis) in [(257, 100), (64, 2_001), (0, 100), (-1, 100), (64, 0)] {
        let asked = rental(ram_mib * MIB, cpu_millis);
        is_refused(guard.create(&asked).await, code::CREATE_FAILED);
    }
    assert_eq!(engine.calls(Op::Create), 0);
    let (first, second) = (rental(128 * MIB, 1_000), rental(128 * MIB, 500));
    let first_id = created(&guard, &first).await;
    created(&guard, &second).await;
    // the same again counts once
    assert_eq!(
        guard.create(&first).await,
        Ok(Created::Fresh(first_id.clone()))
    );
    let third = rental(64 * MIB, 100);
    let full = guard.create(&third).await.expect_err("no room");
    assert!(matches!(full, RuntimeError::Unavailable(_)), "{full}");
    assert_eq!(engine.containers().len(), 2);

    // one that ended makes room, which the helper finds out by itself
    guard.start(&first_id).await.expect("started");
    let exit = Exit {
        code: 0,
        oom_killed: false,
    };
    engine.exit(first.rental_id, exit);
    created(&guard, &third).await;
    // and isn't started again, since nobody counts it any more
    is_refused(guard.start(&first_id).await, code::START_FAILED);
    // processors are counted as well
    let many = guard.create(&rental(32 * MIB, 1_500)).await;
    assert!(
        matches!(many, Err(RuntimeError::Unavailable(_))),
        "{many:?}"
    );
}

#[tokio::test]
async fn a_helper_that_was_restarted_counts_what_it_finds() {
    let engine = engine();
    let before = guard(&engine);
    let held = created(&before, &rental(200 * MIB, 100)).await;
    let after = guard(&engine);
    // the agent's look comes before its next wish
    after.list().await.expect("a list");
    let full = after.create(&rental(64 * MIB, 100)).await;
    assert!(
        matches!(full, Err(RuntimeError::Unavailable(_))),
        "{full:?}"
    );
    after.remove(&held).await.expect("removed");
    created(&after, &rental(64 * MIB, 100)).await;
}

#[tokio::test]
async fn two_at_once_get_no_more_room_than_one_after_the_other() {
    let engine = engine();
    let guard = Arc::new(guard(&engine));
    guard.list().await.expect("a list");
    engine.hold(Op::Create);
    let launch = |ram_bytes| {
        let guard = Arc::clone(&guard);
        tokio::spawn(async move { guard.create(&rental(ram_bytes, 100)).await })
    };
    let first = launch(200 * MIB);
    while engine.waiting(Op::Create) == 0 {
        tokio::task::yield_now().await;
    }
    let second = launch(100 * MIB).await.expect("a task");
    assert!(
        matches!(second, Err(RuntimeError::Unavailable(_))),
        "{second:?}"
    );
    // a call that is given up gives its room back
    first.abort();
    assert!(first.await.expect_err("aborted").is_cancelled());
    engine.release(Op::Create);
    created(&guard, &rental(100 * MIB, 100)).await;
}

#[tokio::test]
async fn what_the_engine_does_not_call_ours_is_not_touched() {
    let engine = engine();
    let guard = guard(&engine);
    let strange = "f".repeat(64);
    guard.stop(&strange, Duration::ZERO).await.expect("gone");
    guard.remove(&strange).await.expect("gone");
    is_refused(guard.start(&strange).await, code::START_FAILED);
    for op in [Op::Start, Op::Stop, Op::Remove] {
        assert_eq!(engine.calls(op), 0, "{op:?}");
    }
    for bad in ["", "abc", "../..", &"F".repeat(64), "ramarket-rnt_1"] {
        is_refused(guard.inspect(bad).await, code::ENGINE_REFUSED);
        is_refused(guard.start(bad).await, code::ENGINE_REFUSED);
        is_refused(guard.stop(bad, Duration::ZERO).await, code::ENGINE_REFUSED);
        is_refused(guard.remove(bad).await, code::ENGINE_REFUSED);
    }
    assert_eq!(engine.calls(Op::Inspect), 3);
    let long = limits::GRACE + Duration::from_secs(1);
    is_refused(guard.stop(&strange, long).await, code::ENGINE_REFUSED);
    for bad in ["", "a b", "-v", "a//b"] {
        is_refused(
            guard.pull(&Fetch::of(bad), &|_| {}).await,
            code::IMAGE_NOT_FOUND,
        );
    }
    assert_eq!(engine.calls(Op::Pull), 0);
}

#[tokio::test]
async fn a_gpu_is_one_rentals_until_that_ended() {
    let engine = engine();
    let with_gpu = || DesiredRental {
        gpus: vec!["GPU-a".into()],
        resources: Resources {
            gpu_count: 1,
            ..rental(16 * MIB, 100).resources
        },
        ..rental(16 * MIB, 100)
    };
    let (first, second) = (with_gpu(), with_gpu());
    let guard = guard(&engine);
    let id = created(&guard, &first).await;
    let refused = guard.create(&second).await.expect_err("it is held");
    assert!(refused.to_string().contains("GPU-a"), "{refused}");
    // another run of the helper learns it from the containers
    let guard = self::guard(&engine);
    let refused = guard.create(&second).await.expect_err("it is held");
    assert!(refused.to_string().contains("GPU-a"), "{refused}");
    guard.remove(&id).await.expect("removed");
    created(&guard, &second).await;
}

#[tokio::test]
async fn a_rental_that_runs_is_counted_as_it_was_made_whatever_is_asked_for_again() {
    let engine = engine();
    let guard = guard(&engine);
    let large = DesiredRental {
        gpus: vec!["GPU-a".into()],
        resources: Resources {
            gpu_count: 1,
            ..rental(200 * MIB, 1_000).resources
        },
        ..rental(200 * MIB, 1_000)
    };
    let id = created(&guard, &large).await;
    guard.start(&id).await.expect("started");
    let small = DesiredRental {
        gpus: Vec::new(),
        resources: rental(16 * MIB, 100).resources,
        ..large.clone()
    };
    let restarted = self::guard(&engine);
    for guard in [&guard, &restarted] {
        let again = guard.create(&small).await.expect("adopted");
        assert_eq!(again, Created::Started(id.clone()));
        let full = guard.create(&rental(128 * MIB, 100)).await;
        let full = full.expect_err("no room");
        assert!(full.to_string().contains("bytes of memory"), "{full}");
        let other = DesiredRental {
            gpus: large.gpus.clone(),
            resources: Resources {
                gpu_count: 1,
                ..rental(16 * MIB, 100).resources
            },
            ..rental(16 * MIB, 100)
        };
        let held = guard.create(&other).await.expect_err("it is held");
        assert!(held.to_string().contains("GPU-a"), "{held}");
    }
}

#[tokio::test]
async fn a_rental_is_created_once_at_a_time_and_counts_with_no_less_than_it_has_meanwhile() {
    let engine = engine();
    let guard = Arc::new(guard(&engine));
    let large = rental(200 * MIB, 1_000);
    let id = created(&guard, &large).await;
    guard.start(&id).await.expect("started");
    let small = DesiredRental {
        resources: rental(16 * MIB, 100).resources,
        ..large
    };
    engine.hold(Op::Create);
    let again = {
        let (guard, small) = (Arc::clone(&guard), small.clone());
        tokio::spawn(async move { guard.create(&small).await })
    };
    while engine.waiting(Op::Create) == 0 {
        tokio::task::yield_now().await;
    }
    for asked in [small, rental(128 * MIB, 100)] {
        let refused = guard.create(&asked).await.expect_err("not now");
        assert!(matches!(refused, RuntimeError::Unavailable(_)), "{refused}");
    }
    assert_eq!(engine.waiting(Op::Create), 1);
    engine.release(Op::Create);
    let again = again.await.expect("a task").expect("adopted");
    assert_eq!(again, Created::Started(id));
}
