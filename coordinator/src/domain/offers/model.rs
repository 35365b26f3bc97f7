//! Offers: a node's capacity at unit prices, and what of it a rental may take.
//!
//! # Invariants
//! - A deleted offer stays deleted; what was rented under it keeps its price.
//! - Within [`bounds`], so that no price times no duration leaves the ledger's range.

use serde::{Deserialize, Serialize};
use shared::{
    container::limits,
    id::{NodeId, OfferId, UserId},
    money::{Amount, Asset, UnitPrices},
    resources::{Isolation, IsolationClass, QuotaMeans, Resources},
    time::Timestamp,
};

use crate::error::{Error, Result};

/// Bounds on offers.
pub mod bounds {
    /// Highest unit price: 10,000 an hour, in atomic units.
    pub const UNIT_PRICE_MAX: i64 = 10_000 * 1_000_000;
    /// Most GPUs of a machine.
    pub const GPUS_MAX: i64 = 64;
    /// Most disk space of a machine: a PiB.
    pub const DISK_BYTES_MAX: i64 = 1 << 50;
    /// Shortest rental that an offer may ask for or allow.
    pub const DURATION_MS_MIN: i64 = 10 * 1_000;
    /// Longest rental: 90 days.
    pub const DURATION_MS_MAX: i64 = 90 * 24 * 3_600 * 1_000;
    /// Longest notice: 30 days.
    pub const NOTICE_MS_MAX: i64 = 30 * 24 * 3_600 * 1_000;
}

/// Whether an offer is on the market.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfferState {
    /// It can be rented.
    Active,
    /// Its owner took it off for a while.
    Paused,
    /// Its owner took it off for good.
    Deleted,
}

impl OfferState {
    /// The name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Deleted => "deleted",
        }
    }

    /// The state of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Active, Self::Paused, Self::Deleted]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

/// What an owner decides about an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Unit prices.
    pub prices: UnitPrices,
    /// Currency of the prices.
    pub asset: Asset,
    /// The largest slice that one rental may take.
    pub max_ram_bytes: i64,
    /// The largest CPU share that one rental may take.
    pub max_cpu_millis: i64,
    /// The most GPUs that one rental may take.
    pub max_gpus: i64,
    /// The most disk space that one rental may take.
    pub max_disk_bytes: i64,
    /// The shortest rental.
    pub min_duration_ms: i64,
    /// The longest rental.
    pub max_duration_ms: i64,
    /// Where it stands; the node's region if empty.
    pub region: String,
    /// Whether rentals reach the public internet.
    pub internet: bool,
    /// How long before its provider ends a rental ahead of its time its consumer is told.
    pub notice_ms: i64,
}

impl Terms {
    /// Checks bounds.
    ///
    /// # Errors
    /// 422 with the field.
    pub fn check(&self) -> Result<()> {
        let prices = [
            ("/prices/ram_gib_hour", self.prices.ram_gib_hour),
            ("/prices/cpu_hour", self.prices.cpu_hour),
            ("/prices/gpu_hour", self.prices.gpu_hour),
            ("/prices/disk_gib_hour", self.prices.disk_gib_hour),
        ];
        if let Some((pointer, _)) = prices
            .iter()
            .find(|(_, price)| price.atomic() > bounds::UNIT_PRICE_MAX)
        {
            return Err(Error::invalid(pointer, "at most 10000 an hour"));
        }
        if self.prices.ram_gib_hour.is_zero() && self.prices.cpu_hour.is_zero() {
            return Err(Error::invalid("/prices", "RAM or CPU must have a price"));
        }
        if self.max_ram_bytes < limits::RAM_BYTES_MIN {
            return Err(Error::invalid("/max_ram_bytes", "at least 16 MiB"));
        }
        if self.max_cpu_millis < limits::CPU_MILLIS_MIN {
            return Err(Error::invalid("/max_cpu_millis", "at least 10"));
        }
        if !(0..=bounds::GPUS_MAX).contains(&self.max_gpus) {
            return Err(Error::invalid("/max_gpus", "0 to 64"));
        }
        if !(0..=bounds::DISK_BYTES_MAX).contains(&self.max_disk_bytes) {
            return Err(Error::invalid("/max_disk_bytes", "0 to a PiB"));
        }
        if self.min_duration_ms < bounds::DURATION_MS_MIN {
            return Err(Error::invalid("/min_duration_seconds", "at least 10"));
        }
        if self.max_duration_ms < self.min_duration_ms
            || self.max_duration_ms > bounds::DURATION_MS_MAX
        {
            return Err(Error::invalid(
                "/max_duration_seconds",
                "at least the minimum and at most 90 days",
            ));
        }
        if !(0..=bounds::NOTICE_MS_MAX).contains(&self.notice_ms) {
            return Err(Error::invalid("/notice_seconds", "0 to 30 days (2592000)"));
        }
        if self.region.chars().count() > 40 || self.region.chars().any(char::is_control) {
            return Err(Error::invalid("/region", "at most 40 characters"));
        }
        Ok(())
    }
}

/// An offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Which.
    pub id: OfferId,
    /// Of which node.
    pub node_id: NodeId,
    /// Whose.
    pub owner: UserId,
    /// On the market or not.
    pub state: OfferState,
    /// What its owner decided.
    pub terms: Terms,
    /// Grows with each change.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

impl Offer {
    /// Whether a rental of this size and length may be made of this offer.
    ///
    /// # Errors
    /// 422 with the field, or 409 when the offer is off the market.
    pub fn allows(&self, resources: &Resources, duration_ms: i64) -> Result<()> {
        if self.state != OfferState::Active {
            return Err(Error::conflict(
                "offer_gone",
                "this offer is off the market: choose another one",
            ));
        }
        check_resources(resources)?;
        let terms = &self.terms;
        let parts = [
            ("ram_bytes", resources.ram_bytes, terms.max_ram_bytes),
            ("cpu_millis", resources.cpu_millis, terms.max_cpu_millis),
            ("gpu_count", resources.gpu_count, terms.max_gpus),
            ("disk_bytes", resources.disk_bytes, terms.max_disk_bytes),
        ];
        if let Some((part, _, most)) = parts.iter().find(|(_, wanted, most)| wanted > most) {
            return Err(Error::invalid(
                &format!("/resources/{part}"),
                format!("this offer gives at most {most}"),
            ));
        }
        self.allows_duration(duration_ms)
    }

    /// Whether this offer may be rented for so long.
    ///
    /// # Errors
    /// 422.
    pub fn allows_duration(&self, duration_ms: i64) -> Result<()> {
        let (least, most) = (
            self.terms.min_duration_ms / 1_000,
            self.terms.max_duration_ms / 1_000,
        );
        if duration_ms < self.terms.min_duration_ms || duration_ms > self.terms.max_duration_ms {
            return Err(Error::invalid(
                "/duration_seconds",
                format!("this offer allows {least} to {most}"),
            ));
        }
        Ok(())
    }
}

/// Whether a slice is one that agents can enforce.
///
/// # Errors
/// 422: too small.
pub fn check_resources(resources: &Resources) -> Result<()> {
    if resources.gpu_count < 0 {
        return Err(Error::invalid("/resources/gpu_count", "0 or more"));
    }
    if resources.disk_bytes != 0 && resources.disk_bytes < limits::DISK_BYTES_MIN {
        return Err(Error::invalid(
            "/resources/disk_bytes",
            "none, or at least 64 MiB (67108864)",
        ));
    }
    if resources.ram_bytes < limits::RAM_BYTES_MIN {
        return Err(Error::invalid(
            "/resources/ram_bytes",
            "at least 16 MiB (16777216)",
        ));
    }
    if resources.cpu_millis < limits::CPU_MILLIS_MIN {
        return Err(Error::invalid(
            "/resources/cpu_millis",
            "at least 10 (a hundredth of a processor)",
        ));
    }
    Ok(())
}

/// An offer with what a searcher wants to know of its node.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// The offer.
    pub offer: Offer,
    /// Whether a rental can be placed now.
    pub available: bool,
    /// Whether the node's beats arrive.
    pub online: bool,
    /// Memory that can be rented in one piece now.
    pub ram_free_bytes: i64,
    /// CPU that can be rented in one piece now.
    pub cpu_free_millis: i64,
    /// Whole GPUs that can be rented at once now.
    pub gpus_free: i64,
    /// Disk space that can be rented in one piece now.
    pub disk_free_bytes: i64,
    /// What keeps rentals within it; `None` where none is rented out.
    pub disk_means: Option<QuotaMeans>,
    /// The node's whole rentable memory.
    pub ram_rentable_bytes: i64,
    /// Model of the processor.
    pub cpu_model: String,
    /// Models of the GPUs.
    pub gpu_models: Vec<String>,
    /// Where it stands.
    pub region: String,
    /// What keeps rentals apart there; `None` when its agent doesn't say.
    pub isolation: Option<Isolation>,
    /// How fast images came to its node lately; `None` until one did.
    pub image_bytes_per_second: Option<i64>,
}

/// How listings are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// By the price of a GiB of RAM for an hour.
    #[default]
    Price,
    /// By free memory.
    Ram,
    /// By age.
    Created,
}

/// What a searcher wants. `None` doesn't filter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Priced in this currency.
    pub asset: Option<Asset>,
    /// At least so much free memory.
    pub ram_bytes_min: Option<i64>,
    /// At most so much free memory.
    pub ram_bytes_max: Option<i64>,
    /// At least so much free CPU.
    pub cpu_millis_min: Option<i64>,
    /// At least so many free GPUs.
    pub gpu_count_min: Option<i64>,
    /// At least so much free disk space.
    pub disk_bytes_min: Option<i64>,
    /// A GPU whose model has this in its name, in any case.
    pub gpu_model: Option<String>,
    /// Exactly this region, in any case.
    pub region: Option<String>,
    /// A GiB of RAM for at most this an hour.
    pub price_max: Option<Amount>,
    /// A rental of this length is allowed.
    pub duration_ms: Option<i64>,
    /// At least this lies between rental and machine.
    pub isolation: Option<IsolationClass>,
    /// Rentals reach the public internet, or don't.
    pub internet: Option<bool>,
}

impl Filter {
    /// Whether a listing is wanted.
    #[must_use]
    pub fn wants(&self, listing: &Listing) -> bool {
        let terms = &listing.offer.terms;
        let has_model = |wanted: &str| {
            let wanted = wanted.to_lowercase();
            listing
                .gpu_models
                .iter()
                .any(|model| model.to_lowercase().contains(&wanted))
        };
        listing.available
            && self.asset.is_none_or(|asset| terms.asset == asset)
            && self
                .ram_bytes_min
                .is_none_or(|least| listing.ram_free_bytes >= least)
            && self
                .ram_bytes_max
                .is_none_or(|most| listing.ram_free_bytes <= most)
            && self
                .cpu_millis_min
                .is_none_or(|least| listing.cpu_free_millis >= least)
            && self
                .gpu_count_min
                .is_none_or(|least| listing.gpus_free >= least)
            && self
                .disk_bytes_min
                .is_none_or(|least| listing.disk_free_bytes >= least)
            && self.gpu_model.as_deref().is_none_or(has_model)
            && self
                .region
                .as_deref()
                .is_none_or(|wanted| listing.region.eq_ignore_ascii_case(wanted))
            && self
                .price_max
                .is_none_or(|most| terms.prices.ram_gib_hour <= most)
            && self
                .duration_ms
                .is_none_or(|ms| (terms.min_duration_ms..=terms.max_duration_ms).contains(&ms))
            && self.isolation.is_none_or(|least| {
                let class = listing.isolation.as_ref().map(|isolation| isolation.class);
                class.is_some_and(|class| class >= least)
            })
            && self.internet.is_none_or(|wanted| terms.internet == wanted)
    }
}
