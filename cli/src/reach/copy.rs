//! Copies of files and folders between here and a rental, over SFTP.
//!
//! # Invariants
//! - A name from a rental is one name: with a `/` in it, or `..`, it is refused, so that nothing is written outside of the target.
//! - A file is written beside its place here and renamed when it is whole; it gets no permission that new files don't have here.
//! - Within a folder, what is neither file nor folder is told and left out; links here are followed.
//! - Only a file is read there: a device has no end.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Component, Path, PathBuf},
};

use tokio::io::{AsyncRead, AsyncWrite};

use self::part::Part;
use super::{
    sftp::{Attributes, Sftp},
    told,
};
use crate::{
    failure::{Failure, Result},
    output::tell,
    progress::Progress,
};

mod part;

/// Deepest folder within a folder.
const DEPTH_MAX: usize = 64;

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A copy under way.
pub struct Copy<S> {
    sftp: Sftp<S>,
    recursive: bool,
    progress: Progress,
    umask: u32,
    done: Copied,
}

impl<S: AsyncRead + AsyncWrite> Copy<S> {
    /// Over a session.
    pub fn new(sftp: Sftp<S>, recursive: bool) -> Self {
        Self {
            sftp,
            recursive,
            progress: Progress::new(),
            umask: part::umask(),
            done: Copied::default(),
        }
    }

    /// From here into the rental.
    ///
    /// # Errors
    /// Something can't be read here or written there.
    pub async fn up(mut self, from: &Path, to: &str) -> Result<Copied> {
        let facts = fs::metadata(from).map_err(|error| local(from, &error))?;
        let path = Path::new(to);
        let there = self.sftp.examine(path).await.map_err(remote)?;
        let into = to.ends_with('/') || there.is_some_and(|there| there.is_folder());
        let target = if into {
            let name = from.canonicalize().map_err(|error| local(from, &error))?;
            let name = name.file_name().map(PathBuf::from);
            path.join(name.ok_or_else(|| Failure::usage("a root folder has no name to copy to"))?)
        } else {
            path.to_owned()
        };
        if into && there.is_none() {
            self.sftp.make_folder(path).await.map_err(remote)?;
        }
        if facts.is_dir() {
            self.needs_recursive(from)?;
            self.up_folder(from, &target).await?;
        } else {
            self.up_file(from, &target).await?;
        }
        Ok(self.done)
    }

    async fn up_folder(&mut self, from: &Path, to: &Path) -> Result<()> {
        let mut waiting = vec![(from.to_owned(), to.to_owned(), 0)];
        while let Some((from, to, depth)) = waiting.pop() {
            too_deep(&from, depth)?;
            self.sftp.make_folder(&to).await.map_err(remote)?;
            let entries = fs::read_dir(&from).map_err(|error| local(&from, &error))?;
            for entry in entries {
                let path = entry.map_err(|error| local(&from, &error))?.path();
                let target = to.join(path.file_name().unwrap_or_default());
                let facts = match fs::metadata(&path) {
                    Err(_) if path.is_symlink() => {
                        tell(&format!("{}: a link to nothing, left out", path.display()));
                        continue;
                    }
                    facts => facts.map_err(|error| local(&path, &error))?,
                };
                if facts.is_dir() {
                    waiting.push((path, target, depth + 1));
                } else if facts.is_file() {
                    self.up_file(&path, &target).await?;
                } else {
                    tell(&format!("{}: no file, left out", path.display()));
                }
            }
        }
        Ok(())
    }

    async fn up_file(&mut self, from: &Path, to: &Path) -> Result<()> {
        let wrong = |error: io::Error| local(from, &error);
        let mut file = tokio::fs::File::open(from).await.map_err(wrong)?;
        let facts = file.metadata().await.map_err(wrong)?;
        let mode = Some(facts.permissions().mode() & 0o777);
        let shown = from.display().to_string();
        self.progress.begin(&shown, Some(facts.len()));
        let progress = &self.progress;
        let bytes = self
            .sftp
            .write_file(to, mode, &mut file, |bytes| progress.add(bytes))
            .await
            .map_err(remote)?;
        self.done.files += 1;
        self.done.bytes += bytes;
        Ok(())
    }

    /// From the rental to here.
    ///
    /// # Errors
    /// Something can't be read there or written here.
    pub async fn down(mut self, from: &str, to: &Path) -> Result<Copied> {
        let path = Path::new(from);
        let there = self.sftp.examine(path).await.map_err(remote)?;
        let there = there.ok_or_else(|| {
            let what = format!("{from}: there is no such file or folder in the rental");
            Failure::new(crate::failure::Kind::NotFound, what)
        })?;
        let into = to.is_dir() || to.as_os_str().as_encoded_bytes().ends_with(b"/");
        let target = if into {
            fs::create_dir_all(to).map_err(|error| local(to, &error))?;
            match path.components().next_back() {
                Some(Component::Normal(name)) => to.join(name),
                _ => to.to_owned(),
            }
        } else {
            to.to_owned()
        };
        if there.is_folder() {
            self.needs_recursive(path)?;
            self.down_folder(path, &target).await?;
        } else if there.is_file() {
            self.down_file(path, &target, there).await?;
        } else {
            return Err(Failure::usage(format!(
                "{from} is {} in the rental: only files and folders are copied",
                there.kind()
            )));
        }
        Ok(self.done)
    }

    async fn down_folder(&mut self, from: &Path, to: &Path) -> Result<()> {
        let mut waiting = vec![(from.to_owned(), to.to_owned(), 0)];
        while let Some((from, to, depth)) = waiting.pop() {
            too_deep(&from, depth)?;
            fs::create_dir_all(&to).map_err(|error| local(&to, &error))?;
            for (name, _) in self.sftp.list(&from).await.map_err(remote)? {
                let name = one_name(&name)?;
                let (path, target) = (from.join(name), to.join(name));
                // what a listing says of a link is of the link
                let known = self.sftp.examine(&path).await.map_err(remote)?;
                match known {
                    Some(known) if known.is_folder() => waiting.push((path, target, depth + 1)),
                    Some(known) if known.is_file() => {
                        self.down_file(&path, &target, known).await?;
                    }
                    _ => tell(&format!("{}: no file, left out", path.display())),
                }
            }
        }
        Ok(())
    }

    async fn down_file(&mut self, from: &Path, to: &Path, known: Attributes) -> Result<()> {
        let path = Part::path_for(to);
        self.progress.begin(&from.display().to_string(), known.size);
        let wrong = |error: io::Error| local(&path, &error);
        let mut part = Part::begin(path.clone()).map_err(wrong)?;
        let progress = &self.progress;
        let bytes = self
            .sftp
            .read_file(from, &mut part.file, |bytes| progress.add(bytes))
            .await
            .map_err(remote)?;
        let mode = known.mode.unwrap_or(part::MODE) & 0o777 & !self.umask;
        part.finish(mode).await.map_err(wrong)?;
        part.keep(to).map_err(|error| local(to, &error))?;
        self.done.files += 1;
        self.done.bytes += bytes;
        Ok(())
    }

    fn needs_recursive(&self, path: &Path) -> Result<()> {
        if self.recursive {
            return Ok(());
        }
        let shown = path.display();
        Err(Failure::usage(format!(
            "{shown} is a folder: copy it with -r"
        )))
    }
}

/// A name that a rental tells, if it is one.
fn one_name(name: &Path) -> Result<&Path> {
    let mut parts = name.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(part)), None) if part == name.as_os_str() => Ok(name),
        _ => Err(Failure::failed(format!(
            "the rental tells of a file named {:?}: that isn't written here",
            name.display().to_string()
        ))),
    }
}

fn too_deep(path: &Path, depth: usize) -> Result<()> {
    if depth < DEPTH_MAX {
        return Ok(());
    }
    let shown = path.display();
    Err(Failure::failed(format!(
        "{shown} is deeper than {DEPTH_MAX} folders: is there a link to a folder above?"
    )))
}

fn local(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}

fn remote(error: io::Error) -> Failure {
    if let Some(failure) = told(&error) {
        return failure;
    }
    let why = match error.kind() {
        io::ErrorKind::UnexpectedEof => "the connection to the rental is lost".to_owned(),
        _ => error.to_string(),
    };
    drop(error);
    Failure::failed(why)
}

#[cfg(test)]
mod tests;
