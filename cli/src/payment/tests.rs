//! What answers to a paid request mean.

use reqwest::{StatusCode, header::HeaderMap};
use serde_json::json;

use super::*;

fn kind(status: u16, body: Value, header_name: Option<&'static str>) -> &'static str {
    let mut headers = HeaderMap::new();
    headers.extend(header_name.map(|name| {
        let name = reqwest::header::HeaderName::from_static(name);
        (name, reqwest::header::HeaderValue::from_static("e30="))
    }));
    let status = StatusCode::from_u16(status).expect("a status");
    match outcome(&Answer {
        status,
        headers,
        body,
    }) {
        Outcome::Done => "done",
        Outcome::Refused(_) => "refused",
        Outcome::NotAllowed(_) => "not allowed",
        Outcome::Pending => "pending",
        Outcome::TryAgain => "try again",
    }
}

#[test]
fn only_the_markets_own_words_end_a_payment() {
    let problem = |code: &str| json!({"type": "x", "title": "x", "status": 1, "detail": "x", "code": code, "request_id": "x"});
    for (status, body, header_name, expected) in [
        (201, json!({"id": "rnt_1"}), None, "done"),
        (200, Value::Null, None, "try again"),
        (202, json!({}), None, "pending"),
        (409, problem("payment_in_progress"), None, "pending"),
        (409, problem("capacity_gone"), None, "refused"),
        (422, problem("invalid"), None, "refused"),
        (402, json!({}), Some(header::PAYMENT_REQUIRED), "refused"),
        (402, json!({}), Some(header::PAYMENT_RESPONSE), "refused"),
        (402, json!({}), None, "try again"),
        (404, Value::Null, None, "try again"),
        (404, problem("not_found"), None, "refused"),
        (401, problem("sign_in_required"), None, "not allowed"),
        (429, problem("too_many"), None, "try again"),
        (503, problem("busy"), None, "try again"),
        (502, Value::Null, None, "try again"),
    ] {
        assert_eq!(
            kind(status, body, header_name),
            expected,
            "{status} {header_name:?}"
        );
    }
}
