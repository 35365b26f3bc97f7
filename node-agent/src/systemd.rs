//! What systemd is told, where there is one.

use std::time::Duration;

use sd_notify::NotifyState;

/// How often the watchdog is fed; a default where there is none.
pub(crate) fn watchdog_every() -> Duration {
    sd_notify::watchdog_enabled().map_or(Duration::from_secs(30), |limit| limit / 3)
}

/// Does nothing where there is no systemd.
pub(crate) fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd can't be told");
    }
}
