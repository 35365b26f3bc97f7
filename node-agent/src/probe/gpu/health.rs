//! Whether work can be given to a GPU: a pure decision over what NVML and the driver's log (XIDs) say of it.
//!
//! # Invariants
//! - What a tenant's own program can cause (XID 13, 31, 43, 45) says nothing about the GPU.
//! - What only a reset or a reload of the driver mends (a bad XID) stays until NVML is opened anew.

use std::collections::BTreeSet;

use shared::resources::GpuHealth;

/// XIDs after which results can't be trusted or the GPU needs a reset, by NVIDIA's list of XID errors, with their meaning.
const BAD_XIDS: [(u64, &str); 14] = [
    (48, "double-bit memory error"),
    (62, "internal micro-controller halt"),
    (63, "memory row remapping pending"),
    (64, "memory row remapping failed"),
    (74, "NVLink error"),
    (79, "fallen off the bus"),
    (92, "high rate of single-bit memory errors"),
    (94, "contained memory error"),
    (95, "uncontained memory error"),
    (109, "context switch timed out"),
    (119, "GPU system processor timed out"),
    (120, "GPU system processor error"),
    (140, "unrecovered memory error"),
    (143, "initialization failed"),
];

/// Slowdowns that the hardware forces; being busy, idle or at the power limit is no fault.
pub(super) mod slowdown {
    /// Clocks are halved at least: too hot.
    pub(in crate::probe::gpu) const THERMAL: u64 = 0x40;
    /// Clocks are halved at least: the power supply asks for it.
    pub(in crate::probe::gpu) const POWER_BRAKE: u64 = 0x80;
}

/// What is known of a GPU at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Vitals {
    /// XIDs since NVML was opened.
    pub(super) xids: BTreeSet<u64>,
    /// Memory errors that ECC couldn't correct since the driver was loaded; `None` without ECC.
    pub(super) uncorrected_errors: Option<u64>,
    /// Why it runs slower, as NVML's bits; `None` where it doesn't say.
    pub(super) slowdown: Option<u64>,
    /// Degrees Celsius.
    pub(super) temperature_c: Option<i64>,
}

/// The decision.
pub(super) fn judge(vitals: &Vitals) -> GpuHealth {
    let degraded = |reason: String| GpuHealth::Degraded { reason };
    let bad = BAD_XIDS.iter().find(|(xid, _)| vitals.xids.contains(xid));
    if let Some((xid, meaning)) = bad {
        return degraded(format!(
            "the driver reported XID {xid} ({meaning}): reset the GPU or restart the machine"
        ));
    }
    if let Some(errors @ 1..) = vitals.uncorrected_errors {
        return degraded(format!(
            "{errors} memory errors that ECC couldn't correct: reset the GPU; if it comes again, replace it"
        ));
    }
    let slowdown = vitals.slowdown.unwrap_or_default();
    if slowdown & slowdown::THERMAL != 0 {
        let at = vitals
            .temperature_c
            .map_or_else(String::new, |degrees| format!(" at {degrees} °C"));
        return degraded(format!("slowed down by heat{at}: see to its cooling"));
    }
    if slowdown & slowdown::POWER_BRAKE != 0 {
        return degraded("slowed down by the power supply: it gives too little".to_owned());
    }
    GpuHealth::Good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_work_is_a_fault_and_what_work_causes_is_none() {
        let xids = |xids: &[u64]| Vitals {
            xids: xids.iter().copied().collect(),
            ..Vitals::default()
        };
        let slow = |bits: u64| Vitals {
            slowdown: Some(bits),
            temperature_c: Some(91),
            ..Vitals::default()
        };
        let errors = |count: u64| Vitals {
            uncorrected_errors: Some(count),
            ..Vitals::default()
        };
        for good in [
            Vitals::default(),
            xids(&[13, 31, 43, 45]),
            slow(0x1 | 0x4 | 0x20),
            errors(0),
        ] {
            assert_eq!(judge(&good), GpuHealth::Good, "{good:?}");
        }
        for (bad, words) in [
            (xids(&[13, 79]), "XID 79 (fallen off the bus)"),
            (errors(2), "2 memory errors"),
            (slow(slowdown::THERMAL), "by heat at 91 °C"),
            (slow(slowdown::POWER_BRAKE), "by the power supply"),
        ] {
            let health = judge(&bad);
            let said = health.fault().unwrap_or_default();
            assert!(said.contains(words), "{bad:?}: {said}");
        }
    }
}
