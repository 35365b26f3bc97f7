//! I12 of the journals: what nodes signed still is what they signed, each record follows the one before it, and heads only grow.

use std::collections::BTreeMap;

use shared::{id::NodeId, journal::Record, time::Timestamp};

use super::{
    RecordPlace,
    store::{self, Link},
};
use crate::{domain::ledger::check::Finding, error::Result, store::Tx};

/// What I12 says.
pub const I12: &str = "the audit log and the nodes' journals are the chains that were written";
/// Records of a page.
const PAGE: i64 = 500;

/// Checks a page of the records that arrived after a place, up to a moment; the place to go on after.
///
/// # Errors
/// The database's.
pub fn check_page(
    tx: &mut dyn Tx,
    after: &RecordPlace,
    until: Timestamp,
) -> Result<(Finding, Option<RecordPlace>)> {
    let page = store::chain_page(tx, after, until, PAGE)?;
    let is_full = i64::try_from(page.len()).is_ok_and(|count| count == PAGE);
    let mut broken = Vec::new();
    let mut heads: BTreeMap<NodeId, i64> = BTreeMap::new();
    for link in &page {
        let at = format!("{} record {}", link.node, link.seq);
        match &link.signed {
            Some(signed) if is_as_kept(link, &signed.record) => {
                // what came before may have been forgotten
                let before = store::record_hash(tx, link.node, link.seq.saturating_sub(1))?;
                if before.is_some_and(|hash| hash != signed.record.prev_hash.as_bytes()) {
                    broken.push(format!("{at} doesn't follow the one before it"));
                }
            }
            _ => broken.push(format!("{at} isn't what was signed")),
        }
        let last = heads.entry(link.node).or_default();
        *last = link.seq.max(*last);
    }
    for (node, last) in heads {
        let head = store::head(tx, node)?.map_or(0, |head| head.seq);
        if head < last {
            broken.push(format!(
                "{node}: the journal's head is {head}, behind record {last}"
            ));
        }
    }
    let last = page.last().filter(|_| is_full);
    let next = last.map(|link| (link.received_at, link.node.to_string(), link.seq));
    Ok((Finding::new("I12", I12, broken), next))
}

fn is_as_kept(link: &Link, record: &Record) -> bool {
    (record.hash(), record.seq, record.node_id) == (link.hash, link.seq, link.node)
}

/// The place before everything that arrived after a moment.
#[must_use]
pub fn place_at(at: Timestamp) -> RecordPlace {
    (at, String::new(), 0)
}
