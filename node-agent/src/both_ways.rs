//! Bytes both ways between two streams, each direction with its own end.
//!
//! # Invariants
//! - Who doesn't take any more may still have something to say: that goes on until its end. A server that refuses a request answers and
//!   closes without reading the rest.
//! - A cut is no end: what can't be read any more breaks both directions, and nobody is told that all was said.
//! - What was read is sent on before more is read.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};

/// Carries until both directions have ended, with `buffer_bytes` in hand for each.
///
/// # Errors
/// One side was cut.
pub(crate) async fn carry<A, B>(a: A, b: B, buffer_bytes: usize) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let ((a_reader, a_writer), (b_reader, b_writer)) = (split(a), split(b));
    let there = one_way(a_reader, b_writer, buffer_bytes);
    let back = one_way(b_reader, a_writer, buffer_bytes);
    tokio::try_join!(there, back).map(drop)
}

/// Carries one direction until its end, or until it isn't taken any more.
async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    buffer_bytes: usize,
) -> io::Result<()> {
    let mut buffer = vec![0; buffer_bytes];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            // who is gone needs no end
            to.shutdown().await.ok();
            return Ok(());
        }
        let sent = async {
            to.write_all(&buffer[..count]).await?;
            to.flush().await
        };
        if sent.await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::duplex,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[tokio::test]
    async fn what_a_server_says_before_it_closes_without_reading_arrives() {
        const SAID: &[u8] = b"HTTP/1.1 413 Content Too Large\r\n\r\n";
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.expect("a connection");
            peer.read_u8().await.expect("a byte");
            peer.write_all(SAID).await.expect("said");
            // with unread bytes in hand: the connection is reset
        });
        let (user, outer) = duplex(1_024);
        let inner = TcpStream::connect(address).await.expect("connected");
        let carried = tokio::spawn(carry(outer, inner, 1_024));
        let (mut hearing, mut sending) = split(user);
        let flood =
            tokio::spawn(async move { while sending.write_all(&[b'x'; 1_024]).await.is_ok() {} });
        let mut heard = Vec::new();
        hearing.read_to_end(&mut heard).await.expect("an end");
        assert_eq!(heard, SAID);
        server.await.expect("it answered");
        // by a reset or by an end, as the kernel tells it
        carried.await.expect("a task").ok();
        flood.await.expect("it ended");
    }

    #[tokio::test]
    async fn each_direction_has_its_own_end() {
        let (mut user, outer) = duplex(64);
        let (inner, mut rental) = duplex(64);
        let carried = tokio::spawn(carry(outer, inner, 16));
        user.write_all(b"a question that is longer")
            .await
            .expect("sent");
        user.shutdown().await.expect("ended");
        let mut heard = String::new();
        rental.read_to_string(&mut heard).await.expect("read");
        rental.write_all(b"an answer").await.expect("sent");
        drop(rental);
        let mut back = String::new();
        user.read_to_string(&mut back).await.expect("read");
        assert_eq!(
            (heard.as_str(), back.as_str()),
            ("a question that is longer", "an answer")
        );
        carried.await.expect("a task").expect("carried");
    }
}
