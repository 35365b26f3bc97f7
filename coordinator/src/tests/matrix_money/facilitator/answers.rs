//! What the facilitator answers, and what it does before.

use std::io;

use axum::{
    Json,
    body::Body,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    super::truth::{Signed, Truth, Use, transaction_of},
    Behaviour, Known, Mood, nonce_of,
};

/// A connection that breaks off after the head of an answer.
fn reset() -> Response {
    let broken = futures_util::stream::once(async {
        Err::<Vec<u8>, _>(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    Body::from_stream(broken).into_response()
}

/// What is settled, as it came.
pub(super) struct Asked {
    pub(super) signed: Signed,
    payer: Value,
}

impl Asked {
    pub(super) fn of(asked: &Value) -> Self {
        let payload = &asked["paymentPayload"];
        let signed = &payload["payload"]["authorization"];
        let number = |name: &str| signed[name].as_str().expect("a number as text").parse();
        Self {
            signed: Signed {
                nonce: nonce_of(payload),
                to: signed["to"].as_str().expect("an address").to_lowercase(),
                amount: number("value").expect("atomic units"),
                valid_before_s: number("validBefore").expect("seconds"),
            },
            payer: signed["from"].clone(),
        }
    }

    fn ok(&self) -> Value {
        json!({
            "success": true, "transaction": transaction_of(&self.signed.nonce), "network": "eip155:84532", "payer": self.payer,
        })
    }

    fn refused(&self, reason: &str) -> Value {
        json!({"success": false, "errorReason": reason, "transaction": "", "network": "eip155:84532", "payer": self.payer})
    }
}

/// What it does and says when it is first asked to settle.
pub(super) fn first(truth: &Truth, asked: &Asked, known: &Known) -> Option<Response> {
    let submit = |how, after_s| truth.submit(&asked.signed, how, after_s);
    let moves_if = |moves: bool| {
        if moves {
            submit(Use::Paid, 0);
        }
    };
    let said = |json: Value| Json(json).into_response();
    let with = |key: &str, value: Value| {
        let mut ok = asked.ok();
        ok[key] = value;
        said(ok)
    };
    Some(match known.behaviour {
        Behaviour::Ok => {
            submit(Use::Paid, 0);
            said(asked.ok())
        }
        Behaviour::OkAfter70s => {
            submit(Use::Paid, 70);
            known.gave_up.notify_one();
            return None;
        }
        Behaviour::ResetBeforeSend => reset(),
        Behaviour::ResetAfterEffect => {
            submit(Use::Paid, 0);
            reset()
        }
        Behaviour::PendingWithTransaction => {
            submit(Use::Paid, 20);
            let mut pending = asked.refused("settlement_pending");
            pending["transaction"] = json!(transaction_of(&asked.signed.nonce));
            (StatusCode::INTERNAL_SERVER_ERROR, Json(pending)).into_response()
        }
        Behaviour::PendingWithId => {
            submit(Use::Paid, 40);
            let mut pending = asked.refused("settlement_pending");
            pending["settlementId"] = json!("set_1");
            said(pending)
        }
        Behaviour::InsufficientFunds => said(asked.refused("insufficient_funds")),
        Behaviour::SuccessMissing(moves) => {
            moves_if(moves);
            let mut bare = asked.ok();
            if let Some(fields) = bare.as_object_mut() {
                fields.remove("success");
            }
            said(bare)
        }
        Behaviour::MalformedJson(moves) => {
            moves_if(moves);
            "{\"success\": true, \"transac".into_response()
        }
        Behaviour::WrongNetwork(moves) => {
            moves_if(moves);
            with("network", json!("eip155:1"))
        }
        Behaviour::WrongPayer(moves) => {
            moves_if(moves);
            with("payer", json!("0x00000000000000000000000000000000000000aa"))
        }
        Behaviour::WrongAmount(moves) => {
            moves_if(moves);
            with("amount", json!("1"))
        }
        Behaviour::TransfersLess => {
            submit(Use::PaidLess, 0);
            said(asked.ok())
        }
        Behaviour::Cancelled => {
            submit(Use::Cancelled, 0);
            said(asked.refused("invalid_exact_evm_nonce_already_used"))
        }
        Behaviour::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "slow down").into_response(),
        Behaviour::DuplicateSettlement => {
            submit(Use::Paid, 0);
            said(asked.refused("duplicate_settlement"))
        }
    })
}

/// What it says to a repetition: the truth in one of its forms, or nothing that helps.
pub(super) fn again(truth: &Truth, asked: &Asked, known: &mut Known) -> Option<Response> {
    let said = |json: Value| Json(json).into_response();
    if truth.is_waiting(&asked.signed.nonce) {
        return Some(said(asked.refused("settlement_pending")));
    }
    let used = truth.used(&asked.signed.nonce);
    let is_first = known.first_ends_s == Some(asked.signed.valid_before_s);
    match known.mood {
        Mood::DeafToTheFirst if is_first => {
            return Some((StatusCode::TOO_MANY_REQUESTS, "slow down").into_response());
        }
        Mood::Unwilling if used.is_none() => {
            return Some(said(asked.refused("insufficient_funds")));
        }
        _ => {}
    }
    let dice = known.chance.below(4);
    Some(match (used, dice) {
        (_, 0) => (StatusCode::TOO_MANY_REQUESTS, "slow down").into_response(),
        (Some(_), 1) => said(asked.refused("duplicate_settlement")),
        (Some(Use::Paid), 2) => said(asked.ok()),
        (Some(_), _) => said(asked.refused("invalid_exact_evm_nonce_already_used")),
        (None, 1) => said(asked.refused("insufficient_funds")),
        (None, _) if truth.submit(&asked.signed, Use::Paid, 0) => said(asked.ok()),
        (None, _) => said(asked.refused("authorization_expired")),
    })
}
