//! Which rentals don't have what they pay for: a GPU of theirs is broken, gone, or used by somebody else.

use std::collections::{BTreeMap, BTreeSet};

use shared::{
    id::RentalId,
    link::open::GpuSample,
    resources::{Gpu, GpuLoad},
};

use crate::rental::LiveRental;

/// The rentals among `live` of which a GPU doesn't work for them, by what the GPUs say of themselves now.
pub(super) fn faulty(live: &[LiveRental], gpus: &[(Gpu, GpuLoad)]) -> BTreeSet<RentalId> {
    let works = |rental: &LiveRental, uuid: &String| {
        gpus.iter()
            .find(|(gpu, _)| gpu.uuid == *uuid)
            .is_some_and(|(gpu, load)| gpu.health.fault().is_none() && is_its_own(rental, load))
    };
    live.iter()
        .filter(|rental| !rental.gpus.iter().all(|uuid| works(rental, uuid)))
        .map(|rental| rental.observed.rental_id)
        .collect()
}

/// How each rental's own GPUs are used, by what they said last.
pub(super) fn samples(
    live: &[LiveRental],
    gpus: &[(Gpu, GpuLoad)],
) -> BTreeMap<RentalId, Vec<GpuSample>> {
    let sample = |uuid: &String| {
        let mut same = gpus.iter().filter(|(gpu, _)| gpu.uuid == *uuid);
        same.next().map(|(_, load)| GpuSample {
            uuid: uuid.clone(),
            busy_percent: load.busy_percent,
            vram_used_bytes: load.vram_used_bytes,
        })
    };
    let of = |rental: &LiveRental| rental.gpus.iter().filter_map(sample).collect();
    live.iter()
        .filter(|rental| !rental.gpus.is_empty())
        .map(|rental| (rental.observed.rental_id, of(rental)))
        .collect()
}

/// Whether nobody but the rental's container computes there.
fn is_its_own(rental: &LiveRental, load: &GpuLoad) -> bool {
    load.processes
        .iter()
        .all(|process| process.container_id == rental.observed.container_id)
}

#[cfg(test)]
mod tests {
    use shared::{
        id::Ids,
        resources::{GpuHealth, GpuProcess},
        wire::observed::{ObservedRental, Phase},
    };

    use super::*;

    fn rental(gpus: &[&str]) -> LiveRental {
        LiveRental {
            observed: ObservedRental {
                rental_id: Ids::System.mint(),
                lease_id: Ids::System.mint(),
                phase: Phase::Running,
                container_id: Some("c1".into()),
                image_digest: None,
                started_at: None,
                finished_at: None,
            },
            spec_sha256: String::new(),
            pid: None,
            gpus: gpus.iter().map(|uuid| (*uuid).to_owned()).collect(),
        }
    }

    fn gpu(uuid: &str, health: GpuHealth, used_by: &[Option<&str>]) -> (Gpu, GpuLoad) {
        let gpu = Gpu {
            uuid: uuid.into(),
            model: String::new(),
            vram_total_bytes: 0,
            pci_bus_id: String::new(),
            driver: String::new(),
            cuda: None,
            pcie: None,
            mig: false,
            health,
        };
        let process = |container: &Option<&str>| GpuProcess {
            container_id: container.map(str::to_owned),
            vram_used_bytes: None,
        };
        let load = GpuLoad {
            processes: used_by.iter().map(process).collect(),
            ..GpuLoad::default()
        };
        (gpu, load)
    }

    #[test]
    fn a_broken_lost_or_shared_gpu_is_a_fault_of_the_rental_that_has_it() {
        let hot = GpuHealth::Degraded {
            reason: "hot".into(),
        };
        let (mine, other, none) = (rental(&["a", "b"]), rental(&["c"]), rental(&[]));
        let live = [mine.clone(), other.clone(), none];
        let (mine, other) = (mine.observed.rental_id, other.observed.rental_id);
        let good = |uuid, used_by: &[Option<&str>]| gpu(uuid, GpuHealth::Good, used_by);
        let all = |first, third| [first, good("b", &[]), third];
        let check = |gpus: &[(Gpu, GpuLoad)], expected: &[RentalId], why: &str| {
            let expected: BTreeSet<RentalId> = expected.iter().copied().collect();
            assert_eq!(faulty(&live, gpus), expected, "{why}");
        };
        check(
            &all(good("a", &[Some("c1")]), good("c", &[])),
            &[],
            "its own programs",
        );
        check(
            &all(gpu("a", hot, &[]), good("c", &[])),
            &[mine],
            "degraded",
        );
        check(
            &[good("a", &[]), good("b", &[])],
            &[other],
            "not listed any more",
        );
        check(
            &all(good("a", &[None]), good("c", &[])),
            &[mine],
            "a program of the host",
        );
        check(
            &all(good("a", &[]), good("c", &[Some("c9")])),
            &[other],
            "another's program",
        );
    }
}
