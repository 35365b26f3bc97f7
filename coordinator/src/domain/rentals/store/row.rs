//! A rental and its row: the columns, and both ways between them.
//!
//! # Invariants
//! - New columns come last: the numbers of the others stay.

use shared::{
    image::rules::PinnedImage,
    money::{Amount, Asset, Rate},
    resources::{IsolationClass, Resources},
    time::Timestamp,
};

use crate::{
    domain::rentals::{
        model::{EndReason, Rental, State},
        spec::KeptSpec,
    },
    error::{Error, Result},
    params,
    store::{Row, Value},
};

/// Columns in the order of [`parse`] and [`values`].
pub(super) const COLUMNS: &str = "id, lease_id, offer_id, node_id, provider, consumer, payer, state, stop_reason, end_reason, detail, phase, \
     spec, ram_bytes, cpu_millis, asset, rate_micro, fee_bps, duration_ms, paid, auto_extend, max_spend, container_id, image_digest, \
     created_at, reserve_until, paid_at, started_at, finished_at, lease_until, ended_at, settled_at, window_end, billed_ms, charged, \
     fee, refunded, version, sealed_spec, balance_asset, gpu_count, disk_bytes, gpus, internet, isolation, pinned_image, notice_ms";

/// A rental of its row.
///
/// # Errors
/// [`Error::corrupt`] when a column holds what no version of this program wrote.
pub(super) fn parse(row: &Row) -> Result<Rental> {
    let id = row.text(0)?;
    let bad = |column: &str| Error::corrupt("rentals", id, column);
    let reason = |column: usize, name: &str| {
        row.opt_text(column)?
            .map(|text| EndReason::from_name(text).ok_or_else(|| bad(name)))
            .transpose()
    };
    let amount =
        |column: usize, name: &str| Amount::from_atomic(row.int(column)?).map_err(|_| bad(name));
    let moment = |column: usize| Ok::<_, Error>(row.opt_int(column)?.map(Timestamp::from_micros));
    let asset = Asset::from_code(row.text(15)?).ok_or_else(|| bad("asset"))?;
    Ok(Rental {
        id: id.parse().map_err(|_| bad("id"))?,
        lease_id: row.text(1)?.parse().map_err(|_| bad("lease_id"))?,
        offer_id: row.text(2)?.parse().map_err(|_| bad("offer_id"))?,
        node_id: row.text(3)?.parse().map_err(|_| bad("node_id"))?,
        provider: row.text(4)?.parse().map_err(|_| bad("provider"))?,
        consumer: row
            .opt_text(5)?
            .map(str::parse)
            .transpose()
            .map_err(|_| bad("consumer"))?,
        payer: row.opt_text(6)?.map(str::to_owned),
        state: State::from_name(row.text(7)?).ok_or_else(|| bad("state"))?,
        stop_reason: reason(8, "stop_reason")?,
        end_reason: reason(9, "end_reason")?,
        detail: row.text(10)?.to_owned(),
        phase: serde_json::from_str(row.text(11)?).map_err(|_| bad("phase"))?,
        spec: KeptSpec {
            shown: serde_json::from_str(row.text(12)?).map_err(|_| bad("spec"))?,
            sealed: row.opt_blob(38)?.map(<[u8]>::to_vec),
        },
        resources: resources(row)?,
        gpus: serde_json::from_str(row.text(42)?).map_err(|_| bad("gpus"))?,
        asset,
        balance_asset: balance_asset(row)?.unwrap_or(asset),
        rate: Rate::from_micro_per_hour(row.int(16)?).map_err(|_| bad("rate_micro"))?,
        fee_bps: u32::try_from(row.int(17)?).map_err(|_| bad("fee_bps"))?,
        duration_ms: row.int(18)?,
        paid: amount(19, "paid")?,
        auto_extend: row.int(20)? == 1,
        max_spend: row
            .opt_int(21)?
            .map(Amount::from_atomic)
            .transpose()
            .map_err(|_| bad("max_spend"))?,
        container_id: row.opt_text(22)?.map(str::to_owned),
        image_digest: row.opt_text(23)?.map(str::to_owned),
        created_at: Timestamp::from_micros(row.int(24)?),
        reserve_until: Timestamp::from_micros(row.int(25)?),
        paid_at: moment(26)?,
        started_at: moment(27)?,
        finished_at: moment(28)?,
        lease_until: Timestamp::from_micros(row.int(29)?),
        ended_at: moment(30)?,
        settled_at: moment(31)?,
        window_end: moment(32)?,
        billed_ms: row.int(33)?,
        charged: amount(34, "charged")?,
        fee: amount(35, "fee")?,
        refunded: amount(36, "refunded")?,
        version: row.int(37)?,
        internet: row.int(43)? == 1,
        isolation: class(row, id)?,
        image: pinned(row, id)?,
        notice_ms: row.int(46)?,
    })
}

fn resources(row: &Row) -> Result<Resources> {
    Ok(Resources {
        ram_bytes: row.int(13)?,
        cpu_millis: row.int(14)?,
        gpu_count: row.int(40)?,
        disk_bytes: row.int(41)?,
    })
}

/// Absent where it is the price's.
fn balance_asset(row: &Row) -> Result<Option<Asset>> {
    let bad = || Error::corrupt("rentals", row.text(0).unwrap_or_default(), "balance_asset");
    row.opt_text(39)?
        .map(|code| Asset::from_code(code).ok_or_else(bad))
        .transpose()
}

fn pinned(row: &Row, id: &str) -> Result<Option<PinnedImage>> {
    let parsed = row.opt_text(45)?.map(serde_json::from_str).transpose();
    parsed.map_err(|_| Error::corrupt("rentals", id, "pinned_image"))
}

fn class(row: &Row, id: &str) -> Result<Option<IsolationClass>> {
    let parsed = |name| {
        IsolationClass::from_name(name).ok_or_else(|| Error::corrupt("rentals", id, "isolation"))
    };
    row.opt_text(44)?.map(parsed).transpose()
}

/// A rental as the values of [`COLUMNS`].
pub(super) fn values(rental: &Rental) -> Result<Vec<Value>> {
    let phase = serde_json::to_string(&rental.phase).map_err(Error::internal)?;
    let spec = serde_json::to_string(&rental.spec.shown).map_err(Error::internal)?;
    let image = rental.image.as_ref().map(serde_json::to_string);
    let image = image.transpose().map_err(Error::internal)?;
    Ok(params![
        rental.id,
        rental.lease_id,
        rental.offer_id,
        rental.node_id,
        rental.provider,
        rental.consumer,
        rental.payer.as_deref(),
        rental.state.name(),
        rental.stop_reason.map(EndReason::name),
        rental.end_reason.map(EndReason::name),
        rental.detail.as_str(),
        phase,
        spec,
        rental.resources.ram_bytes,
        rental.resources.cpu_millis,
        rental.asset.code(),
        rental.rate.micro_per_hour(),
        i64::from(rental.fee_bps),
        rental.duration_ms,
        rental.paid,
        i64::from(rental.auto_extend),
        rental.max_spend,
        rental.container_id.as_deref(),
        rental.image_digest.as_deref(),
        rental.created_at,
        rental.reserve_until,
        rental.paid_at,
        rental.started_at,
        rental.finished_at,
        rental.lease_until,
        rental.ended_at,
        rental.settled_at,
        rental.window_end,
        rental.billed_ms,
        rental.charged,
        rental.fee,
        rental.refunded,
        rental.version,
        rental.spec.sealed.as_deref(),
        (rental.balance_asset != rental.asset).then(|| rental.balance_asset.to_string()),
        rental.resources.gpu_count,
        rental.resources.disk_bytes,
        serde_json::to_string(&rental.gpus).map_err(Error::internal)?,
        i64::from(rental.internet),
        rental.isolation.map(IsolationClass::name),
        image,
        rental.notice_ms
    ]
    .to_vec())
}
