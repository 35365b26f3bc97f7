//! Accounts and sessions: signup, login, logout, refresh, me.

pub mod api;
pub mod cookies;

use self::cookies::Cookies;
use crate::{
    app::App,
    config::Config,
    context::User,
    error::{Error, Result},
    keys::Keys,
};

/// What the slice keeps in memory.
#[derive(Debug)]
pub struct AuthState {
    /// Names and attributes of our cookies.
    pub cookies: Cookies,
}

impl AuthState {
    /// With nothing cached.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(config: &Config, _keys: &Keys) -> anyhow::Result<Self> {
        Ok(Self {
            cookies: Cookies::new(config),
        })
    }
}

/// The person whom an access token stands for.
///
/// # Errors
/// 401 when the token or its session doesn't hold.
pub async fn authenticate(app: &App, _token: &str) -> Result<User> {
    app.db.read("session_live", |_| Ok(())).await?;
    Err(Error::unauthenticated(
        "access_token",
        "the access token isn't valid",
    ))
}
