//! A client of SFTP version 3 over any connection of bytes: files and folders there and back.
//!
//! # Invariants
//! - Up to [`IN_FLIGHT_MAX`] requests are under way, so that a distant rental is as fast as a near one; answers may come in any order.
//! - What is read is bounded by what was asked for.

mod wire;

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split,
};

pub use self::wire::Attributes;
use self::wire::{
    Answer, CLOSE, FOR_READING, FOR_WRITING_ANEW, Fields, INIT, MKDIR, OPEN, OPENDIR,
    PACKET_BYTES_MAX, Packet, READ, READDIR, SETSTAT, STAT, VERSION, WRITE, malformed,
};

/// Bytes of one read or write: what every server takes.
const CHUNK: usize = 32 * 1024;
const IN_FLIGHT_MAX: usize = 32;
/// Names of a folder.
const NAMES_MAX: usize = 1_000_000;

/// A session.
pub struct Sftp<S> {
    from: ReadHalf<S>,
    to: WriteHalf<S>,
    last: u32,
    early: HashMap<u32, Answer>,
}

impl<S: AsyncRead + AsyncWrite> Sftp<S> {
    /// Begins a session.
    ///
    /// # Errors
    /// The connection breaks, or the other end doesn't speak version 3.
    pub async fn begin(connection: S) -> io::Result<Self> {
        let (from, to) = split(connection);
        let mut sftp = Self {
            from,
            to,
            last: 0,
            early: HashMap::new(),
        };
        let hello = Packet::new(INIT).number(3).finish();
        sftp.to.write_all(&hello).await?;
        sftp.to.flush().await?;
        let packet = sftp.packet().await?;
        let mut fields = Fields(&packet);
        if fields.byte()? != VERSION || fields.number()? < 3 {
            return Err(malformed());
        }
        Ok(sftp)
    }

    /// What is known of a path; nothing if nothing is there.
    ///
    /// # Errors
    /// It can't be examined.
    pub async fn examine(&mut self, path: &Path) -> io::Result<Option<Attributes>> {
        let id = self.ask(STAT, |packet| packet.bytes(name(path))).await?;
        match self.answer(id).await? {
            Answer::Attributes(attributes) => Ok(Some(attributes)),
            absent if absent.is_absent() => Ok(None),
            other => Err(failed(path, other)),
        }
    }

    /// What is in a folder, but for itself and the one above.
    ///
    /// # Errors
    /// It can't be read.
    pub async fn list(&mut self, path: &Path) -> io::Result<Vec<(PathBuf, Attributes)>> {
        let id = self.ask(OPENDIR, |packet| packet.bytes(name(path))).await?;
        let handle = self.handle(path, id).await?;
        let mut all = Vec::new();
        let outcome = loop {
            let id = self.ask(READDIR, |packet| packet.bytes(&handle)).await?;
            match self.answer(id).await? {
                Answer::Names(names) => all.extend(names),
                Answer::End => break Ok(()),
                other => break Err(failed(path, other)),
            }
            if all.len() > NAMES_MAX {
                break Err(io::Error::other("a folder has more than a million names"));
            }
        };
        self.close(path, &handle).await?;
        outcome?;
        all.retain(|(name, _)| name.as_os_str() != "." && name.as_os_str() != "..");
        Ok(all)
    }

    /// Makes a folder unless there is one.
    ///
    /// # Errors
    /// It can't be made.
    pub async fn make_folder(&mut self, path: &Path) -> io::Result<()> {
        if let Some(there) = self.examine(path).await? {
            if there.is_folder() {
                return Ok(());
            }
            let shown = path.display();
            return Err(io::Error::other(format!("{shown} is there and no folder")));
        }
        let id = self
            .ask(MKDIR, |packet| packet.bytes(name(path)).mode(Some(0o755)))
            .await?;
        match self.answer(id).await? {
            Answer::Done => Ok(()),
            other => Err(failed(path, other)),
        }
    }

    /// Reads a file into `to`, telling of each piece; returns its bytes.
    ///
    /// # Errors
    /// It can't be read, or `to` not be written.
    pub async fn read_file(
        &mut self,
        path: &Path,
        to: &mut (impl AsyncWrite + Unpin),
        mut told: impl FnMut(u64),
    ) -> io::Result<u64> {
        let open = |packet: Packet| packet.bytes(name(path)).number(FOR_READING).mode(None);
        let id = self.ask(OPEN, open).await?;
        let handle = self.handle(path, id).await?;
        let length = u32::try_from(CHUNK).map_err(io::Error::other)?;
        let mut asked: VecDeque<(u32, u64, usize)> = VecDeque::new();
        let (mut next, mut total, mut ended) = (0_u64, 0_u64, false);
        // a small file is not asked for thirty times
        let mut window = 1;
        while !ended || !asked.is_empty() {
            while !ended && asked.len() < window {
                let id = self.read_at(&handle, next, length).await?;
                asked.push_back((id, next, CHUNK));
                next += u64::from(length);
            }
            let Some((id, at, wanted)) = asked.pop_front() else {
                break;
            };
            match self.answer(id).await? {
                Answer::End => ended = true,
                // asked for behind what was the end
                Answer::Data(_) if ended => {}
                Answer::Data(bytes)
                    if !bytes.is_empty() && bytes.len() <= wanted && at == total =>
                {
                    to.write_all(&bytes).await?;
                    let got = u64::try_from(bytes.len()).map_err(io::Error::other)?;
                    total += got;
                    told(got);
                    window = (window * 2).min(IN_FLIGHT_MAX);
                    if bytes.len() < wanted {
                        let rest = wanted - bytes.len();
                        let length = u32::try_from(rest).map_err(io::Error::other)?;
                        let id = self.read_at(&handle, total, length).await?;
                        asked.push_front((id, total, rest));
                    }
                }
                other => return Err(failed(path, other)),
            }
        }
        self.close(path, &handle).await?;
        Ok(total)
    }

    async fn read_at(&mut self, handle: &[u8], at: u64, length: u32) -> io::Result<u32> {
        self.ask(READ, |packet| packet.bytes(handle).large(at).number(length))
            .await
    }

    /// Writes a file anew from `from`, telling of each piece; returns its bytes.
    ///
    /// # Errors
    /// It can't be written, or `from` not be read.
    pub async fn write_file(
        &mut self,
        path: &Path,
        mode: Option<u32>,
        from: &mut (impl AsyncRead + Unpin),
        mut told: impl FnMut(u64),
    ) -> io::Result<u64> {
        let open = |packet: Packet| packet.bytes(name(path)).number(FOR_WRITING_ANEW).mode(mode);
        let id = self.ask(OPEN, open).await?;
        let handle = self.handle(path, id).await?;
        let mut asked = VecDeque::new();
        let mut at = 0_u64;
        let mut buffer = vec![0; CHUNK];
        loop {
            let got = from.read(&mut buffer).await?;
            if got > 0 {
                let write = |packet: Packet| packet.bytes(&handle).large(at).bytes(&buffer[..got]);
                asked.push_back(self.ask(WRITE, write).await?);
                at += u64::try_from(got).map_err(io::Error::other)?;
                told(u64::try_from(got).map_err(io::Error::other)?);
            }
            while asked.len() >= IN_FLIGHT_MAX || (got == 0 && !asked.is_empty()) {
                let Some(id) = asked.pop_front() else { break };
                match self.answer(id).await? {
                    Answer::Done => {}
                    other => return Err(failed(path, other)),
                }
            }
            if got == 0 {
                break;
            }
        }
        self.close(path, &handle).await?;
        if mode.is_some() {
            // what a new file gets is masked there, and an old one keeps its own
            let id = self
                .ask(SETSTAT, |packet| packet.bytes(name(path)).mode(mode))
                .await?;
            match self.answer(id).await? {
                Answer::Done => {}
                other => return Err(failed(path, other)),
            }
        }
        Ok(at)
    }

    async fn close(&mut self, path: &Path, handle: &[u8]) -> io::Result<()> {
        let id = self.ask(CLOSE, |packet| packet.bytes(handle)).await?;
        match self.answer(id).await? {
            Answer::Done => Ok(()),
            // a disk that is full may say so only now
            other => Err(failed(path, other)),
        }
    }

    async fn handle(&mut self, path: &Path, id: u32) -> io::Result<Vec<u8>> {
        match self.answer(id).await? {
            Answer::Handle(handle) => Ok(handle),
            other => Err(failed(path, other)),
        }
    }

    async fn ask(&mut self, kind: u8, fill: impl FnOnce(Packet) -> Packet) -> io::Result<u32> {
        self.last = self.last.wrapping_add(1);
        let packet = fill(Packet::new(kind).number(self.last)).finish();
        self.to.write_all(&packet).await?;
        self.to.flush().await?;
        Ok(self.last)
    }

    async fn answer(&mut self, id: u32) -> io::Result<Answer> {
        loop {
            if let Some(answer) = self.early.remove(&id) {
                return Ok(answer);
            }
            let packet = self.packet().await?;
            let mut fields = Fields(&packet);
            let (kind, of) = (fields.byte()?, fields.number()?);
            let answer = fields.answer(kind)?;
            if self.early.len() > IN_FLIGHT_MAX * 2 {
                return Err(malformed());
            }
            self.early.insert(of, answer);
        }
    }

    async fn packet(&mut self) -> io::Result<Vec<u8>> {
        let length = self.from.read_u32().await?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        if !(1..=PACKET_BYTES_MAX).contains(&length) {
            return Err(malformed());
        }
        let mut packet = vec![0; length];
        self.from.read_exact(&mut packet).await?;
        Ok(packet)
    }
}

fn name(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn failed(path: &Path, answer: Answer) -> io::Error {
    match answer {
        Answer::Failed { code, text } => {
            let shown = path.display();
            io::Error::other(format!("{shown}: {}", Answer::why(code, &text)))
        }
        _ => malformed(),
    }
}
