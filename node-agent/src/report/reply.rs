//! What the coordinator answers, checked before anything of it is believed.

use shared::wire::{
    RENTALS_PER_NODE_MAX,
    heartbeat::{Recover, Reply},
};

/// Largest answer: as many rentals as a node may hold, each with the largest specification, would be larger than any real one.
pub(super) const REPLY_BYTES_MAX: usize = 16 * 1024 * 1024;
const BEACON_CHARS_MAX: usize = 128;
/// A lease that is longer is a mistake: nothing would stop a container that nobody pays.
const LEASE_MS_MAX: i64 = 7 * 24 * 3_600_000;
/// Between beats, whatever the coordinator says.
const INTERVAL_MS: std::ops::RangeInclusive<i64> = 200..=60_000;

/// Reads and checks an answer.
pub(super) fn parse(body: &[u8]) -> Result<Reply, String> {
    let reply: Reply = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if reply.desired.rentals.len() > RENTALS_PER_NODE_MAX
        || reply.leases.len() > RENTALS_PER_NODE_MAX
        || reply.pull_secrets.len() > RENTALS_PER_NODE_MAX
    {
        return Err(format!(
            "it wants {} rentals under {} leases, and a node holds at most {RENTALS_PER_NODE_MAX}",
            reply.desired.rentals.len(),
            reply.leases.len()
        ));
    }
    if let Some(lease) = reply
        .leases
        .iter()
        .find(|lease| !(0..=LEASE_MS_MAX).contains(&lease.lease_ms))
    {
        return Err(format!(
            "the lease of {} lasts {} ms",
            lease.rental_id, lease.lease_ms
        ));
    }
    if reply.desired.generation < 0 {
        return Err("its generation is negative".to_owned());
    }
    check_beacon(&reply.beacon)?;
    Ok(reply)
}

/// Checks what came with a 401.
pub(super) fn check_recover(recover: &Recover) -> Result<(), String> {
    check_beacon(&recover.beacon)
}

/// When to beat again, within bounds.
pub(super) fn interval_ms(reply: &Reply) -> i64 {
    reply
        .beat_interval_ms
        .clamp(*INTERVAL_MS.start(), *INTERVAL_MS.end())
}

fn check_beacon(beacon: &str) -> Result<(), String> {
    if beacon.len() > BEACON_CHARS_MAX || !beacon.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("its beacon isn't a short hexadecimal text".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::{
        id::Ids,
        time::Timestamp,
        wire::desired::{DesiredState, Lease},
    };

    use super::*;
    use crate::mangled::{cases, mangled};

    fn reply() -> Reply {
        Reply {
            desired: DesiredState::default(),
            leases: Vec::new(),
            pull_secrets: Vec::new(),
            ack: None,
            beacon: "ab".repeat(16),
            more: false,
            server_time: Timestamp::from_secs(1),
            beat_interval_ms: 5_000,
        }
    }

    fn check(reply: &Reply) -> Result<Reply, String> {
        parse(&serde_json::to_vec(reply).expect("json"))
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        assert_eq!(check(&reply()), Ok(reply()));
        let ids = Ids::counting();
        let lease = |lease_ms| Lease {
            rental_id: ids.mint(),
            lease_id: ids.mint(),
            lease_ms,
        };
        for leases in [
            vec![lease(-1)],
            vec![lease(i64::MAX)],
            (0..=RENTALS_PER_NODE_MAX).map(|_| lease(1)).collect(),
        ] {
            assert!(check(&Reply { leases, ..reply() }).is_err());
        }
        for beacon in ["not hex".to_owned(), "a".repeat(129)] {
            assert!(check(&Reply { beacon, ..reply() }).is_err());
        }
        assert!(parse(b"{}").is_err());
        for (said, taken) in [(0, 200), (i64::MAX, 60_000), (5_000, 5_000)] {
            let reply = Reply {
                beat_interval_ms: said,
                ..reply()
            };
            assert_eq!(interval_ms(&reply), taken);
        }
    }

    #[test]
    fn the_sample_is_accepted() {
        assert_eq!(
            parse(sample().to_string().as_bytes()).map(|reply| reply.leases.len()),
            Ok(1)
        );
    }

    fn sample() -> serde_json::Value {
        let (rental, lease) = (
            format!("rnt_{}", "2".repeat(32)),
            format!("lea_{}", "3".repeat(32)),
        );
        serde_json::json!({
            "desired": {"generation": 1, "rentals": [{"rental_id": rental, "lease_id": lease, "wanted": "run",
                "spec": {"image": "busybox", "command": ["sleep", "1"], "env": {"A": "b"}},
                "resources": {"ram_bytes": 1, "cpu_millis": 1, "gpu_count": 0, "disk_bytes": 0}}]},
            "leases": [{"rental_id": rental, "lease_id": lease, "lease_ms": 5}],
            "ack": null, "beacon": "ab", "more": false, "server_time": "2026-01-31T12:00:00Z", "beat_interval_ms": 5000,
        })
    }

    proptest! {
        #![proptest_config(cases(2_000))]

        #[test]
        fn whatever_comes_is_within_bounds_or_refused(
            bytes in prop_oneof![mangled(sample().to_string()), prop::collection::vec(any::<u8>(), 0..300)],
            lease_ms in any::<i64>(), interval in any::<i64>(), beacon in ".{0,200}",
        ) {
            let mut bent = sample();
            bent["leases"][0]["lease_ms"] = lease_ms.into();
            bent["beat_interval_ms"] = interval.into();
            bent["beacon"] = beacon.into();
            for bytes in [bytes, bent.to_string().into_bytes()] {
                let Ok(reply) = parse(&bytes) else { continue };
                prop_assert!(reply.leases.iter().all(|lease| (0..=LEASE_MS_MAX).contains(&lease.lease_ms)));
                prop_assert!(INTERVAL_MS.contains(&interval_ms(&reply)));
                prop_assert!(reply.beacon.len() <= BEACON_CHARS_MAX && reply.desired.generation >= 0);
                let again = parse(&serde_json::to_vec(&reply).expect("json"));
                prop_assert_eq!(again, Ok(reply));
            }
        }
    }
}
