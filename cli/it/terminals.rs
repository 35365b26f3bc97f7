//! What a terminal is left as, and a folder, by a program that a signal ends.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    path::Path,
    process::Stdio,
};

use rustix::{
    fd::OwnedFd,
    fs::OFlags,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::{
    program::{Person, kill, kill_until_it_ends},
    streams::gateway,
    stub::{API_KEY, RENTAL},
};

/// A terminal of our own, of which we hold both ends.
struct Terminal {
    _screen: OwnedFd,
    end: File,
}

impl Terminal {
    fn open() -> Self {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap();
        let name = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let no_ctty = i32::try_from(OFlags::NOCTTY.bits()).unwrap();
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).custom_flags(no_ctty);
        let end = options.open(name).unwrap();
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&end, size).unwrap();
        Self {
            _screen: screen,
            end,
        }
    }

    fn stdio(&self) -> Stdio {
        self.end.try_clone().unwrap().into()
    }

    fn echoes(&self) -> bool {
        let mode = tcgetattr(&self.end).unwrap();
        mode.local_modes.contains(LocalModes::ECHO)
    }
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_signal_at_a_prompt_leaves_a_terminal_that_echoes() {
    let person = Person::new("http://127.0.0.1:1");
    for (signal, number) in [("-HUP", 1), ("-INT", 2), ("-QUIT", 3), ("-TERM", 15)] {
        let terminal = Terminal::open();
        assert!(terminal.echoes());
        let mut child = person
            .command("wallet new")
            .stdin(terminal.stdio())
            .stderr(terminal.stdio())
            .spawn()
            .unwrap();
        until(|| !terminal.echoes()).await;
        kill(&child, signal).await;
        assert_eq!(child.wait().await.unwrap().code(), Some(128 + number));
        assert!(terminal.echoes(), "{signal}");
    }
}

#[tokio::test]
async fn a_program_that_never_reads_leaves_the_terminal_as_it_was() {
    let person = Person::new(&gateway().await);
    let terminal = Terminal::open();
    let mut child = person
        .command(&format!("exec -it {RENTAL} -- never-read"))
        .env("RAMARKET_API_KEY", API_KEY)
        .stdin(terminal.stdio())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("ready"));
    assert!(!terminal.echoes(), "keys are bytes");
    let code = kill_until_it_ends(&mut child, "-TERM").await;
    assert_eq!(code, Some(128 + 15));
    assert!(terminal.echoes());
}

#[tokio::test]
async fn a_copy_that_is_interrupted_leaves_nothing() {
    let person = Person::new(&gateway().await);
    let (there, here) = (person.folder.join("there"), person.folder.join("here"));
    fs::create_dir_all(&here).unwrap();
    fs::write(&there, vec![b'x'; 1 << 20]).unwrap();
    let line = format!("cp {RENTAL}:{} {}/", there.display(), here.display());
    let mut child = person
        .command(&line)
        .env("RAMARKET_API_KEY", API_KEY)
        .spawn()
        .unwrap();
    let part = here.join("there.ramarket-part");
    until(|| part.exists()).await;
    kill(&child, "-INT").await;
    assert_eq!(child.wait().await.unwrap().code(), Some(128 + 2));
    assert_eq!(fs::read_dir(&here).unwrap().count(), 0);
}
