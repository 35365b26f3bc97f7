//! An exec of the engine's, started so that its connection can be handed on.
//!
//! # Invariants
//! - Nothing is read beyond what is looked at: what comes behind it is the next reader's, whoever that is.
//! - The connection is given out only after the engine said that it is none of HTTP's any more (101): it carries this exec and can ask
//!   the engine for nothing else.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

use crate::{
    inside::GREETING,
    runtime::{
        Pipe, RuntimeError, code,
        pipe::{Form, HEAD_BYTES, Part},
    },
};

/// From the engine's start of it to its first word; an engine under load takes seconds.
const GREETED_WITHIN: Duration = Duration::from_secs(30);
/// Of the engine's answer.
const ANSWER_BYTES_MAX: usize = 8 * 1_024;
/// Of what comes on the program's error output before its greeting: whoever goes on longer isn't it.
const COMPLAINTS_BYTES_MAX: usize = 64 * 1_024;
/// Of what an engine says in the program's place.
const COMPLAINT_BYTES_MAX: usize = 512;

/// Why there is no connection.
#[derive(Debug)]
enum Failure {
    /// The connection broke.
    Broken(io::Error),
    /// The engine answered this instead.
    Refused(u16, String),
    /// Somebody else than the program spoke first.
    Complaint(String),
    /// What was started complains and doesn't greet.
    Endless,
}

/// Why there is no connection, and whether the program may be what is wrong.
#[derive(Debug)]
pub(super) struct NotStarted {
    pub(super) error: RuntimeError,
    /// It couldn't be started, or ended at once: its owner may have removed or changed it.
    pub(super) is_broken: bool,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// Starts an exec that was created, by the API's `version` of the engine at `socket`, and hears the program's greeting.
pub(super) async fn start(socket: &str, version: &str, exec_id: &str) -> Result<Pipe, NotStarted> {
    let started = async {
        let mut connection = UnixStream::connect(socket).await?;
        upgrade(&mut connection, version, exec_id).await?;
        let form = greeted(&mut connection).await?;
        Ok::<_, Failure>(Pipe::new(connection, form))
    };
    match timeout(GREETED_WITHIN, started).await {
        Ok(Ok(pipe)) => Ok(pipe),
        Ok(Err(failure)) => Err(failure.into()),
        Err(_) => {
            let why = format!("it said nothing within {} s", GREETED_WITHIN.as_secs());
            Err(NotStarted {
                error: unavailable(&why),
                is_broken: false,
            })
        }
    }
}

fn unavailable(why: &str) -> RuntimeError {
    let why = format!("what serves the rental can't be started in it: {why}");
    RuntimeError::Unavailable(why)
}

impl From<Failure> for NotStarted {
    fn from(failure: Failure) -> Self {
        let (error, is_broken) = match failure {
            // the engine itself breaks off otherwise
            Failure::Broken(error) => (
                unavailable(&error.to_string()),
                error.kind() == io::ErrorKind::UnexpectedEof,
            ),
            Failure::Refused(503, said) => (unavailable(&said), false),
            Failure::Refused(_, said) => (RuntimeError::refused(code::ENGINE_REFUSED, said), true),
            Failure::Complaint(said) => (unavailable(&said), true),
            Failure::Endless => (unavailable("it complains without end"), false),
        };
        Self { error, is_broken }
    }
}

/// Asks for the exec's own connection.
async fn upgrade(connection: &mut UnixStream, version: &str, exec_id: &str) -> Result<(), Failure> {
    let body = r#"{"Detach":false,"Tty":false}"#;
    let request = format!(
        "POST /v{version}/exec/{exec_id}/start HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).await?;
    let head = answer(connection).await?;
    let mut words = head.split_ascii_whitespace();
    let status = words.nth(1).and_then(|word| word.parse().ok());
    match status {
        Some(101) => Ok(()),
        Some(status) => {
            // it may be kept open: what came is enough
            let mut said = vec![0; COMPLAINT_BYTES_MAX];
            let count = connection.read(&mut said).await?;
            said.truncate(count);
            Err(Failure::Refused(status, text(&said)))
        }
        None => Err(Failure::Complaint(text(head.as_bytes()))),
    }
}

/// The head of the engine's answer, byte by byte: what comes behind it isn't ours.
async fn answer(connection: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == ANSWER_BYTES_MAX {
            return Err(io::Error::other("the engine's answer is too long"));
        }
        head.push(connection.read_u8().await?);
    }
    Ok(text(&head))
}

/// Hears the greeting; what is left of the part that it came in is the caller's.
async fn greeted(connection: &mut (impl AsyncRead + Unpin)) -> Result<Form, Failure> {
    let mut said = Vec::new();
    let mut complaints_bytes = 0;
    loop {
        let mut head = [0; HEAD_BYTES];
        connection
            .read_exact(&mut head)
            .await
            .map_err(|error| ended(&said, error))?;
        let mut part = Part::of(head)?;
        while part.left > 0 {
            let wanted = if part.is_said() {
                GREETING.len() - said.len()
            } else {
                COMPLAINT_BYTES_MAX
            };
            let mut bytes = vec![0; wanted.min(part.left)];
            let read = connection.read_exact(&mut bytes).await;
            read.map_err(|error| ended(&said, error))?;
            part.left -= bytes.len();
            if !part.is_said() {
                complaints_bytes += bytes.len();
                if complaints_bytes > COMPLAINTS_BYTES_MAX {
                    return Err(Failure::Endless);
                }
                tracing::debug!(said = text(&bytes), "a word from within");
                continue;
            }
            said.extend(bytes);
            if said == GREETING {
                let left = u32::try_from(part.left).map_err(io::Error::other)?;
                return Ok(Form::Parts { left });
            }
            if !GREETING.starts_with(&said) {
                let mut rest = vec![0; part.left.min(COMPLAINT_BYTES_MAX)];
                connection.read_exact(&mut rest).await?;
                said.extend(rest);
                return Err(Failure::Complaint(text(&said)));
            }
        }
    }
}

/// It ended before it had greeted.
fn ended(said: &[u8], error: io::Error) -> Failure {
    if said.is_empty() {
        Failure::Broken(error)
    } else {
        Failure::Complaint(text(said))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(output: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short");
        [&[output, 0, 0, 0], &length.to_be_bytes()[..], payload].concat()
    }

    #[tokio::test]
    async fn the_greeting_is_taken_and_what_follows_is_left() {
        let whole = [GREETING, b"more"].concat();
        for (wire, form, rest) in [
            (part(1, GREETING), 0, &b""[..]),
            (part(1, &whole), 4, b"more"),
            (
                [part(2, b"a complaint"), part(1, &whole)].concat(),
                4,
                b"more",
            ),
            (
                [part(1, &whole[..3]), part(1, &whole[3..])].concat(),
                4,
                b"more",
            ),
        ] {
            let mut wire = wire.as_slice();
            let greeted = greeted(&mut wire).await.expect("greeted");
            assert_eq!((greeted, wire), (Form::Parts { left: form }, rest));
        }
    }

    #[tokio::test]
    async fn an_engine_that_complains_instead_of_starting_it_is_heard() {
        let said = b"OCI runtime exec failed: no such file or directory\r\n";
        for (wire, heard) in [
            (part(1, said), "no such file"),
            (part(1, b"ramarket-inside 2\n"), "inside 2"),
            (part(1, b"ram"), "ram"),
            (part(2, b"killed"), "eof"),
            (Vec::new(), "eof"),
            (b"HTTP/1.1 400 Bad Request".to_vec(), "whose output"),
        ] {
            let heard_as = match greeted(&mut wire.as_slice())
                .await
                .expect_err("no greeting")
            {
                Failure::Complaint(said) => said,
                Failure::Broken(error) => error.to_string(),
                Failure::Refused(..) | Failure::Endless => String::new(),
            };
            assert!(heard_as.contains(heard), "{heard_as}");
        }
    }

    #[tokio::test]
    async fn complaints_without_a_greeting_have_an_end_and_say_nothing_of_the_program() {
        let complaint = part(2, &[b'x'; 1_024]);
        let times = COMPLAINTS_BYTES_MAX / 1_024;
        let most = [complaint.repeat(times), part(1, GREETING)].concat();
        greeted(&mut most.as_slice()).await.expect("greeted");
        let more = [complaint.repeat(times + 1), part(1, GREETING)].concat();
        let failure = greeted(&mut more.as_slice()).await.expect_err("too many");
        assert!(matches!(failure, Failure::Endless), "{failure:?}");
        let eof = || io::Error::from(io::ErrorKind::UnexpectedEof);
        for (failure, is_broken) in [
            (Failure::Endless, false),
            (Failure::Refused(503, String::new()), false),
            (
                Failure::Broken(io::ErrorKind::ConnectionRefused.into()),
                false,
            ),
            (Failure::Broken(eof()), true),
            (Failure::Refused(400, "no such file".to_owned()), true),
            (
                Failure::Complaint("OCI runtime exec failed".to_owned()),
                true,
            ),
        ] {
            let not_started = NotStarted::from(failure);
            assert_eq!(not_started.is_broken, is_broken, "{}", not_started.error);
        }
    }

    #[tokio::test]
    async fn an_answer_is_read_to_its_end_and_no_further() {
        let mut wire = &b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\n\r\nbehind"[..];
        let head = answer(&mut wire).await.expect("an answer");
        assert!(head.starts_with("HTTP/1.1 101") && wire == b"behind");
        answer(&mut &b"HTTP/1.1"[..]).await.expect_err("cut");
        let endless = vec![b'x'; 2 * ANSWER_BYTES_MAX];
        answer(&mut endless.as_slice()).await.expect_err("too long");
    }
}
