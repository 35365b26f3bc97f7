//! What is told and changed of a file: size, owner, mode, times.

use std::{fs::Metadata, os::unix::fs::MetadataExt as _};

use shared::time::Timestamp;

use super::packet::{Packet, Status};

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const MODE: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;
/// Pairs that are none of ours and are skipped.
const EXTENDED_MAX: u32 = 64;

/// Each as far as it is known, or wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    /// User and group.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: Option<u32>,
    /// Of the last use and the last change, seconds since 1970.
    pub(super) times: Option<(u32, u32)>,
}

impl Attributes {
    pub(super) fn read(packet: &mut Packet) -> Result<Self, Status> {
        let flags = packet.u32()?;
        let mut read = Self::default();
        if flags & SIZE != 0 {
            read.size = Some(packet.u64()?);
        }
        if flags & OWNER != 0 {
            read.owner = Some((packet.u32()?, packet.u32()?));
        }
        if flags & MODE != 0 {
            read.mode = Some(packet.u32()?);
        }
        if flags & TIMES != 0 {
            read.times = Some((packet.u32()?, packet.u32()?));
        }
        if flags & EXTENDED != 0 {
            for _ in 0..packet.u32()?.min(EXTENDED_MAX) {
                packet.bytes()?;
                packet.bytes()?;
            }
        }
        Ok(read)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let flag = |has: bool, flag: u32| if has { flag } else { 0 };
        let flags = flag(self.size.is_some(), SIZE)
            | flag(self.owner.is_some(), OWNER)
            | flag(self.mode.is_some(), MODE)
            | flag(self.times.is_some(), TIMES);
        out.extend_from_slice(&flags.to_be_bytes());
        if let Some(size) = self.size {
            out.extend_from_slice(&size.to_be_bytes());
        }
        let pairs = [self.owner, self.times];
        if let Some((user, group)) = pairs[0] {
            out.extend_from_slice(&user.to_be_bytes());
            out.extend_from_slice(&group.to_be_bytes());
        }
        if let Some(mode) = self.mode {
            out.extend_from_slice(&mode.to_be_bytes());
        }
        if let Some((used, changed)) = pairs[1] {
            out.extend_from_slice(&used.to_be_bytes());
            out.extend_from_slice(&changed.to_be_bytes());
        }
    }

    pub(super) fn of(found: &Metadata) -> Self {
        Self {
            size: Some(found.size()),
            owner: Some((found.uid(), found.gid())),
            mode: Some(found.mode()),
            times: Some((seconds(found.atime()), seconds(found.mtime()))),
        }
    }
}

/// The protocol's clock ends in 2106.
fn seconds(time: i64) -> u32 {
    u32::try_from(time.max(0)).unwrap_or(u32::MAX)
}

/// A line as `ls -l` has it.
pub(super) fn line(name: &[u8], found: &Metadata) -> Vec<u8> {
    let mode = found.mode();
    let kind = match mode & 0o170_000 {
        0o040_000 => 'd',
        0o120_000 => 'l',
        0o010_000 => 'p',
        0o140_000 => 's',
        0o060_000 => 'b',
        0o020_000 => 'c',
        _ => '-',
    };
    let rights: String = (0..9)
        .map(|at| match (mode >> (8 - at) & 1, at % 3) {
            (0, _) => '-',
            (_, 0) => 'r',
            (_, 1) => 'w',
            _ => 'x',
        })
        .collect();
    let changed = Timestamp::from_secs(found.mtime()).to_string();
    let changed = changed.get(..16).unwrap_or_default().replace('T', " ");
    let mut line = format!(
        "{kind}{rights} {:>4} {:<8} {:<8} {:>12} {changed} ",
        found.nlink(),
        found.uid(),
        found.gid(),
        found.size()
    )
    .into_bytes();
    line.extend_from_slice(name);
    line
}
