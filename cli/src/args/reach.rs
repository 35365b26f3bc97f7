//! The words that reach into a rental: `logs`, `exec`, `port-forward`, `ssh`, `cp`; and of one that is over, `post-mortem`.

use std::{path::PathBuf, str::FromStr};

use clap::{Args as ClapArgs, ValueEnum};
use shared::{id::RentalId, time::Timestamp};

use crate::units;

/// Most lines that the market gives at once.
pub const TAIL_MAX: u32 = 10_000;

/// `logs`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  ramarket logs rnt_… --tail 100
  ramarket logs rnt_… -f --since 10m --search error
  ramarket logs rnt_… --since 2026-01-31T12:00:00Z

Without --tail and --since it gives the last 1000 lines.")]
pub struct Logs {
    /// The rental; it may have ended.
    pub rental: RentalId,
    /// Go on as lines are written, until it ends or Ctrl-C.
    #[arg(long, short)]
    pub follow: bool,
    /// Not older than this, as 10m or 2h, or from this time on, as 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
    /// So many lines from the end, at most 10000 [default: 1000, without --since].
    #[arg(long, short = 'n', value_name = "LINES", value_parser = clap::value_parser!(u32).range(1..=i64::from(TAIL_MAX)))]
    pub tail: Option<u32>,
    /// Lines with this text only.
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    /// One of both outputs only.
    #[arg(long, value_enum)]
    pub stream: Option<Stream>,
    /// With the time of each line.
    #[arg(long, short)]
    pub timestamps: bool,
}

/// From when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// So many seconds before now.
    Ago(i64),
    /// This moment.
    At(Timestamp),
}

impl FromStr for Since {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Timestamp::parse_rfc3339(text)
            .map(Self::At)
            .or_else(|_| units::seconds(text).map(Self::Ago))
            .map_err(|_| "write a duration, as 10m or 2h, or a time, as 2026-01-31T12:00:00Z")
    }
}

/// Where a program writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// `exec`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  ramarket exec rnt_… -- cat /etc/os-release
  ramarket exec -it rnt_…                       # a shell
  tar c . | ramarket exec -i rnt_… -- tar x -C /data

The exit code is the command's; 128 and the signal's number if a signal ended it. Signals are passed on; a second one, or one that can't be
handed over, ends ramarket and hangs up on the command.")]
pub struct Exec {
    /// Pass standard input on.
    #[arg(long, short)]
    pub interactive: bool,
    /// With a terminal.
    #[arg(long, short)]
    pub tty: bool,
    /// An environment variable; may be repeated.
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = super::market::env_pair)]
    pub env: Vec<(String, String)>,
    /// The rental.
    pub rental: RentalId,
    /// The command, after `--`; a shell if it is left out.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `port-forward`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  ramarket port-forward rnt_… 8888              # http://127.0.0.1:8888 is the rental's port 8888
  ramarket port-forward rnt_… 15432:5432 8080
  ramarket port-forward rnt_… :5432             # any free port here; it is told")]
pub struct PortForward {
    /// The rental.
    pub rental: RentalId,
    /// Which port here leads to which there.
    #[arg(required = true, value_name = "[LOCAL:]REMOTE")]
    pub ports: Vec<PortPair>,
}

/// A port here (0 for any) and one there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortPair {
    /// Here.
    pub local: u16,
    /// In the rental.
    pub remote: u16,
}

impl FromStr for PortPair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write [LOCAL:]REMOTE, as 8080, 15432:5432 or :5432";
        let port = |text: &str| text.parse::<u16>().map_err(|_| FORM.to_owned());
        let (local, remote) = match text.split_once(':') {
            None => (port(text)?, port(text)?),
            Some(("", remote)) => (0, port(remote)?),
            Some((local, remote)) => (port(local)?, port(remote)?),
        };
        if remote == 0 {
            return Err(FORM.to_owned());
        }
        Ok(Self { local, remote })
    }
}

/// `ssh`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  ramarket ssh rnt_…
  ramarket ssh rnt_… nvidia-smi
  ramarket ssh rnt_… -- -L 8888:localhost:8888 -N

A key is made once in the configuration folder and registered on the rental; host keys come from the market.")]
pub struct Ssh {
    /// The rental.
    pub rental: RentalId,
    /// Passed on to ssh.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGS"
    )]
    pub args: Vec<String>,
}

/// `cp`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  ramarket cp model.bin rnt_…:/data/
  ramarket cp -r rnt_…:/data/results ./results

A folder needs -r; a path that ends with / is a folder to copy into.")]
pub struct Cp {
    /// Folders with everything in them.
    #[arg(long, short)]
    pub recursive: bool,
    /// A path here, or rnt_…:PATH.
    pub from: Place,
    /// A path here, or rnt_…:PATH.
    pub to: Place,
}

/// `post-mortem`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  ramarket post-mortem rnt_…
  ramarket post-mortem rnt_… -o - | tar tz

The archive holds README.txt, which says what else is in it, and what is missing and why. Logs are kept for 7 days after the end.")]
pub struct PostMortem {
    /// The rental; it has ended.
    pub rental: RentalId,
    /// A new file; `-` for standard output [default: rnt_…-post-mortem.tar.gz].
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Where something is copied from or to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Here.
    Here(PathBuf),
    /// In a rental.
    There(RentalId, String),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((id, path)) = text
            .split_once(':')
            .filter(|(id, _)| id.starts_with("rnt_"))
        else {
            return Ok(Self::Here(PathBuf::from(text)));
        };
        let id = id
            .parse()
            .map_err(|_| "not a rental's id: write rnt_…:PATH".to_owned())?;
        let path = if path.is_empty() { "." } else { path };
        Ok(Self::There(id, path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_of_the_last_while_or_since_a_moment() {
        assert_eq!("2h".parse(), Ok(Since::Ago(7_200)));
        let at = Timestamp::from_micros(1_769_860_800_000_001);
        assert_eq!(at.to_string().parse(), Ok(Since::At(at)));
        for bad in ["", "2", "yesterday", "2026-01-31", "12:00"] {
            assert!(bad.parse::<Since>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_and_places_are_read_as_people_write_them() {
        let pair = |text: &str| {
            text.parse::<PortPair>()
                .map(|pair| (pair.local, pair.remote))
        };
        assert_eq!(pair("8080"), Ok((8080, 8080)));
        assert_eq!(pair("15432:5432"), Ok((15432, 5432)));
        assert_eq!(pair(":5432"), Ok((0, 5432)));
        for bad in ["", ":", "0", "1:0", "70000", "a:1", "1:2:3"] {
            assert!(pair(bad).is_err(), "{bad}");
        }
        let id = "rnt_00000000000000000000000000000001";
        let there = Place::There(id.parse().expect("an id"), "/data/x:y".into());
        assert_eq!(format!("{id}:/data/x:y").parse(), Ok(there));
        assert_eq!("a:b".parse(), Ok(Place::Here("a:b".into())));
        assert!("rnt_1:/data".parse::<Place>().is_err());
    }
}
