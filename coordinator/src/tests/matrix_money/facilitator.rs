//! A facilitator that speaks HTTP and behaves, payment by payment, as it is told the first time and by chance after that.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use shared::{clock::ManualClock, x402::network::Network};
use tokio::sync::Notify;

use super::{
    chance::Chance,
    truth::{Truth, Use, transaction_of},
};
use crate::{
    adapters::facilitator_http::HttpFacilitator,
    crash::plan::Plan,
    domain::payments::ports::{Facilitator, SettleOutcome, SettleRequest, Support, VerifyOutcome},
};

/// What it does when it is first asked to settle a payment. `true`: the money moves all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    Ok,
    OkAfter70s,
    ResetBeforeSend,
    ResetAfterEffect,
    PendingWithTransaction,
    PendingWithId,
    InsufficientFunds,
    SuccessMissing(bool),
    MalformedJson(bool),
    WrongNetwork(bool),
    WrongPayer(bool),
    WrongAmount(bool),
    TransfersLess,
    Cancelled,
    TooManyRequests,
    DuplicateSettlement,
}

impl Behaviour {
    /// Every behaviour; whether money moves all the same is the seed's affair.
    pub(super) fn all(chance: &mut Chance) -> [Self; 16] {
        [
            Self::Ok,
            Self::OkAfter70s,
            Self::ResetBeforeSend,
            Self::ResetAfterEffect,
            Self::PendingWithTransaction,
            Self::PendingWithId,
            Self::InsufficientFunds,
            Self::SuccessMissing(chance.coin()),
            Self::MalformedJson(chance.coin()),
            Self::WrongNetwork(chance.coin()),
            Self::WrongPayer(chance.coin()),
            Self::WrongAmount(chance.coin()),
            Self::TransfersLess,
            Self::Cancelled,
            Self::TooManyRequests,
            Self::DuplicateSettlement,
        ]
    }
}

impl Behaviour {
    /// Whether it says that the whole amount moved when it didn't, which only a chain can tell.
    pub(super) const fn lies(self) -> bool {
        matches!(self, Self::WrongAmount(false) | Self::TransfersLess)
    }
}

/// What it knows of a payment.
#[derive(Debug)]
struct Known {
    behaviour: Behaviour,
    chance: Chance,
    settles: u32,
    verifies: u32,
    /// Dies with its answer, after what it did.
    plan: Option<Arc<Plan>>,
    /// Told when whoever waits has waited for longer than it waits.
    gave_up: Arc<Notify>,
}

/// The facilitator's inside.
#[derive(Debug)]
pub(super) struct Inside {
    truth: Arc<Truth>,
    known: Mutex<BTreeMap<String, Known>>,
}

/// The facilitator's outside: the real adapter, and a clock of 60 s that needn't be waited for.
#[derive(Debug)]
pub(super) struct Wire {
    inside: Arc<Inside>,
    http: HttpFacilitator,
}

impl Wire {
    /// Listens on this machine.
    pub(super) async fn open(truth: &Arc<Truth>, clock: &ManualClock) -> Arc<Self> {
        shared::tls::init();
        let inside = Arc::new(Inside {
            truth: Arc::clone(truth),
            known: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let router = Router::new()
            .route("/verify", post(verify))
            .route("/settle", post(settle))
            .with_state(Arc::clone(&inside));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let http = HttpFacilitator::new(&base, None, Arc::new(clock.clone()));
        Arc::new(Self {
            inside,
            http: http.expect("a client"),
        })
    }

    /// Says how it treats a payment; `plan` dies with its first answer to `/settle`.
    pub(super) fn expect(
        &self,
        nonce: &str,
        behaviour: Behaviour,
        seed: u64,
        plan: Option<Arc<Plan>>,
    ) {
        let known = Known {
            behaviour,
            chance: Chance::of(seed),
            settles: 0,
            verifies: 0,
            plan,
            gave_up: Arc::default(),
        };
        self.inside.known().insert(nonce.to_owned(), known);
    }

    /// Answers what it is asked from now on: whoever was to die has died.
    pub(super) fn answer_all(&self) {
        for known in self.inside.known().values_mut() {
            known.plan = None;
        }
    }
}

impl Inside {
    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nonce_of(payload: &Value) -> String {
    let nonce = &payload["payload"]["authorization"]["nonce"];
    nonce.as_str().expect("a nonce").to_owned()
}

#[async_trait]
impl Facilitator for Wire {
    async fn verify(&self, request: &SettleRequest) -> VerifyOutcome {
        self.http.verify(request).await
    }

    async fn settle(&self, request: &SettleRequest) -> SettleOutcome {
        let nonce = nonce_of(&request.payload);
        let gave_up = self
            .inside
            .known()
            .get(&nonce)
            .map(|it| Arc::clone(&it.gave_up));
        let gave_up = gave_up.expect("a payment that it expects");
        tokio::select! {
            outcome = self.http.settle(request) => outcome,
            () = gave_up.notified() => SettleOutcome::Unknown {
                detail: "no answer within 60 s".to_owned(),
            },
        }
    }

    async fn supports(&self, _: &'static Network) -> Support {
        Support::Yes
    }

    fn name(&self) -> &str {
        "double"
    }
}

/// A connection that breaks off after the head of an answer.
fn reset() -> Response {
    let broken = futures_util::stream::once(async {
        Err::<Vec<u8>, _>(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    Body::from_stream(broken).into_response()
}

async fn verify(State(inside): State<Arc<Inside>>, Json(asked): Json<Value>) -> Response {
    let payload = &asked["paymentPayload"];
    let nonce = nonce_of(payload);
    let payer = &payload["payload"]["authorization"]["from"];
    let used = inside.truth.used(&nonce);
    let mut known = inside.known();
    let known = known.get_mut(&nonce).expect("a payment that it expects");
    known.verifies += 1;
    if used.is_some() {
        let said = json!({"isValid": false, "invalidReason": "nonce_already_used", "payer": payer});
        return Json(said).into_response();
    }
    // now and then it has to be asked twice
    if known.verifies == 1 && known.chance.below(8) == 0 {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    Json(json!({"isValid": true, "payer": payer})).into_response()
}

/// What is settled, as it came.
struct Asked {
    nonce: String,
    payer: Value,
    valid_before_s: i64,
}

impl Asked {
    fn of(asked: &Value) -> Self {
        let payload = &asked["paymentPayload"];
        let signed = &payload["payload"]["authorization"];
        let valid_before = signed["validBefore"].as_str().expect("a number as text");
        Self {
            nonce: nonce_of(payload),
            payer: signed["from"].clone(),
            valid_before_s: valid_before.parse().expect("seconds"),
        }
    }

    fn ok(&self) -> Value {
        json!({
            "success": true, "transaction": transaction_of(&self.nonce), "network": "eip155:84532", "payer": self.payer,
        })
    }

    fn refused(&self, reason: &str) -> Value {
        json!({"success": false, "errorReason": reason, "transaction": "", "network": "eip155:84532", "payer": self.payer})
    }
}

async fn settle(State(inside): State<Arc<Inside>>, Json(asked): Json<Value>) -> Response {
    let asked = Asked::of(&asked);
    let (answer, plan) = {
        let mut known = inside.known();
        let known = known
            .get_mut(&asked.nonce)
            .expect("a payment that it expects");
        known.settles += 1;
        let answer = if known.settles == 1 {
            first(&inside.truth, &asked, known)
        } else {
            again(&inside.truth, &asked, known)
        };
        (answer, known.plan.take())
    };
    if let Some(plan) = plan {
        plan.reached.notify_one();
        return std::future::pending().await;
    }
    match answer {
        Some(answer) => answer,
        // whoever asked has gone before it is ready
        None => std::future::pending().await,
    }
}

fn first(truth: &Truth, asked: &Asked, known: &Known) -> Option<Response> {
    let submit = |how, after_s| truth.submit(&asked.nonce, asked.valid_before_s, how, after_s);
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
            pending["transaction"] = json!(transaction_of(&asked.nonce));
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
fn again(truth: &Truth, asked: &Asked, known: &mut Known) -> Option<Response> {
    let said = |json: Value| Json(json).into_response();
    if truth.is_waiting(&asked.nonce) {
        return Some(said(asked.refused("settlement_pending")));
    }
    let dice = known.chance.below(4);
    Some(match (truth.used(&asked.nonce), dice) {
        (_, 0) => (StatusCode::TOO_MANY_REQUESTS, "slow down").into_response(),
        (Some(_), 1) => said(asked.refused("duplicate_settlement")),
        (Some(Use::Paid), 2) => said(asked.ok()),
        (Some(_), _) => said(asked.refused("invalid_exact_evm_nonce_already_used")),
        (None, 1) => said(asked.refused("insufficient_funds")),
        (None, _) if truth.submit(&asked.nonce, asked.valid_before_s, Use::Paid, 0) => {
            said(asked.ok())
        }
        (None, _) => said(asked.refused("authorization_expired")),
    })
}
