//! Which program is started, with which words, variables and folder: decided before anything is started, so that "it isn't there" is an
//! answer and not an exit code.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use shared::link::open::Exec;

use super::{
    leader::LD_PREFIX,
    user::{User, is_program},
};

/// Where programs are looked for in an image that doesn't say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of a terminal's kind.
const TERM_BYTES_MAX: usize = 64;

/// What is started.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) program: PathBuf,
    /// What it is called.
    pub(super) name: OsString,
    pub(super) words: Vec<OsString>,
    pub(super) env: BTreeMap<OsString, OsString>,
    pub(super) folder: PathBuf,
}

/// The program for `exec`, by the variables that this process was given and its folder.
///
/// # Errors
/// There is no such program, in words for whoever asked.
pub(super) fn plan(
    exec: &Exec,
    user: &User,
    given: impl Iterator<Item = (OsString, OsString)>,
    folder: &Path,
) -> Result<Planned, String> {
    let env = environment(exec, user, given)?;
    let is_shells = exec.shell || exec.command.is_empty();
    if exec.command.iter().any(|word| word.contains('\0')) {
        return Err("a word holds a NUL character".to_owned());
    }
    let home = env.get(OsStr::new("HOME")).map(PathBuf::from);
    let home = home.filter(|home| home.is_dir());
    let (program, name, words) = if is_shells {
        let shell = user
            .shell
            .clone()
            .ok_or("the image has no shell; name a program of it")?;
        match exec.command.as_slice() {
            [] => {
                let mut name = OsString::from("-");
                name.push(shell.file_name().unwrap_or_default());
                (shell, name, Vec::new())
            }
            command => {
                let words = vec!["-c".into(), command.join(" ").into()];
                (shell.clone(), shell.into_os_string(), words)
            }
        }
    } else {
        let (first, rest) = exec.command.split_first().ok_or("no program is named")?;
        let program = find(first, &env, folder)?;
        let rest = rest.iter().map(OsString::from).collect();
        (program, first.into(), rest)
    };
    Ok(Planned {
        program,
        name,
        words,
        env,
        folder: home.filter(|_| is_shells).unwrap_or(folder.to_owned()),
    })
}

/// The container's own variables, what a login would set beside them, and what was asked for.
fn environment(
    exec: &Exec,
    user: &User,
    given: impl Iterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<OsString, OsString>, String> {
    let mut env: BTreeMap<OsString, OsString> = given
        .filter(|(name, _)| !name.as_bytes().starts_with(b"LD_"))
        .map(
            |(name, value)| match name.as_bytes().strip_prefix(LD_PREFIX.as_bytes()) {
                Some(own) => (OsStr::from_bytes(own).to_owned(), value),
                None => (name, value),
            },
        )
        .collect();
    let shell = user.shell.clone().unwrap_or_else(|| "/bin/sh".into());
    let usual: [(&str, OsString); 5] = [
        ("PATH", PATH.into()),
        ("HOME", user.home.clone().into_os_string()),
        ("USER", user.name.clone().into()),
        ("LOGNAME", user.name.clone().into()),
        ("SHELL", shell.into_os_string()),
    ];
    for (name, value) in usual {
        env.entry(name.into()).or_insert(value);
    }
    if let Some(terminal) = &exec.terminal {
        let known = |b: u8| b.is_ascii_graphic();
        let term = terminal.term.as_str();
        let usable = !term.is_empty() && term.len() <= TERM_BYTES_MAX && term.bytes().all(known);
        env.insert("TERM".into(), if usable { term } else { "xterm" }.into());
    }
    for (name, value) in &exec.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(format!("{name:?} can't be the name of a variable"));
        }
        env.insert(name.into(), value.into());
    }
    Ok(env)
}

/// As shells look: a name with a slash is a path.
fn find(name: &str, env: &BTreeMap<OsString, OsString>, folder: &Path) -> Result<PathBuf, String> {
    if name.contains('/') {
        let path = folder.join(name);
        return match path.exists() {
            _ if is_program(&path) => Ok(path),
            true => Err(format!("{name} can't be run: it isn't an executable file")),
            false => Err(format!("{name}: there is no such file")),
        };
    }
    let folders = env.get(OsStr::new("PATH")).cloned().unwrap_or_default();
    let found = std::env::split_paths(&folders)
        .map(|place| folder.join(place).join(name))
        .find(|path| !name.is_empty() && is_program(path));
    found.ok_or_else(|| format!("{name:?} isn't in the image: no folder of PATH holds it"))
}

#[cfg(test)]
mod tests {
    use shared::link::open::{Size, Terminal};

    use super::*;

    fn user() -> User {
        User {
            name: "ann".to_owned(),
            home: "/tmp".into(),
            shell: Some("/bin/sh".into()),
        }
    }

    fn planned(exec: &Exec, given: &[(&str, &str)]) -> Result<Planned, String> {
        let given = given
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        plan(exec, &user(), given, Path::new("/usr"))
    }

    fn exec(words: &[&str]) -> Exec {
        Exec {
            command: words.iter().map(|&word| word.to_owned()).collect(),
            ..Exec::default()
        }
    }

    #[test]
    fn shells_and_programs_are_found() {
        let login = planned(&exec(&[]), &[]).expect("a shell");
        assert_eq!(
            (login.name.to_str(), login.folder.to_str()),
            (Some("-sh"), Some("/tmp"))
        );
        let line = Exec {
            shell: true,
            ..exec(&["echo $HOME"])
        };
        let line = planned(&line, &[("HOME", "/")]).expect("a shell");
        assert_eq!(line.words, ["-c", "echo $HOME"]);
        assert_eq!(line.folder, Path::new("/"));
        let named = planned(&exec(&["env", "-i"]), &[]).expect("a program");
        assert!(named.program.ends_with("env") && named.folder == Path::new("/usr"));
        assert_eq!(named.words, ["-i"]);
        let relative = planned(&exec(&["bin/env"]), &[]).expect("a program");
        assert_eq!(relative.program, Path::new("/usr/bin/env"));
        for missing in ["no-such-program", "/etc/passwd", "/nowhere/x", "", "a\0b"] {
            planned(&exec(&[missing]), &[]).expect_err(missing);
        }
        let bare = User {
            shell: None,
            ..user()
        };
        plan(&exec(&[]), &bare, std::iter::empty(), Path::new("/")).expect_err("no shell");
    }

    #[test]
    fn variables_are_the_containers_own_then_the_usual_then_those_asked_for() {
        let asked = Exec {
            terminal: Some(Terminal {
                term: "bad term".to_owned(),
                size: Size {
                    columns: 80,
                    rows: 24,
                },
            }),
            env: [("A".to_owned(), "2".to_owned())].into(),
            ..exec(&["env"])
        };
        let given = [
            ("A", "1"),
            ("USER", "given"),
            ("LD_PRELOAD", ""),
            ("RAMARKET_INSIDE_LD_PRELOAD", "x.so"),
        ];
        let env = planned(&asked, &given).expect("planned").env;
        let of = |name: &str| env.get(OsStr::new(name)).and_then(|value| value.to_str());
        assert_eq!(of("A"), Some("2"));
        assert_eq!(of("USER"), Some("given"));
        assert_eq!(of("LOGNAME"), Some("ann"));
        assert_eq!(of("TERM"), Some("xterm"));
        assert_eq!(of("PATH"), Some(PATH));
        assert_eq!(of("LD_PRELOAD"), Some("x.so"));
        assert_eq!(of("RAMARKET_INSIDE_LD_PRELOAD"), None);
        let wrong = Exec {
            env: [("A=".to_owned(), String::new())].into(),
            ..exec(&["env"])
        };
        planned(&wrong, &[]).expect_err("a name");
    }
}
