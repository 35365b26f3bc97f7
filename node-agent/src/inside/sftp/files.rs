//! Open files.
//!
//! # Invariants
//! - Reading and writing name their offset; there is no position to get wrong.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::{OFlags, Timespec, Timestamps};

use super::{
    Answered,
    attributes::Attributes,
    packet::{CHUNK_BYTES_MAX, Reply, Status},
    paths,
};

const READ: u32 = 1;
const WRITE: u32 = 2;
const APPEND: u32 = 4;
const CREATE: u32 = 8;
const TRUNCATE: u32 = 16;
const EXCLUSIVE: u32 = 32;
/// Of a new file, less what the container's mask takes away.
const MODE: u32 = 0o666;

/// An open file.
#[derive(Debug)]
pub(super) struct OpenFile(File);

impl OpenFile {
    pub(super) fn open(path: &Path, flags: u32, wanted: &Attributes) -> Result<Self, Status> {
        let has = |flag: u32| flags & flag != 0;
        let create = has(CREATE);
        let file = OpenOptions::new()
            .read(has(READ))
            .write(has(WRITE) && !has(APPEND))
            .append(has(APPEND))
            .truncate(has(TRUNCATE) && !has(APPEND))
            .create(create && !has(EXCLUSIVE))
            .create_new(create && has(EXCLUSIVE))
            .mode(wanted.mode.unwrap_or(MODE) & 0o7777)
            // a named pipe that nobody writes doesn't hold the stream up
            .custom_flags(flag_bits())
            .open(path)?;
        Ok(Self(file))
    }

    pub(super) fn read(&self, offset: u64, length: u32) -> Answered {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(CHUNK_BYTES_MAX)];
        let mut filled = 0;
        while filled < bytes.len() {
            let at = offset.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
            match self.0.read_at(&mut bytes[filled..], at) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // what was read is told; the next read meets the error
                Err(_) if filled > 0 => break,
                Err(error) => return Err(error.into()),
            }
        }
        if filled == 0 && length > 0 {
            return Err(Status::end());
        }
        bytes.truncate(filled);
        Ok(Reply::Data(bytes))
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> Answered {
        self.0.write_all_at(bytes, offset)?;
        Ok(Reply::done())
    }

    pub(super) fn attributes(&self) -> Answered {
        Ok(Reply::Attributes(Attributes::of(&self.0.metadata()?)))
    }

    pub(super) fn change(&self, wanted: &Attributes) -> Answered {
        if let Some(size) = wanted.size {
            self.0.set_len(size)?;
        }
        if let Some(mode) = wanted.mode {
            rustix::fs::fchmod(&self.0, paths::mode(mode))?;
        }
        if let Some(times) = wanted.times {
            rustix::fs::futimens(&self.0, &timestamps(times))?;
        }
        if let Some((user, group)) = wanted.owner {
            std::os::unix::fs::fchown(&self.0, Some(user), Some(group))?;
        }
        Ok(Reply::done())
    }

    pub(super) fn sync(&self) -> Answered {
        self.0.sync_all()?;
        Ok(Reply::done())
    }

    pub(super) fn space(&self) -> Answered {
        Ok(paths::told(&rustix::fs::fstatvfs(&self.0)?))
    }
}

fn flag_bits() -> i32 {
    (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed()
}

pub(super) fn timestamps((used, changed): (u32, u32)) -> Timestamps {
    let at = |seconds: u32| Timespec {
        tv_sec: seconds.into(),
        tv_nsec: 0,
    };
    Timestamps {
        last_access: at(used),
        last_modification: at(changed),
    }
}
