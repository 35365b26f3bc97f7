//! Requests as `sftp` sends them, against a folder of this machine.

use std::{
    collections::VecDeque,
    io::{self, Read},
};

use super::{attributes::Attributes, packet::put_bytes, *};
use crate::testing::TempDir;

/// Requests one after another, and what was answered.
#[derive(Default)]
struct Client {
    requests: Vec<u8>,
    next: u32,
}

impl Client {
    fn ask(&mut self, kind: u8, body: &[u8]) {
        let length = u32::try_from(body.len() + 5).expect("short");
        self.requests.extend(length.to_be_bytes());
        self.requests.push(kind);
        self.requests.extend(self.next.to_be_bytes());
        self.requests.extend(body);
        self.next += 1;
    }

    /// Kinds and bodies of the answers, each to its request.
    fn answers(self, home: &TempDir) -> VecDeque<(u8, Vec<u8>)> {
        let mut told = Vec::new();
        let server = Server::new(home.path().to_owned());
        server
            .run(self.requests.as_slice(), &mut told)
            .expect("served");
        let mut told = told.as_slice();
        let mut answers = VecDeque::new();
        while !told.is_empty() {
            let length = u32::from_be_bytes(*told.first_chunk().expect("a length"));
            let mut body = vec![0; usize::try_from(length).expect("short")];
            told = &told[4..];
            told.read_exact(&mut body).expect("a body");
            let number = u32::from_be_bytes(*body[1..].first_chunk().expect("a number"));
            assert_eq!(number, u32::try_from(answers.len()).expect("few"));
            answers.push_back((body[0], body[5..].to_vec()));
        }
        answers
    }
}

fn strings(parts: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        put_bytes(&mut body, part);
    }
    body
}

fn open(path: &str, flags: u32) -> Vec<u8> {
    let mut body = strings(&[path.as_bytes()]);
    body.extend(flags.to_be_bytes());
    body.extend(0_u32.to_be_bytes());
    body
}

fn write(handle: u32, offset: u64, bytes: &[u8]) -> Vec<u8> {
    let mut body = strings(&[&handle.to_be_bytes()]);
    body.extend(offset.to_be_bytes());
    put_bytes(&mut body, bytes);
    body
}

fn read(handle: u32, offset: u64, length: u32) -> Vec<u8> {
    let mut body = strings(&[&handle.to_be_bytes()]);
    body.extend(offset.to_be_bytes());
    body.extend(length.to_be_bytes());
    body
}

fn status(answer: Option<(u8, Vec<u8>)>) -> u32 {
    let (kind, body) = answer.expect("an answer");
    assert_eq!(kind, kind::STATUS);
    u32::from_be_bytes(*body.first_chunk().expect("a code"))
}

#[test]
fn files_are_written_and_read_beyond_four_gigabytes_and_at_their_end() {
    const FAR: u64 = 5 << 30;
    let home = TempDir::new();
    let mut client = Client::default();
    client.ask(kind::OPEN, &open("big", 1 | 2 | 8));
    client.ask(kind::WRITE, &write(0, FAR, b"far away"));
    client.ask(kind::READ, &read(0, FAR + 4, 100));
    client.ask(kind::READ, &read(0, FAR + 8, 100));
    client.ask(kind::CLOSE, &strings(&[&0_u32.to_be_bytes()]));
    client.ask(kind::CLOSE, &strings(&[&0_u32.to_be_bytes()]));
    client.ask(kind::OPEN, &open("notes", 2 | 8));
    client.ask(kind::WRITE, &write(1, 0, b"one"));
    client.ask(kind::OPEN, &open("notes", 4));
    client.ask(kind::WRITE, &write(2, 0, b" two"));
    client.ask(kind::OPEN, &open("notes", 2 | 8 | 32));
    let mut answers = client.answers(&home);
    assert_eq!(
        answers.pop_front(),
        Some((kind::HANDLE, strings(&[&[0; 4]])))
    );
    assert_eq!(status(answers.pop_front()), Status::OK);
    assert_eq!(answers.pop_front(), Some((kind::DATA, strings(&[b"away"]))));
    assert_eq!(status(answers.pop_front()), Status::EOF);
    assert_eq!(status(answers.pop_front()), Status::OK);
    assert_eq!(status(answers.pop_front()), Status::FAILURE, "closed twice");
    answers.drain(..4);
    assert_eq!(
        status(answers.pop_front()),
        Status::FAILURE,
        "it is there already"
    );
    let noted = std::fs::read(home.path().join("notes")).expect("read");
    assert_eq!(noted, b"one two");
}

#[test]
fn names_are_made_changed_listed_and_removed() {
    let home = TempDir::new();
    for name in ["a", "b"] {
        std::fs::write(home.path().join(name), name).expect("written");
    }
    let flags = |bits: u32| bits.to_be_bytes().to_vec();
    let mut client = Client::default();
    client.ask(kind::MKDIR, &[strings(&[b"folder"]), flags(0)].concat());
    client.ask(kind::RENAME, &strings(&[b"a", b"b"]));
    client.ask(
        kind::EXTENDED,
        &strings(&[b"posix-rename@openssh.com", b"a", b"b"]),
    );
    client.ask(kind::RENAME, &strings(&[b"b", b"folder/c"]));
    client.ask(kind::SYMLINK, &strings(&[b"folder/c", b"link"]));
    client.ask(kind::READLINK, &strings(&[b"link"]));
    let times = [flags(4 | 8), flags(0o600), flags(7), flags(8)].concat();
    client.ask(kind::SETSTAT, &[strings(&[b"link"]), times].concat());
    client.ask(kind::OPENDIR, &strings(&[b"folder"]));
    client.ask(kind::READDIR, &strings(&[&[0; 4]]));
    client.ask(kind::READDIR, &strings(&[&[0; 4]]));
    client.ask(kind::RMDIR, &strings(&[b"folder"]));
    client.ask(kind::REMOVE, &strings(&[b"nothing"]));
    client.ask(kind::STAT, &strings(&[b"nothing"]));
    client.ask(kind::EXTENDED, &strings(&[b"unknown@example.com"]));
    let mut answers = client.answers(&home);
    for expected in [
        Status::OK,
        Status::FAILURE,
        Status::OK,
        Status::OK,
        Status::OK,
    ] {
        assert_eq!(status(answers.pop_front()), expected);
    }
    let (kind, body) = answers.pop_front().expect("a link");
    assert_eq!(kind, kind::NAME);
    assert!(body.starts_with(&[flags(1), strings(&[b"folder/c"])].concat()));
    assert_eq!(status(answers.pop_front()), Status::OK);
    answers.pop_front();
    let (kind, body) = answers.pop_front().expect("names");
    let line = String::from_utf8_lossy(&body).into_owned();
    assert_eq!(kind, kind::NAME);
    assert!(
        line.contains("-rw-------") && line.contains("1970-01-01 00:00 c"),
        "{line}"
    );
    for expected in [
        Status::EOF,
        Status::FAILURE,
        Status::NO_SUCH_FILE,
        Status::NO_SUCH_FILE,
        Status::NOT_SUPPORTED,
    ] {
        assert_eq!(status(answers.pop_front()), expected);
    }
    let changed = std::fs::metadata(home.path().join("folder/c")).expect("there");
    assert_eq!(Attributes::of(&changed).times, Some((7, 8)));
    let content = std::fs::read(home.path().join("folder/c")).expect("read");
    assert_eq!(content, b"a", "the second rename replaced");
}

#[test]
fn what_is_no_packet_ends_the_stream_and_what_is_cut_is_refused() {
    let home = TempDir::new();
    for bytes in [&[0, 0, 0, 0, 3][..], &[0xff; 9], &[0, 0, 0, 9, 3, 0]] {
        let server = Server::new(home.path().to_owned());
        let served = server.run(bytes, &mut io::sink());
        served.expect_err("ended");
    }
    let mut client = Client::default();
    client.ask(kind::OPEN, &[0, 0, 0, 99]);
    client.ask(kind::READ, &strings(&[b"no handle"]));
    client.ask(kind::FSTAT, &strings(&[&[0; 4]]));
    client.ask(99, &strings(&[b"x"]));
    let mut answers = client.answers(&home);
    for expected in [
        Status::BAD_MESSAGE,
        Status::FAILURE,
        Status::FAILURE,
        Status::NOT_SUPPORTED,
    ] {
        assert_eq!(status(answers.pop_front()), expected);
    }
    let mut many = Client::default();
    for _ in 0..=HANDLES_MAX {
        many.ask(kind::OPENDIR, &strings(&[b"."]));
    }
    let mut answers = many.answers(&home);
    assert_eq!(status(answers.pop_back()), Status::FAILURE);
    assert!(answers.iter().all(|(kind, _)| *kind == kind::HANDLE));
}

#[test]
fn the_first_answer_tells_version_and_extensions() {
    let home = TempDir::new();
    let mut told = Vec::new();
    let hello = [0, 0, 0, 5, kind::INIT, 0, 0, 0, 6];
    let server = Server::new(home.path().to_owned());
    server.run(&hello[..], &mut told).expect("served");
    assert_eq!(told[4..9], [kind::VERSION, 0, 0, 0, 3]);
    let text = String::from_utf8_lossy(&told).into_owned();
    assert!(text.contains("limits@openssh.com"));
}
