//! A folder for one test, removed with what is in it when the test ends.

use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(crate) struct TestFolder(PathBuf);

impl TestFolder {
    /// An empty folder; `name` must be unique among the tests of this crate.
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ramarket-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("the test folder {} is left: {error}", self.0.display());
        }
    }
}
