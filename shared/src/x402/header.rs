//! The header codec: standard base64 with padding over UTF-8 JSON, bounded both ways.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Serialize, de::DeserializeOwned};

/// v2: the terms, in a 402.
pub const PAYMENT_REQUIRED: &str = "payment-required";
/// v2: the payment, in a request.
pub const PAYMENT_SIGNATURE: &str = "payment-signature";
/// v2: the receipt, in an answer.
pub const PAYMENT_RESPONSE: &str = "payment-response";
/// v1: the payment, in a request.
pub const X_PAYMENT: &str = "x-payment";
/// v1: the receipt, in an answer.
pub const X_PAYMENT_RESPONSE: &str = "x-payment-response";

/// Longest header value that is decoded.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Why a header's value can't be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum HeaderError {
    /// Longer than [`HEADER_BYTES_MAX`].
    #[error("the payment header is longer than 16 KiB")]
    TooLong,
    /// Not standard base64 with padding.
    #[error("the payment header isn't base64 (standard alphabet, with padding)")]
    NotBase64,
    /// Not the JSON that is expected.
    #[error("the payment header doesn't hold the JSON that is expected: {0}")]
    NotJson(String),
}

/// The header value of a wire type.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> String {
    let json = serde_json::to_vec(value)
        .expect("wire types hold text, numbers and maps with text keys: they always serialise");
    BASE64.encode(json)
}

/// Reads a header value.
///
/// # Errors
/// Too long, not base64, or other JSON than expected.
pub fn decode<T: DeserializeOwned>(value: &[u8]) -> Result<T, HeaderError> {
    if value.len() > HEADER_BYTES_MAX {
        return Err(HeaderError::TooLong);
    }
    let json = BASE64.decode(value).map_err(|_| HeaderError::NotBase64)?;
    serde_json::from_slice(&json).map_err(|error| HeaderError::NotJson(error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_padded_standard_base64_of_json_is_read() {
        let value = json!({"a": "??>>"});
        let text = encode(&value);
        assert_eq!(decode::<Value>(text.as_bytes()), Ok(value));
        assert!(
            text.contains('/') || text.contains('+') || text.ends_with('='),
            "{text}"
        );
        for bad in ["e30", "eyJhIjoiPz8-PiJ9", " e30=", "e30=\n", "%%%"] {
            assert_eq!(
                decode::<Value>(bad.as_bytes()),
                Err(HeaderError::NotBase64),
                "{bad}"
            );
        }
        assert!(matches!(
            decode::<Value>(b"e30=e30="),
            Err(HeaderError::NotBase64)
        ));
        assert!(matches!(
            decode::<Value>(b"e3t7"),
            Err(HeaderError::NotJson(_))
        ));
        let long = vec![b'A'; HEADER_BYTES_MAX + 1];
        assert_eq!(decode::<Value>(&long), Err(HeaderError::TooLong));
        // deeper than the parser goes: an error, not a stack overflow
        let deep = BASE64.encode("[".repeat(9_000));
        assert!(matches!(
            decode::<Value>(deep.as_bytes()),
            Err(HeaderError::NotJson(_))
        ));
    }

    proptest! {
        #[test]
        fn texts_round_trip(text in ".{0,300}") {
            let value = json!({"k": text, "n": null});
            prop_assert_eq!(decode::<Value>(encode(&value).as_bytes()), Ok(value));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let raw = decode::<crate::x402::wire_v2::PaymentPayload>(&bytes);
            prop_assert!(raw.is_err());
            let wrapped = decode::<crate::x402::wire_v2::PaymentPayload>(BASE64.encode(&bytes).as_bytes());
            prop_assert!(wrapped.is_err());
        }
    }
}
