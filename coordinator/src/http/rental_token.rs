//! The token of one rental, for payers without an account: `rmt_<rental uuid>_<mac>`.
//!
//! # Invariants
//! - Derived from the rental's id and our secret by HMAC-SHA256: nothing is stored, and the same payment answered
//!   twice carries the same token.
//! - Compared in constant time.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use ring::hmac;
use shared::{id::RentalId, secret::Secret};

use crate::keys::TokenSecret;

/// How every rental token starts.
pub const PREFIX: &str = "rmt_";
const DOMAIN: &str = "ramarket-rental-token-v1";

/// Mints and checks the tokens of rentals.
#[derive(Debug, Clone)]
pub struct RentalTokens {
    key: hmac::Key,
}

impl RentalTokens {
    /// From the coordinator's secret.
    #[must_use]
    pub fn new(secret: &TokenSecret) -> Self {
        Self {
            key: secret.key(DOMAIN),
        }
    }

    /// The token of a rental.
    #[must_use]
    pub fn mint(&self, rental: RentalId) -> Secret<String> {
        let text = rental.to_string();
        let mac = hmac::sign(&self.key, text.as_bytes());
        let id = text.trim_start_matches("rnt_");
        Secret::new(format!("{PREFIX}{id}_{}", BASE64URL.encode(mac)))
    }

    /// The rental that `token` was minted for; nothing when it is forged or malformed.
    #[must_use]
    pub fn rental_of(&self, token: &str) -> Option<RentalId> {
        let (id, mac) = token.strip_prefix(PREFIX)?.split_once('_')?;
        let rental: RentalId = format!("rnt_{id}").parse().ok()?;
        let mac = BASE64URL.decode(mac).ok()?;
        hmac::verify(&self.key, rental.to_string().as_bytes(), &mac).ok()?;
        Some(rental)
    }
}

#[cfg(test)]
mod tests {
    use shared::id::Ids;

    use super::*;

    #[test]
    fn a_token_opens_its_rental_and_no_other() {
        let tokens = RentalTokens::new(&TokenSecret::from_bytes([7; 32]));
        let ids = Ids::counting();
        let (one, two): (RentalId, RentalId) = (ids.mint(), ids.mint());
        let token = tokens.mint(one).expose().clone();
        assert_eq!(tokens.rental_of(&token), Some(one));
        let mac = token.rsplit_once('_').expect("three parts").1;
        let moved = format!("rmt_{}_{mac}", two.to_string().trim_start_matches("rnt_"));
        assert_eq!(tokens.rental_of(&moved), None);
        let other = RentalTokens::new(&TokenSecret::from_bytes([8; 32]));
        assert_eq!(other.rental_of(&token), None);
        assert_eq!(tokens.rental_of("rmt_"), None);
        assert_eq!(tokens.rental_of(&token[..token.len() - 1]), None);
    }
}
