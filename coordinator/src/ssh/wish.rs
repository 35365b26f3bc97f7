//! What a session channel asked for before its program starts, and what becomes of it. Pure.
//!
//! # Invariants
//! - Variables are those that say a language, nothing else: what others mean is decided by who made the image.
//! - Names, values and sizes are bounded; what isn't understood is refused or set to what is usual, never passed on.

use std::{collections::BTreeMap, net::IpAddr};

use russh::Sig;
use shared::link::open::{Exec, Size, Terminal};

const TERM_CHARS_MAX: usize = 64;
const VARIABLES_MAX: usize = 32;
const VALUE_CHARS_MAX: usize = 256;
/// Bytes of a command: it has to fit into what opens a stream.
const COMMAND_BYTES_MAX: usize = 32 * 1_024;
const HOST_CHARS_MAX: usize = 253;

/// What was asked for so far.
#[derive(Debug, Default)]
pub(super) struct Wish {
    terminal: Option<Terminal>,
    env: BTreeMap<String, String>,
}

impl Wish {
    /// A terminal.
    pub(super) fn terminal(&mut self, term: &str, columns: u32, rows: u32) {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
        let fine = !term.is_empty() && term.len() <= TERM_CHARS_MAX && term.chars().all(known);
        self.terminal = Some(Terminal {
            term: if fine { term } else { "xterm" }.to_owned(),
            size: size(columns, rows),
        });
    }

    /// A variable; false if it isn't taken.
    pub(super) fn variable(&mut self, name: &str, value: &str) -> bool {
        let is_language = name == "LANG"
            || name.strip_prefix("LC_").is_some_and(|rest| {
                (1..=32).contains(&rest.len())
                    && rest.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
            });
        let fits = value.chars().count() <= VALUE_CHARS_MAX && !value.chars().any(char::is_control);
        if !is_language || !fits || self.env.len() >= VARIABLES_MAX {
            return false;
        }
        self.env.insert(name.to_owned(), value.to_owned());
        true
    }

    /// A login shell.
    pub(super) fn shell(self) -> Exec {
        Exec {
            command: Vec::new(),
            shell: false,
            terminal: self.terminal,
            env: self.env,
        }
    }

    /// A command for the user's shell; `None` if it can't be one.
    pub(super) fn command(self, command: &[u8]) -> Option<Exec> {
        let text = std::str::from_utf8(command).ok()?;
        if text.len() > COMMAND_BYTES_MAX || text.contains('\0') {
            return None;
        }
        Some(Exec {
            command: vec![text.to_owned()],
            shell: true,
            ..self.shell()
        })
    }
}

/// A size as a client says it; none is what terminals used to have.
pub(super) fn size(columns: u32, rows: u32) -> Size {
    let bounded = |value: u32, usual: u16| match u16::try_from(value) {
        Ok(0) => usual,
        Ok(value) => value,
        Err(_) => u16::MAX,
    };
    Size {
        columns: bounded(columns, 80),
        rows: bounded(rows, 24),
    }
}

/// The number that a signal has on Linux; `None` for one that isn't sent.
pub(super) fn number(signal: &Sig) -> Option<u8> {
    Some(match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        Sig::Custom(name) if name == "USR2" => 12,
        Sig::Custom(_) => return None,
    })
}

/// The signal of a number, as clients are told of it.
pub(super) fn signal(number: i32) -> Sig {
    match number {
        1 => Sig::HUP,
        2 => Sig::INT,
        3 => Sig::QUIT,
        4 => Sig::ILL,
        6 => Sig::ABRT,
        8 => Sig::FPE,
        9 => Sig::KILL,
        10 => Sig::USR1,
        11 => Sig::SEGV,
        12 => Sig::Custom("USR2".to_owned()),
        13 => Sig::PIPE,
        14 => Sig::ALRM,
        15 => Sig::TERM,
        other => Sig::Custom(format!("SIG{other}@ramarket")),
    }
}

/// Where a forward goes to; `None` if it isn't forwarded. Addresses that only our side could mean are refused here already; the rental
/// refuses them again after it has looked up what a name means.
pub(super) fn target(host: &str, port: u32) -> Option<(String, u16)> {
    let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.:%".contains(c);
    if host.is_empty() || host.len() > HOST_CHARS_MAX || !host.chars().all(known) {
        return None;
    }
    let Ok(address) = host.parse::<IpAddr>() else {
        return Some((host.to_owned(), port));
    };
    let address = address.to_canonical();
    let reached = address.is_loopback() || crate::outbound::address::is_public(address);
    reached.then(|| (address.to_string(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_languages_come_along() {
        let mut wish = Wish::default();
        for (name, value, taken) in [
            ("LANG", "de_DE.UTF-8", true),
            ("LC_ALL", "C", true),
            ("LC_", "C", false),
            ("LC_a", "C", false),
            ("LD_PRELOAD", "/tmp/x.so", false),
            ("PATH", "/tmp", false),
            ("LC_TIME", "a\nb", false),
            ("LC_TIME", &"x".repeat(257), false),
        ] {
            assert_eq!(wish.variable(name, value), taken, "{name}");
        }
        wish.terminal("xterm-256color", 132, 50);
        let exec = wish.command(b"ls -l").expect("a command");
        assert_eq!((exec.command, exec.shell), (vec!["ls -l".to_owned()], true));
        let terminal = exec.terminal.expect("a terminal");
        assert_eq!((terminal.size.columns, terminal.size.rows), (132, 50));
        assert_eq!(exec.env.len(), 2);
    }

    #[test]
    fn what_isnt_understood_is_usual_or_refused() {
        let mut wish = Wish::default();
        wish.terminal("a b", 0, 70_000);
        let terminal = wish.shell().terminal.expect("a terminal");
        assert_eq!(terminal.term, "xterm");
        assert_eq!((terminal.size.columns, terminal.size.rows), (80, u16::MAX));
        for bad in [&b"\xff"[..], b"a\0b", &[b'x'; COMMAND_BYTES_MAX + 1]] {
            assert!(Wish::default().command(bad).is_none());
        }
    }

    #[test]
    fn signals_come_back_as_they_went() {
        for name in (1..=15).map(signal) {
            if let Some(there) = number(&name) {
                assert_eq!(format!("{:?}", signal(there.into())), format!("{name:?}"));
            }
        }
    }

    #[test]
    fn forwards_go_into_the_rental_and_to_the_public_internet_only() {
        let goes = |host: &str| target(host, 80).map(|(host, _)| host);
        for host in [
            "localhost",
            "127.0.0.1",
            "127.8.8.8",
            "::1",
            "db.example",
            "9.9.9.9",
        ] {
            assert_eq!(goes(host).as_deref(), Some(host));
        }
        assert_eq!(goes("::ffff:127.0.0.1").as_deref(), Some("127.0.0.1"));
        for host in [
            "10.0.0.1",
            "192.168.1.1",
            "172.17.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "224.0.0.1",
            "",
            "a b",
            "/run/x.sock",
        ] {
            assert_eq!(goes(host), None, "{host}");
        }
        assert!(target("localhost", 0).is_none() && target("localhost", 65_536).is_none());
    }
}
