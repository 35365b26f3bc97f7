//! What is done to names.
//!
//! # Invariants
//! - The protocol's own rename replaces nothing; OpenSSH's does.

use std::{
    fs::{DirBuilder, File, Metadata, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, PermissionsExt as _},
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, Mode, RenameFlags, StatVfs, renameat_with, utimensat},
    io::Errno,
};

use super::{
    Answered,
    attributes::Attributes,
    files::timestamps,
    packet::{Name, Reply, Status},
};

/// Of a new folder, less what the container's mask takes away.
const FOLDER_MODE: u32 = 0o777;

fn look(path: &Path, follow: bool) -> io::Result<Metadata> {
    if follow {
        std::fs::metadata(path)
    } else {
        std::fs::symlink_metadata(path)
    }
}

pub(super) fn attributes(path: &Path, follow: bool) -> Answered {
    Ok(Reply::Attributes(Attributes::of(&look(path, follow)?)))
}

pub(super) fn mode(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

/// Changes what is wanted; of a link, where it isn't followed, only times and owner.
pub(super) fn change(path: &Path, wanted: &Attributes, follow: bool) -> Answered {
    if let Some(size) = wanted.size.filter(|_| follow) {
        File::options().write(true).open(path)?.set_len(size)?;
    }
    if let Some(mode) = wanted.mode {
        // the kernel keeps no mode of a link
        if !follow && look(path, false)?.is_symlink() {
            return Err(Status::not_supported());
        }
        std::fs::set_permissions(path, Permissions::from_mode(mode & 0o7777))?;
    }
    if let Some(times) = wanted.times {
        let flags = match follow {
            true => AtFlags::empty(),
            false => AtFlags::SYMLINK_NOFOLLOW,
        };
        utimensat(CWD, path, &timestamps(times), flags)?;
    }
    if let Some((user, group)) = wanted.owner {
        let change = match follow {
            true => std::os::unix::fs::chown::<&Path>,
            false => std::os::unix::fs::lchown::<&Path>,
        };
        change(path, Some(user), Some(group))?;
    }
    Ok(Reply::done())
}

pub(super) fn remove(path: &Path) -> Answered {
    std::fs::remove_file(path)?;
    Ok(Reply::done())
}

pub(super) fn make_folder(path: &Path, wanted: &Attributes) -> Answered {
    let mode = wanted.mode.unwrap_or(FOLDER_MODE) & 0o7777;
    DirBuilder::new().mode(mode).create(path)?;
    Ok(Reply::done())
}

pub(super) fn remove_folder(path: &Path) -> Answered {
    std::fs::remove_dir(path)?;
    Ok(Reply::done())
}

pub(super) fn rename(from: &Path, to: &Path, replace: bool) -> Answered {
    if replace {
        std::fs::rename(from, to)?;
        return Ok(Reply::done());
    }
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        // a file system, or a kernel in between, that can't do both at once
        Err(Errno::INVAL | Errno::NOSYS) => {
            if look(to, false).is_ok() {
                return Err(Status::failure("the new name is taken"));
            }
            std::fs::rename(from, to)?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Reply::done())
}

pub(super) fn hard_link(from: &Path, to: &Path) -> Answered {
    std::fs::hard_link(from, to)?;
    Ok(Reply::done())
}

pub(super) fn link_to(target: &Path, link: &Path) -> Answered {
    std::os::unix::fs::symlink(target, link)?;
    Ok(Reply::done())
}

pub(super) fn read_link(path: &Path) -> Answered {
    Ok(named(&std::fs::read_link(path)?))
}

/// The path without links and dots; its last part, or all of it, needn't exist.
pub(super) fn real(path: &Path) -> Answered {
    if let Ok(found) = path.canonicalize() {
        return Ok(named(&found));
    }
    let plain = plain(path);
    let parent = plain.parent().and_then(|parent| parent.canonicalize().ok());
    match (parent, plain.file_name()) {
        (Some(parent), Some(name)) => Ok(named(&parent.join(name))),
        _ => Ok(named(&plain)),
    }
}

/// By its words alone.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain
}

fn named(path: &Path) -> Reply {
    let name = path.as_os_str().as_bytes().to_vec();
    Reply::Names(vec![Name {
        line: name.clone(),
        name,
        attributes: Attributes::default(),
    }])
}

pub(super) fn space(path: &Path) -> Answered {
    Ok(told(&rustix::fs::statvfs(path)?))
}

/// A file system's size and room.
pub(super) fn told(found: &StatVfs) -> Reply {
    let numbers = [
        found.f_bsize,
        found.f_frsize,
        found.f_blocks,
        found.f_bfree,
        found.f_bavail,
        found.f_files,
        found.f_ffree,
        found.f_favail,
        found.f_fsid,
        found.f_flag.bits(),
        found.f_namemax,
    ];
    Reply::Extended(
        numbers
            .iter()
            .flat_map(|number| number.to_be_bytes())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_is_told_by_its_words() {
        for (given, told) in [
            ("/usr/./nothing", "/usr/nothing"),
            ("/no/where/../x", "/no/x"),
            ("/../..", "/"),
        ] {
            let expected = named(Path::new(told));
            assert_eq!(real(Path::new(given)), Ok(expected), "{given}");
        }
    }
}
