//! What a database tells the rest of the process: that something was committed, and that it is broken.

use tokio::sync::watch;

use super::StoreError;

/// The two signals, shared by everything that runs transactions.
#[derive(Debug)]
pub(super) struct Signals {
    committed: watch::Sender<u64>,
    fatal: watch::Sender<Option<String>>,
}

impl Signals {
    pub(super) fn new() -> Self {
        Self {
            committed: watch::Sender::new(0),
            fatal: watch::Sender::new(None),
        }
    }

    /// A commit is durable.
    pub(super) fn commit_done(&self) {
        self.committed
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn committed(&self) -> watch::Receiver<u64> {
        self.committed.subscribe()
    }

    /// Raises the alarm if `error` is fatal; the first reason stays.
    pub(super) fn note(&self, error: &StoreError) {
        if let StoreError::Failed {
            message,
            fatal: true,
        } = error
        {
            self.break_down(message);
        }
    }

    /// Nothing may be written from now on.
    pub(super) fn break_down(&self, reason: &str) {
        let first = self.fatal.send_if_modified(|fatal| {
            let first = fatal.is_none();
            if first {
                *fatal = Some(reason.to_owned());
            }
            first
        });
        if first {
            tracing::error!(
                db.reason = reason,
                "database is broken, nothing is written any more"
            );
        }
    }

    /// Why nothing may be written any more.
    pub(super) fn broken(&self) -> Option<StoreError> {
        self.fatal
            .borrow()
            .as_deref()
            .map(|reason| StoreError::fatal(format!("refused since an earlier failure: {reason}")))
    }

    pub(super) fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.fatal.subscribe()
    }
}
