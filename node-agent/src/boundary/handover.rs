//! A connection of the engine's, handed from the helper to the agent as it is.
//!
//! # Invariants
//! - One descriptor behind one byte, in a message of its own; anything else is refused, and nothing that came with it stays open.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::{io::Interest, net::UnixStream};

/// What the descriptor comes behind.
const BYTE: u8 = 0;

/// Hands a descriptor over; it stays open here.
///
/// # Errors
/// The other end is gone.
pub(super) async fn give(to: &UnixStream, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let sent = to.async_io(Interest::WRITABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor];
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("there is no room for a descriptor"));
        }
        let byte = [IoSlice::new(&[BYTE])];
        Ok(sendmsg(to, &byte, &mut control, SendFlags::NOSIGNAL)?)
    });
    sent.await.map(drop)
}

/// Takes the descriptor that comes next.
///
/// # Errors
/// The other end is gone, or something else comes.
pub(super) async fn take(from: &UnixStream) -> io::Result<OwnedFd> {
    from.async_io(Interest::READABLE, || take_now(from.as_fd()))
        .await
}

fn take_now(from: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [BYTE; 1];
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let got = recvmsg(from, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptors: Vec<OwnedFd> = descriptors.flatten().collect();
    let whole = got.bytes == 1 && byte == [BYTE] && !got.flags.contains(ReturnFlags::CTRUNC);
    match <[OwnedFd; 1]>::try_from(descriptors) {
        Ok([one]) if whole => Ok(one),
        _ => {
            let why = "no connection was handed over";
            Err(io::Error::new(io::ErrorKind::InvalidData, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_connection_is_handed_over_and_goes_on() {
        let (helper, agent) = UnixStream::pair().expect("a pair");
        let (engine, mut program) = UnixStream::pair().expect("a pair");
        program.write_all(b"before").await.expect("written");
        give(&helper, engine.as_fd()).await.expect("given");
        drop(engine);
        let taken = take(&agent).await.expect("taken");
        let taken = std::os::unix::net::UnixStream::from(taken);
        let mut taken = UnixStream::from_std(taken).expect("a socket");
        let mut said = [0; 6];
        taken.read_exact(&mut said).await.expect("read");
        assert_eq!(&said, b"before");
        taken.write_all(b"x").await.expect("written");
        assert_eq!(program.read_u8().await.expect("read"), b'x');
        drop(taken);
        assert_eq!(program.read(&mut said).await.expect("its end"), 0);
    }

    #[tokio::test]
    async fn anything_else_is_refused_and_stays_closed() {
        let (mut helper, agent) = UnixStream::pair().expect("a pair");
        helper.write_all(&[BYTE]).await.expect("written");
        take(&agent).await.expect_err("a byte alone");
        // two at once
        let (engine, mut program) = UnixStream::pair().expect("a pair");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let two = [engine.as_fd(), engine.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&two)));
        let byte = [IoSlice::new(&[BYTE])];
        sendmsg(&helper, &byte, &mut control, SendFlags::NOSIGNAL).expect("sent");
        take(&agent).await.expect_err("two");
        drop(engine);
        assert_eq!(program.read(&mut [0; 1]).await.expect("nobody has it"), 0);
        drop(helper);
        take(&agent).await.expect_err("gone");
    }
}
