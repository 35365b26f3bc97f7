//! Signing in elsewhere, as values: who an issuer says somebody is, where they go afterwards, and why they don't get in.
//!
//! # Invariants
//! - An identity is (issuer, subject). An e-mail address never finds an account.
//! - Where somebody goes next is a page of ours: a path, and nothing that a browser could read as another host.

use shared::{
    id::{IdentityId, UserId},
    time::Timestamp,
};

use crate::{
    domain::auth::model::Email,
    error::{Error, Kind},
};

/// Identities that one account may have.
pub const IDENTITIES_MAX: usize = 10;
/// Longest subject, bytes (OpenID Connect Core, 2).
pub const SUBJECT_BYTES_MAX: usize = 255;
const NEXT_BYTES_MAX: usize = 512;

/// Where somebody goes after they signed in: a path of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next(String);

impl Next {
    /// Nothing for what isn't a page of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // no backslash, no control character, no space: browsers read those in ways of their own
        let known = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:@?#".contains(c);
        let path = text.split(['?', '#']).next().unwrap_or_default();
        let ours = text.starts_with('/')
            && !path.contains("//")
            && !path.starts_with("/api/v1/")
            && text.len() <= NEXT_BYTES_MAX
            && text.chars().all(known);
        ours.then(|| Self(text.to_owned()))
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Next {
    fn default() -> Self {
        Self("/".to_owned())
    }
}

/// Whom an issuer says that somebody is, after everything about it was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Who says so.
    pub issuer: String,
    /// Their name there: never given to anybody else.
    pub subject: String,
    /// Their address, if it was told and is one.
    pub email: Option<Email>,
    /// Whether the issuer knows that the address is theirs.
    pub email_verified: bool,
    /// When they last proved to the issuer who they are, if it says.
    pub proven: Option<Timestamp>,
}

impl Person {
    /// Their address, if the issuer knows that it is theirs.
    #[must_use]
    pub fn verified_email(&self) -> Option<&Email> {
        self.email.as_ref().filter(|_| self.email_verified)
    }
}

/// An account elsewhere with which somebody signs in here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub id: IdentityId,
    /// Whose account here it opens.
    pub user: UserId,
    /// The provider's name in our settings when it was linked.
    pub provider: String,
    /// With `subject`: what it is.
    pub issuer: String,
    /// See `issuer`.
    pub subject: String,
    /// The address that the issuer told, for people to recognise it.
    pub email: Option<String>,
    /// Since when.
    pub created: Timestamp,
    /// When somebody last signed in with it.
    pub last_used: Timestamp,
}

/// Why somebody doesn't get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No cookie, another state, another provider, or too late.
    Attempt,
    /// This answer of the provider was used already.
    Replayed,
    /// The answer says that it is from another issuer, or doesn't say from which though it should.
    Issuer,
    /// The provider said no, or they did there.
    Denied,
    /// The provider doesn't know the code.
    Code,
    /// The ID token doesn't hold.
    IdToken,
    /// They should have proved who they are, and weren't asked.
    NotAskedAgain,
    /// No address was told.
    EmailMissing,
    /// The provider doesn't know that the address is theirs.
    EmailUnverified,
    /// Another account has the address.
    EmailTaken,
    /// Another account has the identity.
    IdentityTaken,
    /// The account has as many as it may.
    TooMany,
    /// The session that wanted the link is over, or somebody else signed in since.
    Session,
}

impl Refusal {
    const ALL: [Self; 13] = [
        Self::Attempt,
        Self::Replayed,
        Self::Issuer,
        Self::Denied,
        Self::Code,
        Self::IdToken,
        Self::NotAskedAgain,
        Self::EmailMissing,
        Self::EmailUnverified,
        Self::EmailTaken,
        Self::IdentityTaken,
        Self::TooMany,
        Self::Session,
    ];

    /// Stable, for programs and the login page.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Attempt => "oidc_attempt",
            Self::Replayed => "oidc_replayed",
            Self::Issuer => "oidc_issuer",
            Self::Denied => "oidc_denied",
            Self::Code => "oidc_code",
            Self::IdToken => "oidc_id_token",
            Self::NotAskedAgain => "oidc_not_asked_again",
            Self::EmailMissing => "oidc_email_missing",
            Self::EmailUnverified => "oidc_email_unverified",
            Self::EmailTaken => "oidc_email_taken",
            Self::IdentityTaken => "oidc_identity_taken",
            Self::TooMany => "oidc_too_many",
            Self::Session => "oidc_session",
        }
    }

    /// The refusal of a code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.code() == code)
    }

    /// What happened and what to do.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Attempt => {
                "this sign-in wasn't begun in this browser, or more than 10 minutes ago: begin again, with cookies allowed"
            }
            Self::Replayed => "this sign-in was finished already: begin again",
            Self::Issuer => {
                "the answer isn't from the provider that was asked, or doesn't say so: begin again"
            }
            Self::Denied => {
                "the provider didn't sign you in, or you didn't agree there: begin again"
            }
            Self::Code => "the provider doesn't know this sign-in any more: begin again",
            Self::IdToken => {
                "what the provider sent doesn't hold, so nobody was signed in: begin again, and tell the operator if it stays so"
            }
            Self::NotAskedAgain => {
                "the provider didn't ask you again who you are: use your password here, or another provider"
            }
            Self::EmailMissing => {
                "the provider didn't tell an e-mail address, without which no account can be opened: allow it there"
            }
            Self::EmailUnverified => {
                "the provider hasn't verified your e-mail address: verify it there, or sign up with a password"
            }
            Self::EmailTaken => {
                "there is an account with this e-mail address already: sign in to it as you did before, and link the provider from there"
            }
            Self::IdentityTaken => {
                "this account of the provider opens another account here: unlink it there first"
            }
            Self::TooMany => "an account has at most 10 linked identities: unlink one first",
            Self::Session => {
                "the session that began to link is over, or somebody else signed in here since: sign in and link again"
            }
        }
    }

    const fn kind(self) -> Kind {
        match self {
            Self::Attempt | Self::Replayed | Self::Issuer => Kind::BadRequest,
            Self::Denied | Self::Code | Self::IdToken | Self::NotAskedAgain | Self::Session => {
                Kind::Unauthenticated
            }
            Self::EmailMissing | Self::EmailUnverified => Kind::Forbidden,
            Self::EmailTaken | Self::IdentityTaken | Self::TooMany => Kind::Conflict,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.kind(), refusal.code(), refusal.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_ours_come_next() {
        for good in [
            "/",
            "/rentals?limit=10#top",
            "/a/b-c_d.e~f",
            "/login?next=https://a.b//c",
        ] {
            assert_eq!(Next::parse(good).expect(good).as_str(), good);
        }
        for bad in [
            "",
            "rentals",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "/a//b",
            "/\t/evil.example",
            "/\u{2028}",
            "/a b",
            "https://evil.example",
            "javascript:alert(1)",
            "/api/v1/auth/me",
            "/<script>",
            "/\"",
        ] {
            assert_eq!(Next::parse(bad), None, "{bad}");
        }
        assert_eq!(Next::parse(&format!("/{}", "a".repeat(512))), None);
    }

    #[test]
    fn every_refusal_has_a_code_of_its_own() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::from_code(refusal.code()), Some(refusal));
            let text = refusal.text();
            assert!(text.starts_with(char::is_lowercase) && !text.ends_with('.'));
        }
        assert_eq!(Refusal::from_code("<script>"), None);
    }
}
