//! The x402 extensions of our terms, and whether a client echoed them as they were.
//!
//! # Invariants
//! - Pure. What is offered says of each extension what it is (`info`) and what it may become (`schema`).
//! - A client may add to an `info`, never change or leave out what we said in it, but for what differs from 402 to 402.

use serde_json::{Map, Value, json};
use shared::{
    time::Timestamp,
    x402::{
        sign_in::{EIP191, SIGN_IN_WITH_X, Site},
        wire_v2::Object,
    },
};

use super::{identifier, purpose::Purpose};

/// The extension by which clients find what can be bought.
const BAZAAR: &str = "bazaar";
/// Of a sign-in challenge, what is new in each 402.
const DYNAMIC: [&str; 3] = ["nonce", "issuedAt", "expirationTime"];
const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// What belongs to the challenge of a sign-in.
#[derive(Debug, Clone)]
pub struct SignIn<'a> {
    /// Who asks.
    pub site: &'a Site,
    /// CAIP-2 names of the chains whose wallets we know.
    pub chains: Vec<&'a str>,
    /// Letters and digits, used once.
    pub nonce: String,
    /// When.
    pub now: Timestamp,
}

/// All extensions of the terms of something that is sold.
#[must_use]
pub fn offered(purpose: &Purpose, sign_in: &SignIn<'_>) -> Object {
    let mut all = Map::new();
    all.insert(identifier::EXTENSION.to_owned(), payment_identifier());
    let sign_in = sign_in_with_x(sign_in, &purpose.path());
    all.insert(SIGN_IN_WITH_X.to_owned(), sign_in);
    if matches!(purpose, Purpose::Rent(_)) {
        all.insert(BAZAAR.to_owned(), bazaar());
    }
    all
}

fn payment_identifier() -> Value {
    json!({
        "info": { "required": false },
        "schema": {
            "$schema": DRAFT,
            "type": "object",
            "properties": {
                "required": { "type": "boolean" },
                "id": {
                    "type": "string", "minLength": identifier::CHARS.start(), "maxLength": identifier::CHARS.end(),
                    "pattern": "^[a-zA-Z0-9_-]+$",
                },
            },
            "required": ["required"],
        },
    })
}

/// The challenge of a sign-in, as its extension and the endpoint that asks for nothing else say it.
#[must_use]
pub fn sign_in_with_x(sign_in: &SignIn<'_>, path: &str) -> Value {
    let chains: Vec<Value> = sign_in
        .chains
        .iter()
        .map(|chain| json!({ "chainId": chain, "type": EIP191 }))
        .collect();
    let texts = [
        "domain",
        "uri",
        "statement",
        "version",
        "nonce",
        "issuedAt",
        "expirationTime",
    ];
    let texts = texts
        .into_iter()
        .chain(["address", "chainId", "type", "signature"]);
    let properties: Map<String, Value> = texts
        .map(|name| (name.to_owned(), json!({ "type": "string" })))
        .collect();
    json!({
        "info": sign_in.site.challenge(sign_in.nonce.clone(), path, sign_in.now),
        "supportedChains": chains,
        "schema": {
            "$schema": DRAFT,
            "type": "object",
            "properties": properties,
            "required": ["domain", "address", "uri", "version", "chainId", "type", "nonce", "issuedAt", "signature"],
        },
    })
}

fn bazaar() -> Value {
    let resources = json!({ "ram_bytes": 268_435_456, "cpu_millis": 500 });
    let body = json!({
        "requirements": {}, "resources": resources, "duration_seconds": 600, "image": "busybox:latest", "command": ["sleep", "600"],
    });
    let example = json!({
        "id": "rnt_0192f0c1a2b37c4d8e5f60718293a4b5", "state": "scheduled", "rental_token": "rmt_…",
    });
    let integer = json!({ "type": "integer", "minimum": 1 });
    let text = json!({ "type": "string" });
    let body_schema = json!({
        "type": "object",
        "properties": {
            "offer_id": text,
            "requirements": { "type": "object", "properties": { "region": text, "price_max": text } },
            "resources": {
                "type": "object",
                "properties": { "ram_bytes": integer, "cpu_millis": integer },
                "required": ["ram_bytes", "cpu_millis"],
            },
            "duration_seconds": integer,
            "image": text,
            "command": { "type": "array", "items": text },
            "env": { "type": "object", "additionalProperties": text },
        },
        "required": ["resources", "duration_seconds", "image"],
    });
    json!({
        "info": {
            "input": { "type": "http", "method": "POST", "bodyType": "json", "body": body },
            "output": { "type": "json", "example": example },
        },
        "schema": {
            "$schema": DRAFT,
            "type": "object",
            "properties": {
                "input": {
                    "type": "object",
                    "properties": {
                        "type": { "type": "string", "const": "http" },
                        "method": { "type": "string", "enum": ["POST"] },
                        "bodyType": { "type": "string", "enum": ["json"] },
                        "body": body_schema,
                    },
                    "required": ["type", "method", "bodyType", "body"],
                    "additionalProperties": false,
                },
                "output": {
                    "type": "object",
                    "properties": { "type": text, "example": { "type": "object" } },
                    "required": ["type"],
                },
            },
            "required": ["input"],
        },
    })
}

/// The extension that a client didn't echo as it was offered, if there is one. What it leaves out or adds is its own affair.
#[must_use]
pub fn mismatched(offered: &Object, payload: &Value) -> Option<String> {
    let echoed = payload.get("extensions")?.as_object()?;
    let wrong = echoed.iter().find(|(name, echo)| {
        let info = offered.get(*name).and_then(|ours| ours.get("info"));
        info.is_some_and(|info| !echo.get("info").is_some_and(|echo| keeps(info, echo, true)))
    });
    wrong.map(|(name, _)| name.clone())
}

/// Whether `echo` says all that `ours` says.
fn keeps(ours: &Value, echo: &Value, is_top: bool) -> bool {
    match (ours, echo) {
        (Value::Object(ours), Value::Object(echo)) => ours
            .iter()
            .filter(|(name, _)| !(is_top && DYNAMIC.contains(&name.as_str())))
            .all(|(name, value)| echo.get(name).is_some_and(|echo| keeps(value, echo, false))),
        _ => ours == echo,
    }
}

#[cfg(test)]
mod tests {
    use shared::{id::Ids, money::Rate, resources::Resources};

    use super::{super::purpose::Slice, *};

    fn rent() -> Purpose {
        Purpose::Rent(Slice {
            offer_id: Ids::counting().mint(),
            resources: Resources {
                ram_bytes: 1 << 28,
                cpu_millis: 100,
                gpu_count: 0,
                disk_bytes: 0,
            },
            duration_ms: 600_000,
            rate: Rate::from_micro_per_hour(1).expect("a rate"),
            fee_bps: 0,
        })
    }

    fn all(nonce: &str) -> Object {
        let site = Site {
            origin: "https://market.example".into(),
        };
        let sign_in = SignIn {
            site: &site,
            chains: vec!["eip155:84532"],
            nonce: nonce.into(),
            now: Timestamp::from_secs(1_800_000_000),
        };
        offered(&rent(), &sign_in)
    }

    #[test]
    fn an_echo_may_add_and_leave_out_but_not_change() {
        let ours = all("one");
        let same = |change: &dyn Fn(&mut Value)| {
            let mut payload = json!({ "extensions": all("another") });
            change(&mut payload["extensions"]);
            mismatched(&ours, &payload)
        };
        assert_eq!(same(&|_| {}), None);
        assert_eq!(mismatched(&ours, &json!({})), None);
        assert_eq!(mismatched(&ours, &json!({ "extensions": null })), None);
        assert_eq!(same(&|all| *all = json!({ "unknown": 1 })), None);
        assert_eq!(
            same(&|all| all["payment-identifier"]["info"]["id"] = json!("x")),
            None
        );
        assert_eq!(
            same(&|all| all["bazaar"]["info"]["input"]["more"] = json!(1)),
            None
        );
        for (name, path, value) in [
            ("payment-identifier", "/info/required", json!(true)),
            ("payment-identifier", "/info", json!({})),
            ("payment-identifier", "/info", json!(null)),
            ("bazaar", "/info/input/method", json!("GET")),
            ("bazaar", "/info/input/body/command", json!(["sleep"])),
            ("sign-in-with-x", "/info/domain", json!("evil.example")),
            ("sign-in-with-x", "/info/uri", json!("https://evil.example")),
        ] {
            let found = same(&|all| {
                let place = all[name].pointer_mut(path).expect("there");
                *place = value.clone();
            });
            assert_eq!(found.as_deref(), Some(name), "{path}");
        }
        assert_eq!(
            same(&|all| all["bazaar"] = json!(1)).as_deref(),
            Some("bazaar")
        );
    }

    #[test]
    fn all_of_it_fits_a_header_twice() {
        // it comes in the terms' header and goes back in the payment's: clients and we ourselves take 16 KiB of headers
        let text = json!(all(&"0".repeat(64))).to_string();
        assert!(text.len() < 5_000, "{} bytes: {text}", text.len());
    }
}
