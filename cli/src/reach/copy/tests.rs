//! Copies to and from OpenSSH's own `sftp-server`, which serves a folder of this machine in the rental's place.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Stdio};

use tokio::{
    io::{AsyncReadExt as _, Join, duplex, join},
    process::{Child, ChildStdin, Command},
};

use super::*;
use crate::private_file::tests::Folder;

const SERVER: &str = "/usr/lib/openssh/sftp-server";

/// More than it takes to begin a file, less than all of one of [`LARGE`].
const SOME: u64 = 64 * 1024;
const LARGE: usize = 1 << 20;

type From = Box<dyn AsyncRead + Send + Unpin>;
type Connection = Join<From, ChildStdin>;

/// What becomes of what the server says.
#[derive(Clone, Copy, PartialEq)]
enum Line {
    Whole,
    /// It ends after [`SOME`] bytes.
    Cut,
    /// Nothing more comes after [`SOME`] bytes.
    Stuck,
}

/// A session with a server that works in `folder`; the server ends with it.
async fn session(folder: &Path, line: Line) -> (Sftp<Connection>, Child) {
    let mut server = Command::new(SERVER)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("apt-get install openssh-sftp-server");
    let (to, from) = (server.stdin.take().unwrap(), server.stdout.take().unwrap());
    let from: From = match line {
        Line::Whole => Box::new(from),
        Line::Cut => Box::new(from.take(SOME)),
        Line::Stuck => {
            let (silent, mut held) = duplex(1);
            tokio::spawn(async move { held.read_u8().await });
            Box::new(from.take(SOME).chain(silent))
        }
    };
    let sftp = Sftp::begin(join(from, to)).await.unwrap();
    (sftp, server)
}

async fn copy(folder: &Path, recursive: bool) -> (Copy<Connection>, Child) {
    copy_over(Line::Whole, folder, recursive).await
}

async fn copy_over(line: Line, folder: &Path, recursive: bool) -> (Copy<Connection>, Child) {
    let (sftp, server) = session(folder, line).await;
    (Copy::new(sftp, recursive), server)
}

/// Bytes that differ by place, so that none can be swapped.
fn content(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from((at / 251 + at) % 256).unwrap())
        .collect()
}

#[tokio::test]
async fn files_and_folders_come_back_as_they_went() {
    let (here, there, back) = (Folder::default(), Folder::default(), Folder::default());
    let tree = here.0.join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::create_dir(tree.join("empty")).unwrap();
    // around the sizes of a piece, of the window, and much more
    for (name, length) in [
        ("none", 0),
        ("one", 1),
        ("a/piece", 32 * 1024),
        ("a/more", 32 * 1024 + 1),
        ("a/b/large", 3 * 1024 * 1024 + 7),
    ] {
        fs::write(tree.join(name), content(length)).unwrap();
    }
    fs::set_permissions(tree.join("one"), fs::Permissions::from_mode(0o750)).unwrap();
    let (up, _server) = copy(&there.0, true).await;
    let copied = up.up(&tree, "./").await.unwrap();
    assert_eq!((copied.files, copied.bytes), (5, 3_211_273));
    let (down, _server) = copy(&there.0, true).await;
    let again = down.down("tree", &back.0).await.unwrap();
    assert_eq!(again, copied);
    for name in ["none", "one", "a/piece", "a/more", "a/b/large"] {
        let (before, after) = (
            fs::read(tree.join(name)).unwrap(),
            fs::read(back.0.join("tree").join(name)).unwrap(),
        );
        assert!(before == after, "{name}");
    }
    assert!(back.0.join("tree/empty").is_dir());
    let mode = fs::metadata(back.0.join("tree/one")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o750);
    // a file under another name, over a longer one
    fs::write(there.0.join("target"), content(100)).unwrap();
    let (up, _server) = copy(&there.0, false).await;
    up.up(&tree.join("one"), "target").await.unwrap();
    assert_eq!(fs::read(there.0.join("target")).unwrap(), content(1));
}

#[tokio::test]
async fn what_cant_be_copied_is_told_and_leaves_nothing_behind() {
    let (here, there) = (Folder::default(), Folder::default());
    fs::create_dir(there.0.join("folder")).unwrap();
    fs::write(here.0.join("file"), "x").unwrap();
    let (down, _server) = copy(&there.0, false).await;
    let folder = down.down("folder", &here.0.join("x")).await.unwrap_err();
    assert!(folder.to_string().contains("-r"), "{folder}");
    let (down, _server) = copy(&there.0, false).await;
    let absent = down.down("absent", &here.0.join("x")).await.unwrap_err();
    assert_eq!(absent.kind, crate::failure::Kind::NotFound);
    let (up, _server) = copy(&there.0, false).await;
    let nowhere = up.up(&here.0.join("file"), "no/such/folder/file").await;
    assert!(nowhere.unwrap_err().to_string().contains("no such file"));
    // a server that goes away in the middle
    fs::write(there.0.join("large"), content(LARGE)).unwrap();
    let (down, _server) = copy_over(Line::Cut, &there.0, false).await;
    let cut = down.down("large", &here.0.join("large")).await;
    assert!(cut.unwrap_err().to_string().contains("lost"));
    // a file where a folder is
    fs::create_dir_all(here.0.join("into/large")).unwrap();
    let (down, _server) = copy(&there.0, false).await;
    assert!(down.down("large", &here.0.join("into")).await.is_err());
    assert_eq!(names(&here.0), ["file", "into"]);
    assert_eq!(names(&here.0.join("into")), ["large"]);
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

#[tokio::test]
async fn half_a_file_is_ours_alone_and_goes_with_its_copy() {
    let (here, there) = (Folder::default(), Folder::default());
    fs::write(there.0.join("large"), content(LARGE)).unwrap();
    let (down, _server) = copy_over(Line::Stuck, &there.0, false).await;
    let (to, part) = (here.0.join("large"), here.0.join("large.ramarket-part"));
    // left by a copy that was killed
    fs::write(&part, "x").unwrap();
    let begun = async {
        while !fs::metadata(&part).is_ok_and(|facts| facts.len() > 1) {
            tokio::task::yield_now().await;
        }
        fs::metadata(&part).unwrap().permissions().mode()
    };
    tokio::select! {
        ended = down.down("large", &to) => panic!("{ended:?}"),
        mode = begun => assert_eq!(mode & 0o777, 0o600),
    }
    assert_eq!(names(&here.0), [""; 0], "its copy has ended");
}

#[tokio::test]
async fn permissions_are_those_that_new_files_may_have() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o027));
    let (here, there) = (Folder::default(), Folder::default());
    for (mode, kept) in [(0o777, 0o750), (0o4755, 0o750), (0o600, 0o600)] {
        let (from, to) = (there.0.join("file"), here.0.join("file"));
        fs::write(&from, "x").unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(mode)).unwrap();
        let (down, _server) = copy(&there.0, false).await;
        down.down("file", &to).await.unwrap();
        let mode = fs::metadata(&to).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, kept);
    }
}

#[tokio::test]
async fn what_is_no_file_is_not_read_and_links_to_nothing_are_left_out() {
    let (here, there) = (Folder::default(), Folder::default());
    let (down, _server) = copy(&there.0, false).await;
    // one that ends, should it be read all the same
    let device = down.down("/dev/null", &here.0.join("x")).await.unwrap_err();
    assert!(device.to_string().contains("is a device"), "{device}");
    let _socket = std::os::unix::net::UnixListener::bind(there.0.join("socket")).unwrap();
    let (down, _server) = copy(&there.0, false).await;
    let socket = down.down("socket", &here.0.join("x")).await.unwrap_err();
    assert!(socket.to_string().contains("is a socket"), "{socket}");
    assert_eq!(names(&here.0), [""; 0]);
    let tree = here.0.join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), "x").unwrap();
    std::os::unix::fs::symlink("nowhere", tree.join("dangling")).unwrap();
    std::os::unix::fs::symlink("round", tree.join("round")).unwrap();
    let (up, _server) = copy(&there.0, true).await;
    assert_eq!(up.up(&tree, "./").await.unwrap().files, 1);
    assert_eq!(names(&there.0.join("tree")), ["file"]);
}

#[test]
fn names_from_a_rental_stay_in_their_folder() {
    assert!(one_name(Path::new("a b.txt")).is_ok());
    for bad in ["", ".", "..", "/etc", "a/b", "../x", "a/", "./a"] {
        assert!(one_name(Path::new(bad)).is_err(), "{bad}");
    }
}
