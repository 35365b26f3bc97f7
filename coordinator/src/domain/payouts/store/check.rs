//! SQL of the proof that payouts and their postings agree. It reads everything: an operator or a nightly check asks.

use crate::{error::Result, params, store::Tx};

/// What doesn't agree.
pub(in crate::domain::payouts) fn mismatches(tx: &mut dyn Tx) -> Result<Vec<String>> {
    let rows = tx.query(
        "SELECT p.id FROM payouts p
         LEFT JOIN transfers h ON h.code = 'payout_held' AND h.ref = p.id
         LEFT JOIN transfers s ON s.code = 'payout_sent' AND s.ref = p.id
         LEFT JOIN transfers e ON e.code = 'payout_ended' AND e.ref = p.id
         WHERE h.id IS NULL OR h.amount <> p.amount OR s.amount <> p.amount OR e.amount <> p.amount
            OR (p.state IN ('awaiting_approval', 'requested') AND (s.id IS NOT NULL OR e.id IS NOT NULL))
            OR (p.state IN ('sending', 'sent') AND (s.id IS NULL OR e.id IS NOT NULL))
            OR (p.state = 'paid' AND (s.id IS NULL OR e.id IS NULL OR e.credit <> p.asset || '/external:' || p.network))
            OR (p.state = 'failed' AND (e.id IS NULL OR e.credit = p.asset || '/external:' || p.network))
         UNION ALL
         SELECT t.id FROM transfers t LEFT JOIN payouts p ON p.id = t.ref
         WHERE t.code IN ('payout_held', 'payout_sent', 'payout_ended') AND p.id IS NULL
         UNION ALL
         SELECT a.id FROM accounts a LEFT JOIN (
             SELECT asset, SUM(amount) AS total FROM payouts WHERE state IN ('sending', 'sent') GROUP BY asset) f ON f.asset = a.asset
         WHERE a.kind = 'payout_clearing' AND a.balance <> COALESCE(f.total, 0)",
        params![],
    )?;
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}
