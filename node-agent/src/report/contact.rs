//! How the connection to the coordinator is: for the log, systemd and the person in front of the machine.
//!
//! # Invariants
//! - A change is logged once: lost, lost for another reason, back. Not each failure.

use shared::{time::Timestamp, wire::problem::agent_codes};
use tokio::sync::watch;

use crate::{http::RequestError, identity::Identity};

/// How the connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contact {
    /// No beat was tried yet.
    Starting,
    /// The last beat was answered.
    Connected {
        /// Since when.
        since: Timestamp,
    },
    /// The last beat failed.
    Lost {
        /// Since when.
        since: Timestamp,
        /// A stable code.
        code: String,
        /// In words.
        reason: String,
    },
}

/// A beat was answered.
pub(super) fn connected(contact: &watch::Sender<Contact>, identity: &Identity, now: Timestamp) {
    contact.send_if_modified(|contact| {
        if matches!(contact, Contact::Connected { .. }) {
            return false;
        }
        tracing::info!(
            node.id = %identity.node_id,
            url = identity.url.as_str(),
            "connected"
        );
        *contact = Contact::Connected { since: now };
        true
    });
}

/// A beat failed.
pub(super) fn lost(contact: &watch::Sender<Contact>, error: &RequestError, now: Timestamp) {
    contact.send_if_modified(|contact| {
        let (since, known) = match contact {
            Contact::Lost { since, code, .. } => (*since, code == error.code()),
            _ => (now, false),
        };
        if known {
            return false;
        }
        let reason = format!("{error}{}", advice(error.code()));
        tracing::warn!(code = error.code(), reason, "no contact; rentals go on");
        *contact = Contact::Lost {
            since,
            code: error.code().to_owned(),
            reason,
        };
        true
    });
}

/// What to do about refusals that don't pass by themselves.
fn advice(code: &str) -> &'static str {
    match code {
        agent_codes::JOURNAL_GAP | agent_codes::JOURNAL_FORKED => {
            "; this machine's journal doesn't continue what the coordinator has: restore the newest journal, or enrol anew with `ramarket-agent enroll --force …`"
        }
        agent_codes::KEY_IN_USE_TWICE => {
            "; stop the other process that uses this node's key, or enrol anew if you don't know it"
        }
        agent_codes::NODE_UNKNOWN | agent_codes::NODE_REVOKED => {
            "; if this machine is to come back, enrol it anew with `ramarket-agent enroll --force …`"
        }
        agent_codes::NODE_BANNED => "; only the market's operators can take it back: ask them",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str) -> RequestError {
        RequestError::Refused {
            status: 409,
            code: code.to_owned(),
            detail: "no".to_owned(),
            recover: None,
            retry_after_s: None,
        }
    }

    #[test]
    fn only_changes_count_and_refusals_come_with_advice() {
        let contact = watch::Sender::new(Contact::Starting);
        let mut seen = contact.subscribe();
        let mut changed = || {
            let changed = seen.has_changed().expect("open");
            seen.mark_unchanged();
            changed
        };
        let now = Timestamp::from_secs;
        lost(&contact, &RequestError::Unreachable("a".into()), now(1));
        assert!(changed());
        lost(&contact, &RequestError::Unreachable("b".into()), now(2));
        assert!(!changed(), "the same trouble");
        lost(&contact, &refused(agent_codes::JOURNAL_GAP), now(3));
        assert!(changed());
        let Contact::Lost { since, reason, .. } = contact.borrow().clone() else {
            panic!("lost")
        };
        assert_eq!(since, now(1), "lost since the first failure");
        assert!(reason.contains("enroll --force"), "{reason}");
    }
}
