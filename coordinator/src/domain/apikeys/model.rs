//! A key as text, as a wish and as it is kept.
//!
//! # Invariants
//! - A key's text is `ram_live_<id>_<secret>_<check>`: 32 hex digits, 43 characters of base64url, 8 hex digits. The check lets a
//!   typing error and a secret scanner tell a key from what only looks like one, without asking anybody.
//! - The text is known to its owner only; SHA-256 of the secret is kept.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use ring::{
    digest,
    rand::{SecureRandom as _, SystemRandom},
};
use shared::{
    id::{ApiKeyId, UserId},
    secret::Secret,
    time::Timestamp,
};

use crate::{
    context::Scope,
    error::{Error, Result},
    outbound::address::IpRange,
};

/// How every key starts.
pub const PREFIX: &str = "ram_live_";
/// Days for which a key holds if its owner doesn't say.
pub const DAYS_DEFAULT: u16 = 90;
/// Days for which a key may hold.
pub const DAYS_MAX: u16 = 365;
/// Address ranges that a key may be bound to.
pub const ADDRESSES_MAX: usize = 32;
/// Keys of one account that hold at once.
pub const KEYS_MAX: i64 = 50;
const NAME_CHARS_MAX: usize = 100;
const ID_CHARS: usize = 32;
const SECRET_CHARS: usize = 43;
const CHECK_CHARS: usize = 8;
const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// The secret part of a key.
#[derive(Debug, Clone)]
pub struct KeySecret(Secret<String>);

impl KeySecret {
    /// 256 random bits.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; 32];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| Error::internal("the system has no random numbers"))?;
        Ok(Self(Secret::new(BASE64URL.encode(bytes))))
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> Vec<u8> {
        digest::digest(&digest::SHA256, self.0.expose().as_bytes())
            .as_ref()
            .to_vec()
    }

    /// The whole key, for its owner, once.
    #[must_use]
    pub fn key_text(&self, id: ApiKeyId) -> Secret<String> {
        let id = id.to_string();
        let id = id.trim_start_matches("key_");
        let body = format!("{PREFIX}{id}_{}", self.0.expose());
        let check = crc32(body.as_bytes());
        Secret::new(format!("{body}_{check:08x}"))
    }
}

/// A key as a caller sent it: its id and its secret. Nothing when it can't be one, as its check tells.
#[must_use]
pub fn parse(text: &str) -> Option<(ApiKeyId, KeySecret)> {
    let rest = text.strip_prefix(PREFIX)?;
    // by length, since the secret's alphabet has `_` too
    if !rest.is_ascii() || rest.len() != ID_CHARS + 1 + SECRET_CHARS + 1 + CHECK_CHARS {
        return None;
    }
    let (id, rest) = rest.split_at(ID_CHARS);
    let (secret, check) = rest.strip_prefix('_')?.split_at(SECRET_CHARS);
    let check = check.strip_prefix('_')?;
    let body = text.get(..text.len() - CHECK_CHARS - 1)?;
    if format!("{:08x}", crc32(body.as_bytes())) != check || BASE64URL.decode(secret).is_err() {
        return None;
    }
    let id = format!("key_{id}").parse().ok()?;
    Some((id, KeySecret(Secret::new(secret.to_owned()))))
}

/// CRC-32 (ISO-HDLC), bit by bit: a key is short.
fn crc32(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            let carry = if crc & 1 == 1 { 0xEDB8_8320 } else { 0 };
            (crc >> 1) ^ carry
        })
    });
    !crc
}

/// What somebody wants of a new key, checked.
#[derive(Debug, Clone)]
pub struct Wish {
    /// For people.
    pub name: String,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// For how many days.
    pub days: u16,
    /// From where; empty: from everywhere.
    pub addresses: Vec<IpRange>,
}

impl Wish {
    /// Checks the bounds.
    ///
    /// # Errors
    /// 422 with the field.
    pub fn check(self) -> Result<Self> {
        let name = self.name.trim().to_owned();
        if name.is_empty()
            || name.chars().count() > NAME_CHARS_MAX
            || name.chars().any(char::is_control)
        {
            return Err(Error::invalid(
                "/name",
                format!("1 to {NAME_CHARS_MAX} characters that say what the key is for"),
            ));
        }
        check_reach(&self.scopes, self.days, DAYS_MAX)?;
        if self.addresses.len() > ADDRESSES_MAX {
            return Err(Error::invalid(
                "/addresses",
                format!("at most {ADDRESSES_MAX} ranges"),
            ));
        }
        Ok(Self { name, ..self })
    }

    /// When a key made now ends.
    #[must_use]
    pub fn expires(&self, now: Timestamp) -> Timestamp {
        now.plus_ms(i64::from(self.days) * DAY_MS)
    }
}

/// Checks what a key is to open, and for how long.
///
/// # Errors
/// 422 with the field.
pub fn check_reach(scopes: &BTreeSet<Scope>, days: u16, days_max: u16) -> Result<()> {
    if scopes.is_empty() {
        return Err(Error::invalid(
            "/scopes",
            "at least one: a key opens what its scopes say",
        ));
    }
    if !(1..=days_max).contains(&days) {
        return Err(Error::invalid(
            "/expires_in_days",
            format!("1 to {days_max}"),
        ));
    }
    Ok(())
}

/// A key as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Which.
    pub id: ApiKeyId,
    /// Whose.
    pub user: UserId,
    /// For people.
    pub name: String,
    /// SHA-256 of its secret.
    pub secret_hash: Vec<u8>,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// From where; empty: from everywhere.
    pub addresses: Vec<IpRange>,
    /// Since when.
    pub created: Timestamp,
    /// Until when.
    pub expires: Timestamp,
    /// When its owner ended it.
    pub revoked: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used: Option<Timestamp>,
    /// From where it was last used.
    pub last_used_from: Option<String>,
}

impl fmt::Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // not even the hash
        write!(
            f,
            "StoredKey({} of {}, {:?})",
            self.id, self.user, self.name
        )
    }
}

impl StoredKey {
    /// Whether it holds at `now`.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && now < self.expires
    }

    /// Whether it may be used from `client`. A key that is bound to addresses isn't used from nowhere.
    #[must_use]
    pub fn opens_from(&self, client: Option<IpAddr>) -> bool {
        self.addresses.is_empty()
            || client
                .is_some_and(|client| self.addresses.iter().any(|range| range.contains(client)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::id::Ids;

    use super::*;

    #[test]
    fn the_check_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_key_reads_back_and_shows_typing_errors() {
        let id: ApiKeyId = Ids::counting().mint();
        let secret = KeySecret::random().expect("random");
        let text = secret.key_text(id);
        let (read, again) = parse(text.expose()).expect("a key");
        assert_eq!((read, again.hash()), (id, secret.hash()));
        assert_eq!(text.expose().len(), "ram_live_".len() + 32 + 1 + 43 + 1 + 8);
        for place in 0..text.expose().len() {
            let mut typo = text.expose().clone().into_bytes();
            typo[place] = if typo[place] == b'a' { b'b' } else { b'a' };
            let typo = String::from_utf8(typo).expect("ascii");
            assert!(parse(&typo).is_none(), "{place}");
        }
        assert!(!format!("{secret:?} {text:?}").contains(&text.expose()[42..60]));
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_read_or_refused(text in "(ram_live_)?[\\PC_]{0,120}") {
            prop_assert!(parse(&text).is_none());
        }
    }
}
