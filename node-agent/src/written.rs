//! What commands say: on standard output, whole.

use std::io::Write as _;

/// Writes it.
///
/// # Errors
/// Nobody reads any more.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
