//! The payer's private key in a file that only its owner may read: sealed by a passphrase, or plain if its owner asked for that.
//!
//! # Invariants
//! - A sealed file is JSON: argon2id makes a key of the passphrase, ChaCha20-Poly1305 seals the 32 bytes with it, and everything that the
//!   file says besides (address, cost, salt) is authenticated along.
//! - The cost that a file asks for is bounded before it is paid.
//! - A plain file is 64 hexadecimal digits. Neither's content is ever shown.

use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use shared::{
    secret::Secret,
    x402::{address::Address, signature::PayerKey},
};

use crate::{
    failure::{Failure, Result},
    passphrase::Passphrase,
    private_file, random,
};

const VERSION: u32 = 1;
const KDF: &str = "argon2id";
const CIPHER: &str = "chacha20-poly1305";
const SALT_BYTES: usize = 16;
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
/// A file that asks for more wasn't made by us.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 16;

/// The 32 secret bytes.
pub type SecretBytes = Secret<[u8; 32]>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    version: u32,
    address: Address,
    kdf: String,
    memory_kib: u32,
    passes: u32,
    salt: String,
    cipher: String,
    nonce: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    head: Head,
    sealed: String,
}

/// Reads the key; asks for its passphrase if it is sealed.
///
/// # Errors
/// There is no file, others can read it, it holds no key, or the passphrase is wrong.
pub fn load(path: &Path, passphrase: &Passphrase) -> Result<PayerKey> {
    let secret = secret(path, passphrase)?;
    key_of(path, secret.expose())
}

/// The secret bytes themselves, for `wallet export`.
///
/// # Errors
/// As [`load`].
pub fn secret(path: &Path, passphrase: &Passphrase) -> Result<SecretBytes> {
    let text = read(path)?;
    match sealed(path, &text)? {
        Some(sealed) => {
            let asked = format!("Passphrase of {}: ", path.display());
            open(path, &sealed, &passphrase.ask(&asked)?)
        }
        None => plain(path, &text),
    }
}

/// Whose key it is: of a sealed one without its passphrase.
///
/// # Errors
/// There is no file, others can read it, or it holds no key.
pub fn address(path: &Path) -> Result<Address> {
    let text = read(path)?;
    match sealed(path, &text)? {
        Some(sealed) => Ok(sealed.head.address),
        None => Ok(key_of(path, plain(path, &text)?.expose())?.address()),
    }
}

/// A new key. A random number outside the group has a chance of one in 2^128.
///
/// # Errors
/// The system has no random numbers.
pub fn random_secret() -> Result<SecretBytes> {
    Ok(Secret::new(random::bytes::<32>()?))
}

/// The key in a text of 64 hexadecimal digits, as other wallets export it.
///
/// # Errors
/// Anything else.
pub fn parse(text: &str) -> Result<SecretBytes> {
    // checked first, so that what is wrong is never half taken
    PayerKey::from_hex(text).map_err(|error| Failure::usage(error.to_string()))?;
    let digits = text.trim();
    let mut secret = [0; 32];
    hex::decode_to_slice(digits.strip_prefix("0x").unwrap_or(digits), &mut secret)
        .map_err(|_| Failure::usage("not a private key"))?;
    Ok(Secret::new(secret))
}

/// Writes a key as 64 hexadecimal digits; never replaces a file.
///
/// # Errors
/// The file exists or can't be written.
pub fn write_plain(path: &Path, secret: &SecretBytes) -> Result<Address> {
    let key = key_of(path, secret.expose())?;
    let text = format!("0x{}\n", hex::encode(secret.expose()));
    private_file::create_new(path, &text)?;
    Ok(key.address())
}

/// Writes a key sealed by a passphrase; never replaces a file.
///
/// # Errors
/// The file exists or can't be written.
pub fn write_sealed(
    path: &Path,
    secret: &SecretBytes,
    passphrase: &Secret<String>,
) -> Result<Address> {
    let address = key_of(path, secret.expose())?.address();
    let head = Head {
        version: VERSION,
        address,
        kdf: KDF.to_owned(),
        memory_kib: MEMORY_KIB,
        passes: PASSES,
        salt: hex::encode(random::bytes::<SALT_BYTES>()?),
        cipher: CIPHER.to_owned(),
        nonce: hex::encode(random::bytes::<NONCE_LEN>()?),
    };
    let (key, nonce) = cipher_of(&head, passphrase).ok_or_else(unusable)?;
    let mut bytes = secret.expose().to_vec();
    key.seal_in_place_append_tag(nonce, Aad::from(bound(&head)), &mut bytes)
        .map_err(|_| unusable())?;
    let file = Sealed {
        head,
        sealed: hex::encode(bytes),
    };
    let text = serde_json::to_string_pretty(&file).map_err(|_| unusable())?;
    private_file::create_new(path, &format!("{text}\n"))?;
    Ok(address)
}

fn read(path: &Path) -> Result<String> {
    private_file::read(path)?.ok_or_else(|| {
        let shown = path.display();
        Failure::usage(format!(
            "there is no key file {shown}: make one with `ramarket wallet new`, or name one with --key-file"
        ))
    })
}

/// The sealed file that `text` is; `None` for a plain one.
fn sealed(path: &Path, text: &str) -> Result<Option<Sealed>> {
    if !text.trim_start().starts_with('{') {
        return Ok(None);
    }
    let wrong = |why: &str| Failure::usage(format!("{}: {why}", path.display()));
    // what serde complains of could quote the file
    let sealed: Sealed = serde_json::from_str(text).map_err(|_| wrong("not a sealed key file"))?;
    let head = &sealed.head;
    let known = head.version == VERSION && head.kdf == KDF && head.cipher == CIPHER;
    if !known || head.memory_kib > MEMORY_KIB_MAX || head.passes > PASSES_MAX {
        return Err(wrong(
            "sealed in a way that this version doesn't know: use the one that made it",
        ));
    }
    Ok(Some(sealed))
}

fn open(path: &Path, sealed: &Sealed, passphrase: &Secret<String>) -> Result<SecretBytes> {
    let opened = || {
        let (key, nonce) = cipher_of(&sealed.head, passphrase)?;
        let mut bytes = hex::decode(&sealed.sealed).ok()?;
        let bound = Aad::from(bound(&sealed.head));
        let secret = key.open_in_place(nonce, bound, &mut bytes).ok()?;
        let secret: [u8; 32] = (&*secret).try_into().ok()?;
        Some(Secret::new(secret))
    };
    opened().ok_or_else(|| {
        let shown = path.display();
        Failure::usage(format!(
            "{shown} doesn't open: the passphrase is wrong, or the file was changed"
        ))
    })
}

fn plain(path: &Path, text: &str) -> Result<SecretBytes> {
    parse(text).map_err(|failure| Failure::usage(format!("{}: {failure}", path.display())))
}

fn key_of(path: &Path, secret: &[u8; 32]) -> Result<PayerKey> {
    PayerKey::from_bytes(secret)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

fn cipher_of(head: &Head, passphrase: &Secret<String>) -> Option<(LessSafeKey, Nonce)> {
    let params = Params::new(head.memory_kib, head.passes, 1, Some(32)).ok()?;
    let salt = hex::decode(&head.salt).ok()?;
    let nonce: [u8; NONCE_LEN] = hex::decode(&head.nonce).ok()?.try_into().ok()?;
    let mut bytes = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose().as_bytes(), &salt, &mut bytes)
        .ok()?;
    let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).ok()?;
    Some((LessSafeKey::new(key), Nonce::assume_unique_for_key(nonce)))
}

/// What is authenticated along: every field, in one order, each on a line of its own.
fn bound(head: &Head) -> Vec<u8> {
    let Head {
        version,
        address,
        kdf,
        memory_kib,
        passes,
        salt,
        cipher,
        nonce,
    } = head;
    format!("ramarket-wallet\n{version}\n{address}\n{kdf}\n{memory_kib}\n{passes}\n{salt}\n{cipher}\n{nonce}\n")
        .into_bytes()
}

fn unusable() -> Failure {
    Failure::failed("the key can't be sealed: the system lacks memory or random numbers")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{failure::Kind, private_file::tests::Folder};

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::known(text)
    }

    #[test]
    fn a_sealed_key_opens_with_its_passphrase_only() {
        let folder = Folder::default();
        let path = folder.0.join("wallet.key");
        assert_eq!(load(&path, &passphrase("x")).unwrap_err().kind, Kind::Usage);
        let secret = random_secret().unwrap();
        let words = Secret::new("four unrelated words".to_owned());
        let made = write_sealed(&path, &secret, &words).unwrap();
        assert_eq!(address(&path).unwrap(), made);
        let read = load(&path, &passphrase("four unrelated words")).unwrap();
        assert_eq!(read.address(), made);
        let wrong = load(&path, &passphrase("four related words")).unwrap_err();
        assert_eq!(wrong.kind, Kind::Usage);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&hex::encode(secret.expose())));
        // never replaced
        assert!(write_sealed(&path, &random_secret().unwrap(), &words).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        // nor changed
        let other = random_secret().unwrap();
        let other = PayerKey::from_bytes(other.expose()).unwrap().address();
        let forged = text.replace(&made.to_string(), &other.to_string());
        assert_ne!(forged, text);
        fs::write(&path, forged).unwrap();
        assert!(load(&path, &passphrase("four unrelated words")).is_err());
    }

    #[test]
    fn a_cost_out_of_bounds_is_not_paid() {
        let folder = Folder::default();
        let path = folder.0.join("wallet.key");
        let words = Secret::new("x".to_owned());
        write_sealed(&path, &random_secret().unwrap(), &words).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("65536", "4000000000")).unwrap();
        let refused = load(&path, &passphrase("x")).unwrap_err();
        assert!(refused.to_string().contains("doesn't know"), "{refused}");
    }

    #[test]
    fn a_plain_key_is_read_back_and_a_bad_one_isnt_shown() {
        let folder = Folder::default();
        let path = folder.0.join("plain.key");
        let secret = random_secret().unwrap();
        let made = write_plain(&path, &secret).unwrap();
        assert_eq!(load(&path, &Passphrase::none()).unwrap().address(), made);
        assert!(write_plain(&path, &secret).is_err());
        let path = folder.0.join("bad.key");
        private_file::create_new(&path, "0xdeadbeef").unwrap();
        let failure = load(&path, &Passphrase::none()).unwrap_err();
        assert_eq!(failure.kind, Kind::Usage);
        assert!(!failure.to_string().contains("deadbeef"), "{failure}");
    }
}
