//! For tests of this slice and of others: an authenticator app.

use shared::clock::Clock as _;

use super::totp;
use crate::testing::TestApp;

/// An authenticator app, written apart from the product: it reads base32 by itself.
#[derive(Debug)]
pub struct AuthenticatorApp(pub Vec<u8>);

impl AuthenticatorApp {
    /// With the text of a secret.
    #[must_use]
    pub fn scan(secret: &str) -> Self {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let bits: String = secret
            .chars()
            .map(|c| format!("{:05b}", alphabet.find(c).expect("base32")))
            .collect();
        let bytes = bits.as_bytes().chunks_exact(8);
        let byte = |chunk: &[u8]| {
            let text = std::str::from_utf8(chunk).expect("ascii");
            u8::from_str_radix(text, 2).expect("bits")
        };
        Self(bytes.map(byte).collect())
    }

    /// What it shows now.
    #[must_use]
    pub fn code(&self, test: &TestApp) -> String {
        totp::code_at(&self.0, test.clock.now().as_secs() / 30)
    }
}
