//! The body of an answer from a service that the settings name.
//!
//! # Invariants
//! - What is longer than the bound is an error, and never held as a whole.
//! - An error doesn't tell the URL: it may hold a key.

use anyhow::ensure;
use reqwest::Response;

/// Reads a body of at most `bytes_max`.
///
/// # Errors
/// It is longer, or the connection breaks.
pub(super) async fn read(mut response: Response, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(reqwest::Error::without_url)?
    {
        ensure!(
            bytes.len() + chunk.len() <= bytes_max,
            "the answer is longer than {bytes_max} bytes"
        );
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
