//! The folder of files that are rentals' disks.
//!
//! A disk is a file of exactly the ordered size, with an ext4 in it that ends where the file ends: who fills it gets `ENOSPC` and nobody
//! else notices. The file's blocks are reserved at once, so what was sold can't be taken by somebody else. The engine mounts it for the
//! container, by a link in this folder to the file's loop device, so nothing here is mounted by this process.
//!
//! # Invariants
//! - A file's name is its state (`names`); each step is one rename or one removal, so a crash leaves a state and not a riddle, and
//!   [`super::pass`] leads every state to where it belongs.
//! - A link is made when the loop device has the file, and removed before the device may lose it: it never leads to another's file,
//!   except over a restart of the machine, after which the first pass makes it anew.
//! - Steps that change something take turns. What a creation has in hand isn't tidied away.
//! - A wiped disk's blocks can't be read by the next tenant: a new file's reserved blocks read as zeros until they are written.

use std::{
    collections::BTreeSet,
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use rustix::fs::FallocateFlags;
use shared::{clock::Clock, id::RentalId};

use super::{Settings, Space, names::Name, tools};
use crate::{
    durable,
    runtime::{RuntimeError, code},
};

/// Of the file that shows whether this machine can.
const TRIAL_BYTES: i64 = 8 << 20;
const TRIAL: &str = "trial";

/// The disks of one node.
#[derive(Debug)]
pub struct Volumes {
    pub(super) settings: Settings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) turn: tokio::sync::Mutex<()>,
    in_hand: Mutex<BTreeSet<RentalId>>,
}

/// What the disks take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Of rentals that have a container, or are about to.
    pub live_bytes: i64,
    /// Of rentals that are over.
    pub kept_bytes: i64,
}

/// A disk for a container that is being created; dropping it says that the creation has ended, well or not.
#[derive(Debug)]
pub struct Taken<'a> {
    volumes: &'a Volumes,
    id: RentalId,
    /// What the engine mounts.
    pub device: PathBuf,
    /// Whether it was made just now: then nothing is in it yet.
    pub fresh: bool,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.volumes.hands().remove(&self.id);
    }
}

impl Volumes {
    /// In the settings' folder, which is made if it isn't there, for root alone.
    ///
    /// # Errors
    /// It can't be made.
    pub fn open(mut settings: Settings, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let folder = &settings.folder;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .and_then(|()| folder.canonicalize())
            // as the kernel names files of loop devices
            .map(|canonical| settings.folder = canonical)
            .with_context(|| {
                let folder = settings.folder.display();
                format!("the folder of rentals' disks, {folder}, can't be made")
            })?;
        Ok(Self {
            settings,
            clock,
            turn: tokio::sync::Mutex::new(()),
            in_hand: Mutex::default(),
        })
    }

    /// What the machine's owner decided.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The file system that the disks lie on.
    ///
    /// # Errors
    /// The kernel doesn't say.
    pub fn space(&self) -> io::Result<Space> {
        Space::of(&self.settings.folder)
    }

    pub(super) fn hands(&self) -> MutexGuard<'_, BTreeSet<RentalId>> {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a rental has a disk.
    #[must_use]
    pub fn has(&self, id: RentalId) -> bool {
        self.path(Name::Disk(id)).exists()
    }

    pub(super) fn path(&self, name: Name) -> PathBuf {
        self.settings.folder.join(name.to_string())
    }

    pub(super) fn found(&self) -> io::Result<Vec<Name>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.settings.folder)? {
            found.extend(entry?.file_name().to_str().and_then(Name::parse));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// What the disks take, by their files.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn held(&self) -> io::Result<Held> {
        let mut held = Held::default();
        for name in self.found()? {
            let bytes = match size(&self.path(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            match name {
                Name::Making(_) | Name::Disk(_) => held.live_bytes += bytes,
                Name::Kept(..) => held.kept_bytes += bytes,
                Name::Link(_) => {}
            }
        }
        Ok(held)
    }

    /// Makes a small disk and its loop device, and removes them again.
    ///
    /// # Errors
    /// Why this machine can't.
    pub async fn trial(&self) -> anyhow::Result<()> {
        let _turn = self.turn.lock().await;
        let file = self.settings.folder.join(TRIAL);
        remove(&file).context("an earlier trial's file can't be removed")?;
        let tried = async {
            reserve(file.clone(), TRIAL_BYTES).await?;
            tools::make_file_system(&file).await?;
            let device = tools::attach(&file).await?;
            tools::detach(&device).await
        };
        let tried = tried.await;
        remove(&file).context("the trial's file can't be removed")?;
        tried
    }

    /// The disk of a rental whose container is about to be created: the one that it has, the one that was kept for it, or a new one.
    ///
    /// # Errors
    /// [`code::NO_SPACE`] when there is no room; `Unavailable` when something doesn't work.
    pub async fn take(&self, id: RentalId, bytes: i64) -> Result<Taken<'_>, RuntimeError> {
        let _turn = self.turn.lock().await;
        self.hands().insert(id);
        let mut taken = Taken {
            volumes: self,
            id,
            device: self.path(Name::Link(id)),
            fresh: false,
        };
        taken.fresh = self.there(id, bytes).await?;
        self.lead_to(id).await.map_err(broken)?;
        Ok(taken)
    }

    /// Makes sure that the rental's file is there, whole and of this size; whether it wasn't.
    async fn there(&self, id: RentalId, bytes: i64) -> Result<bool, RuntimeError> {
        let disk = self.path(Name::Disk(id));
        let found = self.found().map_err(broken)?;
        let is_kept = |name: &Name| matches!(name, Name::Kept(of, _) if *of == id);
        let known = if found.contains(&Name::Disk(id)) {
            Some(disk.clone())
        } else {
            let kept = found.into_iter().rev().find(is_kept);
            kept.map(|name| self.path(name))
        };
        let Some(known) = known else {
            self.make(id, bytes).await?;
            return Ok(true);
        };
        let has = size(&known).map_err(broken)?;
        if has != bytes {
            let why = format!("the rental's disk here has {has} bytes, and {bytes} are asked for");
            return Err(RuntimeError::refused(code::CREATE_FAILED, why));
        }
        if known != disk {
            tracing::info!(rental.id = %id, "a rental gets the disk that was kept for it");
            rename(&known, &disk).map_err(broken)?;
        }
        Ok(false)
    }

    async fn make(&self, id: RentalId, bytes: i64) -> Result<(), RuntimeError> {
        self.check_room(bytes)?;
        let making = self.path(Name::Making(id));
        remove(&making).map_err(broken)?;
        let made = async {
            reserve(making.clone(), bytes).await?;
            tools::make_file_system(&making).await?;
            // what is zero in a new file system isn't written but given back
            reserve(making.clone(), bytes).await?;
            File::open(&making)?.sync_all()?;
            rename(&making, &self.path(Name::Disk(id)))?;
            Ok::<_, anyhow::Error>(())
        };
        let Err(error) = made.await else {
            tracing::info!(rental.id = %id, disk.bytes = bytes, "a disk was made");
            return Ok(());
        };
        remove(&making).map_err(broken)?;
        let full = error.downcast_ref::<io::Error>();
        if full.is_some_and(|error| error.kind() == io::ErrorKind::StorageFull) {
            return Err(no_space("its disk is full"));
        }
        Err(broken(error))
    }

    fn check_room(&self, bytes: i64) -> Result<(), RuntimeError> {
        let space = self.space().map_err(broken)?;
        let left = space.free_bytes.saturating_sub(bytes);
        if left < space.floor_bytes(&self.settings) {
            return Err(no_space("it would be too full with this rental's disk"));
        }
        let held = self.held().map_err(broken)?;
        let all = held.live_bytes + held.kept_bytes;
        if self.settings.total_bytes != 0 && all.saturating_add(bytes) > self.settings.total_bytes {
            return Err(no_space("its owner gives rentals less than that"));
        }
        Ok(())
    }

    /// Attaches the file and makes the link to its device.
    pub(super) async fn lead_to(&self, id: RentalId) -> anyhow::Result<()> {
        let device = tools::attach(&self.path(Name::Disk(id))).await?;
        let link = self.path(Name::Link(id));
        if std::fs::read_link(&link).is_ok_and(|known| known == device) {
            return Ok(());
        }
        remove(&link)?;
        std::os::unix::fs::symlink(&device, &link)?;
        Ok(())
    }
}

/// A file whose blocks are all there: a new one, or one in which some were given back.
pub(super) async fn reserve(file: PathBuf, bytes: i64) -> anyhow::Result<()> {
    let length = u64::try_from(bytes)?;
    let made = tokio::task::spawn_blocking(move || {
        let made = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(file)?;
        rustix::fs::fallocate(&made, FallocateFlags::empty(), 0, length)?;
        Ok::<_, io::Error>(())
    });
    Ok(made.await??)
}

/// Removes a file that may take a while to free.
pub(super) async fn wipe(path: PathBuf) -> anyhow::Result<()> {
    Ok(tokio::task::spawn_blocking(move || remove(&path)).await??)
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    durable::sync_folder_of(to)
}

fn size(path: &Path) -> io::Result<i64> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok(i64::try_from(metadata.size()).unwrap_or(i64::MAX))
}

fn broken(error: impl Into<anyhow::Error>) -> RuntimeError {
    let error = error.into();
    RuntimeError::Unavailable(format!("a rental's disk can't be made ready: {error:#}"))
}

fn no_space(why: &str) -> RuntimeError {
    RuntimeError::refused(
        code::NO_SPACE,
        format!("this node has no room on its disk now ({why}); choose another node"),
    )
}
