//! What an order says, parsed into types. A field that nothing enforces yet is refused, never ignored.

use std::collections::BTreeMap;

use ring::digest;
use serde::Deserialize;
use shared::{
    container::{ContainerSpec, RawSpec},
    id::{OfferId, QuoteId},
    image::RegistryAuth,
    money::{Amount, Asset, Money, Rate},
    resources::Resources,
};
use utoipa::ToSchema;

use crate::{
    app::App,
    domain::{
        offers::model::{Filter, Sort, check_resources},
        rentals::{order::RentOrder, spec::KeptSpec},
        sshkeys::model::PublicKey,
    },
    error::{Error, Result},
};

/// How an order is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum PayWith {
    /// By x402: the answer without payment is 402 with the terms.
    #[default]
    X402,
    /// From the caller's balance; needs an `Idempotency-Key`.
    Balance,
}

/// A slice of a machine.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResourcesBody {
    /// Memory; at least 16 MiB.
    #[schema(example = 268_435_456)]
    ram_bytes: i64,
    /// Thousandths of a processor.
    #[schema(example = 500)]
    cpu_millis: i64,
    /// Whole GPUs.
    #[serde(default)]
    #[schema(example = 0)]
    gpu_count: i64,
    /// Disk space; none, or at least 64 MiB.
    #[serde(default)]
    #[schema(example = 0)]
    disk_bytes: i64,
}

/// Which offers would do, instead of naming one: the cheapest is taken.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Requirements {
    region: Option<String>,
    /// A GPU whose model has this in its name, in any case.
    gpu_model: Option<String>,
    /// Of the prices; the market's first one unless set.
    #[schema(value_type = Option<String>, example = "USDC")]
    currency: Option<Asset>,
    /// A GiB of RAM for at most this an hour.
    #[schema(value_type = Option<String>)]
    price_max: Option<Amount>,
}

/// What to price.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct QuoteBody {
    #[schema(value_type = Option<String>, example = "ofr_0192f0c1a2b37c4d8e5f60718293a4b5")]
    pub(super) offer_id: Option<OfferId>,
    pub(super) requirements: Option<Requirements>,
    pub(super) resources: ResourcesBody,
    /// At least a minute.
    #[schema(example = 600)]
    pub(super) duration_seconds: i64,
}

/// A name and a password, or a token, at a registry.
// no `Debug`: it holds a password
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RegistryAuthBody {
    #[schema(example = "ada")]
    username: String,
    #[schema(example = "a token that may pull", write_only)]
    password: String,
}

impl RegistryAuthBody {
    fn parse(&self) -> Result<RegistryAuth> {
        RegistryAuth::new(self.username.clone(), self.password.clone())
            .map_err(|error| Error::invalid("/registry_auth", error.to_string()))
    }
}

/// What to rent.
// no `Debug`: it holds what people put into variables
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RentBody {
    /// One offer …
    #[schema(value_type = Option<String>, example = "ofr_0192f0c1a2b37c4d8e5f60718293a4b5")]
    pub(super) offer_id: Option<OfferId>,
    /// … or what it must be like.
    pub(super) requirements: Option<Requirements>,
    pub(super) resources: ResourcesBody,
    #[schema(example = 600)]
    pub(super) duration_seconds: i64,
    #[schema(example = "busybox:latest")]
    image: String,
    /// Replaces the image's command.
    #[serde(default)]
    #[schema(example = json!(["sleep", "600"]))]
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Not supported yet.
    #[serde(default)]
    ports: Vec<serde_json::Value>,
    /// Public keys that open this rental over SSH, besides those of your account (`/ssh-keys`): lines of `.pub` files, at most 16.
    #[serde(default)]
    #[schema(example = json!(["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ ada@desk"]))]
    ssh_keys: Vec<String>,
    /// Of a private image, at its registry: used to look the image up now and to fetch it once; never shown, and forgotten when the rental
    /// ends. Its node can read it: give a short-lived token that may only pull.
    #[schema(value_type = Option<RegistryAuthBody>, write_only)]
    registry_auth: Option<RegistryAuthBody>,
    /// The most that it may cost, extensions included, in the offer's currency, whatever it is paid in.
    #[schema(value_type = Option<crate::http::openapi::MoneySchema>)]
    max_spend: Option<Money>,
    /// Extended from the balance while that lasts; only with `pay_with: balance`.
    #[serde(default)]
    auto_extend: bool,
    /// A quote asked for before.
    #[schema(value_type = Option<String>)]
    pub(super) quote_id: Option<QuoteId>,
    #[serde(default)]
    pub(super) pay_with: PayWith,
    /// In which currency it is paid from the balance, now and when it is extended by itself; the offer's unless set. The price is exchanged
    /// at the rate of the moment. Only with `pay_with: balance`.
    #[schema(value_type = Option<String>, example = "EURC")]
    pub(super) currency: Option<Asset>,
}

impl ResourcesBody {
    pub(super) fn parse(self) -> Result<Resources> {
        let resources = Resources {
            ram_bytes: self.ram_bytes,
            cpu_millis: self.cpu_millis,
            gpu_count: self.gpu_count,
            disk_bytes: self.disk_bytes,
        };
        check_resources(&resources)?;
        Ok(resources)
    }
}

/// Milliseconds of a duration that a caller gave in seconds.
pub(super) fn duration_ms(seconds: i64) -> Result<i64> {
    match seconds.checked_mul(1_000) {
        Some(ms) if ms > 0 => Ok(ms),
        _ => Err(Error::invalid("/duration_seconds", "more than zero")),
    }
}

impl RentBody {
    /// The order, with the offer that it names or that does best.
    pub(super) fn order(&self, app: &App) -> Result<RentOrder> {
        self.refuse_unsupported()?;
        let resources = self.resources.parse()?;
        let duration_ms = duration_ms(self.duration_seconds)?;
        let spec: ContainerSpec = RawSpec {
            image: self.image.clone(),
            command: self.command.clone(),
            env: self.env.clone(),
        }
        .try_into()?;
        let offer_id = place(
            app,
            self.offer_id,
            self.requirements.as_ref(),
            &resources,
            duration_ms,
        )?;
        let registry_auth = self.registry_auth.as_ref();
        let registry_auth = registry_auth.map(RegistryAuthBody::parse).transpose()?;
        let lease_id = app.ids.mint();
        Ok(RentOrder {
            offer_id,
            resources,
            duration_ms,
            lease_id,
            spec: KeptSpec::seal(&app.agents.specs, lease_id, &spec, registry_auth.as_ref())?,
            registry_auth,
            image: None,
            max_spend: self.max_spend.clone(),
            auto_extend: self.auto_extend,
            ssh_keys: PublicKey::list(&self.ssh_keys)?,
        })
    }

    fn refuse_unsupported(&self) -> Result<()> {
        if !self.ports.is_empty() {
            return Err(Error::not_supported(
                "/ports",
                "ports can't be opened yet: leave it out",
            ));
        }
        if self.auto_extend && self.pay_with != PayWith::Balance {
            return Err(Error::invalid(
                "/auto_extend",
                "only with pay_with: balance",
            ));
        }
        Ok(())
    }
}

/// The offer that is named, or the one on which the slice costs least.
pub(super) fn place(
    app: &App,
    named: Option<OfferId>,
    requirements: Option<&Requirements>,
    resources: &Resources,
    duration_ms: i64,
) -> Result<OfferId> {
    let requirements = match (named, requirements) {
        (Some(offer), None) => return Ok(offer),
        (None, Some(requirements)) => requirements,
        _ => {
            return Err(Error::invalid(
                "/offer_id",
                "name an offer_id or give requirements, not both",
            ));
        }
    };
    let payees = &app.purchases.payees;
    let filter = Filter {
        asset: Some(
            requirements
                .currency
                .unwrap_or_else(|| payees.default_asset()),
        ),
        ram_bytes_min: Some(resources.ram_bytes),
        cpu_millis_min: Some(resources.cpu_millis),
        gpu_count_min: Some(resources.gpu_count),
        disk_bytes_min: Some(resources.disk_bytes),
        gpu_model: requirements.gpu_model.clone(),
        region: requirements.region.clone(),
        price_max: requirements.price_max,
        duration_ms: Some(duration_ms),
        ..Filter::default()
    };
    let hits = app
        .market
        .search(&filter, Sort::Price, false, None, usize::MAX);
    let now = app.clock.now();
    let until = now.plus_ms(duration_ms);
    let undisturbed = hits.iter().filter(|hit| {
        let mut windows = hit.maintenance.iter();
        !windows.any(|window| window.overlaps(now, until))
    });
    let cheapest = undisturbed.min_by_key(|hit| {
        (
            Rate::of(resources, &hit.offer.terms.prices).map_or(i64::MAX, Rate::micro_per_hour),
            hit.offer.id,
        )
    });
    cheapest.map(|hit| hit.offer.id).ok_or_else(|| {
        Error::conflict(
            "capacity_gone",
            "no offer meets these requirements now: ask for less, or pay more",
        )
    })
}

/// The hash by which a paid repeat finds what was asked: method, path and body.
pub(crate) fn request_sha256(method: &str, path: &str, body: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [method.as_bytes(), path.as_bytes(), body] {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
