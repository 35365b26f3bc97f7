//! How the market is paid, put together from the settings: the networks and tokens it accepts, who settles on each, and the rates.
//!
//! # Invariants
//! - What the settings say of a network or a token is found wrong here, before anything is served.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, ensure};
use shared::{
    clock::Clock,
    id::Ids,
    x402::{
        address::Address,
        network::{self, Network, Token},
    },
};

use crate::{
    adapters::{
        chain_rpc::ChainRpc,
        facilitator_http::{CdpKey, HttpFacilitator},
        facilitator_sandbox::SandboxFacilitator,
        rates_fixed::FixedRates,
        rates_http::HttpRates,
    },
    config::{AssetConfig, Config, PaymentsConfig, PaymentsMode, RatesConfig, SecretText},
    domain::{
        payments::{
            payees::{Payee, Payees},
            ports::{Chain, Facilitator},
            routes::{Route, Routes},
        },
        rates::{Rates, ports::RateSource},
        rentals::{Rules, purchase::Purchases},
    },
    store::Db,
};

/// How money comes in, and the ways by which it goes out; `wallet` is the market's own.
pub(super) fn purchases(
    config: &Config,
    db: &Db,
    clock: &Arc<dyn Clock>,
    ids: &Arc<Ids>,
    wallet: Option<Address>,
) -> anyhow::Result<(Purchases, Routes)> {
    shared::tls::init();
    let settings = &config.payments;
    let networks = networks(settings)?;
    let (routes, ways_out) = match settings.mode {
        PaymentsMode::Sandbox => sandbox_routes(settings, &networks, db, clock, wallet),
        PaymentsMode::Facilitator => {
            let routes = Routes::new(facilitator_routes(settings, &networks, clock)?);
            (routes.clone(), routes)
        }
    };
    let rates = Arc::new(rates(&config.rates, clock)?);
    let purchases = Purchases {
        db: db.clone(),
        routes,
        payees: payees(settings, &networks, &rates, wallet)?,
        rates,
        rules: rules(config),
        public_url: config.http.public_url(),
        clock: Arc::clone(clock),
        ids: Arc::clone(ids),
    };
    Ok((purchases, ways_out))
}

fn rules(config: &Config) -> Rules {
    let ms = |seconds: u32| i64::from(seconds).saturating_mul(1_000);
    let market = &config.market;
    Rules {
        fee_bps: market.fee_bps,
        horizon_ms: ms(market.horizon_s),
        lease_step_ms: ms(market.lease_step_s),
        quote_ttl_ms: ms(market.quote_ttl_s),
        min_duration_ms: ms(market.min_duration_s),
        max_duration_ms: ms(market.max_duration_s),
        grace_ms: ms(market.grace_s),
    }
}

/// By CAIP-2 name.
type Networks = BTreeMap<String, &'static Network>;

/// The network of an asset of the settings.
fn network_of<'a>(settings: &'a PaymentsConfig, asset: &'a AssetConfig) -> &'a str {
    asset.network.as_ref().unwrap_or(&settings.network)
}

/// The networks that something is accepted on, with the tokens of the settings added to those that are built in.
fn networks(settings: &PaymentsConfig) -> anyhow::Result<Networks> {
    let mut networks = Networks::new();
    let accepted = settings.accepted();
    for asset in &accepted {
        let caip2 = network_of(settings, asset);
        if networks.contains_key(caip2) {
            continue;
        }
        let here = accepted
            .iter()
            .filter(|other| network_of(settings, other) == caip2);
        let own: Vec<Token> = here
            .filter_map(|asset| token(asset).transpose())
            .collect::<Result<_, _>>()?;
        networks.insert(caip2.to_owned(), described(settings, caip2, own)?);
    }
    Ok(networks)
}

/// The token that an asset of the settings describes, if it does.
fn token(asset: &AssetConfig) -> anyhow::Result<Option<Token>> {
    let (Some(address), Some(name), Some(version)) =
        (&asset.token, &asset.eip712_name, &asset.eip712_version)
    else {
        return Ok(None);
    };
    Ok(Some(Token {
        asset: asset.currency,
        address: address.parse().context("payments.assets.token")?,
        eip712_name: kept(name),
        eip712_version: kept(version),
    }))
}

/// A name of the settings, for as long as the process lives: there are few.
fn kept(text: &str) -> &'static str {
    String::leak(text.to_owned())
}

fn described(
    settings: &PaymentsConfig,
    caip2: &str,
    own: Vec<Token>,
) -> anyhow::Result<&'static Network> {
    let built_in = network::BUILT_IN
        .into_iter()
        .find(|known| known.caip2 == caip2);
    let configured = settings
        .networks
        .iter()
        .find(|network| network.caip2 == caip2);
    if let (Some(known), true) = (built_in, own.is_empty()) {
        return Ok(known);
    }
    let mut tokens = own;
    for token in built_in.map_or(&[][..], |known| known.tokens) {
        let replaced = |own: &Token| own.asset == token.asset || own.address == token.address;
        if !tokens.iter().any(replaced) {
            tokens.push(*token);
        }
    }
    for (place, token) in tokens.iter().enumerate() {
        let mut others = tokens.iter().skip(place.saturating_add(1));
        let twice =
            others.any(|other| other.asset == token.asset || other.address == token.address);
        ensure!(
            !twice,
            "payments.assets: {} is there twice on {caip2}",
            token.asset
        );
    }
    let base = match (built_in, configured) {
        (Some(known), _) => *known,
        (None, Some(configured)) => {
            let v1_name = configured.v1_name.as_deref();
            let chain_id = caip2.trim_start_matches("eip155:").parse();
            Network {
                caip2: kept(caip2),
                v1_name: kept(v1_name.with_context(|| {
                    format!("payments.networks: {caip2} isn't built in: give its v1_name")
                })?),
                chain_id: chain_id.context("payments.networks.caip2")?,
                tokens: &[],
                testnet: configured.testnet,
            }
        }
        (None, None) => anyhow::bail!(
            "payments: the network {caip2} isn't built in: describe it under payments.networks"
        ),
    };
    let network = Network {
        tokens: Vec::leak(tokens),
        ..base
    };
    network::configure(network).context("payments.networks")
}

fn payees(
    settings: &PaymentsConfig,
    networks: &Networks,
    rates: &Arc<Rates>,
    wallet: Option<Address>,
) -> anyhow::Result<Payees> {
    let payee = |asset: &AssetConfig| -> anyhow::Result<Payee> {
        let caip2 = network_of(settings, asset);
        let network = *networks.get(caip2).context("payments.assets.network")?;
        let token = network.token(asset.currency).with_context(|| {
            format!(
                "payments.assets: no {} is built in for {caip2}: set token, eip712_name and eip712_version",
                asset.currency
            )
        })?;
        let pay_to = match (asset.pay_to.as_ref().or(settings.pay_to.as_ref()), wallet) {
            (Some(text), _) => text.parse().context("payments.pay_to")?,
            (None, Some(wallet)) => wallet,
            (None, None) => anyhow::bail!("payments.pay_to: set it, or payouts.key_file"),
        };
        Ok(Payee {
            network,
            token: *token,
            pay_to,
            asset: asset.currency,
        })
    };
    let accepted = settings.accepted();
    let mut all = accepted.iter().map(payee).collect::<Result<Vec<_>, _>>()?;
    for (place, payee) in all.iter().enumerate() {
        let mut others = all.iter().skip(place.saturating_add(1));
        let twice = others
            .any(|other| (other.network.caip2, other.asset) == (payee.network.caip2, payee.asset));
        ensure!(
            !twice,
            "payments.assets: {} on {} is there twice",
            payee.asset,
            payee.network.caip2
        );
    }
    ensure!(!all.is_empty(), "payments.assets: accept something");
    let first = all.remove(0);
    Ok(Payees::new(first, all, Arc::clone(rates)))
}

/// Its tables are believed by money out; money in has its word.
fn sandbox_routes(
    settings: &PaymentsConfig,
    networks: &Networks,
    db: &Db,
    clock: &Arc<dyn Clock>,
    wallet: Option<Address>,
) -> (Routes, Routes) {
    let sandbox = Arc::new(SandboxFacilitator::new(
        db.clone(),
        Arc::clone(clock),
        settings.sandbox_grant,
        wallet,
    ));
    let facilitator: Arc<dyn Facilitator> = Arc::clone(&sandbox) as _;
    let chain: Arc<dyn Chain> = sandbox;
    let route = |network: &&'static Network| Route {
        network,
        facilitator: Arc::clone(&facilitator),
        chain: None,
    };
    let routes = Routes::new(networks.values().map(route).collect());
    let ways_out = routes.seen_by(&chain);
    (routes, ways_out)
}

fn facilitator_routes(
    settings: &PaymentsConfig,
    networks: &Networks,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Vec<Route>> {
    let general = settings
        .facilitator_url
        .as_ref()
        .map(|url| {
            let key = (
                settings.cdp_key_id.as_ref(),
                settings.cdp_key_secret.as_ref(),
            );
            facilitator(url, key, clock).context("payments.facilitator_url")
        })
        .transpose()?;
    let mut own: BTreeMap<&str, Arc<dyn Facilitator>> = BTreeMap::new();
    for one in &settings.facilitators {
        let key = (one.cdp_key_id.as_ref(), one.cdp_key_secret.as_ref());
        let made = facilitator(&one.url, key, clock).context("payments.facilitators")?;
        for network in &one.networks {
            own.insert(network, Arc::clone(&made));
        }
    }
    let route = |(caip2, network): (&String, &&'static Network)| -> anyhow::Result<Route> {
        let facilitator = own.get(caip2.as_str()).or(general.as_ref());
        Ok(Route {
            network,
            facilitator: Arc::clone(facilitator.with_context(|| Routes::missing(network))?),
            chain: chain(settings, caip2)?,
        })
    };
    networks.iter().map(route).collect()
}

fn facilitator(
    url: &str,
    key: (Option<&String>, Option<&SecretText>),
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Arc<dyn Facilitator>> {
    let key = match key {
        (Some(id), Some(secret)) => {
            Some(CdpKey::new(id, secret.expose()).context("cdp_key_secret")?)
        }
        _ => None,
    };
    Ok(Arc::new(HttpFacilitator::new(url, key, Arc::clone(clock))?))
}

/// The node that looks at a network: its own, or for the first network the short form's.
fn chain(settings: &PaymentsConfig, caip2: &str) -> anyhow::Result<Option<Arc<dyn Chain>>> {
    let own = settings
        .networks
        .iter()
        .find(|network| network.caip2 == caip2);
    let own = own.and_then(|network| Some((network.rpc_url.as_ref()?, network.confirmations)));
    let short = settings
        .chain_rpc_url
        .as_ref()
        .filter(|_| caip2 == settings.network);
    let node = own.or_else(|| Some((short?, settings.chain_confirmations)));
    node.map(|(url, confirmations)| {
        let rpc = ChainRpc::new(url.expose(), confirmations);
        let rpc = rpc.context("payments.chain_rpc_url")?;
        Ok(Arc::new(rpc) as Arc<dyn Chain>)
    })
    .transpose()
}

fn rates(settings: &RatesConfig, clock: &Arc<dyn Clock>) -> anyhow::Result<Rates> {
    let source: Arc<dyn RateSource> = match (&settings.url, &settings.public_key) {
        (Some(url), Some(key)) => {
            let key = key.clone().try_into().context("rates.public_key")?;
            Arc::new(HttpRates::new(url, key).context("rates.url")?)
        }
        _ => Arc::new(FixedRates::new(settings.pairs()?, Arc::clone(clock))),
    };
    let max_age_ms = i64::from(settings.max_age_s).saturating_mul(1_000);
    Ok(Rates::new(source, max_age_ms, settings.spread_bps))
}
