//! How much at once and how long: the helper's bounds, which the agent knows so that it waits a little longer.

use std::time::Duration;

use super::protocol::Call;

/// Connections that are served at once; the next one waits to be accepted.
pub(super) const CONNECTIONS_MAX: usize = 384;
/// Connections that follow events: an agent needs one, and an old one may not be closed yet when the next comes.
pub(super) const FOLLOWERS_MAX: usize = 4;
/// Logs that are read at once.
pub(super) const READERS_MAX: usize = 96;
/// Of these, logs of one container: nobody's readers keep others from theirs.
pub(super) const READERS_EACH_MAX: usize = 8;
/// Containers that are entered at once; an agent keeps one connection for each rental that somebody uses.
pub(super) const ENTERED_MAX: usize = 160;
/// Pulls that run at once; the next one waits.
pub(super) const PULLS_MAX: usize = 4;
/// A connection that hasn't sent its request by then is closed.
pub(super) const REQUEST: Duration = Duration::from_secs(5);
/// A frame that the agent hasn't taken by then ends the call.
pub(super) const REPLY: Duration = Duration::from_secs(10);
/// After a connection that could not be accepted.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The longest that a container may be given to end.
pub(super) const GRACE: Duration = Duration::from_secs(600);

/// How long a call may take. The engine's own limits are shorter; this is for an engine that keeps none.
pub(super) fn within(call: &Call) -> Duration {
    let seconds = match call {
        Call::Facts {} | Call::DiskUse {} => 10,
        Call::List {} | Call::Inspect { .. } => 60,
        // one at a time, and each in half a minute but for a hanging engine
        Call::SelfTest {} => 240,
        Call::Pull { .. } => 31 * 60,
        Call::Create { .. } | Call::Start { .. } | Call::Remove { .. } => 150,
        Call::Stop { grace_ms, .. } => {
            return Duration::from_millis(*grace_ms).min(GRACE) + Duration::from_secs(60);
        }
        // an upload and two starts by a busy engine
        Call::Enter { .. } => 180,
        // until the agent closes it
        Call::Events { .. } | Call::Logs { .. } => return Duration::MAX,
    };
    Duration::from_secs(seconds)
}
