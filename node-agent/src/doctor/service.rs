//! Checks of the agent's own processes: the helper, the running agent, systemd's unit.

use shared::resources::Finding;

use super::{
    facts::{Enrolled, Facts, Helper},
    failed, ok, warning,
};

/// Others may neither read nor write the helper's socket.
const OTHERS: u32 = 0o007;

/// Whether the helper can be asked, and by nobody else.
pub(super) fn helper(name: &'static str, facts: &Facts) -> Finding {
    match &facts.helper {
        Helper::None => warning(
            name,
            "no helper_socket is set: the agent works with Docker's engine itself, which is as good as being root",
            "install the package, or set helper_socket to /run/ramarket-helper/helper.sock and start ramarket-helper",
        ),
        Helper::Away(why) => failed(
            name,
            &format!("the helper can't be asked: {why}"),
            "run: systemctl enable --now ramarket-helper; ask as root or as the agent's user",
        ),
        Helper::There { mode, uid } if mode & OTHERS != 0 || *uid != facts.helper_owner => failed(
            name,
            &format!(
                "the helper's socket has mode {mode:04o} and belongs to user {uid}: others could pose as it, or try to speak to it"
            ),
            "run: systemctl restart ramarket-helper, which makes the socket anew",
        ),
        Helper::There { .. } => ok(
            name,
            "the helper answers, on a socket of root's and the agent's",
        ),
    }
}

/// Whether the agent runs and is heard.
pub(super) fn agent(name: &'static str, facts: &Facts) -> Finding {
    match (&facts.status, facts.agent_runs) {
        (Some(status), true) if status.contact == "connected" => match &status.metering_fault {
            Some(fault) => failed(
                name,
                &format!("it runs, and metering stands still: {fault}"),
                "do what the cause says: what runs isn't paid meanwhile",
            ),
            None => ok(
                name,
                &format!("it runs (process {}) and is connected", status.pid),
            ),
        },
        (_, true) => warning(
            name,
            "it runs, and has no contact with the coordinator",
            "see coordinator",
        ),
        (_, false) if matches!(facts.enrolled, Enrolled::No) => {
            ok(name, "it doesn't run: this machine isn't enrolled")
        }
        (_, false) => warning(
            name,
            "it doesn't run: rentals end with their leases",
            "run: systemctl enable --now ramarket-agent",
        ),
    }
}

/// Whether systemd starts the agent, and starts it anew when it hangs.
pub(super) fn unit(name: &'static str, facts: &Facts) -> Finding {
    let Some(unit) = &facts.unit else {
        return warning(
            name,
            "systemd doesn't run here: nobody starts the agent anew",
            "install the package on a machine with systemd, or let something else watch over the agent",
        );
    };
    if unit.load != "loaded" {
        return warning(
            name,
            "systemd knows no ramarket-agent.service",
            "install the package ramarket-agent",
        );
    }
    if unit.watchdog_us == 0 {
        return warning(
            name,
            "the unit has no watchdog: an agent that hangs isn't started anew",
            "take WatchdogSec=0 out of its drop-ins, then: systemctl daemon-reload",
        );
    }
    if unit.enabled != "enabled" {
        return warning(
            name,
            &format!(
                "the unit is {}: it isn't started with the machine",
                unit.enabled
            ),
            "run: systemctl enable --now ramarket-agent",
        );
    }
    let seconds = unit.watchdog_us / 1_000_000;
    ok(
        name,
        &format!(
            "the unit is {} and {}, with a watchdog of {seconds} s",
            unit.enabled, unit.active
        ),
    )
}
