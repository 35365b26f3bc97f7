//! Open folders, read in parts.

use std::{fs::ReadDir, os::unix::ffi::OsStrExt as _, path::Path};

use super::{
    Answered,
    attributes::{self, Attributes},
    packet::{Name, Reply, Status},
};

/// Names of one reply.
const NAMES_MAX: usize = 128;

/// An open folder.
#[derive(Debug)]
pub(super) struct OpenFolder(ReadDir);

impl OpenFolder {
    pub(super) fn open(path: &Path) -> Result<Self, Status> {
        Ok(Self(std::fs::read_dir(path)?))
    }

    pub(super) fn next(&mut self) -> Answered {
        let mut names = Vec::new();
        while names.len() < NAMES_MAX
            && let Some(entry) = self.0.next()
        {
            let entry = entry?;
            // gone since it was listed
            let Ok(found) = entry.metadata() else {
                continue;
            };
            let name = entry.file_name().as_bytes().to_vec();
            names.push(Name {
                line: attributes::line(&name, &found),
                name,
                attributes: Attributes::of(&found),
            });
        }
        if names.is_empty() {
            return Err(Status::end());
        }
        Ok(Reply::Names(names))
    }
}
