//! The built-in timers: the register of all of them. The driver knows nothing of the business; a task is small and only
//! calls services.
//!
//! # Invariants
//! - Level-triggered: an activation takes no input, looks at the state of things and does what is due. A lost poke,
//!   a crash or a failure is made good by the next activation.
//! - One activation of a task runs at a time in this process; several processes may run the same task, so each is
//!   safe to run twice.

mod driver;
pub mod event_relay;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

pub use self::driver::{Task, TaskReport, Tasks};
use crate::{app::App, lifecycle::Lifecycle};

/// Starts every built-in timer. One line each.
pub fn start(app: &Arc<App>, lifecycle: &Lifecycle) {
    let every = |ms: u32| Duration::from_millis(u64::from(ms));
    let periods = &app.config.tasks;
    let relay = event_relay::EventRelay::new(Arc::clone(app));
    app.tasks.spawn(
        app,
        lifecycle,
        every(periods.event_relay_ms),
        Box::new(relay),
    );
}
