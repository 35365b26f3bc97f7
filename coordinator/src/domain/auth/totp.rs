//! Time-based one-time codes (RFC 6238 over RFC 4226): SHA-1, 30 seconds, six digits, as every authenticator app knows them.

use ring::hmac;
use shared::time::Timestamp;

/// A code counts for so many seconds.
const STEP_S: i64 = 30;
const DIGITS: u32 = 6;
/// The device's clock may be so many steps off, to either side.
const DRIFT_STEPS: i64 = 1;
/// Bytes of a secret: as long as the hash (RFC 4226, 4).
pub(super) const SECRET_BYTES: usize = 20;
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The time step whose code is `code`, if that is near `now`.
pub(super) fn step_of(secret: &[u8], code: &str, now: Timestamp) -> Option<i64> {
    let current = now.as_secs().div_euclid(STEP_S);
    (current - DRIFT_STEPS..=current + DRIFT_STEPS).find(|step| code_at(secret, *step) == code)
}

/// The code of a time step.
pub(super) fn code_at(secret: &[u8], step: i64) -> String {
    let number = truncated(secret, step) % 10_u32.pow(DIGITS);
    format!("{number:06}")
}

/// RFC 4226, 5.3: 31 bits of the hash.
fn truncated(secret: &[u8], step: i64) -> u32 {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let hash = tag.as_ref();
    let offset = usize::from(hash[hash.len() - 1] & 0xf);
    let bytes = [
        hash[offset],
        hash[offset + 1],
        hash[offset + 2],
        hash[offset + 3],
    ];
    u32::from_be_bytes(bytes) & 0x7fff_ffff
}

/// The secret as people type it and apps read it: base32 (RFC 4648) without padding.
pub(super) fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut buffer, mut bits) = (0_u32, 0_u32);
    for byte in bytes {
        buffer = buffer << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(letter(buffer >> bits));
        }
    }
    if bits > 0 {
        text.push(letter(buffer << (5 - bits)));
    }
    text
}

fn letter(five_bits: u32) -> char {
    let index = usize::try_from(five_bits & 31).unwrap_or(0);
    char::from(BASE32[index])
}

/// What a QR code shows to an app.
pub(super) fn url(secret: &[u8], email: &str) -> String {
    let label: String = email
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect();
    format!(
        "otpauth://totp/RAMarket:{label}?secret={}&issuer=RAMarket&algorithm=SHA1&digits={DIGITS}&period={STEP_S}",
        base32(secret)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B: SHA-1, eight digits; ours are the last six of these.
    #[test]
    fn the_vectors_of_the_standard() {
        let secret = b"12345678901234567890";
        for (seconds, eight) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ] {
            let step = seconds / STEP_S;
            assert_eq!(
                format!("{:08}", truncated(secret, step) % 100_000_000),
                eight
            );
            assert_eq!(code_at(secret, step), eight[2..]);
        }
        // RFC 4226, appendix D
        for (step, code) in ["755224", "287082", "359152", "969429"].iter().enumerate() {
            let step = i64::try_from(step).expect("few");
            assert_eq!(code_at(secret, step), *code);
        }
    }

    #[test]
    fn a_clock_may_be_a_step_off_and_no_more() {
        let secret = [7; SECRET_BYTES];
        let now = Timestamp::from_secs(1_800_000_000);
        let step = 60_000_000;
        for off in -1..=1 {
            let code = code_at(&secret, step + off);
            assert_eq!(step_of(&secret, &code, now), Some(step + off));
        }
        for off in [-2, 2] {
            let code = code_at(&secret, step + off);
            assert_eq!(step_of(&secret, &code, now), None);
        }
        assert_eq!(step_of(&secret, "", now), None);
    }

    /// RFC 4648, section 10, without padding.
    #[test]
    fn base32_is_the_standards() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
        let url = url(b"12345678901234567890", "ada+x@example.org");
        assert_eq!(
            url,
            "otpauth://totp/RAMarket:ada%2Bx%40example.org?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\
             &issuer=RAMarket&algorithm=SHA1&digits=6&period=30"
        );
    }
}
