//! The market as it is searched: all listings in memory, fed by changes.
//!
//! # Invariants
//! - A cache, never truth: placing a rental asks the database's guard.
//! - A change costs its node's own listings, whatever the size of the market; a reader waits for no more than that.
//! - `by_node` names exactly the offers in `by_id`.
//! - Search costs one pass over the listings: this file is what a faster index replaces.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use shared::{
    id::{NodeId, OfferId},
    money::Asset,
};

use super::model::{Filter, Listing, Sort};

/// Regions that a summary names at most.
const REGIONS_MAX: usize = 100;

#[derive(Debug, Default)]
struct Listings {
    by_id: BTreeMap<OfferId, Arc<Listing>>,
    by_node: BTreeMap<NodeId, Vec<OfferId>>,
}

impl Listings {
    fn add(&mut self, listing: Listing) {
        let (id, node) = (listing.offer.id, listing.offer.node_id);
        if self.by_id.insert(id, Arc::new(listing)).is_none() {
            self.by_node.entry(node).or_default().push(id);
        }
    }

    fn remove_node(&mut self, node: NodeId) {
        for id in self.by_node.remove(&node).unwrap_or_default() {
            self.by_id.remove(&id);
        }
    }
}

/// The index.
#[derive(Debug, Default)]
pub struct MarketIndex {
    listings: RwLock<Listings>,
    running_rentals: AtomicI64,
}

/// Where a page begins: after this key in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// The sort key of the last listing seen.
    pub key: i64,
    /// Its id.
    pub id: OfferId,
}

/// What the landing page shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Numbers {
    /// Offers that can be rented now.
    pub offers: usize,
    /// Nodes behind them.
    pub nodes: usize,
    /// Rentable memory of those nodes.
    pub ram_rentable_bytes: i64,
    /// Free memory of those nodes.
    pub ram_free_bytes: i64,
    /// GPUs of those nodes.
    pub gpus: usize,
    /// Lowest price of a GiB of RAM for an hour, atomic units.
    pub lowest_ram_gib_hour: Option<i64>,
    /// Rentals that run or are about to.
    pub running_rentals: i64,
}

/// What is asked in one currency, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prices {
    /// For a GiB of memory for an hour, atomic units.
    pub ram: Vec<i64>,
    /// For a processor for an hour.
    pub cpu: Vec<i64>,
    /// For a GPU for an hour, where there are some.
    pub gpu: Vec<i64>,
}

/// What can be rented now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Supply {
    /// What is asked, by currency.
    pub prices: BTreeMap<Asset, Prices>,
    /// Free memory.
    pub ram_bytes: i64,
    /// Free processors, thousandths.
    pub cpu_millis: i64,
    /// GPUs of the nodes.
    pub gpus: i64,
}

impl MarketIndex {
    /// Replaces everything.
    pub fn replace(&self, listings: Vec<Listing>) {
        let mut all = Listings::default();
        for listing in listings {
            all.add(listing);
        }
        *self.write() = all;
    }

    /// Replaces the listings of one node.
    pub fn replace_node(&self, node: NodeId, listings: Vec<Listing>) {
        let mut all = self.write();
        all.remove_node(node);
        for listing in listings {
            all.add(listing);
        }
    }

    /// Notes how many rentals run.
    pub fn note_running(&self, rentals: i64) {
        self.running_rentals.store(rentals, Relaxed);
    }

    /// A page of what `filter` wants.
    #[must_use]
    pub fn search(
        &self,
        filter: &Filter,
        sort: Sort,
        descending: bool,
        after: Option<&After>,
        limit: usize,
    ) -> Vec<Arc<Listing>> {
        let all = self.read();
        let mut hits: Vec<&Arc<Listing>> = all
            .by_id
            .values()
            .filter(|listing| filter.wants(listing))
            .collect();
        let order = |a: (i64, OfferId), b: (i64, OfferId)| {
            let keys = a.0.cmp(&b.0);
            let keys = if descending { keys.reverse() } else { keys };
            keys.then(a.1.cmp(&b.1))
        };
        if let Some(after) = after {
            hits.retain(|hit| {
                order((sort_key(hit, sort), hit.offer.id), (after.key, after.id))
                    == Ordering::Greater
            });
        }
        hits.sort_by(|a, b| {
            order(
                (sort_key(a, sort), a.offer.id),
                (sort_key(b, sort), b.offer.id),
            )
        });
        hits.into_iter().take(limit).cloned().collect()
    }

    /// The market in numbers; prices are of the offers in `asset`.
    #[must_use]
    pub fn numbers(&self, asset: Asset) -> Numbers {
        let all = self.read();
        let mut numbers = Numbers {
            running_rentals: self.running_rentals.load(Relaxed),
            ..Numbers::default()
        };
        let mut nodes: BTreeMap<NodeId, &Listing> = BTreeMap::new();
        for listing in all.by_id.values().filter(|listing| listing.available) {
            numbers.offers = numbers.offers.saturating_add(1);
            let terms = &listing.offer.terms;
            if terms.asset == asset {
                let price = terms.prices.ram_gib_hour.atomic();
                let lowest = numbers.lowest_ram_gib_hour;
                numbers.lowest_ram_gib_hour = Some(lowest.map_or(price, |low| low.min(price)));
            }
            nodes.insert(listing.offer.node_id, listing);
        }
        numbers.nodes = nodes.len();
        for listing in nodes.values() {
            numbers.ram_rentable_bytes = numbers
                .ram_rentable_bytes
                .saturating_add(listing.ram_rentable_bytes);
            numbers.ram_free_bytes = numbers
                .ram_free_bytes
                .saturating_add(listing.ram_free_bytes);
            numbers.gpus = numbers.gpus.saturating_add(listing.gpu_models.len());
        }
        numbers
    }

    /// What there is to rent now and for how much: prices of available offers, and capacity of their nodes.
    #[must_use]
    pub fn supply(&self) -> Supply {
        let all = self.read();
        let mut supply = Supply::default();
        let mut nodes: BTreeMap<NodeId, &Listing> = BTreeMap::new();
        for listing in all.by_id.values().filter(|listing| listing.available) {
            let terms = &listing.offer.terms;
            let prices = supply.prices.entry(terms.asset).or_default();
            prices.ram.push(terms.prices.ram_gib_hour.atomic());
            prices.cpu.push(terms.prices.cpu_hour.atomic());
            if !listing.gpu_models.is_empty() {
                prices.gpu.push(terms.prices.gpu_hour.atomic());
            }
            nodes.insert(listing.offer.node_id, listing);
        }
        for listing in nodes.values() {
            let gpus = i64::try_from(listing.gpu_models.len()).unwrap_or(i64::MAX);
            supply.ram_bytes = supply.ram_bytes.saturating_add(listing.ram_free_bytes);
            supply.cpu_millis = supply.cpu_millis.saturating_add(listing.cpu_free_millis);
            supply.gpus = supply.gpus.saturating_add(gpus);
        }
        for prices in supply.prices.values_mut() {
            for some in [&mut prices.ram, &mut prices.cpu, &mut prices.gpu] {
                some.sort_unstable();
            }
        }
        supply
    }

    /// Where there is something to rent now, at most 100 of them.
    #[must_use]
    pub fn regions(&self) -> BTreeSet<String> {
        let all = self.read();
        let mut regions = BTreeSet::new();
        for listing in all.by_id.values().filter(|listing| listing.available) {
            if regions.len() >= REGIONS_MAX {
                break;
            }
            if !listing.region.is_empty() && !regions.contains(&listing.region) {
                regions.insert(listing.region.clone());
            }
        }
        regions
    }

    // a panic while holding the lock leaves at worst one node's listings out, until its next change
    fn read(&self) -> RwLockReadGuard<'_, Listings> {
        self.listings.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Listings> {
        self.listings
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a listing is sorted by.
#[must_use]
pub fn sort_key(listing: &Listing, sort: Sort) -> i64 {
    match sort {
        Sort::Price => listing.offer.terms.prices.ram_gib_hour.atomic(),
        Sort::Ram => listing.ram_free_bytes,
        Sort::Created => listing.offer.created_at.as_micros(),
    }
}

#[cfg(test)]
mod tests {
    use shared::{
        id::Ids,
        money::{Amount, Asset, UnitPrices},
        time::Timestamp,
    };

    use super::*;
    use crate::domain::offers::model::{Offer, OfferState, Terms};

    fn listing(ids: &Ids, node: NodeId, price: i64) -> Listing {
        let at = Timestamp::from_secs(1);
        Listing {
            offer: Offer {
                id: ids.mint(),
                node_id: node,
                owner: ids.mint(),
                state: OfferState::Active,
                terms: Terms {
                    prices: UnitPrices {
                        ram_gib_hour: Amount::from_atomic(price).expect("an amount"),
                        ..UnitPrices::default()
                    },
                    asset: Asset::USDC,
                    max_ram_bytes: 1 << 30,
                    max_cpu_millis: 1_000,
                    max_gpus: 0,
                    max_disk_bytes: 0,
                    min_duration_ms: 1,
                    max_duration_ms: 2,
                    region: "here".into(),
                    internet: true,
                    notice_ms: 0,
                },
                version: 1,
                created_at: at,
                updated_at: at,
            },
            isolation: None,
            image_bytes_per_second: None,
            available: true,
            online: true,
            ram_free_bytes: 1 << 30,
            cpu_free_millis: 1_000,
            gpus_free: 0,
            disk_free_bytes: 0,
            disk_means: None,
            ram_rentable_bytes: 1 << 30,
            cpu_model: String::new(),
            gpu_models: Vec::new(),
            region: "here".into(),
        }
    }

    fn prices(index: &MarketIndex) -> Vec<i64> {
        let hits = index.search(&Filter::default(), Sort::Price, false, None, usize::MAX);
        hits.iter().map(|hit| sort_key(hit, Sort::Price)).collect()
    }

    #[test]
    fn a_change_replaces_its_nodes_listings_and_no_others() {
        let ids = Ids::counting();
        let (one, two): (NodeId, NodeId) = (ids.mint(), ids.mint());
        let index = MarketIndex::default();
        let of = |node, price| listing(&ids, node, price);
        index.replace(vec![of(one, 1), of(two, 2), of(one, 3)]);
        assert_eq!(prices(&index), [1, 2, 3]);
        index.replace_node(one, vec![of(one, 4)]);
        assert_eq!(prices(&index), [2, 4]);
        let kept = of(one, 5);
        index.replace_node(one, vec![kept.clone()]);
        index.replace_node(one, vec![kept]);
        assert_eq!(prices(&index), [2, 5]);
        index.replace_node(one, Vec::new());
        assert_eq!(
            (prices(&index), index.numbers(Asset::USDC).nodes),
            (vec![2], 1)
        );
        assert_eq!(index.regions().len(), 1);
        index.replace_node(two, Vec::new());
        assert!(prices(&index).is_empty() && index.regions().is_empty());
    }
}
