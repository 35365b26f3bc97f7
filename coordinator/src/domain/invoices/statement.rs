//! Statements: what moved on the accounts of a person in a calendar month (UTC), from what they held before to what they held after.
//!
//! # Invariants
//! - Before + received − spent = after, for each account, and both ends are the ledger's own.
//! - The statement of a month that is over for an hour never changes: its accounts are closed up to the month's end before it is shown.

use std::{collections::HashMap, fmt};

use shared::{
    id::UserId,
    money::{Amount, Asset},
    time::Timestamp,
};

use super::exchanged::Exchanged;
use crate::{
    context::OpCtx,
    domain::{
        auth,
        ledger::{
            history::{self, Entry, Place},
            model::Account,
        },
        payments::exchange::{self, Exchange},
    },
    error::{Error, Result},
    store::Tx,
};

/// So long after its end a month is over for good: whatever began in it has ended.
const SETTLES_MS: i64 = 3_600_000;

/// A calendar month in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    year: u16,
    month: u8,
}

impl Month {
    /// From `2026-11`.
    ///
    /// # Errors
    /// 400 `month`.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || {
            Error::bad_request(
                "month",
                "write a month such as 2026-11, from 2020-01 to 2999-12",
            )
        };
        let (year, month) = text.split_once('-').ok_or_else(bad)?;
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if year.len() != 4 || month.len() != 2 || !digits(year) || !digits(month) {
            return Err(bad());
        }
        let year = year.parse().map_err(|_| bad())?;
        let month = month.parse().map_err(|_| bad())?;
        if (2020..=2999).contains(&year) && (1..=12).contains(&month) {
            Ok(Self { year, month })
        } else {
            Err(bad())
        }
    }

    /// Its first moment.
    ///
    /// # Errors
    /// Internal: there is no such moment.
    pub fn start(self) -> Result<Timestamp> {
        Timestamp::parse_rfc3339(&format!("{self}-01T00:00:00Z"))
            .map_err(|error| Error::internal(error.to_string()))
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        if self.month == 12 {
            Self {
                year: self.year.saturating_add(1),
                month: 1,
            }
        } else {
            Self {
                month: self.month.saturating_add(1),
                ..self
            }
        }
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// A month of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountMonth {
    /// In whose books.
    pub asset: Asset,
    /// The account's name among the person's.
    pub name: &'static str,
    /// What it held before.
    pub before: Amount,
    /// What it received.
    pub received: Amount,
    /// What it spent.
    pub spent: Amount,
    /// What it held after; of the month that runs, what it holds.
    pub after: Amount,
}

/// A month of all accounts of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Which month.
    pub month: Month,
    /// Whose.
    pub owner: UserId,
    /// Their address now.
    pub email: String,
    /// Whether it never changes any more.
    pub is_final: bool,
    /// By account; those that were never used are left out.
    pub accounts: Vec<AccountMonth>,
}

/// A line of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementLine {
    /// In which currency.
    pub asset: Asset,
    /// On which account.
    pub account: &'static str,
    /// What moved.
    pub entry: Entry,
    /// What it was in the other currency, if it was exchanged.
    pub exchanged: Option<Exchanged>,
}

/// A person's accounts, with their names.
fn accounts(owner: UserId) -> [(&'static str, Account); 4] {
    [
        ("balance", Account::UserAvailable(owner)),
        ("payouts under way", Account::UserHeld(owner)),
        ("earnings, pending", Account::ProviderPending(owner)),
        ("earnings, payable", Account::ProviderAvailable(owner)),
    ]
}

/// The caller's statement of a month. `None`: the month is over, and its accounts must be closed first ([`close`]).
///
/// # Errors
/// 401; 400 `month` for one that hasn't begun.
pub fn of(tx: &mut dyn Tx, ctx: &OpCtx, month: Month) -> Result<Option<Statement>> {
    let owner = ctx.user()?.id;
    let (from, until) = (month.start()?, month.next().start()?);
    if from > ctx.now {
        return Err(Error::bad_request("month", "this month hasn't begun"));
    }
    let is_final = ctx.now.ms_since(until) >= SETTLES_MS;
    let mut rows = Vec::new();
    for asset in history::assets(tx)? {
        for (name, account) in accounts(owner) {
            let Some(before) = history::balance_before(tx, asset, &account, from)? else {
                continue;
            };
            if is_final && !history::is_closed(tx, asset, &account, until)? {
                return Ok(None);
            }
            let (received, spent) = history::turnover(tx, asset, &account, (from, until))?;
            rows.push(AccountMonth {
                asset,
                name,
                before,
                received,
                spent,
                after: before.plus(received)?.minus(spent)?,
            });
        }
    }
    Ok(Some(Statement {
        month,
        owner,
        email: auth::account(tx, owner)?.email,
        is_final,
        accounts: rows,
    }))
}

/// Closes the caller's accounts up to the end of a month that is over.
///
/// # Errors
/// 401; internal for a month that isn't over.
pub fn close(tx: &mut dyn Tx, ctx: &OpCtx, month: Month) -> Result<()> {
    let owner = ctx.user()?.id;
    let until = month.next().start()?;
    if ctx.now.ms_since(until) < SETTLES_MS {
        return Err(Error::internal(format!("{month} isn't over yet")));
    }
    for asset in history::assets(tx)? {
        for (_, account) in accounts(owner) {
            history::close(tx, asset, &account, until)?;
        }
    }
    Ok(())
}

/// A place among the lines of a statement: currency, account, and where there.
pub type LinePlace = (String, usize, Place);

/// The caller's lines of a month after a place: currency by currency, account by account, in order of time.
///
/// # Errors
/// 401.
pub fn lines(
    tx: &mut dyn Tx,
    ctx: &OpCtx,
    month: Month,
    after: Option<&LinePlace>,
    limit: i64,
) -> Result<Vec<(LinePlace, StatementLine)>> {
    let owner = ctx.user()?.id;
    let (from, until) = (month.start()?, month.next().start()?);
    // before everything of that moment: no id is empty
    let beginning = || (from, String::new(), false);
    let mut found = Vec::new();
    for asset in history::assets(tx)? {
        for (index, (name, account)) in accounts(owner).into_iter().enumerate() {
            let code = asset.code().to_owned();
            let start = match after {
                Some((at_code, at_index, _)) if (at_code, *at_index) > (&code, index) => continue,
                Some((at_code, at_index, place)) if (at_code, *at_index) == (&code, index) => {
                    // a cursor comes from outside: nothing from before the month
                    place.clone().max(beginning())
                }
                _ => beginning(),
            };
            let left = limit.saturating_sub(i64::try_from(found.len()).unwrap_or(limit));
            if left <= 0 {
                return with_exchanges(tx, found);
            }
            for entry in history::entries(tx, asset, &account, until, &start, left)? {
                let place = (code.clone(), index, entry.place());
                let line = StatementLine {
                    asset,
                    account: name,
                    entry,
                    exchanged: None,
                };
                found.push((place, line));
            }
        }
    }
    with_exchanges(tx, found)
}

/// The same lines; those that were exchanged say at which rate.
fn with_exchanges(
    tx: &mut dyn Tx,
    mut lines: Vec<(LinePlace, StatementLine)>,
) -> Result<Vec<(LinePlace, StatementLine)>> {
    let done = {
        let may_be =
            |entry: &&Entry| ["exchange", "balance_purchase"].contains(&entry.code.as_str());
        let entries = lines.iter().map(|(_, line)| &line.entry).filter(may_be);
        let references: Vec<&str> = entries.map(|entry| entry.reference.as_str()).collect();
        exchange::of_references(tx, &references)?
    };
    let done: HashMap<&str, &Exchange> = done
        .iter()
        .map(|one| (one.reference.as_str(), one))
        .collect();
    for (_, line) in &mut lines {
        let known = done.get(line.entry.reference.as_str());
        line.exchanged = known.map(|one| Exchanged::from(*one));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_follow_each_other_and_nonsense_is_refused() {
        let month = Month::parse("2026-12").expect("a month");
        assert_eq!(month.next().to_string(), "2027-01");
        assert_eq!(
            month.next().start().expect("a moment").as_secs(),
            1_798_761_600
        );
        for bad in [
            "2026",
            "2026-13",
            "2026-00",
            "26-01",
            "2026-1",
            "+026-01",
            "1999-01",
            "2026-01-01",
            "",
        ] {
            assert!(Month::parse(bad).is_err(), "{bad}");
        }
    }
}
