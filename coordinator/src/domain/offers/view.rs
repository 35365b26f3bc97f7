//! An offer as clients see it.

use serde::{Deserialize, Serialize};
use shared::{
    id::{NodeId, OfferId},
    money::{Amount, Asset, UnitPrices},
    resources::{FindingStatus, Isolation, IsolationClass, QuotaMeans},
    time::Timestamp,
};
use utoipa::ToSchema;

use super::model::{Listing, Offer, OfferState};

/// Unit prices per hour, decimal strings.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Prices {
    #[schema(value_type = String, example = "0.002")]
    ram_gib_hour: Amount,
    #[schema(value_type = String, example = "0.01")]
    cpu_hour: Amount,
    #[serde(default)]
    #[schema(value_type = String, example = "0")]
    gpu_hour: Amount,
    #[serde(default)]
    #[schema(value_type = String, example = "0")]
    disk_gib_hour: Amount,
}

impl From<UnitPrices> for Prices {
    fn from(prices: UnitPrices) -> Self {
        Self {
            ram_gib_hour: prices.ram_gib_hour,
            cpu_hour: prices.cpu_hour,
            gpu_hour: prices.gpu_hour,
            disk_gib_hour: prices.disk_gib_hour,
        }
    }
}

impl From<Prices> for UnitPrices {
    fn from(prices: Prices) -> Self {
        Self {
            ram_gib_hour: prices.ram_gib_hour,
            cpu_hour: prices.cpu_hour,
            gpu_hour: prices.gpu_hour,
            disk_gib_hour: prices.disk_gib_hour,
        }
    }
}

/// An offer with its node's facts.
#[derive(Serialize, ToSchema)]
pub(super) struct OfferView {
    /// Which.
    #[schema(value_type = String)]
    id: OfferId,
    /// Of which node.
    #[schema(value_type = String)]
    node_id: NodeId,
    /// `active` or `paused`.
    #[schema(value_type = String)]
    state: OfferState,
    /// Whether it can be rented now.
    available: bool,
    /// Whether its node answers.
    online: bool,
    prices: Prices,
    /// Of the prices.
    #[schema(value_type = String, example = "USDC")]
    currency: Asset,
    /// The largest slice that can be rented now.
    ram_free_bytes: i64,
    /// Thousandths of a processor that can be rented now.
    cpu_free_millis: i64,
    /// The largest slice that one rental may take.
    max_ram_bytes: i64,
    /// Thousandths of a processor.
    max_cpu_millis: i64,
    /// Whole GPUs that can be rented at once now.
    gpus_free: i64,
    /// Disk space that can be rented in one piece now.
    disk_free_bytes: i64,
    /// The most GPUs that one rental may take.
    max_gpus: i64,
    /// The most disk space that one rental may take.
    max_disk_bytes: i64,
    min_duration_seconds: i64,
    max_duration_seconds: i64,
    /// How long before its provider ends a rental ahead of its time its consumer is told.
    notice_seconds: i64,
    /// How fast images came to its node lately; null until one did.
    image_bytes_per_second: Option<i64>,
    region: String,
    /// Whether rentals reach the public internet. Private networks, the machine itself and mail servers they never reach.
    internet: bool,
    /// How a rental's disk is kept to its size on its node; null where none is rented out.
    disk: Option<DiskView>,
    /// What keeps rentals apart on its node; null when its agent doesn't say.
    isolation: Option<IsolationView>,
    cpu_model: String,
    gpu_models: Vec<String>,
    /// Grows with each change.
    version: i64,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// What a rental's disk is.
#[derive(Serialize, ToSchema)]
pub(super) struct DiskView {
    /// `engine`, `loopback` or `policed`.
    #[schema(value_type = String, example = "loopback")]
    means: QuotaMeans,
    /// The same in plain words.
    words: &'static str,
}

fn disk(means: QuotaMeans) -> DiskView {
    DiskView {
        means,
        words: match means {
            QuotaMeans::Engine => "the container's own files, kept to that size by its engine",
            QuotaMeans::Loopback => {
                "a file system of its own at /data, of exactly that size and reserved in full"
            }
            QuotaMeans::Policed => {
                "weaker: the container's own files, not reserved; who writes more is stopped"
            }
        },
    }
}

/// What lies between a rental and the machine, and between rentals.
#[derive(Serialize, ToSchema)]
pub(super) struct IsolationView {
    /// `shared_kernel`, `sandbox` or `vm`, from the weakest to the strongest.
    #[schema(value_type = String, example = "sandbox")]
    class: IsolationClass,
    /// The class in plain words.
    words: &'static str,
    /// Whether rentals can have a network there: its firewall stands.
    network: bool,
    /// What the node's own probe could reach from a rental and must not: nothing is rented there until it can't.
    breach: Option<String>,
    /// What weakens it, in words of its agent.
    findings: Vec<FindingView>,
}

/// Something that weakens a node.
#[derive(Serialize, ToSchema)]
pub(super) struct FindingView {
    /// A stable name, such as `runc_version`.
    check: String,
    /// `warning` or `failed`.
    #[schema(value_type = String, example = "warning")]
    status: FindingStatus,
    /// What was found.
    cause: String,
}

fn isolation(of: &Isolation) -> IsolationView {
    let weak = of
        .findings
        .iter()
        .filter(|finding| finding.status != FindingStatus::Ok);
    IsolationView {
        class: of.class,
        words: match of.class {
            IsolationClass::SharedKernel => {
                "weaker: rentals share the machine's kernel, behind a list of allowed system calls"
            }
            IsolationClass::Sandbox => {
                "a kernel in user space serves each rental; the machine's own is hardly reached"
            }
            IsolationClass::Vm => "each rental is a virtual machine with a kernel of its own",
        },
        network: of.network,
        breach: of.breach.clone(),
        findings: weak
            .map(|finding| FindingView {
                check: finding.check.clone(),
                status: finding.status,
                cause: finding.cause.clone(),
            })
            .collect(),
    }
}

pub(super) fn view(listing: &Listing) -> OfferView {
    let Offer {
        id,
        node_id,
        state,
        terms,
        version,
        created_at,
        updated_at,
        ..
    } = &listing.offer;
    let prices = &terms.prices;
    OfferView {
        id: *id,
        node_id: *node_id,
        state: *state,
        available: listing.available,
        online: listing.online,
        prices: Prices {
            ram_gib_hour: prices.ram_gib_hour,
            cpu_hour: prices.cpu_hour,
            gpu_hour: prices.gpu_hour,
            disk_gib_hour: prices.disk_gib_hour,
        },
        currency: terms.asset,
        ram_free_bytes: listing.ram_free_bytes,
        cpu_free_millis: listing.cpu_free_millis,
        max_ram_bytes: terms.max_ram_bytes,
        max_cpu_millis: terms.max_cpu_millis,
        gpus_free: listing.gpus_free,
        disk_free_bytes: listing.disk_free_bytes,
        max_gpus: terms.max_gpus,
        max_disk_bytes: terms.max_disk_bytes,
        min_duration_seconds: terms.min_duration_ms / 1_000,
        max_duration_seconds: terms.max_duration_ms / 1_000,
        notice_seconds: terms.notice_ms / 1_000,
        image_bytes_per_second: listing.image_bytes_per_second,
        region: listing.region.clone(),
        internet: terms.internet,
        disk: listing.disk_means.map(disk),
        isolation: listing.isolation.as_ref().map(isolation),
        cpu_model: listing.cpu_model.clone(),
        gpu_models: listing.gpu_models.clone(),
        version: *version,
        created_at: *created_at,
        updated_at: *updated_at,
    }
}
