//! What a file in the folder of disks says by its name: whose it is and how far. The name is the whole state: there is no second record
//! that could say something else.
//!
//! | name | state |
//! |---|---|
//! | `rnt_….making` | being made; worth nothing after a crash |
//! | `rnt_….disk` | whole: its rental's, from before its container until after it |
//! | `rnt_….kept-<seconds>` | its rental is over; wiped at that Unix time |
//! | `rnt_….dev` | not a disk: the link that leads the engine to its loop device |

use shared::id::RentalId;

/// What a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    /// A file system is being made in it.
    Making(RentalId),
    /// A rental's disk.
    Disk(RentalId),
    /// Kept until this Unix time, seconds.
    Kept(RentalId, i64),
    /// A link to a loop device.
    Link(RentalId),
}

impl Name {
    /// The name's meaning; `None` for a file that isn't ours.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (id, rest) = text.split_once('.')?;
        let id: RentalId = id.parse().ok()?;
        let name = match rest {
            "making" => Self::Making(id),
            "disk" => Self::Disk(id),
            "dev" => Self::Link(id),
            _ => Self::Kept(id, rest.strip_prefix("kept-")?.parse().ok()?),
        };
        // one spelling for each
        (name.to_string() == text).then_some(name)
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Making(id) => write!(f, "{id}.making"),
            Self::Disk(id) => write!(f, "{id}.disk"),
            Self::Kept(id, until_s) => write!(f, "{id}.kept-{until_s}"),
            Self::Link(id) => write!(f, "{id}.dev"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_said_and_strangers_nothing() {
        let id: RentalId = "rnt_00000000000000000000000000000001"
            .parse()
            .expect("an id");
        for name in [
            Name::Making(id),
            Name::Disk(id),
            Name::Kept(id, 1_800_000_000),
            Name::Kept(id, -1),
            Name::Link(id),
        ] {
            assert_eq!(Name::parse(&name.to_string()), Some(name));
        }
        for text in [
            "",
            "lost+found",
            "rnt_1.disk",
            &format!("{id}.disk.bak"),
            &format!("{id}.kept-"),
            &format!("{id}.kept-+5"),
            &format!("{id}.kept-05"),
        ] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }
}
