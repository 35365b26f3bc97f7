//! An authenticator app as a program of others: `oathtool` from Debian.

use std::process::Command;

use shared::clock::{Clock as _, SystemClock};

/// What it shows for a base32 secret, so many seconds from now.
///
/// # Panics
/// If it isn't installed, or can't read the secret.
#[must_use]
pub fn code_of(secret: &str, later_s: i64) -> String {
    let at = format!("@{}", SystemClock.now().as_secs() + later_s);
    let shown = Command::new("oathtool")
        .args(["--totp", "-b", "--now", &at, secret])
        .output()
        .expect("oathtool runs: apt-get install oathtool");
    assert!(shown.status.success(), "{shown:?}");
    String::from_utf8(shown.stdout)
        .expect("digits")
        .trim()
        .to_owned()
}
