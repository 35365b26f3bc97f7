//! The helper's socket: made anew by whoever holds the state folder's lock, open to root and the agent's group.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use anyhow::Context as _;
use rustix::fs::{Gid, chown};
use tokio::net::UnixListener;

/// Listens at `path`, for the group `gid` as well when there is one. A socket that an earlier run left is replaced: the caller holds the
/// lock that keeps a second helper away.
///
/// # Errors
/// The file system refuses, or something else than a socket lies there.
pub(super) fn listen(path: &Path, gid: Option<u32>) -> anyhow::Result<UnixListener> {
    let shown = path.display();
    match std::fs::symlink_metadata(path) {
        Ok(found) => {
            use std::os::unix::fs::FileTypeExt as _;
            anyhow::ensure!(
                found.file_type().is_socket(),
                "{shown} is no socket; remove it, or choose another path with --socket"
            );
            std::fs::remove_file(path).with_context(|| format!("{shown} can't be replaced"))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("{shown} can't be looked at")),
    }
    let listener = UnixListener::bind(path)
        .with_context(|| format!("{shown} can't be made; does its folder exist?"))?;
    // whoever connects before is asked by the kernel's word as well
    std::fs::set_permissions(path, Permissions::from_mode(0o660))
        .with_context(|| format!("the mode of {shown} can't be set"))?;
    if let Some(gid) = gid.filter(|gid| group_of(path) != Some(*gid)) {
        chown(path, None, Some(Gid::from_raw(gid)))
            .with_context(|| format!("the group of {shown} can't be set"))?;
    }
    Ok(listener)
}

fn group_of(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|found| found.gid())
}
