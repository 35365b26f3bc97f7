//! Files that only their owner may read: keys and tokens.
//!
//! # Invariants
//! - A file that others can read is refused, not used: whatever is in it is no secret any more. A credential of systemd may be read by
//!   its group: the bit stands for the list of users that systemd lets read it.
//! - Written beside and renamed into place after it is on disk: a crash leaves the old or the new content.
//! - Changes are made under a lock, so that two commands at once don't lose each other's.

use std::{
    ffi::OsStr,
    fmt,
    fs::{self, File, OpenOptions},
    io::{BufRead as _, ErrorKind, Read as _, Write as _},
    marker::PhantomData,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use shared::secret::Secret;

use crate::failure::{Failure, Result};

/// Longest first line of standard input that holds a secret.
const SECRET_BYTES_MAX: u64 = 4096;
/// Names the folder of a service's credentials.
pub const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads a private file; `None` if there is none.
///
/// # Errors
/// Others can read it, it is too large, or the system refuses.
pub fn read(path: &Path) -> Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failure(path, "can't be opened", &error)),
    };
    let facts = file
        .metadata()
        .map_err(|error| failure(path, "can't be examined", &error))?;
    let mode = facts.permissions().mode() & 0o777;
    let forbidden = match is_credential(path, std::env::var_os(CREDENTIALS).as_deref()) {
        true => 0o037,
        false => 0o077,
    };
    if !facts.is_file() || mode & forbidden != 0 {
        return Err(Failure::usage(format!(
            "{} may be read by others (mode {mode:03o}): run chmod 600 on it, and replace what is in it if others had access",
            path.display()
        )));
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| failure(path, "can't be read", &error))?;
    Ok(Some(text))
}

/// Whether systemd put it there: directly in the folder that it names to the service.
fn is_credential(path: &Path, folder: Option<&OsStr>) -> bool {
    folder.is_some_and(|folder| !folder.is_empty() && path.parent() == Some(Path::new(folder)))
}

/// Refuses a path at which there is something: said before anybody is asked for a passphrase.
///
/// # Errors
/// There is something.
pub fn must_be_new(path: &Path) -> Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(Failure::usage(format!(
            "{} exists, and is never replaced: name another file, or move it away",
            path.display()
        )));
    }
    Ok(())
}

/// Writes a new private file; never replaces one.
///
/// # Errors
/// It exists, or the system refuses.
pub fn create_new(path: &Path, text: &str) -> Result<()> {
    make_folder(path)?;
    write(path, text)
}

/// Writes a private file whether there is one or not; what was there stays until the new one is whole.
///
/// # Errors
/// The system refuses.
pub fn replace(path: &Path, text: &str) -> Result<()> {
    make_folder(path)?;
    let beside = path.with_added_extension(hex::encode(crate::random::bytes::<8>()?));
    write(&beside, text)?;
    fs::rename(&beside, path).map_err(|error| failure(path, "can't be replaced", &error))
}

/// The first line of a private file, or of standard input for `-`.
///
/// # Errors
/// As [`read`]; there is none, or it is empty.
pub fn first_line(file: &Path, what: &str) -> Result<Secret<String>> {
    let text = if file == Path::new("-") {
        let mut line = String::new();
        std::io::stdin()
            .lock()
            .take(SECRET_BYTES_MAX)
            .read_line(&mut line)
            .map_err(|error| Failure::usage(format!("standard input can't be read: {error}")))?;
        line
    } else {
        read(file)?.ok_or_else(|| Failure::usage(format!("there is no file {}", file.display())))?
    };
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Secret::new(line.to_owned())),
        _ => Err(Failure::usage(format!("the {what} is empty"))),
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            let written = file
                .write_all(text.as_bytes())
                .and_then(|()| file.sync_all());
            if written.is_err() {
                // half a key would stand in the way of the next try
                fs::remove_file(path)?;
            }
            written
        })
        .map_err(|error| failure(path, "can't be written", &error))
}

/// Makes the folder of a file.
///
/// # Errors
/// The system refuses.
pub fn make_folder(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|error| failure(folder, "can't be made", &error))
}

fn failure(path: &Path, what: &str, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{} {what}: {error}", path.display()))
}

/// A private file that holds one value as JSON.
pub struct PrivateJson<T> {
    path: PathBuf,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for PrivateJson<T> {
    fn clone(&self) -> Self {
        Self {
            path: self.path.clone(),
            value: PhantomData,
        }
    }
}

impl<T> fmt::Debug for PrivateJson<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateJson({})", self.path.display())
    }
}

impl<T: Default + Serialize + DeserializeOwned> PrivateJson<T> {
    /// The file at `path`, which need not exist.
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            value: PhantomData,
        }
    }

    /// The value; the default one if there is no file.
    ///
    /// # Errors
    /// As [`read`], or it holds something else.
    pub fn get(&self) -> Result<T> {
        let Some(text) = read(&self.path)? else {
            return Ok(T::default());
        };
        serde_json::from_str(&text).map_err(|error| {
            let path = self.path.display();
            Failure::usage(format!(
                "{path} is damaged ({error}): move it away and try again"
            ))
        })
    }

    /// Changes the value while no other command does.
    ///
    /// # Errors
    /// As [`PrivateJson::get`]; the file is as it was.
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R> {
        make_folder(&self.path)?;
        let _lock = self.lock()?;
        let mut value = self.get()?;
        let result = change(&mut value);
        let text = serde_json::to_string_pretty(&value)
            .map_err(|error| Failure::failed(format!("can't be written as JSON: {error}")))?;
        self.replace(&text)?;
        Ok(result)
    }

    fn lock(&self) -> Result<File> {
        let path = self.path.with_extension("lock");
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|error| failure(&path, "can't be locked", &error))
    }

    fn replace(&self, text: &str) -> Result<()> {
        let beside = self.path.with_extension("new");
        // left behind by a command that was killed; we hold the lock
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failure(&beside, "can't be removed", &error));
            }
            _ => {}
        }
        write(&beside, text)?;
        fs::rename(&beside, &self.path)
            .and_then(|()| File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all())
            .map_err(|error| failure(&self.path, "can't be replaced", &error))
    }
}

#[cfg(test)]
pub mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A folder that is removed when dropped.
    pub struct Folder(pub PathBuf);

    impl Default for Folder {
        fn default() -> Self {
            let name = hex::encode(crate::random::bytes::<8>().unwrap());
            let path = std::env::temp_dir().join(format!("ramarket-cli-{name}"));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn what_others_can_read_is_refused() {
        let folder = Folder::default();
        let path = folder.0.join("a/key");
        assert_eq!(read(&path), Ok(None));
        create_new(&path, "secret").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("secret"));
        assert!(create_new(&path, "other").is_err());
        for mode in [0o640, 0o604, 0o620, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let failure = read(&path).unwrap_err();
            assert_eq!(failure.kind, crate::failure::Kind::Usage);
            assert!(failure.to_string().contains("chmod 600"), "{failure}");
        }
    }

    #[test]
    fn a_credential_may_have_the_bit_of_its_group() {
        let folder = Folder::default();
        for (path, of, is) in [
            ("/run/credentials/a/key", "/run/credentials/a", true),
            ("/run/credentials/a/key", "/run/credentials/a/", true),
            ("/run/credentials/ab/key", "/run/credentials/a", false),
            ("/run/credentials/a/b/key", "/run/credentials/a", false),
            ("key", "", false),
        ] {
            assert_eq!(
                is_credential(Path::new(path), Some(OsStr::new(of))),
                is,
                "{path}"
            );
        }
        assert!(!is_credential(&folder.0.join("key"), None));
    }

    #[test]
    fn changes_at_once_are_all_kept() {
        let folder = Folder::default();
        let file: PrivateJson<BTreeMap<String, u8>> = PrivateJson::at(folder.0.join("map.json"));
        std::thread::scope(|scope| {
            for i in 0..16 {
                let file = file.clone();
                scope.spawn(move || file.change(|map| map.insert(i.to_string(), i)).unwrap());
            }
        });
        assert_eq!(file.get().unwrap().len(), 16);
        // killed between writing and renaming
        fs::write(folder.0.join("map.new"), "half").unwrap();
        file.change(BTreeMap::clear).unwrap();
        assert!(file.get().unwrap().is_empty());
        let mode = fs::metadata(folder.0.join("map.json"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn damage_is_told_and_not_overwritten() {
        let folder = Folder::default();
        let path = folder.0.join("map.json");
        create_new(&path, "{").unwrap();
        let file: PrivateJson<BTreeMap<String, u8>> = PrivateJson::at(path.clone());
        assert!(file.change(BTreeMap::clear).is_err());
        assert_eq!(read(&path).unwrap().as_deref(), Some("{"));
    }
}
