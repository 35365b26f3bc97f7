//! Proof of identity as values: states, what may follow what, what a document may be, and the gate.

use serde::{Deserialize, Serialize};
use shared::{
    id::{KycCaseId, KycDocumentId, UserId},
    time::Timestamp,
};

use crate::{
    config::KycGate,
    error::{Error, Kind, Result},
};

/// Most documents of a case.
pub const DOCUMENTS_MAX: usize = 4;
/// Largest document, bytes.
pub const DOCUMENT_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Largest body of a submission: its documents in base64, and some room.
pub const SUBMISSION_BYTES_MAX: usize = DOCUMENTS_MAX * DOCUMENT_BYTES_MAX / 3 * 4 + 16 * 1024;
/// The provider of cases that administrators decide on.
pub const MANUAL: &str = "manual";

/// Where an account stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing was submitted.
    None,
    /// Waits for a decision.
    Pending,
    /// Proven, for a time.
    Approved,
    /// Refused; may be submitted again.
    Rejected,
    /// Was approved, and the time is over.
    Expired,
}

impl State {
    /// Its name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
        }
    }

    /// The state of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::None,
            Self::Pending,
            Self::Approved,
            Self::Rejected,
            Self::Expired,
        ]
        .into_iter()
        .find(|state| state.name() == name)
    }

    /// Whether `to` may follow: a decision on what is pending, an approval taken back or run out.
    #[must_use]
    pub const fn may_become(self, to: Self) -> bool {
        matches!(
            (self, to),
            (Self::Pending, Self::Approved | Self::Rejected)
                | (Self::Approved, Self::Rejected | Self::Expired)
        )
    }
}

/// A submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Its id.
    pub id: KycCaseId,
    /// Whose.
    pub user: UserId,
    /// Who decides: [`MANUAL`] or the hosted provider's name.
    pub provider: String,
    /// Where it stands.
    pub state: State,
    /// Why it was rejected, or what was noted.
    pub reason: Option<String>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When it was decided.
    pub decided_at: Option<Timestamp>,
    /// Until when an approval holds.
    pub expires_at: Option<Timestamp>,
    /// When its documents are deleted.
    pub documents_until: Option<Timestamp>,
    /// Grows with each change.
    pub version: i64,
}

/// What a document shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKind {
    /// A passport.
    Passport,
    /// An identity card.
    IdentityCard,
    /// A driving licence.
    DrivingLicence,
    /// Their face, with the document beside it.
    Selfie,
    /// A bill or a statement with their address.
    ProofOfAddress,
}

impl DocumentKind {
    /// Its name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passport => "passport",
            Self::IdentityCard => "identity_card",
            Self::DrivingLicence => "driving_licence",
            Self::Selfie => "selfie",
            Self::ProofOfAddress => "proof_of_address",
        }
    }
}

/// A document without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its id.
    pub id: KycDocumentId,
    /// What it shows.
    pub kind: String,
    /// What it is.
    pub media_type: String,
    /// Its size before it was sealed.
    pub size_bytes: i64,
}

/// What the first bytes say that a document is: a picture or a PDF, nothing else.
#[must_use]
pub fn media_type_of(bytes: &[u8]) -> Option<&'static str> {
    const KNOWN: [(&[u8], &str); 3] = [
        (&[0xff, 0xd8, 0xff], "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"%PDF-", "application/pdf"),
    ];
    let found = KNOWN.iter().find(|(magic, _)| bytes.starts_with(magic));
    found.map(|(_, media_type)| *media_type)
}

/// Passes `what` unless the operator wants identity proven for it and `state` isn't that.
///
/// # Errors
/// 403 `kyc_required`.
pub fn gate(gates: &[KycGate], what: KycGate, state: State) -> Result<()> {
    if !gates.contains(&what) || state == State::Approved {
        return Ok(());
    }
    let detail = match state {
        State::Pending => "your proof of identity waits for a decision: GET /api/v1/kyc",
        _ => "this market wants your identity proven first: POST /api/v1/kyc",
    };
    Err(Error::new(Kind::Forbidden, "kyc_required", detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [State; 5] = [
        State::None,
        State::Pending,
        State::Approved,
        State::Rejected,
        State::Expired,
    ];

    #[test]
    fn only_an_approval_opens_a_gate_and_only_where_there_is_one() {
        for state in ALL {
            assert!(gate(&[], KycGate::Offers, state).is_ok());
            assert!(gate(&[KycGate::Payouts], KycGate::Offers, state).is_ok());
            let open = gate(&[KycGate::Offers], KycGate::Offers, state).is_ok();
            assert_eq!(open, state == State::Approved, "{state:?}");
        }
    }

    #[test]
    fn decisions_are_final_but_for_approvals() {
        for from in ALL {
            for to in ALL {
                let may = matches!(
                    (from.name(), to.name()),
                    ("pending", "approved" | "rejected") | ("approved", "rejected" | "expired")
                );
                assert_eq!(from.may_become(to), may, "{from:?} {to:?}");
            }
            assert_eq!(State::from_name(from.name()), Some(from));
        }
    }

    #[test]
    fn documents_are_known_by_their_first_bytes() {
        assert_eq!(media_type_of(b"\xff\xd8\xff\xe0rest"), Some("image/jpeg"));
        assert_eq!(media_type_of(b"%PDF-1.7"), Some("application/pdf"));
        for other in [
            &b""[..],
            b"GIF89a",
            b"<svg",
            b"<html>",
            b"\xff\xd8",
            b" %PDF-",
        ] {
            assert_eq!(media_type_of(other), None, "{other:?}");
        }
    }
}
