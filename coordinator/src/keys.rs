//! The coordinator's own keys: made at the first start with mode 0600, or given as files.
//!
//! # Invariants
//! - One key per purpose: a signature or token of one kind never passes for another.
//! - Several coordinators on one database need the same files; a key that is there is never replaced.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use ring::{
    aead, hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use shared::{secret::Secret, sign::SigningKey, x402::signature::PayerKey};

use crate::config::{Config, PaymentsMode};

const KEY_BYTES_MAX: u64 = 4096;

/// All keys.
#[derive(Debug)]
pub struct Keys {
    /// Signs access tokens.
    pub access: Arc<SigningKey>,
    /// Signs acknowledgements of journal positions.
    pub journal_ack: Arc<SigningKey>,
    /// Seals documents of proofs of identity.
    pub kyc: Sealer,
    /// Signs checkpoints of the audit log.
    pub audit: Arc<SigningKey>,
    /// Signs transfers of money out; without it they are made by hand.
    pub wallet: Option<Arc<PayerKey>>,
    /// Derives rental tokens, refresh tokens and beacons.
    pub token: TokenSecret,
}

impl Keys {
    /// Reads the keys, and makes those that neither exist nor are configured.
    ///
    /// # Errors
    /// A file can't be read, isn't a key, or others may read it.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let dir = config.data_dir.join("keys");
        let auth = &config.auth;
        let pkcs8 = || SigningKey::generate_pkcs8().context("make a key");
        let access = open(auth.access_key_file.as_deref(), &dir, "access.pk8", pkcs8)?;
        let ack = open(auth.ack_key_file.as_deref(), &dir, "journal_ack.pk8", pkcs8)?;
        let kyc = open(config.kyc.key_file.as_deref(), &dir, "kyc.bin", random_32)?;
        let audit = open(config.audit.key_file.as_deref(), &dir, "audit.pk8", pkcs8)?;
        let token = open(
            auth.token_secret_file.as_deref(),
            &dir,
            "token_secret.bin",
            random_32,
        )?;
        let token: [u8; 32] = token
            .try_into()
            .map_err(|_| anyhow::anyhow!("the token secret must be 32 bytes"))?;
        Ok(Self {
            wallet: wallet(config, &dir)?.map(Arc::new),
            access: Arc::new(SigningKey::from_pkcs8(&access).context("access token key")?),
            journal_ack: Arc::new(
                SigningKey::from_pkcs8(&ack).context("journal acknowledgement key")?,
            ),
            kyc: Sealer::of(&kyc).context("key of identity documents")?,
            audit: Arc::new(SigningKey::from_pkcs8(&audit).context("audit key")?),
            token: TokenSecret::from_bytes(token),
        })
    }
}

/// The market's own wallet: given as a file, or in the sandbox, where it holds play money, made. Whoever pays for real must know of
/// the key that moves the money, so none is made then.
fn wallet(config: &Config, dir: &Path) -> anyhow::Result<Option<PayerKey>> {
    let given = config.payouts.key_file.as_deref();
    if given.is_none() && config.payments.mode == PaymentsMode::Facilitator {
        return Ok(None);
    }
    let made = || Ok(hex::encode(random_32()?).into_bytes());
    let bytes = open(given, dir, "wallet.hex", made)?;
    let text = Secret::new(String::from_utf8(bytes).context("wallet key: not text")?);
    let key = PayerKey::from_hex(text.expose()).context("wallet key")?;
    Ok(Some(key))
}

/// The secret behind derived tokens; each use takes its own key from it.
#[derive(Debug, Clone)]
pub struct TokenSecret(Secret<[u8; 32]>);

impl TokenSecret {
    /// From 32 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret::new(bytes))
    }

    /// What seals values of one purpose.
    ///
    /// # Panics
    /// Never: a derived key is as long as AES-256 wants it.
    #[must_use]
    pub fn sealer(&self, purpose: &str) -> Sealer {
        let master = hmac::Key::new(hmac::HMAC_SHA256, self.0.expose());
        let derived = hmac::sign(&master, format!("seal {purpose}").as_bytes());
        Sealer::of(derived.as_ref()).expect("32 bytes")
    }

    /// The HMAC-SHA256 key for one purpose.
    #[must_use]
    pub fn key(&self, purpose: &str) -> hmac::Key {
        let master = hmac::Key::new(hmac::HMAC_SHA256, self.0.expose());
        let derived = hmac::sign(&master, purpose.as_bytes());
        hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
    }
}

/// Seals what must be read again but not lie about in clear: AES-256-GCM, a fresh nonce each time.
#[derive(Debug)]
pub struct Sealer(aead::LessSafeKey);

/// What was sealed can't be opened: it was changed, moved to another place, or sealed with another key.
#[derive(Debug, thiserror::Error)]
#[error("a sealed value can't be opened: is the token secret the one that it was sealed with?")]
pub struct Unsealable;

impl Sealer {
    /// With 32 secret bytes that are used for nothing else.
    ///
    /// # Errors
    /// They are more or fewer.
    pub fn of(key: &[u8]) -> anyhow::Result<Self> {
        let key = aead::UnboundKey::new(&aead::AES_256_GCM, key)
            .map_err(|_| anyhow::anyhow!("a sealing key has 32 bytes"))?;
        Ok(Self(aead::LessSafeKey::new(key)))
    }

    /// Seals `plain`; only who names the same `place` (a prefixed id) can open it.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let mut nonce = [0; aead::NONCE_LEN];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| Unsealable)?;
        let mut sealed = plain.to_vec();
        let unique = aead::Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(unique, aead::Aad::from(place), &mut sealed)
            .map_err(|_| Unsealable)?;
        Ok([&nonce[..], &sealed[..]].concat())
    }

    /// Opens what was sealed for `place`.
    ///
    /// # Errors
    /// It wasn't, or not with this key.
    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let (nonce, sealed) = sealed.split_at_checked(aead::NONCE_LEN).ok_or(Unsealable)?;
        let nonce = aead::Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unsealable)?;
        let mut bytes = sealed.to_vec();
        let plain = self
            .0
            .open_in_place(nonce, aead::Aad::from(place), &mut bytes)
            .map_err(|_| Unsealable)?;
        Ok(plain.to_vec())
    }
}

/// 32 bytes from the system's random source.
///
/// # Errors
/// The system has none.
pub fn random_32() -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; 32];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;
    Ok(bytes)
}

/// A key's bytes: of the file that is given, else of `name` in `dir`, which is made if it isn't there.
///
/// # Errors
/// The file can't be read or made, or others may read it.
pub fn open(
    given: Option<&Path>,
    dir: &Path,
    name: &str,
    make: impl FnOnce() -> anyhow::Result<Vec<u8>>,
) -> anyhow::Result<Vec<u8>> {
    if let Some(path) = given {
        return read_private(path).with_context(|| format!("key file {}", path.display()));
    }
    let path = dir.join(name);
    match read_private(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let bytes = make()?;
            create(dir, &path, &bytes).with_context(|| format!("write {}", path.display()))?;
            // another process may have been first: what lies there counts
            read_private(&path).with_context(|| format!("key file {}", path.display()))
        }
        other => other.with_context(|| format!("key file {}", path.display())),
    }
}

/// Reads a file that only we may read.
///
/// # Errors
/// It can't be read, or others may read it.
pub fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode();
    if mode & 0o007 != 0 {
        return Err(io::Error::other(format!(
            "mode {:o}: others may read it; run chmod 600",
            mode & 0o777
        )));
    }
    let mut bytes = Vec::new();
    file.take(KEY_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a key under another name first, so that a crash leaves a whole key or none.
fn create(dir: &Path, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let temp = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    let linked = fs::hard_link(&temp, path);
    fs::remove_file(&temp)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => bail!(error),
        _ => {
            File::open(dir)?.sync_all()?;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_at_its_place_with_its_key() {
        let secret = TokenSecret::from_bytes([7; 32]);
        let sealer = secret.sealer("tests");
        let sealed = sealer.seal("whk_1", b"secret").expect("sealed");
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_eq!(sealer.open("whk_1", &sealed).expect("opened"), b"secret");
        assert_ne!(sealer.seal("whk_1", b"secret").expect("sealed"), sealed);
        assert!(sealer.open("whk_2", &sealed).is_err());
        assert!(secret.sealer("others").open("whk_1", &sealed).is_err());
        assert!(sealer.open("whk_1", &sealed[..5]).is_err());
        assert!(Sealer::of(&[7; 31]).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer.open("whk_1", &changed).is_err());
        }
    }
}
