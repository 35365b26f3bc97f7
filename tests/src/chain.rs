//! A real EVM chain and the official x402 facilitator before it: `x402-chain/chain.mjs`, with anvil from npm.
//!
//! # Invariants
//! - Both end with their owner, since their standard input then closes.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{api, npm};

/// Who is paid in tests: the fourth account of the well-known development mnemonic.
pub const PAYEE: &str = "0x90F79bf6EB2c4f870365E785982E1f101E93b906";

/// Its private key: known to everybody, worth nothing.
pub const PAYEE_KEY: &str = "0x7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6";

/// A running chain.
#[derive(Debug)]
pub struct Chain {
    child: Child,
    // closing it ends the program
    _stdin: ChildStdin,
    said: Said,
}

#[derive(Debug, Deserialize)]
struct Said {
    rpc: String,
    facilitator: String,
}

/// A `Transfer` of the token.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub struct Transfer {
    /// Who paid.
    pub from: String,
    /// Atomic units, decimal.
    pub value: String,
    /// `0x…`.
    pub transaction: String,
}

impl Chain {
    /// Starts both.
    ///
    /// # Panics
    /// If Node or npm is missing, or they don't start.
    pub async fn start() -> Self {
        let folder = npm::installed("x402-chain").await.expect("npm ci");
        let mut child = Command::new("node")
            .arg("chain.mjs")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node starts: apt-get install nodejs");
        let stdin = child.stdin.take().expect("piped");
        let stdout = child.stdout.take().expect("piped");
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let line = line.await.expect("no panic").expect("readable");
        let said = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("chain.mjs printed {line:?}: {error}"));
        Self {
            child,
            _stdin: stdin,
            said,
        }
    }

    /// Settings of a market that is paid here.
    #[must_use]
    pub fn settings(&self) -> Vec<(&str, &str)> {
        vec![
            ("payments.mode", "facilitator"),
            ("payments.facilitator_url", &self.said.facilitator),
            ("payments.chain_rpc_url", &self.said.rpc),
            ("payments.pay_to", PAYEE),
            ("tasks.payments_ms", "200"),
        ]
    }

    /// Gives an address tokens from nothing.
    ///
    /// # Panics
    /// If the chain doesn't answer.
    pub async fn mint(&self, to: &str, atomic: i64) {
        let body = json!({"to": to, "value": atomic.to_string()});
        self.post("/test/mint", &body).await;
    }

    /// What an address has, atomic units.
    ///
    /// # Panics
    /// If the chain doesn't answer.
    pub async fn balance(&self, of: &str) -> i64 {
        let answer = self.get(&format!("/test/balance?of={of}")).await;
        let text = answer["balance"].as_str().expect("a balance");
        text.parse().expect("a number")
    }

    /// Every transfer to an address.
    ///
    /// # Panics
    /// If the chain doesn't answer.
    pub async fn transfers_to(&self, to: &str) -> Vec<Transfer> {
        let answer = self.get(&format!("/test/transfers?to={to}")).await;
        serde_json::from_value(answer).expect("transfers")
    }

    /// What the next call of `/settle` does, once: see `chain.mjs`.
    ///
    /// # Panics
    /// If it doesn't answer.
    pub async fn behave(&self, settle: &str) {
        self.post("/test/behave", &json!({ "settle": settle }))
            .await;
    }

    /// Lets the chain's own time pass.
    ///
    /// # Panics
    /// If the chain doesn't answer.
    pub async fn pass_s(&self, seconds: i64) {
        for (method, params) in [
            ("evm_increaseTime", json!([seconds])),
            ("evm_mine", json!([])),
        ] {
            let call = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
            let asked = api::http_client().post(&self.said.rpc).json(&call).send();
            let answer: Value = asked.await.expect("an answer").json().await.expect("JSON");
            assert!(answer["error"].is_null(), "{method}: {answer}");
        }
    }

    async fn get(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.said.facilitator);
        let answer = api::http_client().get(url).send().await;
        answer.expect("an answer").json().await.expect("JSON")
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.said.facilitator);
        let answer = api::http_client().post(url).json(body).send().await;
        let answer = answer.expect("an answer");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.expect("JSON")
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        // chain.mjs ends anvil when it is asked to end; an error means that it has ended already
        let pid = i32::try_from(self.child.id()).ok();
        let asked = pid
            .and_then(Pid::from_raw)
            .map(|pid| kill_process(pid, Signal::TERM));
        if let Some(Ok(())) = asked {
            drop(self.child.wait());
        }
    }
}
