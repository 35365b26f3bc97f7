//! Section `auth`: cost of passwords, life of sessions, key files.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ConfigError, within};

/// Accounts and sessions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Memory of one password hash (argon2id), KiB.
    pub argon2_memory_kib: u32,
    /// Passes of one password hash.
    pub argon2_passes: u32,
    /// Password hashes that may wait for a core; more are refused with 503.
    pub hash_queue_max: u32,
    /// Login attempts per account and minute.
    pub attempts_per_minute_account: u32,
    /// Login and signup attempts per address and minute.
    pub attempts_per_minute_ip: u32,
    /// Whether administrators need a second factor to be any.
    pub admin_second_factor: SecondFactor,
    /// Life of an access token, seconds.
    pub access_token_s: u32,
    /// A session ends after so many seconds without a refresh.
    pub session_idle_s: u32,
    /// A session ends after so many seconds in any case.
    pub session_max_s: u32,
    /// The same two for administrators.
    pub admin_session_idle_s: u32,
    /// See `admin_session_idle_s`.
    pub admin_session_max_s: u32,
    /// Ed25519 key of access tokens (PKCS#8); without it `data_dir/keys/access.pk8`, made at the first start.
    pub access_key_file: Option<PathBuf>,
    /// Ed25519 key of journal acknowledgements; without it `data_dir/keys/journal_ack.pk8`.
    pub ack_key_file: Option<PathBuf>,
    /// 32 random bytes for rental tokens and beacons; without it `data_dir/keys/token_secret.bin`.
    pub token_secret_file: Option<PathBuf>,
}

/// Whether a second factor is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondFactor {
    /// Who has set one needs it.
    Optional,
    /// Who has none can't act in the role.
    Required,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            argon2_memory_kib: 64 * 1024,
            argon2_passes: 3,
            hash_queue_max: 50,
            attempts_per_minute_account: 5,
            attempts_per_minute_ip: 20,
            admin_second_factor: SecondFactor::Optional,
            access_token_s: 600,
            session_idle_s: 14 * 86_400,
            session_max_s: 30 * 86_400,
            admin_session_idle_s: 1_800,
            admin_session_max_s: 8 * 3_600,
            access_key_file: None,
            ack_key_file: None,
            token_secret_file: None,
        }
    }
}

impl AuthConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        within(
            "auth.argon2_memory_kib",
            self.argon2_memory_kib,
            8,
            1024 * 1024,
        )?;
        within("auth.argon2_passes", self.argon2_passes, 1, 16)?;
        within("auth.hash_queue_max", self.hash_queue_max, 1, 10_000)?;
        within(
            "auth.attempts_per_minute_account",
            self.attempts_per_minute_account,
            1,
            60_000,
        )?;
        within(
            "auth.attempts_per_minute_ip",
            self.attempts_per_minute_ip,
            1,
            60_000,
        )?;
        within("auth.access_token_s", self.access_token_s, 60, 3_600)?;
        within("auth.session_idle_s", self.session_idle_s, 60, 90 * 86_400)?;
        within(
            "auth.session_max_s",
            self.session_max_s,
            self.session_idle_s,
            365 * 86_400,
        )?;
        within(
            "auth.admin_session_idle_s",
            self.admin_session_idle_s,
            60,
            86_400,
        )?;
        within(
            "auth.admin_session_max_s",
            self.admin_session_max_s,
            self.admin_session_idle_s,
            7 * 86_400,
        )
    }
}
