//! Packets: requests as they come, replies as they go.
//!
//! # Invariants
//! - A length is checked before anything is made of it; reading past a packet's end is a refusal of that request only.

use std::{
    ffi::OsString,
    io::{self, Read},
    os::unix::ffi::OsStringExt as _,
    path::PathBuf,
};

use rustix::io::Errno;

use super::attributes::Attributes;

/// Bytes of a packet behind its length, as OpenSSH has it.
pub(super) const PACKET_BYTES_MAX: usize = 256 * 1_024;
/// Bytes that are read or written by one request.
pub(super) const CHUNK_BYTES_MAX: usize = PACKET_BYTES_MAX - 1_024;

/// Kinds of packets.
pub(super) mod kind {
    pub(in super::super) const INIT: u8 = 1;
    pub(in super::super) const VERSION: u8 = 2;
    pub(in super::super) const OPEN: u8 = 3;
    pub(in super::super) const CLOSE: u8 = 4;
    pub(in super::super) const READ: u8 = 5;
    pub(in super::super) const WRITE: u8 = 6;
    pub(in super::super) const LSTAT: u8 = 7;
    pub(in super::super) const FSTAT: u8 = 8;
    pub(in super::super) const SETSTAT: u8 = 9;
    pub(in super::super) const FSETSTAT: u8 = 10;
    pub(in super::super) const OPENDIR: u8 = 11;
    pub(in super::super) const READDIR: u8 = 12;
    pub(in super::super) const REMOVE: u8 = 13;
    pub(in super::super) const MKDIR: u8 = 14;
    pub(in super::super) const RMDIR: u8 = 15;
    pub(in super::super) const REALPATH: u8 = 16;
    pub(in super::super) const STAT: u8 = 17;
    pub(in super::super) const RENAME: u8 = 18;
    pub(in super::super) const READLINK: u8 = 19;
    pub(in super::super) const SYMLINK: u8 = 20;
    pub(in super::super) const STATUS: u8 = 101;
    pub(in super::super) const HANDLE: u8 = 102;
    pub(in super::super) const DATA: u8 = 103;
    pub(in super::super) const NAME: u8 = 104;
    pub(in super::super) const ATTRS: u8 = 105;
    pub(in super::super) const EXTENDED: u8 = 200;
    pub(in super::super) const EXTENDED_REPLY: u8 = 201;
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) code: u32,
    why: String,
}

impl Status {
    pub(super) const OK: u32 = 0;
    pub(super) const EOF: u32 = 1;
    pub(super) const NO_SUCH_FILE: u32 = 2;
    pub(super) const PERMISSION_DENIED: u32 = 3;
    pub(super) const FAILURE: u32 = 4;
    pub(super) const BAD_MESSAGE: u32 = 5;
    pub(super) const NOT_SUPPORTED: u32 = 8;

    fn of(code: u32, why: impl Into<String>) -> Self {
        Self {
            code,
            why: why.into(),
        }
    }

    pub(super) fn end() -> Self {
        Self::of(Self::EOF, "end")
    }

    pub(super) fn failure(why: impl Into<String>) -> Self {
        Self::of(Self::FAILURE, why)
    }

    pub(super) fn no_handle() -> Self {
        Self::failure("no such file or folder is open")
    }

    pub(super) fn not_supported() -> Self {
        Self::of(Self::NOT_SUPPORTED, "this isn't supported")
    }

    fn short() -> Self {
        Self::of(Self::BAD_MESSAGE, "the request is cut")
    }
}

impl From<io::Error> for Status {
    fn from(error: io::Error) -> Self {
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        let code = match errno {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Self::NO_SUCH_FILE,
            Some(Errno::PERM | Errno::ACCESS | Errno::FAULT) => Self::PERMISSION_DENIED,
            _ => Self::FAILURE,
        };
        Self::of(code, error.to_string())
    }
}

impl From<Errno> for Status {
    fn from(error: Errno) -> Self {
        Self::from(io::Error::from(error))
    }
}

/// A request.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) kind: u8,
    body: Vec<u8>,
    at: usize,
}

/// The next packet; `None` at the end of the stream.
pub(super) fn read(reader: &mut impl Read) -> io::Result<Option<Packet>> {
    let mut head = [0; 5];
    if reader.read(&mut head[..1])? == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut head[1..])?;
    let [a, b, c, d, kind] = head;
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(io::Error::other)?;
    if !(1..=PACKET_BYTES_MAX).contains(&length) {
        let why = format!("a packet of {length} bytes is none");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let mut body = vec![0; length - 1];
    reader.read_exact(&mut body)?;
    Ok(Some(Packet { kind, body, at: 0 }))
}

/// Whether the next packet is here already.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    let length = bytes.first_chunk::<4>().copied().map(u32::from_be_bytes);
    let length = length.and_then(|length| usize::try_from(length).ok());
    length.is_some_and(|length| bytes.len() - 4 >= length)
}

impl Packet {
    fn take(&mut self, count: usize) -> Result<&[u8], Status> {
        let end = self.at.checked_add(count).ok_or_else(Status::short)?;
        let taken = self.body.get(self.at..end).ok_or_else(Status::short)?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Status> {
        let bytes = self.take(4)?.first_chunk().copied();
        bytes.map(u32::from_be_bytes).ok_or_else(Status::short)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Status> {
        let bytes = self.take(8)?.first_chunk().copied();
        bytes.map(u64::from_be_bytes).ok_or_else(Status::short)
    }

    /// What the protocol calls a string.
    pub(super) fn bytes(&mut self) -> Result<&[u8], Status> {
        let length = usize::try_from(self.u32()?).map_err(|_| Status::short())?;
        self.take(length)
    }

    pub(super) fn handle(&mut self) -> Result<u32, Status> {
        let bytes = self.bytes()?.try_into().map_err(|_| Status::no_handle())?;
        Ok(u32::from_be_bytes(bytes))
    }

    pub(super) fn attributes(&mut self) -> Result<Attributes, Status> {
        Attributes::read(self)
    }
}

/// A path, whatever its bytes are.
pub(super) fn as_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

/// A name with what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) name: Vec<u8>,
    /// As `ls -l` has it.
    pub(super) line: Vec<u8>,
    pub(super) attributes: Attributes,
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Status(Status),
    Handle(u32),
    Data(Vec<u8>),
    Names(Vec<Name>),
    Attributes(Attributes),
    Extended(Vec<u8>),
}

impl Reply {
    pub(super) fn done() -> Self {
        Self::Status(Status::of(Status::OK, "done"))
    }
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // nothing here is longer than a packet
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Adds a packet whose body `fill` writes.
fn packet(out: &mut Vec<u8>, kind: u8, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
    let begin = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind]);
    fill(out);
    let length = u32::try_from(out.len() - begin - 4).map_err(io::Error::other)?;
    out[begin..begin + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// Adds the answer to the first packet.
pub(super) fn version(
    out: &mut Vec<u8>,
    version: u32,
    extensions: &[(&str, &str)],
) -> io::Result<()> {
    packet(out, kind::VERSION, |out| {
        out.extend_from_slice(&version.to_be_bytes());
        for (name, version) in extensions {
            put_bytes(out, name.as_bytes());
            put_bytes(out, version.as_bytes());
        }
    })
}

/// Adds the reply to a request.
pub(super) fn reply(out: &mut Vec<u8>, id: u32, reply: &Reply) -> io::Result<()> {
    let kind = match reply {
        Reply::Status(_) => kind::STATUS,
        Reply::Handle(_) => kind::HANDLE,
        Reply::Data(_) => kind::DATA,
        Reply::Names(_) => kind::NAME,
        Reply::Attributes(_) => kind::ATTRS,
        Reply::Extended(_) => kind::EXTENDED_REPLY,
    };
    packet(out, kind, |out| {
        out.extend_from_slice(&id.to_be_bytes());
        match reply {
            Reply::Status(Status { code, why }) => {
                out.extend_from_slice(&code.to_be_bytes());
                put_bytes(out, why.as_bytes());
                put_bytes(out, b"en");
            }
            Reply::Handle(number) => put_bytes(out, &number.to_be_bytes()),
            Reply::Data(bytes) => put_bytes(out, bytes),
            Reply::Names(names) => {
                let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&count.to_be_bytes());
                for name in names {
                    put_bytes(out, &name.name);
                    put_bytes(out, &name.line);
                    name.attributes.write(out);
                }
            }
            Reply::Attributes(attributes) => attributes.write(out),
            Reply::Extended(body) => out.extend_from_slice(body),
        }
    })
}

/// What OpenSSH asks for to send larger packets than it dares otherwise.
pub(super) fn limits(handles_max: usize) -> Reply {
    let limits = [
        PACKET_BYTES_MAX,
        CHUNK_BYTES_MAX,
        CHUNK_BYTES_MAX,
        handles_max,
    ];
    let limits = limits.map(|limit| u64::try_from(limit).unwrap_or(u64::MAX));
    Reply::Extended(
        limits
            .iter()
            .flat_map(|limit| limit.to_be_bytes())
            .collect(),
    )
}
