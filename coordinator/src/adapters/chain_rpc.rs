//! An EVM chain by JSON-RPC: whether a signed authorization (EIP-3009) was used, by which transaction, and whether that paid us.
//!
//! # Invariants
//! - Only what lies `confirmations` blocks deep counts; above that a chain may still change its mind.
//! - "Unused and expired" is final: the token's contract refuses an authorization after its time, and the time is the block's.
//! - Whatever a node says that isn't understood is `Unknown`.

#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use reqwest::{Client, Url, redirect::Policy};
use serde_json::{Value, json};
use shared::x402::{
    address::Address,
    authorization::Authorization,
    eip712::{domain_separator, keccak256},
    network::{Network, Token},
    payment::PresentedPayment,
    terms::Terms,
};

use super::body;
use crate::domain::payments::ports::{Chain, Domain, OnChain, SettleRequest};

const CALL_TIME_MAX: Duration = Duration::from_secs(10);
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How far back a used nonce is looked for. Authorizations live for minutes; nodes refuse more than about 10,000 blocks at once.
const BLOCKS_SEARCHED: u64 = 9_000;

/// A node of a chain.
#[derive(Debug)]
pub struct ChainRpc {
    url: Url,
    client: Client,
    confirmations: u64,
}

impl ChainRpc {
    /// The node at `url`; a block counts once `confirmations` more lie on it.
    ///
    /// # Errors
    /// The URL can't be called, or there is no TLS.
    pub fn new(url: &str, confirmations: u32) -> anyhow::Result<Self> {
        let url: Url = url.parse().context("it is no URL")?;
        let client = Client::builder()
            .no_proxy()
            .timeout(CALL_TIME_MAX)
            .redirect(Policy::none())
            .https_only(url.scheme() == "https")
            .build()?;
        Ok(Self {
            url,
            client,
            confirmations: u64::from(confirmations),
        })
    }

    async fn call(&self, method: &str, params: Value) -> anyhow::Result<Value> {
        let asked = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        // the URL may hold a key: errors are told without it
        let answer = self.client.post(self.url.clone()).json(&asked).send().await;
        let response = answer.map_err(reqwest::Error::without_url)?;
        let status = response.status();
        let bytes = body::read(response, BODY_BYTES_MAX)
            .await
            .with_context(|| method.to_owned())?;
        let mut answer: Value = serde_json::from_slice(&bytes)
            .with_context(|| format!("{method}: status {status} without JSON"))?;
        if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
            bail!("{method}: {error}");
        }
        Ok(answer["result"].take())
    }

    async fn try_look(&self, terms: &Terms, signed: &Authorization) -> anyhow::Result<OnChain> {
        let latest = quantity(&self.call("eth_blockNumber", json!([])).await?)?;
        let Some(deep) = latest.checked_sub(self.confirmations) else {
            return Ok(OnChain::Unused { expired: false });
        };
        let at = format!("{deep:#x}");
        let asked = json!([{"to": terms.asset.address, "data": is_used_call(signed)}, at]);
        if flag(&self.call("eth_call", asked).await?)? {
            return self.used(terms, signed, deep).await;
        }
        let block = self
            .call("eth_getBlockByNumber", json!([at, false]))
            .await?;
        let now = u128::from(quantity(&block["timestamp"])?);
        Ok(OnChain::Unused {
            expired: now >= signed.valid_before,
        })
    }

    async fn try_balance(&self, token: &Token, of: &Address) -> anyhow::Result<i64> {
        let latest = quantity(&self.call("eth_blockNumber", json!([])).await?)?;
        let deep = latest.saturating_sub(self.confirmations);
        let selector = &keccak256(b"balanceOf(address)")[..4];
        let data = format!("0x{}{}", hex::encode(selector), &word(of.as_bytes())[2..]);
        let asked = json!([{"to": token.address, "data": data}, format!("{deep:#x}")]);
        let answer = self.call("eth_call", asked).await?;
        let digits = answer.as_str().and_then(|text| text.strip_prefix("0x"));
        let digits = digits.filter(|digits| digits.len() == 64);
        let digits = digits.context("not a balance: is there a token at this address?")?;
        i64::from_str_radix(digits, 16).context("a balance beyond what we count")
    }

    /// What a view function without arguments returns; `None` if the contract has none of that name.
    async fn view(&self, token: &Token, function: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let selector = hex::encode(&keccak256(format!("{function}()").as_bytes())[..4]);
        let asked = json!([{"to": token.address, "data": format!("0x{selector}")}, "latest"]);
        let answer = match self.call("eth_call", asked).await {
            Ok(answer) => answer,
            // reverted: there is no such function
            Err(error) if error.to_string().contains("revert") => return Ok(None),
            Err(error) => return Err(error),
        };
        let digits = answer.as_str().and_then(|text| text.strip_prefix("0x"));
        let bytes = hex::decode(digits.context("not bytes")?)?;
        Ok((!bytes.is_empty()).then_some(bytes))
    }

    async fn try_domain(&self, network: &Network, token: &Token) -> anyhow::Result<Domain> {
        let separator = self.view(token, "DOMAIN_SEPARATOR").await?;
        let name = self.view(token, "name").await?.and_then(|it| abi_text(&it));
        let version = self.view(token, "version").await?;
        let version = version.and_then(|it| abi_text(&it));
        Ok(judge_domain(
            network,
            token,
            separator.as_deref(),
            name,
            version,
        ))
    }

    /// Finds the transaction that used the nonce, and whether it paid.
    async fn used(
        &self,
        terms: &Terms,
        signed: &Authorization,
        deep: u64,
    ) -> anyhow::Result<OnChain> {
        let filter = json!([{
            "address": terms.asset.address,
            "fromBlock": format!("{:#x}", deep.saturating_sub(BLOCKS_SEARCHED)),
            "toBlock": format!("{deep:#x}"),
            "topics": [
                [topic("AuthorizationUsed(address,bytes32)"), topic("AuthorizationCanceled(address,bytes32)")],
                word(signed.from.as_bytes()),
                word(&signed.nonce),
            ],
        }]);
        let logs = self.call("eth_getLogs", filter).await?;
        let log = logs.get(0).context(
            "the authorization was used, but longer ago than is searched: look it up by hand",
        )?;
        let transaction = log["transactionHash"]
            .as_str()
            .context("a log without a transaction")?
            .to_owned();
        let receipt = self
            .call("eth_getTransactionReceipt", json!([transaction]))
            .await?;
        let logs = receipt["logs"]
            .as_array()
            .context("a receipt without logs")?;
        let transfer = transfer_of(logs, terms, signed);
        let is_done = quantity(&receipt["status"])? == 1;
        let paid = is_done && transfer.is_some_and(|log| is_our_transfer(log, terms, signed));
        let place = transfer.map(|log| quantity(&log["logIndex"])).transpose()?;
        Ok(OnChain::Used {
            transaction,
            log_index: place.map(i64::try_from).transpose()?,
            paid,
        })
    }
}

#[async_trait]
impl Chain for ChainRpc {
    async fn look(&self, request: &SettleRequest) -> OnChain {
        let looked = match PresentedPayment::from_json(request.payload.clone()) {
            Ok(presented) => {
                self.try_look(&request.terms, &presented.authorization)
                    .await
            }
            Err(error) => Err(error.into()),
        };
        looked.unwrap_or_else(|error| OnChain::Unknown {
            detail: format!("{error:#}"),
        })
    }

    async fn domain(&self, network: &'static Network, token: &Token) -> Domain {
        let answer = self.try_domain(network, token).await;
        answer.unwrap_or_else(|error| Domain::Unknown {
            detail: format!("{error:#}"),
        })
    }

    async fn balance(
        &self,
        _network: &'static Network,
        token: &Token,
        of: &Address,
    ) -> Result<i64, String> {
        let answer = self.try_balance(token, of).await;
        answer.map_err(|error| format!("{error:#}"))
    }
}

/// `authorizationState(address,bytes32)`.
fn is_used_call(signed: &Authorization) -> String {
    let selector = &keccak256(b"authorizationState(address,bytes32)")[..4];
    format!(
        "0x{}{}{}",
        hex::encode(selector),
        &word(signed.from.as_bytes())[2..],
        hex::encode(signed.nonce)
    )
}

/// Compares what a contract says of its domain with what we sign for. The separator decides; a contract that shows none is believed by its
/// name and version.
fn judge_domain(
    network: &Network,
    token: &Token,
    separator: Option<&[u8]>,
    name: Option<String>,
    version: Option<String>,
) -> Domain {
    let ours = domain_separator(network.chain_id, token);
    let says_same = name.as_deref() == Some(token.eip712_name)
        && version.as_deref() == Some(token.eip712_version);
    let is_same = match separator {
        Some(theirs) => theirs == ours,
        None if name.is_none() || version.is_none() => {
            let detail = "the contract shows neither DOMAIN_SEPARATOR() nor name() and version()";
            return Domain::Unknown {
                detail: detail.to_owned(),
            };
        }
        None => says_same,
    };
    if is_same {
        return Domain::Same;
    }
    let said =
        |text: Option<String>| text.map_or_else(|| "nothing".to_owned(), |it| format!("{it:?}"));
    Domain::Differs {
        detail: format!(
            "the contract {} says name {} and version {}, ours are {:?} and {:?}; its DOMAIN_SEPARATOR() {}",
            token.address,
            said(name),
            said(version),
            token.eip712_name,
            token.eip712_version,
            match separator {
                Some(theirs) =>
                    format!("is 0x{}, ours 0x{}", hex::encode(theirs), hex::encode(ours)),
                None => "isn't there".to_owned(),
            }
        ),
    }
}

/// A text as contracts return it: where it begins, how long it is, its bytes. At most 64 of them.
fn abi_text(bytes: &[u8]) -> Option<String> {
    let number = |at: usize| {
        let word = bytes.get(at..at.checked_add(32)?)?;
        let (high, low) = word.split_at(24);
        let low = u64::from_be_bytes(low.try_into().ok()?);
        high.iter().all(|byte| *byte == 0).then_some(low)
    };
    let at = usize::try_from(number(0)?).ok()?;
    let length = usize::try_from(number(at)?).ok().filter(|it| *it <= 64)?;
    let begin = at.checked_add(32)?;
    let text = bytes.get(begin..begin.checked_add(length)?)?;
    String::from_utf8(text.to_vec()).ok()
}

fn same(found: &Value, wanted: &str) -> bool {
    found
        .as_str()
        .is_some_and(|found| found.eq_ignore_ascii_case(wanted))
}

/// The `Transfer` that belongs to the use of an authorization, of a transaction's logs: the token's next one after its `AuthorizationUsed`,
/// as EIP-3009 has them, or of a token that tells of them the other way round the one before. A transaction may use several authorizations,
/// and one that the payer cancelled, or used for something else, must not be taken for paid by the transfer of another.
fn transfer_of<'a>(logs: &'a [Value], terms: &Terms, signed: &Authorization) -> Option<&'a Value> {
    let (token, transfer) = (
        terms.asset.address.to_string(),
        topic("Transfer(address,address,uint256)"),
    );
    let used = topic("AuthorizationUsed(address,bytes32)");
    let of_token: Vec<&Value> = logs
        .iter()
        .filter(|log| same(&log["address"], &token))
        .filter(|log| same(&log["topics"][0], &transfer) || same(&log["topics"][0], &used))
        .collect();
    let is_ours = |log: &&Value| {
        same(&log["topics"][0], &used)
            && same(&log["topics"][1], &word(signed.from.as_bytes()))
            && same(&log["topics"][2], &word(&signed.nonce))
    };
    let at = of_token.iter().position(is_ours)?;
    let next = of_token.get(at.saturating_add(1));
    let before = at.checked_sub(1).and_then(|before| of_token.get(before));
    [next, before]
        .into_iter()
        .flatten()
        .copied()
        .find(|log| same(&log["topics"][0], &transfer))
}

/// Whether a log is the token's `Transfer` from the payer to us, of the whole amount.
fn is_our_transfer(log: &Value, terms: &Terms, signed: &Authorization) -> bool {
    let amount = u64::try_from(terms.amount.atomic()).unwrap_or(u64::MAX);
    same(&log["address"], &terms.asset.address.to_string())
        && same(
            &log["topics"][0],
            &topic("Transfer(address,address,uint256)"),
        )
        && same(&log["topics"][1], &word(signed.from.as_bytes()))
        && same(&log["topics"][2], &word(terms.pay_to.as_bytes()))
        && same(&log["data"], &word(&amount.to_be_bytes()))
}

fn topic(event: &str) -> String {
    format!("0x{}", hex::encode(keccak256(event.as_bytes())))
}

/// 32 bytes, what is shorter filled up on the left.
fn word(bytes: &[u8]) -> String {
    format!("0x{:0>64}", hex::encode(bytes))
}

fn quantity(value: &Value) -> anyhow::Result<u64> {
    let text = value.as_str().context("not a quantity")?;
    let digits = text.strip_prefix("0x").context("not a quantity")?;
    u64::from_str_radix(digits, 16).context("not a quantity")
}

fn flag(value: &Value) -> anyhow::Result<bool> {
    let digits = value
        .as_str()
        .and_then(|text| text.strip_prefix("0x"))
        .filter(|digits| digits.len() == 64)
        .context("not a truth value: is there a token with authorizations at this address?")?;
    match digits.trim_start_matches('0') {
        "" => Ok(false),
        "1" => Ok(true),
        _ => bail!("not a truth value"),
    }
}
