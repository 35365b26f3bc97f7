//! Waiting until something holds: the one place of the tests that sleeps.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

/// Longer than anything in a test takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);
const STEP: Duration = Duration::from_millis(50);

/// Asks `probe` until it has an answer, and returns that.
///
/// # Panics
/// After [`PATIENCE`], with `what` was waited for.
pub async fn until<T, F, Fut>(what: &str, probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    until_within(PATIENCE, what, probe).await
}

/// [`until`] with a patience of the caller's.
///
/// # Panics
/// When the patience is over, with `what` was waited for.
pub async fn until_within<T, F, Fut>(patience: Duration, what: &str, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {patience:?} in vain until {what}"
        );
        tokio::time::sleep(STEP).await;
    }
}
