//! Recoverable secp256k1 signatures and the key of a payer.
//!
//! # Invariants
//! - Only the form that the token's contract takes passes: 65 bytes, low `s`, `v` 27 or 28. What some facilitators
//!   would mend is refused here, because two forms of one signature would be two payments.
//! - A [`PayerKey`] can't be printed.

use std::{fmt, str::FromStr};

use secp256k1::{
    Message, PublicKey, SecretKey,
    ecdsa::{RecoverableSignature, RecoveryId, Signature},
};

use super::{address::Address, eip712::keccak256};

/// Bytes of a signature: r ‖ s ‖ v.
pub const SIGNATURE_BYTES: usize = 65;

/// Why a signature can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum SignatureError {
    /// Not `0x` and 130 hexadecimal digits: perhaps one of a smart wallet, which can't be checked without a chain.
    #[error(
        "a signature is 0x and 130 hexadecimal digits; those of smart wallets aren't supported"
    )]
    Malformed,
    /// `v` is neither 27 nor 28.
    #[error("the signature's last byte must be 27 or 28")]
    RecoveryByte,
    /// `s` is in the upper half of the group: the token would refuse it.
    #[error("the signature isn't in its low-s form")]
    HighS,
    /// No key makes this signature.
    #[error("no key can have made this signature")]
    Unrecoverable,
}

/// A signature in the one accepted form. Text form: `0x` and 130 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PaymentSignature {
    rsv: [u8; SIGNATURE_BYTES],
    recoverable: RecoverableSignature,
}

impl PaymentSignature {
    /// Reads r ‖ s ‖ v.
    ///
    /// # Errors
    /// Wrong length, a high `s`, or a `v` that is neither 27 nor 28.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SignatureError> {
        let bytes: &[u8; SIGNATURE_BYTES] =
            bytes.try_into().map_err(|_| SignatureError::Malformed)?;
        let recovery = match bytes[64] {
            27 => RecoveryId::Zero,
            28 => RecoveryId::One,
            _ => return Err(SignatureError::RecoveryByte),
        };
        let (r, s) = (&bytes[..32], &bytes[32..64]);
        // the library takes zeros for numbers and finds nobody only later
        let is_zero = |number: &[u8]| number.iter().all(|byte| *byte == 0);
        if is_zero(r) || is_zero(s) {
            return Err(SignatureError::Unrecoverable);
        }
        let rs = &bytes[..64];
        let given = Signature::from_compact(rs).map_err(|_| SignatureError::Unrecoverable)?;
        let mut low = given;
        low.normalize_s();
        if low != given {
            return Err(SignatureError::HighS);
        }
        let recoverable = RecoverableSignature::from_compact(rs, recovery)
            .map_err(|_| SignatureError::Unrecoverable)?;
        Ok(Self {
            rsv: *bytes,
            recoverable,
        })
    }

    /// r ‖ s ‖ v.
    #[must_use]
    pub const fn to_bytes(&self) -> [u8; SIGNATURE_BYTES] {
        self.rsv
    }

    /// Who signed `digest`.
    ///
    /// # Errors
    /// Nobody can have.
    pub fn recover(&self, digest: &[u8; 32]) -> Result<Address, SignatureError> {
        self.recoverable
            .recover_ecdsa(Message::from_digest(*digest))
            .map(|key| address_of(&key))
            .map_err(|_| SignatureError::Unrecoverable)
    }
}

impl FromStr for PaymentSignature {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let mut bytes = [0; SIGNATURE_BYTES];
        text.strip_prefix("0x")
            .and_then(|digits| hex::decode_to_slice(digits, &mut bytes).ok())
            .ok_or(SignatureError::Malformed)?;
        Self::from_bytes(&bytes)
    }
}

impl fmt::Display for PaymentSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.to_bytes()))
    }
}

impl fmt::Debug for PaymentSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The bytes aren't a private key.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error(
    "not a private key: 64 hexadecimal digits, with or without 0x, of a number inside the group"
)]
pub struct BadPayerKey;

/// A payer's private key.
pub struct PayerKey {
    key: SecretKey,
    address: Address,
}

impl fmt::Debug for PayerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PayerKey({})", self.address)
    }
}

impl PayerKey {
    /// From 32 secret bytes.
    ///
    /// # Errors
    /// Zero, or not below the group's order.
    pub fn from_bytes(secret: &[u8; 32]) -> Result<Self, BadPayerKey> {
        let key = SecretKey::from_secret_bytes(*secret).map_err(|_| BadPayerKey)?;
        let address = address_of(&PublicKey::from_secret_key(&key));
        Ok(Self { key, address })
    }

    /// From 64 hexadecimal digits, with or without `0x`, with white space around.
    ///
    /// # Errors
    /// Anything else.
    pub fn from_hex(text: &str) -> Result<Self, BadPayerKey> {
        let text = text.trim();
        let mut secret = [0; 32];
        hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(text), &mut secret)
            .map_err(|_| BadPayerKey)?;
        Self::from_bytes(&secret)
    }

    /// The payer's address.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// Signs a digest.
    ///
    /// # Errors
    /// The digest is one of the few that this key can't sign.
    pub fn sign(&self, digest: &[u8; 32]) -> Result<PaymentSignature, SignatureError> {
        let signed =
            RecoverableSignature::sign_ecdsa_recoverable(Message::from_digest(*digest), &self.key);
        let (recovery, rs) = signed.serialize_compact();
        let mut bytes = [0; SIGNATURE_BYTES];
        bytes[..64].copy_from_slice(&rs);
        bytes[64] = match recovery {
            RecoveryId::Zero => 27,
            RecoveryId::One => 28,
            RecoveryId::Two | RecoveryId::Three => return Err(SignatureError::Unrecoverable),
        };
        PaymentSignature::from_bytes(&bytes)
    }
}

fn address_of(key: &PublicKey) -> Address {
    let hash = keccak256(&key.serialize_uncompressed()[1..]);
    let mut bytes = [0; 20];
    bytes.copy_from_slice(&hash[12..]);
    Address::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The second account of the well-known development mnemonic: worthless by design.
    const KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

    #[test]
    fn a_key_has_its_address_and_never_shows() {
        let key = PayerKey::from_hex(KEY).expect("a key");
        let address = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
        assert_eq!(key.address().to_string(), address);
        assert_eq!(format!("{key:?}"), format!("PayerKey({address})"));
        for bad in [
            "",
            "0x00",
            &"0".repeat(64),
            &"f".repeat(64),
            &format!("{KEY}0"),
        ] {
            assert!(PayerKey::from_hex(bad).is_err(), "{bad}");
        }
    }

    /// The group's order less `s`, both big endian.
    fn negated(s: &[u8]) -> [u8; 32] {
        let mut order = [0; 32];
        hex::decode_to_slice(
            "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
            &mut order,
        )
        .expect("hex");
        let mut borrow = 0_i16;
        for (digit, less) in order.iter_mut().zip(s).rev() {
            let difference = i16::from(*digit) - i16::from(*less) - borrow;
            borrow = i16::from(difference < 0);
            *digit = u8::try_from(difference.rem_euclid(256)).expect("a byte");
        }
        order
    }

    #[test]
    fn other_forms_of_a_signature_are_refused() {
        let key = PayerKey::from_hex(KEY).expect("a key");
        let digest = keccak256(b"message");
        let good = key.sign(&digest).expect("signs").to_bytes();
        assert_eq!(
            PaymentSignature::from_bytes(&good).and_then(|s| s.recover(&digest)),
            Ok(key.address())
        );
        for v in [0, 1, 2, 26, 29, 255] {
            let mut other = good;
            other[64] = v;
            assert_eq!(
                PaymentSignature::from_bytes(&other),
                Err(SignatureError::RecoveryByte)
            );
        }
        // the same signature with s negated and v flipped: valid for ECDSA, refused by the token
        let mut other = good;
        other[32..64].copy_from_slice(&negated(&good[32..64]));
        other[64] = 55 - good[64];
        assert_eq!(
            PaymentSignature::from_bytes(&other),
            Err(SignatureError::HighS)
        );
        assert_eq!(
            PaymentSignature::from_bytes(&good[..64]),
            Err(SignatureError::Malformed)
        );
        let mut zero_r = good;
        zero_r[..32].fill(0);
        assert_eq!(
            PaymentSignature::from_bytes(&zero_r),
            Err(SignatureError::Unrecoverable)
        );
    }

    proptest! {
        #[test]
        fn who_signs_is_who_is_recovered(secret in any::<[u8; 32]>(), message in any::<[u8; 32]>()) {
            prop_assume!(PayerKey::from_bytes(&secret).is_ok());
            let key = PayerKey::from_bytes(&secret).expect("assumed");
            let signature = key.sign(&message).expect("signs");
            let again: PaymentSignature = signature.to_string().parse().expect("its own text");
            prop_assert_eq!(again.recover(&message), Ok(key.address()));
            let mut other = message;
            other[0] ^= 1;
            prop_assert_ne!(signature.recover(&other), Ok(key.address()));
        }

        #[test]
        fn any_bytes_are_parsed_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(signature) = PaymentSignature::from_bytes(&bytes) {
                prop_assert_eq!(signature.to_bytes().to_vec(), bytes);
            }
        }
    }
}
