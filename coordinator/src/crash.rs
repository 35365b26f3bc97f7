//! Places where a coordinator can be made to die, since what dying there leaves behind is tested. A release build has none of them.
//!
//! Each write of the database is two places, before it is asked for and after its commit; so is each call of the payments' ports. A place is
//! named by the write's name (`payment.credit`) or the call's (`facilitator.settle`), and the side.
//!
//! A debug build dies at the place that the variable `DIE_AT` names (`payment.credit:after`). Tests in the process hang a future there
//! and drop it.

/// Which side of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Nothing was done yet.
    Before,
    /// It is done, and nobody knows.
    After,
}

/// A release build passes.
#[cfg(not(any(test, debug_assertions)))]
#[expect(clippy::unused_async, reason = "where it is compiled, it may hang")]
#[inline]
pub(crate) async fn point(_name: &'static str, _side: Side) {}

/// Dies here if this is the place.
#[cfg(any(test, debug_assertions))]
pub(crate) async fn point(name: &'static str, side: Side) {
    if process::is_last(name, side) {
        tracing::warn!(name, ?side, "dying here, as asked");
        std::process::abort();
    }
    #[cfg(test)]
    plan::point(name, side).await;
}

#[cfg(any(test, debug_assertions))]
mod process {
    use std::sync::OnceLock;

    use super::Side;

    const VARIABLE: &str = "DIE_AT";

    pub(super) fn is_last(name: &str, side: Side) -> bool {
        static PLACE: OnceLock<Option<String>> = OnceLock::new();
        let place = PLACE.get_or_init(|| std::env::var_os(VARIABLE)?.into_string().ok());
        let side = match side {
            Side::Before => "before",
            Side::After => "after",
        };
        place
            .as_deref()
            .and_then(|place| place.split_once(':'))
            .is_some_and(|at| at == (name, side))
    }
}

#[cfg(test)]
pub(crate) mod plan {
    //! Where the future of a test hangs, to be dropped.

    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::sync::Notify;

    use super::Side;

    /// Where to die.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum At {
        /// Nowhere.
        Never,
        /// The first time at this place.
        Place(&'static str, Side),
        /// At one of these, whichever comes first.
        AnyOf(&'static [&'static str], Side),
        /// At the n-th place, from 0.
        Nth(usize),
        /// Nowhere by itself: whoever has the plan says when.
        Told,
    }

    /// Where one future dies.
    #[derive(Debug)]
    pub(crate) struct Plan {
        pub(crate) at: At,
        passed: AtomicUsize,
        /// Told when the place is reached.
        pub(crate) reached: Notify,
    }

    impl Plan {
        pub(crate) fn new(at: At) -> Arc<Self> {
            Arc::new(Self {
                at,
                passed: AtomicUsize::new(0),
                reached: Notify::new(),
            })
        }

        /// Runs `work` until it ends or dies: nothing if it died.
        pub(crate) async fn run<T>(self: &Arc<Self>, work: impl Future<Output = T>) -> Option<T> {
            tokio::select! {
                biased;
                () = self.reached.notified() => None,
                done = PLAN.scope(Arc::clone(self), work) => Some(done),
            }
        }
    }

    tokio::task_local! {
        static PLAN: Arc<Plan>;
    }

    pub(super) async fn point(name: &'static str, side: Side) {
        let Ok(plan) = PLAN.try_with(Arc::clone) else {
            return;
        };
        let passed = plan.passed.fetch_add(1, Ordering::SeqCst);
        let dies = match plan.at {
            At::Never | At::Told => false,
            At::Place(wanted, of) => (wanted, of) == (name, side),
            At::AnyOf(wanted, of) => wanted.contains(&name) && of == side,
            At::Nth(wanted) => wanted == passed,
        };
        if dies {
            plan.reached.notify_one();
            std::future::pending::<()>().await;
        }
    }
}
