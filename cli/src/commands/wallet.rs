//! `wallet`: the key that pays, what it holds, and what may be paid without asking.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shared::{
    clock::{Clock as _, SystemClock},
    money::Asset,
    x402::address::Address,
};

use super::Desk;
use crate::{
    args::account::{KeyFile, NewKey, Wallet},
    chain,
    failure::{Failure, Result},
    key_file::{self, SecretBytes},
    output::{self, Column, Form, tell, text},
    passphrase::Passphrase,
    private_file,
    spending::Limit,
};

const HOLDINGS: [Column; 4] = [
    ("NETWORK", |h| text(h, "/network")),
    ("CURRENCY", |h| text(h, "/currency")),
    ("AMOUNT", |h| text(h, "/amount")),
    ("ADDRESS", |h| text(h, "/address")),
];

const LIMITS: [Column; 4] = [
    ("limit for one payment", |l| text(l, "/limit")),
    ("limit per day", |l| text(l, "/limit_per_day")),
    ("paid in the last 24 h, USDC", |l| text(l, "/spent/USDC")),
    ("paid in the last 24 h, EURC", |l| text(l, "/spent/EURC")),
];

/// Where the key is: as named, as configured, or in the usual place.
pub(super) fn key_file(desk: &Desk, named: Option<PathBuf>) -> PathBuf {
    named
        .or_else(|| desk.settings.config.wallet.key_file.clone())
        .unwrap_or_else(|| desk.settings.folder.join("wallet.key"))
}

fn passphrase(desk: &Desk, named: Option<PathBuf>) -> Passphrase {
    let configured = || desk.settings.config.wallet.passphrase_file.clone();
    Passphrase::of(named.or_else(configured))
}

/// Does what is asked of the wallet.
pub(super) async fn run(desk: &Desk, command: Wallet) -> Result<()> {
    match command {
        Wallet::New(key) => {
            let secret = key_file::random_secret()?;
            written(desk, key, &secret)
        }
        Wallet::Import { from, key } => {
            let text = private_file::first_line(&from, "key")?;
            written(desk, key, &key_file::parse(text.expose())?)
        }
        Wallet::Export { to, key } => export(desk, &to, key),
        Wallet::Address(key) => {
            let path = key_file(desk, key.key_file);
            show_address(desk.form, key_file::address(&path)?)
        }
        Wallet::Balance { key, rpc } => balance(desk, key, rpc).await,
        Wallet::Limit { each, per_day } => {
            if let Some(each) = each {
                let per_day = match per_day {
                    Some(per_day) => per_day,
                    None => desk.spending.kept()?.per_day,
                };
                if each > per_day {
                    return Err(Failure::usage(format!(
                        "{each} for one payment is above the {per_day} of a day: name --per-day as well"
                    )));
                }
                desk.spending.set(Limit { each, per_day })?;
            }
            output::one(desk.form, &limits(desk)?, &LIMITS)
        }
    }
}

/// Writes a key, sealed unless asked otherwise.
fn written(desk: &Desk, key: NewKey, secret: &SecretBytes) -> Result<()> {
    let path = key_file(desk, key.file.key_file);
    private_file::must_be_new(&path)?;
    let address = if key.plain {
        let address = key_file::write_plain(&path, secret)?;
        tell(&format!(
            "wrote {}: whoever has it has the money",
            path.display()
        ));
        address
    } else {
        let chosen = passphrase(desk, key.file.passphrase_file).choose()?;
        let address = key_file::write_sealed(&path, secret, &chosen)?;
        tell(&format!(
            "wrote {}: who loses it or its passphrase loses the money",
            path.display()
        ));
        address
    };
    show_address(desk.form, address)
}

fn export(desk: &Desk, to: &Path, key: KeyFile) -> Result<()> {
    let path = key_file(desk, key.key_file);
    let secret = key_file::secret(&path, &passphrase(desk, key.passphrase_file))?;
    if to == Path::new("-") {
        tell("whoever sees this line has the money");
        return output::lines(&[format!("0x{}", hex::encode(secret.expose()))]);
    }
    let address = key_file::write_plain(to, &secret)?;
    tell(&format!(
        "wrote {}: whoever has it has the money",
        to.display()
    ));
    show_address(desk.form, address)
}

fn show_address(form: Form, address: Address) -> Result<()> {
    match form {
        Form::Json => output::one(form, &json!({"address": address}), &[]),
        Form::Ids | Form::Text => output::lines(&[address.to_string()]),
    }
}

fn limits(desk: &Desk) -> Result<Value> {
    let limit = desk.spending.limit()?;
    let now = SystemClock.now();
    let spent = |asset: Asset| desk.spending.spent(asset, now);
    Ok(json!({
        "limit": limit.each,
        "limit_per_day": limit.per_day,
        "spent": {"USDC": spent(Asset::USDC)?, "EURC": spent(Asset::EURC)?},
    }))
}

/// What the wallet holds, where somebody can be asked, and what was paid today.
async fn balance(desk: &Desk, key: KeyFile, rpc: Vec<(String, String)>) -> Result<()> {
    let address = key_file::address(&key_file(desk, key.key_file))?;
    let mut endpoints = desk.settings.config.rpc.clone();
    endpoints.extend(rpc);
    if endpoints.is_empty() {
        tell(
            "no network's JSON-RPC endpoint is known: name one with --rpc base=https://…, or in config.toml under [rpc]",
        );
    }
    let mut holdings = Vec::new();
    for (network, url) in &endpoints {
        for (currency, amount) in chain::balances(network, url, address).await? {
            holdings.push(json!({
                "network": network, "currency": currency, "amount": amount, "address": address,
            }));
        }
    }
    match desk.form {
        Form::Json => {
            let mut all = limits(desk)?;
            all["address"] = json!(address);
            all["holdings"] = holdings.into();
            output::one(desk.form, &all, &[])
        }
        Form::Ids => show_address(desk.form, address),
        Form::Text => {
            if !holdings.is_empty() {
                output::list(desk.form, &holdings, &HOLDINGS)?;
            }
            output::one(desk.form, &limits(desk)?, &LIMITS)
        }
    }
}
