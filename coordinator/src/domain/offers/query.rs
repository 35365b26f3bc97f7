//! What clients ask the market for, parsed and bounded.

use serde::Deserialize;
use shared::{
    money::{Amount, Asset},
    resources::IsolationClass,
};
use utoipa::IntoParams;

use super::model::{Filter, Sort};
use crate::error::{Error, Result};

const GIB: f64 = 1_073_741_824.0;

/// What to look for; nothing set finds everything that can be rented now.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchParams {
    /// GiB, decimals allowed.
    pub(super) ram_gib_min: Option<f64>,
    pub(super) ram_gib_max: Option<f64>,
    /// Processors, decimals allowed.
    pub(super) cpu_min: Option<f64>,
    pub(super) gpu_count_min: Option<i64>,
    pub(super) gpu_model: Option<String>,
    /// GiB, decimals allowed.
    pub(super) disk_gib_min: Option<f64>,
    pub(super) region: Option<String>,
    /// A GiB of RAM for at most this an hour.
    #[param(value_type = Option<String>)]
    pub(super) price_max: Option<Amount>,
    /// A rental of this length is allowed.
    pub(super) duration_seconds: Option<i64>,
    /// Of the prices, and only offers in it are found; the market's first one unless set.
    #[param(value_type = Option<String>)]
    pub(super) currency: Option<Asset>,
    /// At least this lies between rental and machine: `shared_kernel`, `sandbox` or `vm`.
    #[param(value_type = Option<String>)]
    pub(super) isolation: Option<IsolationClass>,
    /// Only offers whose rentals reach the public internet, or only those whose don't.
    pub(super) internet: Option<bool>,
    /// `price`, `ram` or `created`.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub(super) sort: Sort,
    /// `asc` or `desc`.
    pub(super) order: Option<String>,
    /// Your own offers instead, paused ones included.
    #[serde(default)]
    pub(super) mine: bool,
    pub(super) limit: Option<u32>,
    pub(super) cursor: Option<String>,
}

fn quantity(name: &str, value: Option<f64>, unit: f64) -> Result<Option<i64>> {
    let Some(value) = value else { return Ok(None) };
    let amount = (value * unit).round();
    if !(0.0..=1e18).contains(&amount) {
        return Err(Error::bad_request(
            "query",
            format!("{name} is out of bounds"),
        ));
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "bounded above; a search filter, not money"
    )]
    Ok(Some(amount as i64))
}

/// Prices in two currencies can't be compared: a search is for one of them.
pub(super) fn filter(params: &SearchParams, default_currency: Asset) -> Result<Filter> {
    Ok(Filter {
        asset: Some(params.currency.unwrap_or(default_currency)),
        ram_bytes_min: quantity("ram_gib_min", params.ram_gib_min, GIB)?,
        ram_bytes_max: quantity("ram_gib_max", params.ram_gib_max, GIB)?,
        cpu_millis_min: quantity("cpu_min", params.cpu_min, 1_000.0)?,
        gpu_count_min: params.gpu_count_min,
        gpu_model: params.gpu_model.clone(),
        disk_bytes_min: quantity("disk_gib_min", params.disk_gib_min, GIB)?,
        region: params.region.clone(),
        price_max: params.price_max,
        duration_ms: params
            .duration_seconds
            .map(|seconds| seconds.saturating_mul(1_000)),
        isolation: params.isolation,
        internet: params.internet,
    })
}

pub(super) fn descending(order: Option<&str>) -> Result<bool> {
    match order {
        None | Some("asc") => Ok(false),
        Some("desc") => Ok(true),
        Some(_) => Err(Error::bad_request("query", "order is asc or desc")),
    }
}
