//! The two codes of a login by another device (RFC 8628), and what is asked for with them.
//!
//! # Invariants
//! - The device's code has 256 random bits and is kept as SHA-256 only: who reads the database can't redeem it.
//! - The person's code has 8 letters without vowels and look-alikes: 34 bits, guessed against a limit within ten minutes.

use std::{collections::BTreeSet, fmt};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use ring::{
    digest,
    rand::{SecureRandom as _, SystemRandom},
};
use shared::{
    id::{SessionId, UserId},
    secret::Secret,
    time::Timestamp,
};

use crate::{
    context::Scope,
    domain::apikeys::model::check_reach,
    error::{Error, Result},
};

/// For how long somebody may confirm.
pub const HOLDS_MS: i64 = 10 * 60_000;
/// How often the device may ask, seconds.
pub const INTERVAL_S: i64 = 5;
/// Days for which the key holds if the device doesn't say.
pub const DAYS_DEFAULT: u16 = 30;
/// Days for which it may hold.
pub const DAYS_MAX: u16 = 90;
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LETTERS: usize = 8;
const NAME_CHARS_MAX: usize = 100;

/// What the device shows to redeem.
#[derive(Debug, Clone)]
pub struct DeviceCode(Secret<String>);

impl DeviceCode {
    /// A new one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn random() -> Result<Self> {
        Ok(Self(Secret::new(BASE64URL.encode(random::<32>()?))))
    }

    /// As somebody sent it.
    #[must_use]
    pub const fn sent(text: String) -> Self {
        Self(Secret::new(text))
    }

    /// For the device, once.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.expose()
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> Vec<u8> {
        let hash = digest::digest(&digest::SHA256, self.0.expose().as_bytes());
        hash.as_ref().to_vec()
    }
}

/// What the person types: `BCDF-GHJK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCode(String);

impl UserCode {
    /// A new one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn random() -> Result<Self> {
        let mut letters = String::new();
        while letters.len() < LETTERS {
            // 240 is the largest multiple of 20 in a byte: above it letters wouldn't be equally likely
            for byte in random::<16>()?.into_iter().filter(|byte| *byte < 240) {
                if letters.len() < LETTERS {
                    letters.push(char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
                }
            }
        }
        Ok(Self(letters))
    }

    /// As somebody typed it, whatever its case and dashes; nothing if it can't be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > 64 {
            return None;
        }
        let letters: String = text
            .chars()
            .filter(|c| !matches!(c, '-' | ' '))
            .map(|c| c.to_ascii_uppercase())
            .collect();
        let known = |byte: u8| ALPHABET.contains(&byte);
        (letters.len() == LETTERS && letters.bytes().all(known)).then_some(Self(letters))
    }

    /// As it is kept.
    #[must_use]
    pub fn letters(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (one, two) = self.0.split_at(LETTERS / 2);
        write!(f, "{one}-{two}")
    }
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::internal("the system has no random numbers"))?;
    Ok(bytes)
}

/// What a device asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// What it calls itself.
    pub client_name: String,
    /// What the key may do.
    pub scopes: BTreeSet<Scope>,
    /// For how many days it holds.
    pub days: u16,
}

impl Wish {
    /// Checks the bounds.
    ///
    /// # Errors
    /// 422 with the field.
    pub fn check(self) -> Result<Self> {
        let client_name = self.client_name.trim().to_owned();
        let chars = client_name.chars().count();
        if !(1..=NAME_CHARS_MAX).contains(&chars) || client_name.chars().any(char::is_control) {
            return Err(Error::invalid(
                "/client_name",
                format!("1 to {NAME_CHARS_MAX} characters that say which device asks"),
            ));
        }
        check_reach(&self.scopes, self.days, DAYS_MAX)?;
        Ok(Self {
            client_name,
            ..self
        })
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody has decided.
    Open,
    /// Somebody confirmed.
    Approved,
    /// Somebody refused.
    Denied,
}

impl State {
    /// Its name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Approved => "approved",
            Self::Denied => "denied",
        }
    }

    /// The state of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Open, Self::Approved, Self::Denied]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

/// A login as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// SHA-256 of the device's code.
    pub device_hash: Vec<u8>,
    /// The person's.
    pub user_code: UserCode,
    /// What is asked for.
    pub wish: Wish,
    /// From where, if that is known.
    pub asked_from: Option<String>,
    /// When.
    pub asked: Timestamp,
    /// Until when somebody may confirm and the device redeem.
    pub expires: Timestamp,
    /// When the device asked last.
    pub polled: Option<Timestamp>,
    /// How far it is.
    pub state: State,
    /// Who decided, and in which session.
    pub decided_by: Option<(UserId, SessionId)>,
}

impl Login {
    /// Whether it may still be decided about.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.state == State::Open && now < self.expires
    }

    /// Whether the device asks again too soon; a second's jitter is its network's.
    #[must_use]
    pub fn is_too_soon(&self, now: Timestamp) -> bool {
        let wait_ms = INTERVAL_S * 1_000 - 1_000;
        self.polled
            .is_some_and(|polled| now.ms_since(polled) < wait_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_people_type_them() {
        let code = UserCode::random().expect("random");
        let shown = code.to_string();
        assert_eq!((shown.len(), shown.find('-')), (9, Some(4)));
        for typed in [shown.clone(), shown.to_lowercase(), shown.replace('-', " ")] {
            assert_eq!(UserCode::parse(&typed), Some(code.clone()), "{typed}");
        }
        for bad in ["", "BCDF", "AAAA-BBBB", "BCDF-GHJ0", "BCDFGHJKL"] {
            assert_eq!(UserCode::parse(bad), None, "{bad}");
        }
        assert_ne!(UserCode::random().expect("random"), code);
        let device = DeviceCode::random().expect("random");
        assert_eq!(device.text().len(), 43);
        let sent = DeviceCode::sent(device.text().to_owned());
        assert_eq!(sent.hash(), device.hash());
        assert!(!format!("{device:?}").contains(device.text()));
    }
}
