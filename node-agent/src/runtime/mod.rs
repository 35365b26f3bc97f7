//! The container engine as the reconciler sees it: a small trait, Docker behind it, and a simulation for tests.
//!
//! # Invariants
//! - Only containers that carry this node's label are ever seen or touched; an engine may serve others as well.
//! - Each call is safe to repeat: creating what exists adopts it, stopping or removing what is gone succeeds.
//! - "The engine didn't answer" ([`RuntimeError::Unavailable`], [`RuntimeError::Busy`]) is kept apart from "the engine refused": only the second is an answer.

use std::{collections::HashMap, fmt, time::Duration};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use shared::{
    id::{LeaseId, RentalId},
    image::{
        Digest, RegistryAuth,
        rules::{NodeImages, PinnedImage},
    },
    journal::Exit,
    link::open::{Entry, LogsQuery},
    resources::{Docker, Isolation, RentalDisk},
    time::Timestamp,
    wire::desired::DesiredRental,
};

pub use self::pipe::{Form, Pipe};

pub mod cache;
mod digest;
pub mod disk;
pub mod docker;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
pub mod isolation;
pub mod logs;
pub mod network;
mod parse;
mod pipe;
pub mod profile;
mod pull;
pub mod self_test;
mod toolkit;

/// Label that holds the rental's id; what is ours is found by it and [`LABEL_NODE`].
pub const LABEL_RENTAL: &str = "ramarket.rental";
/// Label that holds the lease's id.
pub const LABEL_LEASE: &str = "ramarket.lease";
/// Label that holds the SHA-256 of the specification, hex.
pub const LABEL_SPEC: &str = "ramarket.spec_sha256";
/// Label that holds the UUIDs of the rental's GPUs, with commas between them.
pub const LABEL_GPUS: &str = "ramarket.gpus";
/// Label that holds how large a disk the rental ordered, bytes.
pub const LABEL_DISK: &str = "ramarket.disk_bytes";
/// Label that holds the node's id, so that two agents on one engine keep apart.
pub const LABEL_NODE: &str = "ramarket.node";

/// Label of the containers that prove networks closed, which aren't rentals; its value is the node's id.
pub const LABEL_PROBE: &str = "ramarket.probe";

/// A label's value. An empty one is as none: every label is set on a rental, so that its image can't set one.
fn label<'a>(labels: &'a HashMap<String, String>, name: &str) -> Option<&'a str> {
    let value = labels.get(name).map(String::as_str);
    value.filter(|value| !value.is_empty())
}

/// Codes of [`shared::wire::observed::Phase::Failed`]: stable, told to the rental's owner.
pub mod code {
    /// The specification asks for what this agent can't enforce yet.
    pub const NOT_SUPPORTED: &str = "not_supported";
    /// The image can't run here as it is.
    pub const IMAGE_NOT_SUPPORTED: &str = "image_not_supported";
    /// The registry doesn't have the image, or doesn't show it to us.
    pub const IMAGE_NOT_FOUND: &str = "image_not_found";
    /// The machine's owner doesn't run this image, or images of its registry.
    pub const IMAGE_NOT_ALLOWED: &str = "image_not_allowed";
    /// The image has more layers or bytes than the machine's owner allows.
    pub const IMAGE_TOO_LARGE: &str = "image_too_large";
    /// The registry couldn't be reached or broke off.
    pub const IMAGE_PULL_FAILED: &str = "image_pull_failed";
    /// The engine refused to create the container, or didn't limit it as told.
    pub const CREATE_FAILED: &str = "create_failed";
    /// The engine couldn't start it, such as when the command isn't in the image.
    pub const START_FAILED: &str = "start_failed";
    /// The engine refused something else; not a rental's fault and seldom told.
    pub const ENGINE_REFUSED: &str = "engine_refused";
    /// It was there and is gone, and not by the agent's doing.
    pub const CONTAINER_LOST: &str = "container_lost";
    /// The machine's disk has no room for it.
    pub const NO_SPACE: &str = "no_space";
    /// The market wanted it stopped before it had started.
    pub const STOPPED_BEFORE_START: &str = "stopped_before_start";

    /// Each of them.
    const ALL: [&str; 12] = [
        NOT_SUPPORTED,
        IMAGE_NOT_SUPPORTED,
        IMAGE_NOT_FOUND,
        IMAGE_NOT_ALLOWED,
        IMAGE_TOO_LARGE,
        IMAGE_PULL_FAILED,
        CREATE_FAILED,
        START_FAILED,
        ENGINE_REFUSED,
        CONTAINER_LOST,
        NO_SPACE,
        STOPPED_BEFORE_START,
    ];

    /// The code of this text; [`ENGINE_REFUSED`] for one that this program doesn't know.
    #[must_use]
    pub fn known(text: &str) -> &'static str {
        let found = ALL.into_iter().find(|code| *code == text);
        found.unwrap_or(ENGINE_REFUSED)
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn every_code_is_known() {
            let source = include_str!("mod.rs");
            let declared = source
                .lines()
                .filter(|line| line.starts_with("    pub const "))
                .count();
            assert_eq!(declared, super::ALL.len());
            for code in super::ALL {
                assert_eq!(super::known(code), code);
            }
            assert_eq!(super::known("new"), super::ENGINE_REFUSED);
        }
    }
}

/// A container of this node, in any state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The engine's id, 64 hexadecimal digits.
    pub id: String,
    /// From the labels; `None` when the label isn't a rental id.
    pub rental_id: Option<RentalId>,
    /// From the labels; `None` when the label isn't a lease id.
    pub lease_id: Option<LeaseId>,
    /// From the labels.
    pub spec_sha256: String,
    /// UUIDs of its GPUs, from the labels.
    pub gpus: Vec<String>,
    /// How far it is.
    pub state: ContainerState,
    /// First process, in the host's numbering, while it runs.
    pub pid: Option<i32>,
    /// When it was started, by the engine's clock; `None` before.
    pub started_at: Option<Timestamp>,
    /// When it ended, by the engine's clock; `None` before.
    pub finished_at: Option<Timestamp>,
    /// Digest of the image it was made from, `sha256:…`.
    pub image_digest: Option<String>,
    /// What it took of the disk beyond what it may, in words; `None` while it is within.
    pub over_disk: Option<String>,
}

/// What a running rental takes of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskUse {
    /// Which.
    pub rental_id: RentalId,
    /// The layer over its image as it was counted last (minutes ago at most), and what is on a disk of its own now.
    pub bytes: i64,
}

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// There, never started.
    Created,
    /// Runs (or is paused: it still holds its memory).
    Running,
    /// Ended.
    Exited(Exit),
    /// The engine is removing it.
    Removing,
}

/// How much of an image was fetched, as far as the registry said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PullProgress {
    /// Bytes so far.
    pub done_bytes: i64,
    /// Bytes in all.
    pub total_bytes: i64,
}

/// An image to fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    /// Its reference, as the consumer wrote it.
    pub reference: String,
    /// What was quoted: this and nothing else is fetched. Without it, what the reference means now.
    pub pinned: Option<PinnedImage>,
    /// Its owner's, for this call only.
    pub auth: Option<RegistryAuth>,
}

impl Fetch {
    /// A public image, as its reference means now.
    #[must_use]
    pub fn of(reference: &str) -> Self {
        Self {
            reference: reference.to_owned(),
            pinned: None,
            auth: None,
        }
    }
}

/// What [`ContainerRuntime::create`] left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Created {
    /// A container that can be started, by its id.
    Fresh(String),
    /// One that had been started before, and is adopted; by its id.
    Started(String),
    /// Nothing: the image isn't on this machine and must be pulled.
    NoImage,
}

/// What an engine is, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineFacts {
    /// What the inventory tells of it.
    pub docker: Docker,
    /// Version of its control groups, `1` or `2`; `None` when it doesn't say.
    pub cgroup_version: Option<i64>,
    /// What keeps rentals from the machine and from each other.
    pub isolation: Isolation,
    /// Where rentals' disks come from; `None` where there are none.
    pub rental_disk: Option<RentalDisk>,
    /// Why nothing new is begun now, in words; `None` while there is room.
    pub shortage: Option<String>,
    /// Which images run here and which are here.
    pub images: NodeImages,
    /// Why no GPU can be given to a container; `None` where one can.
    pub gpus_refused: Option<String>,
}

/// The limits that are in force on a container; 0 where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeldLimits {
    /// Memory.
    pub ram_bytes: i64,
    /// Thousandths of a CPU.
    pub cpu_millis: i64,
}

/// Something happened to one of our containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Which container.
    pub container_id: String,
    /// From the container's labels.
    pub rental_id: Option<RentalId>,
}

/// Why a call to the engine didn't succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// The engine didn't answer, or broke off: nothing is known about what it did.
    #[error("the container engine didn't answer: {0}")]
    Unavailable(String),
    /// Too much is being asked for at once, and the engine wasn't asked: there is no sign that it wouldn't answer.
    #[error("the container engine wasn't asked: {0}")]
    Busy(String),
    /// The engine refused, and would refuse again.
    #[error("{code}: {reason}")]
    Refused {
        /// One of [`code`].
        code: &'static str,
        /// What happened, in words for the rental's owner.
        reason: String,
    },
}

impl RuntimeError {
    /// A refusal; the reason is bounded, since it travels in every beat.
    pub fn refused(code: &'static str, reason: impl fmt::Display) -> Self {
        /// Characters of a reason.
        const REASON_CHARS_MAX: usize = 500;
        Self::Refused {
            code,
            reason: reason.to_string().chars().take(REASON_CHARS_MAX).collect(),
        }
    }

    /// What happened, without the words around it.
    #[must_use]
    pub fn reason(self) -> String {
        match self {
            Self::Unavailable(reason) | Self::Busy(reason) | Self::Refused { reason, .. } => reason,
        }
    }
}

/// Called with the progress of a pull; may be called often.
pub type OnProgress<'a> = &'a (dyn Fn(PullProgress) + Send + Sync);

/// What the reconciler needs of a container engine.
#[async_trait]
pub trait ContainerRuntime: Send + Sync + fmt::Debug {
    /// What the engine is, within seconds. One that isn't there is [`RuntimeError::Unavailable`], with the reason in words for the
    /// inventory.
    async fn facts(&self) -> Result<EngineFacts, RuntimeError>;

    /// Takes a rental of nobody's through its whole life, with the probe of its network. What goes wrong on the way is part of the answer.
    async fn self_test(&self) -> Result<self_test::SelfTest, RuntimeError>;

    /// What running rentals take of the disk, as far as it was looked at.
    async fn disk_use(&self) -> Result<Vec<DiskUse>, RuntimeError>;

    /// All containers of this node, in all states.
    async fn list(&self) -> Result<Vec<Container>, RuntimeError>;

    /// One container; `None` when it isn't there or isn't this node's.
    async fn inspect(&self, container_id: &str) -> Result<Option<Container>, RuntimeError>;

    /// Fetches an image by its digest and returns that. Refusals have a code `IMAGE_…`. Dropping the future ends the pull.
    async fn pull(
        &self,
        wanted: &Fetch,
        on_progress: OnProgress<'_>,
    ) -> Result<Digest, RuntimeError>;

    /// Creates the rental's container on a network of its own, or on none, limited as `resources` say, and checks that the engine took each limit and that the image brings
    /// no volumes, which would escape them. One that exists for this rental, lease and specification is adopted.
    async fn create(&self, rental: &DesiredRental) -> Result<Created, RuntimeError>;

    /// Starts a created container. One that runs already is left alone.
    async fn start(&self, container_id: &str) -> Result<(), RuntimeError>;

    /// Asks it to end (SIGTERM) and kills it after `grace`; returns when it has ended or is gone.
    async fn stop(&self, container_id: &str, grace: Duration) -> Result<(), RuntimeError>;

    /// Removes it with its anonymous volumes, running or not; returns when it is gone.
    async fn remove(&self, container_id: &str) -> Result<(), RuntimeError>;

    /// Changes of this node's containers since `since` (the engine's wall clock) and from now on. The stream ends or yields an error
    /// when the engine goes away; whoever reads it connects anew and lists.
    fn events(&self, since: Timestamp) -> BoxStream<'static, Result<Event, RuntimeError>>;

    /// Starts `ramarket-inside` (see [`crate::inside`]) in a running container, as the container's own user and with no more rights than
    /// its first process, and returns the connection that a session of [`shared::link`] runs over. Dropping it ends what was started.
    async fn enter(&self, container_id: &str) -> Result<Pipe, RuntimeError>;

    /// What a container wrote, oldest first; what follows if asked for, until the container ends.
    fn logs(
        &self,
        container_id: &str,
        query: LogsQuery,
    ) -> BoxStream<'static, Result<Entry, RuntimeError>>;
}
