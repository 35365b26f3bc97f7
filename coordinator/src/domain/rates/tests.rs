//! Rates: conversions that never lose a unit, and rates that grow old.

use std::sync::Mutex;

use async_trait::async_trait;
use proptest::prelude::*;
use shared::money::Amount;

use super::{model::Pair, *};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn table(at: Timestamp, rate: &str) -> RateTable {
    let pair = Pair::new(Asset::EURC, Asset::USDC, rate).expect("a rate");
    RateTable {
        source: "test".into(),
        at,
        pairs: vec![pair],
    }
}

fn amount(atomic: i64) -> Amount {
    Amount::from_atomic(atomic).expect("positive")
}

#[test]
fn a_rate_reads_in_both_directions_and_the_spread_is_the_markets() {
    let rates = table(NOW, "1.25");
    let euros = rates.rate(Asset::USDC, Asset::EURC, 0).expect("known");
    assert_eq!(euros.convert(amount(1_000_000)), Ok(amount(800_000)));
    assert_eq!(euros.text(), "0.80000000");
    let dollars = rates.rate(Asset::EURC, Asset::USDC, 0).expect("known");
    assert_eq!(dollars.convert(amount(1_000_000)), Ok(amount(1_250_000)));
    let spread = rates.rate(Asset::USDC, Asset::EURC, 100).expect("known");
    assert_eq!(spread.convert(amount(1_000_000)), Ok(amount(808_000)));
    assert_eq!(euros.convert(amount(1)), Ok(amount(1)), "rounded up");
    assert_eq!(rates.rate(Asset::USDC, Asset::USDC, 0), None);
    let other = Asset::from_code("GBPX").expect("a code");
    assert_eq!(rates.rate(Asset::USDC, other, 0), None);
}

#[test]
fn what_is_no_rate_is_refused() {
    for bad in [
        "EURC/USDC",
        "EURC/USDC=",
        "EURC/USDC=0",
        "EURC/USDC=-1",
        "EURC/USDC=1e3",
        "EURC/USDC=1.123456789",
        "EURC/USDC=1000000.1",
        "EURC/EURC=1",
        "eurc/USDC=1",
        "EURC=1",
        "EURC/USDC=.5",
        "EURC/USDC=NaN",
    ] {
        assert!(bad.parse::<Pair>().is_err(), "{bad}");
    }
    let good: Pair = "EURC/USDC=1.08".parse().expect("a rate");
    let back: Pair = "USDC/EURC=0.9".parse().expect("a rate");
    assert!(good.is_about_the_same(&back));
}

proptest! {
    #[test]
    fn an_exchange_never_loses_a_unit_and_is_monotone(
        price in 1..=1_000_000_000_000_i64,
        more in 0..=1_000_000_000_i64,
        rate in 1..=100_000_000_000_i64,
        spread in 0..=1_000_u32,
        inverse in any::<bool>(),
    ) {
        let text = format!("{}.{:08}", rate / 100_000_000, rate % 100_000_000);
        let rates = table(NOW, &text);
        let (priced, paid) = if inverse { (Asset::USDC, Asset::EURC) } else { (Asset::EURC, Asset::USDC) };
        let fixed = rates.rate(priced, paid, spread).expect("known");
        let fair = rates.rate(priced, paid, 0).expect("known");
        let (cost, dearer) = (fixed.convert(amount(price)), fixed.convert(amount(price + more)));
        prop_assume!(dearer.is_ok());
        let (cost, dearer) = (cost.expect("less fits too"), dearer.expect("fits"));
        prop_assert!(cost.atomic() >= 1 && cost <= dearer);
        // what was paid is worth the price at the source's own rate, to the last unit, and less by one unit it wouldn't be
        let worth = |paid: i64| i128::from(paid) * i128::from(fair.denominator);
        prop_assert!(worth(cost.atomic()) >= i128::from(price) * i128::from(fair.numerator));
        let exact = |paid: i64| i128::from(paid) * i128::from(fixed.denominator);
        prop_assert!(exact(cost.atomic() - 1) < i128::from(price) * i128::from(fixed.numerator));
        // and what an amount covers is the highest price that costs no more
        let covered = fixed.covers(cost);
        prop_assert!(covered >= amount(price) && fixed.convert(covered).expect("fits") <= cost);
        prop_assert!(fixed.convert(covered.plus(amount(1)).expect("fits")).is_ok_and(|dearer| dearer > cost));
    }
}

/// Tells what it is given.
#[derive(Debug)]
struct Told(Mutex<Vec<RateTable>>);

#[async_trait]
impl RateSource for Told {
    async fn fetch(&self) -> anyhow::Result<RateTable> {
        let next = self.0.lock().expect("no panic").pop();
        next.ok_or_else(|| anyhow::anyhow!("no answer"))
    }

    fn name(&self) -> &'static str {
        "told"
    }
}

#[tokio::test]
async fn an_old_rate_is_not_used_and_never_replaces_a_newer_one() {
    let older = table(NOW.plus_ms(-100_000), "2");
    let stale = table(NOW.plus_ms(-700_000), "3");
    let ahead = table(NOW.plus_ms(61_000), "4");
    let answers = vec![ahead, stale, older, table(NOW, "1.25")];
    let rates = Rates::new(Arc::new(Told(Mutex::new(answers))), 600_000, 0);
    let euros = |now| rates.rate(Asset::USDC, Asset::EURC, now);
    assert_eq!(euros(NOW), None, "nothing is known yet");
    assert_eq!(rates.refresh(NOW).await.ok(), Some(NOW));
    assert_eq!(
        rates.refresh(NOW).await.ok(),
        Some(NOW),
        "the older one is let go"
    );
    assert!(rates.refresh(NOW).await.is_err(), "stale");
    assert!(rates.refresh(NOW).await.is_err(), "ahead of us");
    assert!(rates.refresh(NOW).await.is_err(), "no answer");
    let known = euros(NOW.plus_ms(600_000)).expect("just young enough");
    assert_eq!((known.text().as_str(), known.at), ("0.80000000", NOW));
    assert_eq!(euros(NOW.plus_ms(600_001)), None);
}
