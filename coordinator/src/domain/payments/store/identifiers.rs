//! SQL of `payment_identifiers`.

use shared::{id::PaymentId, time::Timestamp};

use super::super::identifier::Known;
use crate::{
    error::{Error, Result},
    params,
    store::Tx,
};

/// What a wallet's name stands for.
pub(in super::super) fn find(tx: &mut dyn Tx, payer: &str, id: &str) -> Result<Option<Known>> {
    let rows = tx.query(
        "SELECT fingerprint, payment_id FROM payment_identifiers WHERE payer = $1 AND id = $2",
        params![payer, id],
    )?;
    let known = rows.first().map(|row| {
        let payment = row.text(1)?.parse();
        Ok(Known {
            fingerprint: row.blob(0)?.to_vec(),
            payment_id: payment
                .map_err(|_| Error::corrupt("payment_identifiers", id, "payment_id"))?,
        })
    });
    known.transpose()
}

/// Gives a name to a payment; false if it has one.
pub(in super::super) fn insert(
    tx: &mut dyn Tx,
    payer: &str,
    id: &str,
    fingerprint: &[u8],
    payment: PaymentId,
    now: Timestamp,
) -> Result<bool> {
    Ok(tx.execute(
        "INSERT INTO payment_identifiers (payer, id, fingerprint, payment_id, created_us) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT DO NOTHING",
        params![payer, id, fingerprint, payment, now],
    )? == 1)
}

/// Takes a name back from a payment.
pub(in super::super) fn free(
    tx: &mut dyn Tx,
    payer: &str,
    id: &str,
    payment: PaymentId,
) -> Result<()> {
    tx.execute(
        "DELETE FROM payment_identifiers WHERE payer = $1 AND id = $2 AND payment_id = $3",
        params![payer, id, payment],
    )?;
    Ok(())
}
