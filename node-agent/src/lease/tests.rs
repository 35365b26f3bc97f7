//! Table tests of lease arithmetic.

use shared::{
    container::RawSpec,
    id::{Ids, Minted},
    resources::Resources,
    wire::desired::Wanted,
};

use super::*;

const NOW: Now = Now {
    boot_ms: 1_000_000,
    wall: Timestamp::from_secs(1_800_000_000),
};

fn later(ms: i64) -> Now {
    Now {
        boot_ms: NOW.boot_ms + ms,
        wall: NOW.wall.plus_ms(ms),
    }
}

fn mint<T: Minted>(ids: &Ids) -> T {
    ids.mint()
}

fn rental(rental_id: RentalId, lease_id: LeaseId) -> DesiredRental {
    DesiredRental {
        rental_id,
        lease_id,
        wanted: Wanted::Run,
        spec: RawSpec {
            image: "busybox".to_owned(),
            ..RawSpec::default()
        }
        .try_into()
        .expect("valid"),
        resources: Resources::default(),
        gpus: Vec::new(),
        internet: true,
        isolation: None,
        image: None,
        private_image: false,
    }
}

struct Case {
    leases: Leases,
    desired: Vec<DesiredRental>,
    lease: Lease,
}

/// One rental with a lease of 60 s, the beat sent 500 ms ago.
fn granted() -> Case {
    let ids = Ids::counting();
    let desired = vec![rental(mint(&ids), mint(&ids))];
    let lease = Lease {
        rental_id: desired[0].rental_id,
        lease_id: desired[0].lease_id,
        lease_ms: 60_000,
    };
    let mut leases = Leases::none("boot-a".to_owned());
    assert!(leases.grant(&desired, &[lease], NOW.boot_ms - 500, NOW));
    Case {
        leases,
        desired,
        lease,
    }
}

impl Case {
    fn left_ms(&self, now: Now) -> i64 {
        self.leases
            .left_ms(self.lease.rental_id, self.lease.lease_id, now)
    }

    fn grant(&mut self, lease_ms: i64, sent_boot_ms: i64, now: Now) -> bool {
        let lease = Lease {
            lease_ms,
            ..self.lease
        };
        self.leases
            .grant(&self.desired, &[lease], sent_boot_ms, now)
    }
}

#[test]
fn a_lease_counts_from_the_moment_the_beat_was_sent() {
    let case = granted();
    assert_eq!(case.left_ms(NOW), 59_500);
    assert_eq!(case.left_ms(later(59_499)), 1);
    assert_eq!(case.left_ms(later(59_500)), 0);
    assert_eq!(case.leases.next_end_in_ms(NOW), Some(59_500));
    assert_eq!(case.leases.next_end_in_ms(later(59_500)), None);
}

#[test]
fn a_stepped_wall_clock_changes_nothing() {
    let case = granted();
    let stepped = Now {
        wall: NOW.wall.plus_ms(-3_600_000),
        ..NOW
    };
    assert_eq!(case.left_ms(stepped), 59_500);
}

#[test]
fn a_reply_never_shortens_a_lease() {
    let mut case = granted();
    assert!(!case.grant(10, NOW.boot_ms, NOW));
    assert!(!case.grant(-5, NOW.boot_ms, NOW));
    assert_eq!(case.left_ms(NOW), 59_500);
    assert!(
        !case
            .leases
            .grant(&case.desired.clone(), &[], NOW.boot_ms, NOW)
    );
    assert_eq!(case.left_ms(NOW), 59_500);
}

#[test]
fn small_extensions_add_up_before_they_are_taken() {
    let mut case = granted();
    assert!(!case.grant(60_000, NOW.boot_ms + 499, later(499)));
    assert!(case.grant(60_000, NOW.boot_ms + 500, later(500)));
    assert_eq!(case.left_ms(later(500)), 60_000);
}

#[test]
fn no_lease_runs_from_the_future_or_beyond_a_day() {
    let mut case = granted();
    assert!(case.grant(i64::MAX, i64::MAX, NOW));
    assert_eq!(case.left_ms(NOW), LEASE_MS_MAX);
}

#[test]
fn leases_of_other_rentals_and_other_leases_are_dropped() {
    let mut case = granted();
    let ids = Ids::counting();
    for _ in 0..10 {
        ids.mint::<LeaseId>();
    }
    let other_lease = rental(case.lease.rental_id, ids.mint());
    assert!(case.leases.grant(
        std::slice::from_ref(&other_lease),
        &[case.lease],
        NOW.boot_ms,
        NOW
    ));
    assert_eq!(case.left_ms(NOW), 0);
    let of_other = case
        .leases
        .left_ms(other_lease.rental_id, other_lease.lease_id, NOW);
    assert_eq!(of_other, 0, "an old lease doesn't carry over to a new one");
}

#[test]
fn after_a_reboot_the_wall_clock_decides() {
    let case = granted();
    let rebooted = Now {
        boot_ms: 5_000,
        wall: NOW.wall.plus_ms(20_000),
    };
    let leases = case.leases.clone().in_boot("boot-b", rebooted);
    let left_ms = leases.left_ms(case.lease.rental_id, case.lease.lease_id, rebooted);
    assert_eq!(left_ms, 39_500);
    assert_eq!(case.leases.clone().in_boot("boot-a", rebooted), case.leases);

    let too_late = Now {
        boot_ms: 5_000,
        wall: NOW.wall.plus_ms(70_000),
    };
    let leases = case.leases.clone().in_boot("boot-b", too_late);
    assert_eq!(leases.next_end_in_ms(too_late), None);

    let clock_behind = Now {
        boot_ms: 5_000,
        wall: Timestamp::from_secs(0),
    };
    let leases = case.leases.clone().in_boot("boot-b", clock_behind);
    assert_eq!(leases.next_end_in_ms(clock_behind), Some(LEASE_MS_MAX));
}
