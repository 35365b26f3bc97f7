//! SFTP version 3 as bytes (draft-ietf-secsh-filexfer-02): what a client sends and hears.
//!
//! # Invariants
//! - A packet is its length in four bytes, a kind, and at most [`PACKET_BYTES_MAX`]; what doesn't fit its fields is refused.
//! - Names are bytes: a file's name need not be text.

use std::{io, os::unix::ffi::OsStringExt as _, path::PathBuf};

/// Bytes of a packet from a server: a full read and some more.
pub(super) const PACKET_BYTES_MAX: usize = 256 * 1024;

pub(super) const INIT: u8 = 1;
pub(super) const VERSION: u8 = 2;
pub(super) const OPEN: u8 = 3;
pub(super) const CLOSE: u8 = 4;
pub(super) const READ: u8 = 5;
pub(super) const WRITE: u8 = 6;
pub(super) const SETSTAT: u8 = 9;
pub(super) const OPENDIR: u8 = 11;
pub(super) const READDIR: u8 = 12;
pub(super) const MKDIR: u8 = 14;
pub(super) const STAT: u8 = 17;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;
const DATA: u8 = 103;
const NAME: u8 = 104;
const ATTRS: u8 = 105;

pub(super) const FOR_READING: u32 = 1;
pub(super) const FOR_WRITING_ANEW: u32 = 0x02 | 0x08 | 0x10;

const OK: u32 = 0;
const EOF: u32 = 1;
const NO_SUCH_FILE: u32 = 2;
const PERMISSION_DENIED: u32 = 3;

const HAS_SIZE: u32 = 1;
const HAS_OWNER: u32 = 2;
const HAS_MODE: u32 = 4;
const HAS_TIMES: u32 = 8;
const HAS_MORE: u32 = 0x8000_0000;

const KIND_MASK: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const BLOCK_DEVICE: u32 = 0o060_000;
const PIPE: u32 = 0o010_000;
const SOCKET: u32 = 0o140_000;

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Bytes.
    pub size: Option<u64>,
    /// Kind and permissions.
    pub mode: Option<u32>,
}

impl Attributes {
    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        self.mode.is_some_and(|mode| mode & KIND_MASK == FOLDER)
    }

    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        self.mode.is_some_and(|mode| mode & KIND_MASK == FILE)
    }

    /// What it is, in words.
    pub fn kind(&self) -> &'static str {
        match self.mode.map(|mode| mode & KIND_MASK) {
            Some(FOLDER) => "a folder",
            Some(FILE) => "a file",
            Some(CHARACTER_DEVICE | BLOCK_DEVICE) => "a device",
            Some(PIPE) => "a pipe",
            Some(SOCKET) => "a socket",
            _ => "something unknown",
        }
    }
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is done.
    Done,
    /// There is no more.
    End,
    /// It isn't done.
    Failed { code: u32, text: String },
    /// A file or folder that is open.
    Handle(Vec<u8>),
    /// Bytes of a file.
    Data(Vec<u8>),
    /// What is in a folder.
    Names(Vec<(PathBuf, Attributes)>),
    /// What is known of a file.
    Attributes(Attributes),
}

impl Answer {
    /// A failure in words.
    pub(super) fn why(code: u32, text: &str) -> String {
        match code {
            NO_SUCH_FILE => "there is no such file or folder".to_owned(),
            PERMISSION_DENIED => "not permitted".to_owned(),
            _ if text.is_empty() => format!("failed with code {code}"),
            _ => text.to_owned(),
        }
    }

    /// Whether nothing is there.
    pub(super) const fn is_absent(&self) -> bool {
        matches!(self, Self::Failed { code, .. } if *code == NO_SUCH_FILE)
    }
}

/// A packet in the making.
#[derive(Debug)]
pub(super) struct Packet(Vec<u8>);

impl Packet {
    /// Of a kind; the length comes last.
    pub(super) fn new(kind: u8) -> Self {
        Self(vec![0, 0, 0, 0, kind])
    }

    pub(super) fn number(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(super) fn large(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let mut packet = self.number(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        packet.0.extend_from_slice(bytes);
        packet
    }

    pub(super) fn mode(self, mode: Option<u32>) -> Self {
        match mode {
            Some(mode) => self.number(HAS_MODE).number(mode & 0o7777),
            None => self.number(0),
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

/// A packet that came, read field by field.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn number(&mut self) -> io::Result<u32> {
        let bytes = self.take(4)?.try_into().map_err(io::Error::other)?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn large(&mut self) -> io::Result<u64> {
        let bytes = self.take(8)?.try_into().map_err(io::Error::other)?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn bytes(&mut self) -> io::Result<&'a [u8]> {
        let length = usize::try_from(self.number()?).map_err(io::Error::other)?;
        self.take(length)
    }

    fn attributes(&mut self) -> io::Result<Attributes> {
        let has = self.number()?;
        let mut attributes = Attributes::default();
        if has & HAS_SIZE != 0 {
            attributes.size = Some(self.large()?);
        }
        if has & HAS_OWNER != 0 {
            self.take(8)?;
        }
        if has & HAS_MODE != 0 {
            attributes.mode = Some(self.number()?);
        }
        if has & HAS_TIMES != 0 {
            self.take(8)?;
        }
        if has & HAS_MORE != 0 {
            for _ in 0..self.number()? {
                self.bytes()?;
                self.bytes()?;
            }
        }
        Ok(attributes)
    }

    fn names(&mut self) -> io::Result<Vec<(PathBuf, Attributes)>> {
        let count = self.number()?;
        let mut names = Vec::new();
        for _ in 0..count {
            let name = self.bytes()?.to_vec();
            // as `ls -l` would show it: for people
            self.bytes()?;
            let name = std::ffi::OsString::from_vec(name);
            names.push((PathBuf::from(name), self.attributes()?));
        }
        Ok(names)
    }

    /// An answer behind its kind and number.
    pub(super) fn answer(&mut self, kind: u8) -> io::Result<Answer> {
        Ok(match kind {
            STATUS => match self.number()? {
                OK => Answer::Done,
                EOF => Answer::End,
                code => Answer::Failed {
                    code,
                    text: String::from_utf8_lossy(self.bytes().unwrap_or_default()).into_owned(),
                },
            },
            HANDLE => Answer::Handle(self.bytes()?.to_vec()),
            DATA => Answer::Data(self.bytes()?.to_vec()),
            NAME => Answer::Names(self.names()?),
            ATTRS => Answer::Attributes(self.attributes()?),
            _ => return Err(malformed()),
        })
    }
}

pub(super) fn malformed() -> io::Error {
    let why = "the rental's end doesn't speak SFTP as it should";
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_and_answers_have_their_bytes() {
        let open = Packet::new(OPEN)
            .number(7)
            .bytes(b"/a")
            .number(FOR_READING)
            .mode(Some(0o100_644));
        assert_eq!(
            open.finish(),
            [
                &[0, 0, 0, 23, OPEN, 0, 0, 0, 7, 0, 0, 0, 2][..],
                b"/a",
                &[0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 1, 0xa4]
            ]
            .concat()
        );
        let names = [
            &[0, 0, 0, 1, 0, 0, 0, 1, b'x', 0, 0, 0, 0][..],
            &[0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0x81, 0xa4],
        ]
        .concat();
        let Answer::Names(names) = Fields(&names).answer(NAME).unwrap() else {
            panic!("no names");
        };
        assert_eq!(names[0].0, PathBuf::from("x"));
        assert!(names[0].1.is_file() && !names[0].1.is_folder());
        assert_eq!(names[0].1.size, Some(9));
        let absent = Fields(&[0, 0, 0, 2]).answer(STATUS).unwrap();
        assert!(absent.is_absent());
    }

    #[test]
    fn what_is_cut_is_refused() {
        for (kind, bytes) in [
            (HANDLE, &[0, 0, 0, 9, 1][..]),
            (DATA, &[0xff, 0xff, 0xff, 0xff]),
            (NAME, &[0xff, 0xff, 0xff, 0xff]),
            (ATTRS, &[0xff, 0xff, 0xff, 0xff]),
            (99, &[]),
        ] {
            assert!(Fields(bytes).answer(kind).is_err(), "{kind}");
        }
    }
}
