//! What a wallet holds, asked of a network's JSON-RPC endpoint (`eth_call` of `balanceOf`).
//!
//! # Invariants
//! - The endpoint is on the network that it is named for: its chain id is asked first.
//! - Answers are bounded in size and time; nothing is signed or sent.

use std::time::Duration;

use reqwest::{Client, redirect::Policy};
use serde_json::{Value, json};
use shared::{
    money::{Amount, Asset},
    x402::{
        address::Address,
        network::{self, Network},
    },
};

use crate::{
    api,
    failure::{Failure, Kind, Result},
};

const TIMEOUT: Duration = Duration::from_secs(15);
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The first four bytes of keccak-256 of `balanceOf(address)`.
const BALANCE_OF: &str = "70a08231";

/// What `address` holds on a network, by currency.
///
/// # Errors
/// The network isn't known, its endpoint doesn't answer, or is on another network.
pub async fn balances(name: &str, url: &str, address: Address) -> Result<Vec<(Asset, Amount)>> {
    let network = network::by_v1_name(name).ok_or_else(|| {
        Failure::usage(format!(
            "the network {name} isn't known: base, base-sepolia and ethereum are"
        ))
    })?;
    let url =
        api::parse_base(url).map_err(|why| Failure::usage(format!("rpc of {name}: {why}")))?;
    let client = Client::builder()
        .timeout(TIMEOUT)
        .redirect(Policy::none())
        .build()
        .map_err(|error| Failure::failed(format!("HTTP can't be set up: {error}")))?;
    let rpc = Rpc {
        client,
        url,
        network,
    };
    let chain = rpc.number("eth_chainId", json!([])).await?;
    if chain != u128::from(network.chain_id) {
        return Err(Failure::usage(format!(
            "the endpoint that is named for {name} is on chain {chain}, not {}",
            network.chain_id
        )));
    }
    let mut held = Vec::new();
    for token in network.tokens {
        let holder = address.to_string();
        let holder = holder.trim_start_matches("0x").to_lowercase();
        let call = json!({"to": token.address, "data": format!("0x{BALANCE_OF}{holder:0>64}")});
        let atomic = rpc.number("eth_call", json!([call, "latest"])).await?;
        let amount = i64::try_from(atomic).ok().map(Amount::from_atomic);
        match amount {
            Some(Ok(amount)) => held.push((token.asset, amount)),
            _ => return Err(rpc.unusable("it tells of more money than there is")),
        }
    }
    Ok(held)
}

struct Rpc {
    client: Client,
    url: reqwest::Url,
    network: &'static Network,
}

impl Rpc {
    /// A number that a method answers, as hexadecimal digits.
    async fn number(&self, method: &str, params: Value) -> Result<u128> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        // a key of the endpoint may be in its URL
        let told = |error: reqwest::Error| self.unusable(&error.without_url().to_string());
        let answer = self.client.post(self.url.clone()).json(&body).send().await;
        let mut answer = answer.map_err(told)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(told)? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(self.unusable("its answer is too large"));
            }
            bytes.extend_from_slice(&chunk);
        }
        let answer: Value =
            serde_json::from_slice(&bytes).map_err(|_| self.unusable("its answer is no JSON"))?;
        let digits = answer["result"]
            .as_str()
            .and_then(|text| text.strip_prefix("0x"));
        let digits = digits.map(|digits| digits.trim_start_matches('0'));
        match digits {
            Some("") => Ok(0),
            Some(digits) => u128::from_str_radix(digits, 16)
                .map_err(|_| self.unusable("its answer is no number")),
            None => Err(self.unusable("its answer has no result")),
        }
    }

    fn unusable(&self, why: &str) -> Failure {
        let network = self.network.v1_name;
        Failure::new(
            Kind::Unreachable,
            format!("the endpoint of {network} can't be asked: {why}"),
        )
    }
}
