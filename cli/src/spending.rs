//! What may be paid without asking, and what was paid lately: one file for all markets, since the money is one wallet's.
//!
//! # Invariants
//! - A payment is counted before it is sent, under a lock: neither two commands at once nor a crash get past a limit.
//! - It is taken back only when the market says definitely that it wasn't charged.
//! - A currency is counted for itself; the limits are so many units of whichever is paid.

use std::path::Path;

use serde::{Deserialize, Serialize};
use shared::{
    money::{Amount, Asset},
    time::Timestamp,
};

use crate::{
    config,
    failure::{Failure, Result},
    output::tell,
    private_file::PrivateJson,
    terminal,
};

const DAY_MS: i64 = 24 * 3_600 * 1_000;
/// Payments of a day that are remembered; more are refused, so that the limit holds.
const PAYMENTS_MAX: usize = 10_000;

/// What may be paid without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// For one payment.
    pub each: Amount,
    /// For all of the last 24 hours.
    pub per_day: Amount,
}

impl Limit {
    /// Where nobody set one: 1 for a payment, 10 for a day.
    pub fn usual() -> Self {
        let units = |units: i64| Amount::from_atomic(units * 1_000_000).unwrap_or(Amount::ZERO);
        Self {
            each: units(1),
            per_day: units(10),
        }
    }
}

/// A payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spent {
    nonce: String,
    at: Timestamp,
    amount: Amount,
    currency: Asset,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Book {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<Limit>,
    #[serde(default)]
    spent: Vec<Spent>,
}

/// A payment that is about to be made.
#[derive(Debug, Clone)]
pub struct Wish {
    /// How much.
    pub amount: Amount,
    /// Of what.
    pub currency: Asset,
    /// What it is for, for people.
    pub what: String,
    /// What the caller allows for it by name (`--max-price`), instead of the limit for one payment.
    pub allowed: Option<Amount>,
    /// Whether somebody may be asked about what is above.
    pub may_ask: bool,
}

/// The limits and what was spent.
#[derive(Debug, Clone)]
pub struct Spending {
    file: PrivateJson<Book>,
    config: config::Wallet,
}

enum Verdict {
    Counted,
    Above(String),
    Full,
}

impl Spending {
    /// Kept in `folder`; what the configuration says goes before what was kept.
    pub fn open(folder: &Path, config: config::Wallet) -> Self {
        Self {
            file: PrivateJson::at(folder.join("spending.json")),
            config,
        }
    }

    /// What was kept by [`Spending::set`], whatever the configuration says.
    ///
    /// # Errors
    /// The file is unusable.
    pub fn kept(&self) -> Result<Limit> {
        Ok(self.file.get()?.limit.unwrap_or_else(Limit::usual))
    }

    /// What holds.
    ///
    /// # Errors
    /// The file is unusable.
    pub fn limit(&self) -> Result<Limit> {
        Ok(self.limit_of(&self.file.get()?))
    }

    fn limit_of(&self, book: &Book) -> Limit {
        let kept = book.limit.unwrap_or_else(Limit::usual);
        Limit {
            each: self.config.limit.unwrap_or(kept.each),
            per_day: self.config.limit_per_day.unwrap_or(kept.per_day),
        }
    }

    /// Sets it for good.
    ///
    /// # Errors
    /// The file is unusable; the configuration says something else, which goes before.
    pub fn set(&self, limit: Limit) -> Result<()> {
        self.file.change(|book| book.limit = Some(limit))?;
        let holds = self.limit()?;
        if holds == limit {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "kept, but config.toml goes before it: {} each, {} per day",
            holds.each, holds.per_day
        )))
    }

    /// What was paid in the last 24 hours, of a currency.
    ///
    /// # Errors
    /// The file is unusable.
    pub fn spent(&self, currency: Asset, now: Timestamp) -> Result<Amount> {
        Ok(sum(&self.file.get()?.spent, currency, now))
    }

    /// Counts a payment, named by its nonce, if it is within the limits or somebody at the terminal says that it shall be.
    ///
    /// # Errors
    /// Exit code 6 if it is above.
    pub fn count(&self, nonce: &str, wish: &Wish, now: Timestamp) -> Result<()> {
        let why = match self.try_count(nonce, wish, now, false)? {
            Verdict::Counted => return Ok(()),
            Verdict::Full => return Err(full()),
            Verdict::Above(why) => why,
        };
        if wish.may_ask && terminal::is_there() {
            tell(&why);
            let question = format!("Pay {} {} for {}?", wish.amount, wish.currency, wish.what);
            if terminal::confirm(&question)? {
                return match self.try_count(nonce, wish, now, true)? {
                    Verdict::Full => Err(full()),
                    _ => Ok(()),
                };
            }
        }
        Err(Failure::payment(format!(
            "{why}: nothing was paid; raise the limit with `ramarket wallet limit`, or allow this payment with --max-price"
        )))
    }

    fn try_count(
        &self,
        nonce: &str,
        wish: &Wish,
        now: Timestamp,
        affirmed: bool,
    ) -> Result<Verdict> {
        self.file.change(|book| {
            book.spent.retain(|spent| is_recent(spent, now));
            let above = above(&self.limit_of(book), &book.spent, wish, now);
            match above {
                Some(why) if !affirmed => return Verdict::Above(why),
                _ if book.spent.len() >= PAYMENTS_MAX => return Verdict::Full,
                _ => {}
            }
            book.spent.push(Spent {
                nonce: nonce.to_owned(),
                at: now,
                amount: wish.amount,
                currency: wish.currency,
            });
            Verdict::Counted
        })
    }

    /// Takes a payment back that definitely wasn't charged.
    ///
    /// # Errors
    /// The file is unusable.
    pub fn take_back(&self, nonce: &str) -> Result<()> {
        self.file
            .change(|book| book.spent.retain(|spent| spent.nonce != nonce))
    }
}

fn full() -> Failure {
    Failure::payment(format!(
        "{PAYMENTS_MAX} payments were made in a day, no more are counted: nothing was paid; wait, or move spending.json away"
    ))
}

fn is_recent(spent: &Spent, now: Timestamp) -> bool {
    // a clock that was set back forgets nothing
    now.ms_since(spent.at) < DAY_MS
}

fn sum(spent: &[Spent], currency: Asset, now: Timestamp) -> Amount {
    spent
        .iter()
        .filter(|spent| spent.currency == currency && is_recent(spent, now))
        .fold(Amount::ZERO, |sum, spent| {
            sum.plus(spent.amount).unwrap_or(sum)
        })
}

/// Why a payment is too much, if it is.
fn above(limit: &Limit, spent: &[Spent], wish: &Wish, now: Timestamp) -> Option<String> {
    let (amount, currency) = (wish.amount, wish.currency);
    let each = wish.allowed.unwrap_or(limit.each);
    if amount > each {
        return Some(format!(
            "it costs {amount} {currency}, above your limit of {each} {currency} for one payment"
        ));
    }
    let so_far = sum(spent, currency, now);
    let fits = so_far
        .plus(amount)
        .is_ok_and(|in_all| in_all <= limit.per_day);
    (!fits).then(|| {
        format!(
            "it costs {amount} {currency}, and with the {so_far} {currency} of the last 24 hours that is above your limit of {} {currency} per day",
            limit.per_day
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{failure::Kind, private_file::tests::Folder};

    fn amount(text: &str) -> Amount {
        text.parse().unwrap()
    }

    fn wish(text: &str, allowed: Option<&str>) -> Wish {
        Wish {
            amount: amount(text),
            currency: Asset::USDC,
            what: "a rental".into(),
            allowed: allowed.map(amount),
            may_ask: false,
        }
    }

    #[test]
    fn limits_hold_over_runs_for_a_day_and_by_currency() {
        let folder = Folder::default();
        let open = || Spending::open(&folder.0, config::Wallet::default());
        let limit = Limit {
            each: amount("5"),
            per_day: amount("12"),
        };
        open().set(limit).unwrap();
        let now = Timestamp::from_secs(1_800_000_000);
        open().count("a", &wish("5", None), now).unwrap();
        open().count("b", &wish("5", None), now).unwrap();
        let refused = open().count("c", &wish("2.000001", None), now).unwrap_err();
        assert_eq!(refused.kind, Kind::PaymentRequired);
        assert!(refused.to_string().contains("per day"), "{refused}");
        // what is allowed by name may be dear, and the day's limit holds all the same
        assert!(open().count("c", &wish("6", Some("6")), now).is_err());
        open().take_back("b").unwrap();
        open().count("c", &wish("6", Some("6")), now).unwrap();
        assert!(open().count("d", &wish("5.5", None), now).is_err());
        assert_eq!(open().spent(Asset::USDC, now).unwrap(), amount("11"));
        assert_eq!(open().spent(Asset::EURC, now).unwrap(), Amount::ZERO);
        let euros = Wish {
            currency: Asset::EURC,
            ..wish("5", None)
        };
        open().count("e", &euros, now).unwrap();
        let tomorrow = now.plus_ms(DAY_MS);
        open().count("f", &wish("5", None), tomorrow).unwrap();
        assert_eq!(open().spent(Asset::USDC, tomorrow).unwrap(), amount("5"));
    }

    #[test]
    fn at_once_no_more_than_the_limit_is_counted() {
        let folder = Folder::default();
        let spending = Spending::open(&folder.0, config::Wallet::default());
        let now = Timestamp::from_secs(1_800_000_000);
        let counted = std::thread::scope(|scope| {
            let one = |i: u8| {
                let spending = spending.clone();
                scope.spawn(move || {
                    spending
                        .count(&i.to_string(), &wish("1", None), now)
                        .is_ok()
                })
            };
            let running: Vec<_> = (0..16).map(one).collect();
            let ended = running.into_iter().map(|thread| thread.join().unwrap());
            ended.filter(|counted| *counted).count()
        });
        assert_eq!(counted, 10);
    }

    #[test]
    fn the_configuration_goes_before_what_was_kept() {
        let folder = Folder::default();
        let config = config::Wallet {
            limit: Some(amount("0.5")),
            ..config::Wallet::default()
        };
        let spending = Spending::open(&folder.0, config);
        assert_eq!(spending.limit().unwrap().each, amount("0.5"));
        let more = Limit {
            each: amount("9"),
            per_day: amount("9"),
        };
        let told = spending.set(more).unwrap_err().to_string();
        assert!(told.contains("config.toml"), "{told}");
    }
}
