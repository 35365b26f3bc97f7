//! What each tool does.
//!
//! # Invariants
//! - Calls that spend do so one after the other at the purse; what they may spend is taken out before anything is asked.
//! - An error names its kind, as the command line's exit codes do, and what to do.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use shared::{
    id::{OfferId, RentalId},
    money::{Amount, Asset, Money},
};
use tokio::sync::Mutex;

use super::{purse::Purse, tools};
use crate::{
    api::{Auth, Request},
    args::{account::Mcp, market},
    commands::{Desk, buy, market as shop, rentals},
    failure::{Failure, Kind, Result},
    output::text,
    payment::Unbought,
    reach::collect,
    units, wait,
};

/// Who serves calls.
pub(super) struct Counter {
    pub(super) desk: Desk,
    pub(super) wanted: Mcp,
    pub(super) purse: Mutex<Purse>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    ram: Option<String>,
    cpu: Option<String>,
    gpus: Option<i64>,
    gpu_model: Option<String>,
    disk: Option<String>,
    region: Option<String>,
    price_max: Option<Amount>,
    limit: Option<u32>,
}

#[derive(Deserialize)]
struct Order {
    ram: String,
    cpu: Option<String>,
    gpus: Option<i64>,
    gpu_model: Option<String>,
    disk: Option<String>,
    duration: String,
    offer_id: Option<OfferId>,
    region: Option<String>,
    price_max: Option<Amount>,
}

#[derive(Deserialize)]
struct Rent {
    image: String,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    wait_seconds: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    rental_id: RentalId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exec {
    rental_id: RentalId,
    command: Vec<String>,
    stdin: Option<String>,
    timeout_seconds: Option<u64>,
}

const WAIT_S_DEFAULT: i64 = 45;
const EXEC_S_DEFAULT: u64 = 50;
const EXEC_S_MAX: u64 = 3_600;
/// As the tool's schema says.
pub(super) const STDIN_BYTES_MAX: usize = 65_536;

impl Counter {
    /// The result of a call, its failure included.
    pub(super) async fn call(&self, name: &str, arguments: Value) -> Value {
        let done = match name {
            "search" => self.search(arguments).await,
            "quote" => self.quote(arguments).await,
            "rent" => self.rent(arguments).await,
            "status" => self.status(arguments).await,
            "exec" => self.exec(arguments).await,
            _ => self.stop(arguments).await,
        };
        match done {
            Ok(value) => json!({
                "content": [{"type": "text", "text": value.to_string()}], "structuredContent": value, "isError": false,
            }),
            Err(failure) => {
                let error = json!({"kind": kind(failure.kind), "code": failure.code, "message": failure.to_string()});
                json!({"content": [{"type": "text", "text": error.to_string()}], "isError": true})
            }
        }
    }

    async fn search(&self, arguments: Value) -> Result<Value> {
        let wanted: Search = read("search", arguments)?;
        let sized = |text: Option<String>| text.map(|text| field("size", units::bytes(&text)));
        let filter = market::Offers {
            ram: sized(wanted.ram).transpose()?,
            cpu: wanted
                .cpu
                .map(|text| field("cpu", units::cpu_millis(&text)))
                .transpose()?,
            gpus: wanted.gpus,
            gpu_model: wanted.gpu_model,
            disk: sized(wanted.disk).transpose()?,
            region: wanted.region,
            price_max: wanted.price_max,
            sort: market::Sort::Price,
            descending: false,
            limit: wanted.limit.unwrap_or(10).clamp(1, 100),
        };
        let offers = shop::find(&self.desk.api, &filter).await?;
        Ok(json!({"offers": offers}))
    }

    async fn quote(&self, arguments: Value) -> Result<Value> {
        let order = order_of(read("quote", arguments)?)?;
        self.price(&order).await
    }

    async fn price(&self, order: &market::Order) -> Result<Value> {
        let body = Value::Object(shop::order_body(order));
        let request = Request::post("/api/v1/payments/quote", body);
        self.desk.api.send(&request).await?.ok()
    }

    async fn rent(&self, arguments: Value) -> Result<Value> {
        let wanted: Rent = read("rent", arguments.clone())?;
        let order = order_of(read("rent", arguments)?)?;
        let mut body = shop::order_body(&order);
        body.insert("image".into(), json!(wanted.image));
        if !wanted.command.is_empty() {
            body.insert("command".into(), json!(wanted.command));
        }
        if !wanted.env.is_empty() {
            body.insert("env".into(), json!(wanted.env));
        }
        let rental = self.pay(&order, body).await?;
        let id = text(&rental, "/id");
        let auth = self.desk.auth_for(&id)?;
        let wait_s = wanted.wait_seconds.unwrap_or(WAIT_S_DEFAULT).clamp(0, 600);
        match wait::until_running(&self.desk.api, &auth, &id, wait_s).await {
            Ok(running) => Ok(running),
            // it goes on without us, or has ended: its state says which
            Err(_) => self.show(&id).await,
        }
    }

    /// Pays within what the purse allows; the rest goes back into it.
    async fn pay(&self, order: &market::Order, body: Map<String, Value>) -> Result<Value> {
        let taken = self.purse.lock().await.take()?;
        let (spent, outcome) = if self.wanted.balance {
            self.pay_from_balance(order, body, taken).await
        } else {
            self.pay_by_wallet(body, taken).await
        };
        self.purse.lock().await.put_back(taken, spent);
        outcome
    }

    async fn pay_by_wallet(
        &self,
        body: Map<String, Value>,
        most: Amount,
    ) -> (Amount, Result<Value>) {
        let how = market::Payment {
            key_file: self.wanted.key.key_file.clone(),
            passphrase_file: self.wanted.key.passphrase_file.clone(),
            currency: self.wanted.currency,
            balance: false,
            max_price: None,
        };
        let mut payer = buy::payer(&self.desk, &how);
        payer.ceiling = Some(most);
        payer.may_ask = false;
        let path = "/api/v1/rentals".to_owned();
        let bought = buy::by_wallet(&self.desk.api, path, body, Auth::Account, &payer).await;
        match bought {
            Ok(bought) => {
                let paid = bought.paid.map_or(Amount::ZERO, |paid| paid.amount);
                (paid, Ok(bought.answer))
            }
            Err(unbought) => (spent(&unbought, most), Err(unbought.failure)),
        }
    }

    /// The price is asked first, and the rental bounded by it: a market that asks for more is refused by itself.
    async fn pay_from_balance(
        &self,
        order: &market::Order,
        mut body: Map<String, Value>,
        most: Amount,
    ) -> (Amount, Result<Value>) {
        let quoted = self.price(order).await;
        let price = quoted.and_then(|quote| {
            serde_json::from_value::<Money>(quote["price"].clone())
                .map_err(|error| Failure::failed(format!("the quote's price: {error}")))
        });
        match price {
            Ok(price) if price.amount <= most => {}
            Ok(price) => {
                let why = format!(
                    "it costs {} {}, above the {most} that this may spend: nothing was paid",
                    price.amount, price.currency
                );
                return (Amount::ZERO, Err(Failure::payment(why)));
            }
            Err(failure) => return (Amount::ZERO, Err(failure)),
        }
        if let Some(currency) = self.wanted.currency {
            body.insert("currency".into(), json!(currency));
        }
        let bound = Money {
            amount: most,
            currency: Asset::USDC,
        };
        body.insert("max_spend".into(), json!(bound));
        match buy::from_balance(&self.desk.api, "/api/v1/rentals", body).await {
            // what it was sold for, which needn't be what was quoted
            Ok(rental) => {
                let paid = serde_json::from_value::<Money>(rental["paid"].clone());
                (paid.map_or(most, |paid| paid.amount), Ok(rental))
            }
            Err(unbought) => (spent(&unbought, most), Err(unbought.failure)),
        }
    }

    async fn status(&self, arguments: Value) -> Result<Value> {
        if arguments.get("rental_id").is_none() {
            read::<Map<String, Value>>("status", arguments)?;
            return Ok(json!({"rentals": rentals::all(&self.desk).await?}));
        }
        let which: Which = read("status", arguments)?;
        self.show(&which.rental_id.to_string()).await
    }

    async fn show(&self, id: &str) -> Result<Value> {
        let request = Request::get(format!("/api/v1/rentals/{id}")).auth(self.desk.auth_for(id)?);
        self.desk.api.send(&request).await?.ok()
    }

    async fn exec(&self, arguments: Value) -> Result<Value> {
        let wanted: Exec = read("exec", arguments)?;
        if wanted.command.is_empty() {
            return Err(Failure::usage("command: name a program"));
        }
        let input = wanted.stdin.unwrap_or_default().into_bytes();
        if input.len() > STDIN_BYTES_MAX {
            return Err(Failure::usage(format!(
                "stdin: at most {STDIN_BYTES_MAX} bytes; copy larger inputs to the rental"
            )));
        }
        let program = shared::link::open::Exec {
            command: wanted.command,
            ..Default::default()
        };
        let id = wanted.rental_id.to_string();
        let socket = crate::commands::reach::start(&self.desk, &id, &program).await?;
        let seconds = wanted.timeout_seconds.unwrap_or(EXEC_S_DEFAULT);
        let within = std::time::Duration::from_secs(seconds.clamp(1, EXEC_S_MAX));
        let ended = collect::run(socket, input, within).await?;
        Ok(json!({
            "exit_code": ended.exit_code, "timed_out": ended.timed_out, "stdout": ended.stdout, "stderr": ended.stderr,
            "truncated": ended.truncated,
        }))
    }

    async fn stop(&self, arguments: Value) -> Result<Value> {
        let which: Which = read("stop", arguments)?;
        rentals::end(&self.desk, &which.rental_id.to_string()).await
    }
}

/// What a call that failed counts for: all that it might have paid where nobody knows.
const fn spent(unbought: &Unbought, most: Amount) -> Amount {
    if unbought.may_have_cost {
        most
    } else {
        Amount::ZERO
    }
}

/// A tool's arguments; names that it doesn't take are refused.
fn read<T: DeserializeOwned>(tool: &str, arguments: Value) -> Result<T> {
    let known = tools::properties(tool).unwrap_or_default();
    let given = arguments.as_object().into_iter().flatten();
    if let Some((unknown, _)) = given
        .into_iter()
        .find(|(name, _)| !known.contains_key(*name))
    {
        let names: Vec<&String> = known.keys().collect();
        return Err(Failure::usage(format!(
            "{tool} takes no {unknown}: it takes {names:?}"
        )));
    }
    serde_json::from_value(arguments).map_err(|error| Failure::usage(format!("{tool}: {error}")))
}

fn field<T>(name: &str, value: std::result::Result<T, String>) -> Result<T> {
    value.map_err(|why| Failure::usage(format!("{name}: {why}")))
}

fn order_of(order: Order) -> Result<market::Order> {
    let cpu = order.cpu.as_deref().unwrap_or("0.5");
    let disk = order.disk.as_deref();
    Ok(market::Order {
        ram: field("ram", units::bytes(&order.ram))?,
        cpu: field("cpu", units::cpu_millis(cpu))?,
        gpus: order.gpus.unwrap_or(0),
        gpu_model: order.gpu_model,
        disk: disk
            .map(|disk| field("disk", units::bytes(disk)))
            .transpose()?,
        duration: field("duration", units::seconds(&order.duration))?,
        offer: order.offer_id,
        region: order.region,
        price_max: order.price_max,
    })
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Failed => "failed",
        Kind::Usage => "usage",
        Kind::Unreachable => "unreachable",
        Kind::Auth => "auth",
        Kind::NotFound => "not_found",
        Kind::PaymentRequired => "payment_required",
    }
}
