//! A public key of OpenSSH: parsed strictly, and kept in the one text that it has.
//!
//! # Invariants
//! - A [`PublicKey`] is of an algorithm whose signatures the gateway verifies, without options and not a certificate.
//! - Two keys are the same exactly if their [`PublicKey::text`] is: comments don't count.

use std::collections::BTreeSet;

use russh::keys::{Algorithm, HashAlg, PublicKey as Parsed};
use shared::{
    id::{SshKeyId, UserId},
    time::Timestamp,
};

use crate::error::{Error, Result};

/// Keys of one account.
pub const KEYS_MAX: i64 = 50;
/// Keys of one rental.
pub const RENTAL_KEYS_MAX: usize = 16;
/// Bytes of a key's line, its comment included.
pub const LINE_BYTES_MAX: usize = 2_048;
/// Characters of a comment that are kept.
const COMMENT_CHARS_MAX: usize = 200;
const NAME_CHARS_MAX: usize = 100;

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    text: String,
    comment: String,
    fingerprint: String,
}

impl PublicKey {
    /// Parses a line as `ssh-keygen` writes it into a `.pub` file.
    ///
    /// # Errors
    /// In words for whoever gave it.
    pub fn parse(line: &str) -> Result<Self, String> {
        let line = line.trim();
        if line.len() > LINE_BYTES_MAX {
            return Err(format!("a key's line has at most {LINE_BYTES_MAX} bytes"));
        }
        if line.chars().any(char::is_control) {
            return Err("one key in one line, without control characters".to_owned());
        }
        refuse_kind(line.split(' ').next().unwrap_or_default())?;
        let parsed = Parsed::from_openssh(line).map_err(|_| {
            "this isn't a public key as ssh-keygen writes it (type, base64, comment): give the line of the .pub file".to_owned()
        })?;
        Self::of(parsed)
    }

    /// A key that a client offers.
    ///
    /// # Errors
    /// It is of a kind that isn't taken.
    pub fn of(mut parsed: Parsed) -> Result<Self, String> {
        match parsed.algorithm() {
            Algorithm::Ed25519
            | Algorithm::Ecdsa { .. }
            | Algorithm::SkEd25519
            | Algorithm::SkEcdsaSha2NistP256 => {}
            other => refuse_kind(other.as_str())?,
        }
        let comment = parsed.comment().to_string();
        parsed.set_comment("");
        let text = parsed.to_openssh();
        Ok(Self {
            text: text.map_err(|_| "this key can't be written anew".to_owned())?,
            comment: comment.trim().chars().take(COMMENT_CHARS_MAX).collect(),
            fingerprint: parsed.fingerprint(HashAlg::Sha256).to_string(),
        })
    }

    /// Keys of a rental, in the order in which they were given.
    ///
    /// # Errors
    /// 422 with the place of the first that isn't taken.
    pub fn list(lines: &[String]) -> Result<Vec<Self>> {
        if lines.len() > RENTAL_KEYS_MAX {
            let most = format!("a rental has at most {RENTAL_KEYS_MAX} keys of its own");
            return Err(Error::invalid("/ssh_keys", most));
        }
        let mut seen = BTreeSet::new();
        let mut keys = Vec::with_capacity(lines.len());
        for (place, line) in lines.iter().enumerate() {
            let pointer = format!("/ssh_keys/{place}");
            let key = Self::parse(line).map_err(|why| Error::invalid(&pointer, why))?;
            if seen.insert(key.fingerprint.clone()) {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// Type and base64, as in `authorized_keys`.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whose it is, in its owner's words; may be empty.
    #[must_use]
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Type, base64 and comment.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {}", self.text, self.comment)
            .trim_end()
            .to_owned()
    }
}

/// Refuses what isn't taken, in words that say what to do.
fn refuse_kind(kind: &str) -> Result<(), String> {
    let instead = "make another with ssh-keygen -t ed25519";
    match kind {
        "ssh-ed25519"
        | "ecdsa-sha2-nistp256"
        | "ecdsa-sha2-nistp384"
        | "ecdsa-sha2-nistp521"
        | "sk-ssh-ed25519@openssh.com"
        | "sk-ecdsa-sha2-nistp256@openssh.com" => Ok(()),
        "ssh-rsa" | "rsa-sha2-256" | "rsa-sha2-512" => {
            Err(format!("RSA keys aren't taken: {instead}"))
        }
        "ssh-dss" => Err(format!("DSA keys aren't taken: {instead}")),
        kind if kind.contains("-cert-v01") => {
            Err("certificates aren't taken: give the key itself".to_owned())
        }
        _ => Err(
            "a key's line begins with its type, such as ssh-ed25519, without options: give the line of the .pub file"
                .to_owned(),
        ),
    }
}

/// A key that somebody wants to add to their account, checked.
#[derive(Debug, Clone)]
pub struct Wish {
    /// For people.
    pub name: String,
    /// The key.
    pub key: PublicKey,
}

impl Wish {
    /// Checks name and key; without a name its comment, or its fingerprint, is the name.
    ///
    /// # Errors
    /// 422 with the field.
    pub fn check(name: Option<&str>, line: &str) -> Result<Self> {
        let key = PublicKey::parse(line).map_err(|why| Error::invalid("/public_key", why))?;
        let name = match name.map(str::trim) {
            Some(name) => name.to_owned(),
            None if key.comment.is_empty() => key.fingerprint.clone(),
            None => key.comment.chars().take(NAME_CHARS_MAX).collect(),
        };
        if name.is_empty()
            || name.chars().count() > NAME_CHARS_MAX
            || name.chars().any(char::is_control)
        {
            let bounds = format!("1 to {NAME_CHARS_MAX} characters that say where the key lies");
            return Err(Error::invalid("/name", bounds));
        }
        Ok(Self { name, key })
    }
}

/// A key of an account as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// Which.
    pub id: SshKeyId,
    /// Whose.
    pub user: UserId,
    /// For people.
    pub name: String,
    /// The key.
    pub key: PublicKey,
    /// Since when.
    pub created: Timestamp,
    /// When it last opened a rental, to the minute.
    pub last_used: Option<Timestamp>,
}

/// By whose key a rental is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opener {
    /// One of the rental's own keys.
    Rental,
    /// A key of the account that rents it.
    Account(SshKeyId),
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const FINGERPRINT: &str = "SHA256:T7SvZ2cslqpPj6nKzitCBHHlpVF3r3MvLwmFL0fk0IE";

    #[test]
    fn a_key_has_one_text_whatever_stands_around_it() {
        let bare = PublicKey::parse(ED25519).expect("a key");
        let named = PublicKey::parse(&format!("  {ED25519} ada@desk \n")).expect("a key");
        assert_eq!(bare.text(), ED25519);
        assert_eq!(bare.text(), named.text());
        assert_eq!((bare.comment(), named.comment()), ("", "ada@desk"));
        assert_eq!(bare.fingerprint(), FINGERPRINT);
        assert_eq!(named.line(), format!("{ED25519} ada@desk"));
        let long = PublicKey::parse(&format!("{ED25519} {}", "ü".repeat(300))).expect("a key");
        assert_eq!(long.comment().chars().count(), COMMENT_CHARS_MAX);
    }

    #[test]
    fn what_isnt_a_key_that_is_taken_is_refused_in_words() {
        let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC8 me";
        for (line, word) in [
            ("", "type"),
            ("hello", "type"),
            (rsa, "RSA"),
            ("ssh-dss AAAA", "DSA"),
            ("ssh-ed25519-cert-v01@openssh.com AAAA", "certificates"),
            ("ssh-ed25519 AAAA", "ssh-keygen"),
            (
                "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIe",
                "ssh-keygen",
            ),
            (&format!("command=\"sh\" {ED25519}"), "options"),
            (&format!("{ED25519}\n{ED25519}"), "one line"),
            (&format!("{ED25519} \u{7}"), "one line"),
            (
                &format!("{ED25519} {}", "x".repeat(LINE_BYTES_MAX)),
                "at most",
            ),
        ] {
            let why = PublicKey::parse(line).expect_err(line);
            assert!(why.contains(word), "{line}: {why}");
        }
    }

    #[test]
    fn a_rentals_keys_are_counted_once_and_named_by_their_place() {
        let line = |comment: &str| format!("{ED25519} {comment}");
        let keys = PublicKey::list(&[line("a"), line("b")]).expect("keys");
        assert_eq!(keys.len(), 1);
        let bad = PublicKey::list(&[line("a"), "x".to_owned()]).expect_err("refused");
        assert!(format!("{bad:?}").contains("/ssh_keys/1"), "{bad:?}");
        PublicKey::list(&vec![line("a"); RENTAL_KEYS_MAX + 1]).expect_err("too many");
    }

    #[test]
    fn a_key_without_a_name_is_called_by_its_comment() {
        let named = Wish::check(None, &format!("{ED25519} ada@desk")).expect("fine");
        assert_eq!(named.name, "ada@desk");
        assert_eq!(Wish::check(None, ED25519).expect("fine").name, FINGERPRINT);
        assert!(Wish::check(Some(" "), ED25519).is_err());
        assert_eq!(
            Wish::check(Some(" desk "), ED25519).expect("fine").name,
            "desk"
        );
    }
}
