//! Whatever an agent asks for, in whatever order, and wherever the helper is restarted: rentals never hold more than the machine has for them.

use proptest::prelude::*;

use super::*;
use crate::{mangled::cases, runtime::ContainerState};

// what `guard` gives
const RAM_MIB: i64 = 256;
const CPU_MILLIS: i64 = 2_000;

/// A step; numbers choose among what is there.
#[derive(Debug, Clone)]
enum Step {
    Create { ram_mib: i64, cpu_millis: i64 },
    Again(usize),
    Start(usize),
    Exit(usize),
    Remove(usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0_usize..8;
    prop_oneof![
        4 => (-1_i64..300, -1_i64..2_200).prop_map(|(ram_mib, cpu_millis)| Step::Create { ram_mib, cpu_millis }),
        1 => which.clone().prop_map(Step::Again),
        3 => which.clone().prop_map(Step::Start),
        2 => which.clone().prop_map(Step::Exit),
        1 => which.prop_map(Step::Remove),
        1 => Just(Step::Restart),
    ]
}

/// What the engine's containers may take together: those that run or can be started.
fn held(engine: &FakeRuntime) -> (i64, i64) {
    engine
        .containers()
        .iter()
        .filter(|container| !matches!(container.state, ContainerState::Exited(_)))
        .filter_map(|container| engine.limits_of(&container.id))
        .fold((0, 0), |(ram, cpu), limits| {
            (ram + limits.ram_bytes, cpu + limits.cpu_millis)
        })
}

async fn walk(steps: Vec<Step>) -> usize {
    let engine = engine();
    let mut helper = guard(&engine);
    let (mut asked, mut made) = (Vec::new(), 0);
    for step in steps {
        let containers = engine.containers();
        let at = |number: usize| containers.get(number % containers.len().max(1));
        // refusals are answers as good as any: what counts is what is held then
        match step {
            Step::Create {
                ram_mib,
                cpu_millis,
            } => {
                let rental = rental(ram_mib * MIB, cpu_millis);
                made += usize::from(helper.create(&rental).await.is_ok());
                asked.push(rental);
            }
            Step::Again(number) => {
                if let Some(rental) = asked.get(number) {
                    drop(helper.create(rental).await);
                }
            }
            Step::Start(number) => {
                if let Some(container) = at(number) {
                    drop(helper.start(&container.id).await);
                }
            }
            Step::Exit(number) => {
                if let Some(rental_id) = at(number).and_then(|container| container.rental_id) {
                    let exit = Exit {
                        code: 0,
                        oom_killed: false,
                    };
                    engine.exit(rental_id, exit);
                }
            }
            Step::Remove(number) => {
                if let Some(container) = at(number) {
                    drop(helper.remove(&container.id).await);
                }
            }
            Step::Restart => helper = guard(&engine),
        }
        let (ram_bytes, cpu_millis) = held(&engine);
        assert!(
            ram_bytes <= RAM_MIB * MIB && cpu_millis <= CPU_MILLIS,
            "{ram_bytes} bytes, {cpu_millis} thousandths"
        );
    }
    made
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn rentals_never_hold_more_than_the_machine_has_for_them(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(walk(steps));
    }
}

#[tokio::test]
async fn the_walk_can_find_room() {
    let fits = Step::Create {
        ram_mib: 64,
        cpu_millis: 100,
    };
    assert_eq!(walk(vec![fits; 6]).await, 4, "four of 64 MiB in 256 MiB");
}
