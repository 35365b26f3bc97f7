//! Which agent a helper works for: the scope that it was first asked for, and no other from then on.
//!
//! # Invariants
//! - The scope is on disk, in a file of root's, before anything is done under it.
//! - An agent that was taken over can't reach the containers of another agent on the same engine by naming its scope.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::durable;

/// Characters of a scope; node ids have fewer.
const SCOPE_CHARS_MAX: usize = 128;

/// The file that binds a helper to a scope, and what it says.
#[derive(Debug)]
pub(super) struct Binding {
    file: PathBuf,
    bound: Option<String>,
}

impl Binding {
    /// Reads it; there is none before the first request.
    ///
    /// # Errors
    /// It can't be read, or holds something else.
    pub(super) fn read(state_dir: &Path) -> anyhow::Result<Self> {
        let file = state_dir.join("scope");
        let bound = match std::fs::read_to_string(&file) {
            Ok(text) => Some(text.trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("{} can't be read", file.display()));
            }
        };
        if let Some(scope) = &bound {
            anyhow::ensure!(
                is_scope(scope),
                "{} is damaged; it should hold a node id: remove it, and the next request writes it anew",
                file.display()
            );
        }
        Ok(Self { file, bound })
    }

    /// The scope that is served, once there was a request.
    pub(super) fn bound(self) -> Option<String> {
        self.bound
    }

    /// Whether `scope` may be served; the first one is written down.
    ///
    /// # Errors
    /// It may not, in words for the agent.
    pub(super) fn admit(&mut self, scope: &str) -> Result<(), String> {
        if !is_scope(scope) {
            return Err("the scope isn't a node id".to_owned());
        }
        match &self.bound {
            Some(bound) if bound == scope => Ok(()),
            Some(bound) => Err(format!(
                "this helper works for {bound} and not for {scope}; if this machine was given another data folder on purpose, remove {} and restart the helper",
                self.file.display()
            )),
            None => {
                durable::create(&self.file, scope.as_bytes(), 0o600).map_err(|error| {
                    format!("{} can't be written: {error}", self.file.display())
                })?;
                tracing::info!(scope, "this helper works for this node from now on");
                self.bound = Some(scope.to_owned());
                Ok(())
            }
        }
    }
}

fn is_scope(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    !text.is_empty() && text.len() <= SCOPE_CHARS_MAX && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn the_first_scope_is_kept_over_restarts_and_no_other_is_served() {
        let dir = TempDir::new();
        let mut binding = Binding::read(dir.path()).expect("nothing yet");
        for bad in ["", "a=b", "a,b", &"a".repeat(129)] {
            binding.admit(bad).expect_err(bad);
        }
        binding.admit("nod_1").expect("the first");
        binding.admit("nod_2").expect_err("another");
        let mut again = Binding::read(dir.path()).expect("a file");
        again.admit("nod_1").expect("the first");
        let why = again.admit("nod_2").expect_err("another");
        assert!(why.contains("works for nod_1"), "{why}");
        std::fs::write(dir.path().join("scope"), "a b").expect("written");
        Binding::read(dir.path()).expect_err("damaged");
    }
}
