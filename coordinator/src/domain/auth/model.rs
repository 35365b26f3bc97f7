//! Accounts and sessions as values: what is a usable e-mail address, password, set of roles, and how long a login lasts.

use std::collections::BTreeSet;

use shared::{
    id::{SessionId, UserId},
    secret::Secret,
    time::Timestamp,
};

use super::guessable;
pub use crate::domain::mail::model::Email;
use crate::{
    config::AuthConfig,
    context::Role,
    error::{Error, Result},
};

/// Of a client's name so much is kept.
pub const USER_AGENT_CHARS_MAX: usize = 200;
/// Bounds of a password in bytes; checked before anything is hashed.
pub const PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 8..=256;

/// A new password of usable length.
///
/// # Errors
/// 422 at `/password`.
pub fn new_password(text: String) -> Result<Secret<String>> {
    if PASSWORD_BYTES.contains(&text.len()) {
        Ok(Secret::new(text))
    } else {
        Err(Error::invalid(
            "/password",
            format!(
                "a password has {} to {} bytes",
                PASSWORD_BYTES.start(),
                PASSWORD_BYTES.end()
            ),
        ))
    }
}

/// A password that somebody chose: of usable length, and not one of those that attackers try first.
///
/// # Errors
/// 422 at `pointer`.
pub fn chosen_password(pointer: &str, text: String, email: Option<&str>) -> Result<Secret<String>> {
    let password = new_password(text).map_err(|error| error.at(pointer))?;
    if guessable::is_guessable(password.expose(), email) {
        return Err(Error::invalid(
            pointer,
            "this password is among the first that attackers try: choose a longer one, such as four unrelated words",
        ));
    }
    Ok(password)
}

/// The roles of a new account: everybody may rent, and lend machines if they ask to; nobody makes themselves an
/// administrator.
///
/// # Errors
/// 422 at `/roles`.
pub fn signup_roles(wanted: &[Role]) -> Result<BTreeSet<Role>> {
    if wanted.contains(&Role::Admin) {
        return Err(Error::invalid(
            "/roles",
            "administrators are made by the operator: ramarket-coordinator user create --admin",
        ));
    }
    let mut roles: BTreeSet<Role> = wanted.iter().copied().collect();
    roles.insert(Role::Consumer);
    Ok(roles)
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Who.
    pub id: UserId,
    /// The normalised address.
    pub email: String,
    /// What they may do.
    pub roles: BTreeSet<Role>,
    /// Since when.
    pub created: Timestamp,
    /// When mail to the address was shown to arrive; nothing: never.
    pub verified: Option<Timestamp>,
    /// Whether a second factor is in force.
    pub second_factor: bool,
    /// Since when nobody may sign in to it; nothing: anybody who is its owner may.
    pub disabled: Option<Timestamp>,
}

impl Account {
    /// Its address.
    ///
    /// # Errors
    /// 500: only what was parsed is stored.
    pub fn address(&self) -> Result<Email> {
        Email::parse(&self.email)
            .map_err(|_| Error::corrupt("users", &self.id.to_string(), "email"))
    }
}

/// A session as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Which.
    pub id: SessionId,
    /// When it began.
    pub created: Timestamp,
    /// When it was last refreshed.
    pub last_used: Timestamp,
    /// When it ends in any case.
    pub ends: Timestamp,
    /// What the client called itself.
    pub user_agent: Option<String>,
    /// From where it was last used.
    pub client: Option<String>,
}

/// A login that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id, the family of its refresh tokens.
    pub id: SessionId,
    /// Whose.
    pub user: UserId,
    /// When it ends in any case.
    pub ends: Timestamp,
    /// When its person last proved who they are.
    pub proven: Timestamp,
}

/// What somebody signs in from, as it says of itself; shown to its owner, believed by nobody.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    user_agent: Option<String>,
}

impl Device {
    /// From what was sent: cut to [`USER_AGENT_CHARS_MAX`], control characters left out.
    #[must_use]
    pub fn new(user_agent: Option<&str>) -> Self {
        let plain = |text: &str| -> String {
            let shown = text.chars().filter(|c| !c.is_control());
            shown.take(USER_AGENT_CHARS_MAX).collect()
        };
        let user_agent = user_agent.map(plain).filter(|text| !text.is_empty());
        Self { user_agent }
    }

    /// The name of its program.
    #[must_use]
    pub fn user_agent(&self) -> Option<&str> {
        self.user_agent.as_deref()
    }
}

/// How long a login lasts.
#[derive(Debug, Clone, Copy)]
pub struct SessionLife {
    /// Without a refresh, milliseconds.
    pub idle_ms: i64,
    /// In any case, milliseconds.
    pub max_ms: i64,
}

impl SessionLife {
    /// The life of a login of somebody with these roles.
    #[must_use]
    pub fn of(config: &AuthConfig, roles: &BTreeSet<Role>) -> Self {
        let (idle_s, max_s) = if roles.contains(&Role::Admin) {
            (config.admin_session_idle_s, config.admin_session_max_s)
        } else {
            (config.session_idle_s, config.session_max_s)
        };
        Self {
            idle_ms: i64::from(idle_s) * 1_000,
            max_ms: i64::from(max_s) * 1_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_says_is_bounded() {
        let long = format!("a\n{}", "é".repeat(300));
        let device = Device::new(Some(&long));
        let kept = device.user_agent().expect("something");
        assert_eq!(kept.chars().count(), USER_AGENT_CHARS_MAX);
        assert!(kept.starts_with("aé"));
        assert_eq!(Device::new(Some("\r")), Device::default());
    }

    #[test]
    fn nobody_signs_up_as_administrator() {
        assert!(signup_roles(&[Role::Admin]).is_err());
        let roles = signup_roles(&[Role::Provider]).expect("fine");
        assert_eq!(roles, BTreeSet::from([Role::Consumer, Role::Provider]));
    }
}
