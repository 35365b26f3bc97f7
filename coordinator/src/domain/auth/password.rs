//! Hashing passwords: argon2id, few at once, off the async threads.
//!
//! # Invariants
//! - At most half of the cores hash, so that hashing can't starve the rest or eat the memory; a bounded number waits.
//! - A login of somebody unknown costs what a login of somebody known costs.

use std::{num::NonZero, sync::Arc};

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version,
    password_hash::phc::PasswordHash,
};
use shared::secret::Secret;
use tokio::sync::Semaphore;

use crate::{
    config::AuthConfig,
    error::{Error, Kind, Result},
};

/// Stands where a hash would for an account without a password: no password has it.
pub const NO_PASSWORD: &str = "!";

/// Hashes and checks passwords.
#[derive(Debug)]
pub struct Passwords {
    params: Params,
    /// Those who hash or wait.
    queue: Arc<Semaphore>,
    /// Those who hash.
    cores: Arc<Semaphore>,
    /// The hash of a password that nobody knows.
    nobody: String,
}

impl Passwords {
    /// With the configured cost.
    ///
    /// # Errors
    /// The cost is impossible, or the system has no random numbers.
    pub fn new(config: &AuthConfig) -> anyhow::Result<Self> {
        let params = Params::new(config.argon2_memory_kib, config.argon2_passes, 1, None)
            .map_err(|error| anyhow::anyhow!("argon2 parameters: {error}"))?;
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get) / 2;
        let cores = cores.max(1);
        let waiting = usize::try_from(config.hash_queue_max)?;
        let secret = hex::encode(crate::keys::random_32()?);
        let nobody = hash(params.clone(), secret.as_bytes())
            .map_err(|error| anyhow::anyhow!("argon2: {error}"))?;
        Ok(Self {
            params,
            queue: Arc::new(Semaphore::new(cores + waiting)),
            cores: Arc::new(Semaphore::new(cores)),
            nobody,
        })
    }

    /// The hash of `password`, as PHC text.
    ///
    /// # Errors
    /// 503 when too many wait.
    pub async fn hash(&self, password: Secret<String>) -> Result<String> {
        let params = self.params.clone();
        self.run(move || hash(params, password.expose().as_bytes()))
            .await?
            .map_err(|error| Error::internal(error.to_string()))
    }

    /// Whether `password` has this hash; without one, takes as long and says no.
    ///
    /// # Errors
    /// 503 when too many wait.
    pub async fn verify(&self, password: Secret<String>, known: Option<&str>) -> Result<bool> {
        let params = self.params.clone();
        let known = known.filter(|hash| *hash != NO_PASSWORD);
        let is_known = known.is_some();
        let wanted = known.unwrap_or(&self.nobody).to_owned();
        let matches = self
            .run(move || {
                argon2(params)
                    .verify_password(password.expose().as_bytes(), wanted.as_str())
                    .is_ok()
            })
            .await?;
        Ok(matches && is_known)
    }

    /// Whether `hash` was made at another cost than the configured one.
    #[must_use]
    pub fn is_outdated(&self, hash: &str) -> bool {
        let current = PasswordHash::new(hash)
            .ok()
            .and_then(|hash| Params::try_from(&hash).ok());
        current.is_none_or(|params| {
            (params.m_cost(), params.t_cost(), params.p_cost())
                != (
                    self.params.m_cost(),
                    self.params.t_cost(),
                    self.params.p_cost(),
                )
        })
    }

    /// The hash that unknown accounts are checked against.
    #[cfg(test)]
    pub(super) fn nobody(&self) -> &str {
        &self.nobody
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let place = Arc::clone(&self.queue).try_acquire_owned().map_err(|_| {
            Error::new(
                Kind::Unavailable { retry_after_s: 2 },
                "busy",
                "too many people sign in at this moment; try again",
            )
        })?;
        let core = Arc::clone(&self.cores)
            .acquire_owned()
            .await
            .map_err(Error::internal)?;
        // the permits go along: a caller who leaves doesn't free a core that still works
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop((core, place));
            result
        })
        .await
        .map_err(Error::internal)
    }
}

fn argon2(params: Params) -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hash(params: Params, password: &[u8]) -> argon2::password_hash::Result<String> {
    argon2(params)
        .hash_password(password)
        .map(|hash| hash.to_string())
}

/// A hash of another cost.
#[cfg(test)]
pub(super) fn hash_with(params: Params, password: &[u8]) -> String {
    hash(params, password).expect("a hash")
}
