//! Copies to and from OpenSSH's own `sftp-server`, which serves a folder of this machine in the rental's place.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Stdio};

use tokio::{
    io::{Join, join},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::*;
use crate::private_file::tests::Folder;

const SERVER: &str = "/usr/lib/openssh/sftp-server";

type Connection = Join<ChildStdout, ChildStdin>;

/// A session with a server that works in `folder`; the server ends with it.
async fn session(folder: &Path) -> (Sftp<Connection>, Child) {
    let mut server = Command::new(SERVER)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("apt-get install openssh-sftp-server");
    let (to, from) = (server.stdin.take().unwrap(), server.stdout.take().unwrap());
    let sftp = Sftp::begin(join(from, to)).await.unwrap();
    (sftp, server)
}

async fn copy(folder: &Path, recursive: bool) -> (Copy<Connection>, Child) {
    let (sftp, server) = session(folder).await;
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
    fs::write(there.0.join("large"), content(1 << 20)).unwrap();
    let (down, mut server) = copy(&there.0, false).await;
    server.kill().await.unwrap();
    assert!(down.down("large", &here.0.join("large")).await.is_err());
    let left: Vec<_> = fs::read_dir(&here.0).unwrap().collect();
    assert_eq!(left.len(), 1, "only what was there: {left:?}");
}

#[test]
fn names_from_a_rental_stay_in_their_folder() {
    assert!(one_name(Path::new("a b.txt")).is_ok());
    for bad in ["", ".", "..", "/etc", "a/b", "../x", "a/", "./a"] {
        assert!(one_name(Path::new(bad)).is_err(), "{bad}");
    }
}
