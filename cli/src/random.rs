//! Random bytes from the system.

use ring::rand::{SecureRandom as _, SystemRandom};

use crate::failure::{Failure, Result};

/// `N` random bytes.
///
/// # Errors
/// The system has none.
pub fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Failure::failed("the system has no random numbers"))?;
    Ok(bytes)
}
