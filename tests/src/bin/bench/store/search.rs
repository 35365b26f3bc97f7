//! Search over the index, beside a plain loop over the same listings in order of price that stops at a full page.

use anyhow::{Result, ensure};
use coordinator::domain::offers::{
    index::MarketIndex,
    model::{Filter, Listing, Offer, OfferState, Sort, Terms},
};
use shared::{
    id::Ids,
    money::{Amount, Asset, UnitPrices},
    time::Timestamp,
};
use tokio::time::Instant;

use crate::figures::{Goal, Report, Series, say};

const OFFERS: i64 = 10_000;
const QUERIES: i64 = 200;
const PAGE: usize = 50;
const GIB: i64 = 1 << 30;

/// Measures the row. No disk takes part, so no round is thrown away.
pub(super) fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    say(&format!(
        "\nstore: {QUERIES} different searches a round over {OFFERS} offers"
    ));
    let listings = (0..OFFERS).map(listing).collect::<Result<Vec<_>>>()?;
    let mut by_price = listings.clone();
    by_price.sort_by_key(|listing| (listing.offer.terms.prices.ram_gib_hour, listing.offer.id));
    let index = MarketIndex::default();
    index.replace(listings);
    let filters = (0..QUERIES).map(filter).collect::<Result<Vec<_>>>()?;
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (us, found) = timed(&filters, |filter| {
            let page = index.search(filter, Sort::Price, false, None, PAGE);
            page.iter()
                .map(|listing| listing.offer.id)
                .collect::<Vec<_>>()
        });
        ours.push(us);
        let (us, wanted) = timed(&filters, |filter| {
            let hits = by_price.iter().filter(|listing| filter.wants(listing));
            hits.take(PAGE)
                .map(|listing| listing.offer.id)
                .collect::<Vec<_>>()
        });
        plain.push(us);
        ensure!(
            found == wanted,
            "the index found other offers than the plain loop"
        );
    }
    let ours = Series::new("search in the index", "µs", ours);
    let plain = Series::new("plain loop in order of price", "µs", plain);
    let ratio = ours.median() / plain.median();
    report.add(
        "search, 10,000 offers",
        &ours,
        &plain,
        (ratio, "×"),
        Goal::None,
    );
    Ok(())
}

/// Microseconds of a search in the mean, and what was found.
fn timed<T>(filters: &[Filter], search: impl Fn(&Filter) -> T) -> (f64, Vec<T>) {
    let begun = Instant::now();
    let found: Vec<T> = filters.iter().map(search).collect();
    let each = begun.elapsed().as_secs_f64() * 1e6
        / f64::from(u32::try_from(filters.len()).unwrap_or(u32::MAX));
    (each, found)
}

/// Different from its neighbours in every field that is searched, the same in every run.
fn listing(number: i64) -> Result<Listing> {
    let mixed = number.wrapping_mul(7_919) % 10_007;
    let price = Amount::from_atomic(1_000 + mixed)?;
    let region = ["eu-west", "eu-north", "us-east", "ap-south"][usize::try_from(mixed % 4)?];
    Ok(Listing {
        isolation: None,
        image_bytes_per_second: None,
        offer: Offer {
            id: Ids::System.mint(),
            node_id: Ids::System.mint(),
            owner: Ids::System.mint(),
            state: OfferState::Active,
            terms: Terms {
                prices: UnitPrices {
                    ram_gib_hour: price,
                    cpu_hour: price,
                    gpu_hour: Amount::default(),
                    disk_gib_hour: Amount::default(),
                },
                asset: Asset::USDC,
                max_ram_bytes: 64 * GIB,
                max_cpu_millis: 16_000,
                max_gpus: 0,
                max_disk_bytes: 0,
                min_duration_ms: 60_000,
                max_duration_ms: 86_400_000,
                region: region.to_owned(),
                internet: true,
                notice_ms: 0,
            },
            version: 1,
            created_at: Timestamp::from_secs(number),
            updated_at: Timestamp::from_secs(number),
        },
        available: mixed % 5 != 0,
        online: true,
        ram_free_bytes: (mixed % 64) * GIB,
        cpu_free_millis: (mixed % 16) * 1_000,
        gpus_free: 0,
        disk_free_bytes: 0,
        disk_means: None,
        ram_rentable_bytes: 64 * GIB,
        cpu_model: "a processor".to_owned(),
        gpu_models: Vec::new(),
        region: region.to_owned(),
    })
}

fn filter(number: i64) -> Result<Filter> {
    Ok(Filter {
        ram_bytes_min: Some((number % 80) * GIB),
        cpu_millis_min: Some((number % 20) * 1_000),
        region: (number % 3 == 0).then(|| "eu-west".to_owned()),
        price_max: Some(Amount::from_atomic(2_000 + number * 40)?),
        duration_ms: Some(3_600_000),
        ..Filter::default()
    })
}
