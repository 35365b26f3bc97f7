//! Files over a stream: SFTP version 3 with OpenSSH's extensions, as `scp`, `sftp` and `sshfs` speak it.
//!
//! # Invariants
//! - Requests are answered one after another, in their order, by a thread of the stream's own: a slow disk stops no other stream.
//! - A packet is bounded before it is read, a stream has at most [`HANDLES_MAX`] files and folders open, and nothing of a file is kept.
//! - What isn't understood gets an answer that says so; what isn't a packet ends the stream.

mod attributes;
mod files;
mod folders;
mod packet;
mod paths;

use std::{
    collections::BTreeMap,
    io::{self, BufReader, Read, Write},
    path::PathBuf,
};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::SyncIoBridge;

use self::{
    files::OpenFile,
    folders::OpenFolder,
    packet::{PACKET_BYTES_MAX, Packet, Reply, Status, kind},
};

/// Files and folders that one stream may have open.
const HANDLES_MAX: usize = 256;
/// Bytes that are read, and replies that are written, at once.
const BUFFER_BYTES: usize = 256 * 1_024;
/// The protocol's version.
const VERSION: u32 = 3;
/// Those of OpenSSH that are served, with their versions.
const EXTENSIONS: [(&str, &str); 8] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
];

/// Serves the files of this process's container; `home` is where relative paths begin.
///
/// # Errors
/// The stream broke, or carries something else.
pub(super) async fn serve<S>(stream: S, home: PathBuf) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (reader, writer) = tokio::io::split(stream);
    let serving = tokio::task::spawn_blocking(move || {
        let mut writer = SyncIoBridge::new(writer);
        let reader = SyncIoBridge::new(reader);
        Server::new(home).run(reader, &mut writer)?;
        writer.shutdown()
    });
    serving.await.map_err(io::Error::other)?
}

/// One stream's open files.
#[derive(Debug)]
struct Server {
    home: PathBuf,
    handles: BTreeMap<u32, Handle>,
    next: u32,
}

#[derive(Debug)]
enum Handle {
    File(OpenFile),
    Folder(OpenFolder),
}

/// What a request comes to.
type Answered = Result<Reply, Status>;

impl Server {
    const fn new(home: PathBuf) -> Self {
        Self {
            home,
            handles: BTreeMap::new(),
            next: 0,
        }
    }

    fn run(mut self, reader: impl Read, writer: &mut impl Write) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, reader);
        let mut replies = Vec::new();
        while let Some(packet) = packet::read(&mut reader)? {
            self.answer(packet, &mut replies)?;
            // others are here already: their answers go together
            if !packet::is_whole(reader.buffer()) || replies.len() >= BUFFER_BYTES {
                writer.write_all(&replies)?;
                writer.flush()?;
                replies.clear();
            }
        }
        Ok(())
    }

    fn answer(&mut self, mut packet: Packet, replies: &mut Vec<u8>) -> io::Result<()> {
        if packet.kind == kind::INIT {
            return packet::version(replies, VERSION, &EXTENSIONS);
        }
        let id = packet.u32().map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidData, "a request without a number")
        })?;
        let answered = self.perform(&mut packet);
        packet::reply(replies, id, &answered.unwrap_or_else(Reply::Status))
    }

    fn perform(&mut self, packet: &mut Packet) -> Answered {
        match packet.kind {
            kind::OPEN => self.open(packet),
            kind::CLOSE => {
                let handle = packet.handle()?;
                let closed = self.handles.remove(&handle);
                closed.map(|_| Reply::done()).ok_or_else(Status::no_handle)
            }
            kind::READ => {
                let (handle, offset, length) = (packet.handle()?, packet.u64()?, packet.u32()?);
                self.file(handle)?.read(offset, length)
            }
            kind::WRITE => {
                let (handle, offset) = (packet.handle()?, packet.u64()?);
                self.file(handle)?.write(offset, packet.bytes()?)
            }
            kind::FSTAT => {
                let handle = packet.handle()?;
                self.file(handle)?.attributes()
            }
            kind::FSETSTAT => {
                let handle = packet.handle()?;
                let wanted = packet.attributes()?;
                self.file(handle)?.change(&wanted)
            }
            kind::OPENDIR => {
                let folder = OpenFolder::open(&self.path(packet)?)?;
                self.keep(Handle::Folder(folder))
            }
            kind::READDIR => {
                let handle = packet.handle()?;
                match self.handles.get_mut(&handle) {
                    Some(Handle::Folder(folder)) => folder.next(),
                    _ => Err(Status::no_handle()),
                }
            }
            kind::EXTENDED => self.extended(packet),
            kind::SYMLINK => {
                // OpenSSH has the two the other way around than the draft, and everybody follows it
                let target = packet::as_path(packet.bytes()?);
                paths::link_to(&target, &self.path(packet)?)
            }
            other => self.by_path(other, packet),
        }
    }

    /// What is done to a name.
    fn by_path(&self, kind: u8, packet: &mut Packet) -> Answered {
        let path = self.path(packet)?;
        match kind {
            kind::STAT => paths::attributes(&path, true),
            kind::LSTAT => paths::attributes(&path, false),
            kind::SETSTAT => paths::change(&path, &packet.attributes()?, true),
            kind::REMOVE => paths::remove(&path),
            kind::MKDIR => paths::make_folder(&path, &packet.attributes()?),
            kind::RMDIR => paths::remove_folder(&path),
            kind::REALPATH => paths::real(&path),
            kind::RENAME => paths::rename(&path, &self.path(packet)?, false),
            kind::READLINK => paths::read_link(&path),
            _ => Err(Status::not_supported()),
        }
    }

    fn extended(&mut self, packet: &mut Packet) -> Answered {
        let name = packet.bytes()?.to_vec();
        match name.as_slice() {
            b"posix-rename@openssh.com" => {
                paths::rename(&self.path(packet)?, &self.path(packet)?, true)
            }
            b"hardlink@openssh.com" => paths::hard_link(&self.path(packet)?, &self.path(packet)?),
            b"lsetstat@openssh.com" => {
                let path = self.path(packet)?;
                paths::change(&path, &packet.attributes()?, false)
            }
            b"statvfs@openssh.com" => paths::space(&self.path(packet)?),
            b"expand-path@openssh.com" => paths::real(&self.path(packet)?),
            b"fstatvfs@openssh.com" => {
                let handle = packet.handle()?;
                self.file(handle)?.space()
            }
            b"fsync@openssh.com" => {
                let handle = packet.handle()?;
                self.file(handle)?.sync()
            }
            b"limits@openssh.com" => Ok(packet::limits(HANDLES_MAX)),
            _ => Err(Status::not_supported()),
        }
    }

    fn open(&mut self, packet: &mut Packet) -> Answered {
        let path = self.path(packet)?;
        let (flags, wanted) = (packet.u32()?, packet.attributes()?);
        if self.handles.len() >= HANDLES_MAX {
            return Err(Status::failure("too many files are open"));
        }
        let file = OpenFile::open(&path, flags, &wanted)?;
        self.keep(Handle::File(file))
    }

    fn keep(&mut self, handle: Handle) -> Answered {
        if self.handles.len() >= HANDLES_MAX {
            return Err(Status::failure("too many files are open"));
        }
        while self.handles.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.handles.insert(number, handle);
        Ok(Reply::Handle(number))
    }

    fn file(&mut self, handle: u32) -> Result<&mut OpenFile, Status> {
        match self.handles.get_mut(&handle) {
            Some(Handle::File(file)) => Ok(file),
            _ => Err(Status::no_handle()),
        }
    }

    /// The next path of a packet, from the home folder on.
    fn path(&self, packet: &mut Packet) -> Result<PathBuf, Status> {
        let given = packet::as_path(packet.bytes()?);
        let home = |rest: PathBuf| self.home.join(rest);
        if let Ok(rest) = given.strip_prefix("~") {
            return Ok(home(rest.to_owned()));
        }
        Ok(home(given))
    }
}

const _: () = assert!(BUFFER_BYTES <= PACKET_BYTES_MAX);

#[cfg(test)]
mod tests;
