//! Whose programs run here: the container's user, by the image's own table.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

/// Bytes of the table that are read.
const PASSWD_BYTES_MAX: u64 = 1 << 20;
/// Shells for a user who has none, best first.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    /// Exists.
    pub(super) home: PathBuf,
    /// `None` in an image without any.
    pub(super) shell: Option<PathBuf>,
}

impl User {
    /// Who this process runs as.
    pub(super) fn of_this_process() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let mut passwd = String::new();
        if let Ok(file) = std::fs::File::open("/etc/passwd") {
            // an image without such a table, or with a strange one, has a user without a name
            drop(file.take(PASSWD_BYTES_MAX).read_to_string(&mut passwd));
        }
        Self::of(uid, &passwd)
    }

    fn of(uid: u32, passwd: &str) -> Self {
        let entry = passwd.lines().find_map(|line| Entry::parse(line, uid));
        let listed = entry.as_ref().map(|entry| PathBuf::from(entry.shell));
        let shell = listed.filter(|shell| is_shell(shell)).or_else(|| {
            let known = SHELLS.iter().map(PathBuf::from);
            known.into_iter().find(|shell| is_program(shell))
        });
        let home = entry.as_ref().map(|entry| PathBuf::from(entry.home));
        let home = home.filter(|home| home.is_absolute() && home.is_dir());
        Self {
            name: entry.map_or_else(|| uid.to_string(), |entry| entry.name.to_owned()),
            home: home.unwrap_or_else(|| PathBuf::from("/")),
            shell,
        }
    }
}

struct Entry<'a> {
    name: &'a str,
    home: &'a str,
    shell: &'a str,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str, uid: u32) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let found: u32 = fields.nth(1)?.parse().ok()?;
        let home = fields.nth(2)?;
        let shell = fields.next()?;
        (found == uid).then_some(Self { name, home, shell })
    }
}

/// Whether this is a program to work with: those that turn people away are not.
fn is_shell(path: &Path) -> bool {
    let turns_away = path.ends_with("nologin") || path.ends_with("false");
    path.is_absolute() && !turns_away && is_program(path)
}

/// Whether this process may run it.
pub(super) fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_those_of_the_table_and_others_get_by() {
        let passwd =
            "odd\nroot:x:0:0:root:/:/bin/sh\nweb:x:33:33:w:/nonexistent:/usr/sbin/nologin\n";
        let root = User::of(0, passwd);
        assert_eq!(
            (root.name.as_str(), root.home.as_path()),
            ("root", Path::new("/"))
        );
        assert_eq!(root.shell.as_deref(), Some(Path::new("/bin/sh")));
        let web = User::of(33, passwd);
        assert_eq!(
            (web.name.as_str(), web.home.as_path()),
            ("web", Path::new("/"))
        );
        assert!(
            web.shell
                .is_some_and(|shell| SHELLS.iter().any(|known| shell == Path::new(known)))
        );
        assert_eq!(User::of(4_000, passwd).name, "4000");
    }
}
