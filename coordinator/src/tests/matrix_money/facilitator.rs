//! A facilitator that speaks HTTP and behaves, payment by payment, as it is told the first time and by chance after that.

mod answers;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use shared::{clock::ManualClock, x402::network::Network};
use tokio::sync::Notify;

use self::answers::{Asked, again, first};
use super::{chance::Chance, truth::Truth};
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

/// How it answers who asks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// The truth in one of its forms, or nothing that helps.
    Plain,
    /// Nothing that helps, until it is asked to settle what was signed anew.
    DeafToTheFirst,
    /// It settles nothing that it hasn't settled already.
    Unwilling,
}

/// What it knows of a payment.
#[derive(Debug)]
struct Known {
    behaviour: Behaviour,
    mood: Mood,
    /// The end of what it was asked to settle first, seconds.
    first_ends_s: Option<i64>,
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
        self.expect_in(nonce, (behaviour, Mood::Plain), seed, plan);
    }

    /// The same of what is known by `key`, a nonce or an address that is paid, in a mood.
    pub(super) fn expect_in(
        &self,
        key: &str,
        (behaviour, mood): (Behaviour, Mood),
        seed: u64,
        plan: Option<Arc<Plan>>,
    ) {
        let known = Known {
            behaviour,
            mood,
            first_ends_s: None,
            chance: Chance::of(seed),
            settles: 0,
            verifies: 0,
            plan,
            gave_up: Arc::default(),
        };
        self.inside.known().insert(key.to_owned(), known);
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

/// What is paid in is known by its nonce; what goes out by where it goes, since whoever sends it chooses the nonce.
fn find<'known>(known: &'known mut BTreeMap<String, Known>, payload: &Value) -> &'known mut Known {
    let nonce = nonce_of(payload);
    let to = &payload["payload"]["authorization"]["to"];
    let to = to.as_str().expect("an address").to_lowercase();
    let key = if known.contains_key(&nonce) {
        nonce
    } else {
        to
    };
    known.get_mut(&key).expect("a payment that it expects")
}

#[async_trait]
impl Facilitator for Wire {
    async fn verify(&self, request: &SettleRequest) -> VerifyOutcome {
        self.http.verify(request).await
    }

    async fn settle(&self, request: &SettleRequest) -> SettleOutcome {
        let gave_up = Arc::clone(&find(&mut self.inside.known(), &request.payload).gave_up);
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

async fn verify(State(inside): State<Arc<Inside>>, Json(asked): Json<Value>) -> Response {
    let payload = &asked["paymentPayload"];
    let nonce = nonce_of(payload);
    let payer = &payload["payload"]["authorization"]["from"];
    let used = inside.truth.used(&nonce);
    let mut known = inside.known();
    let known = find(&mut known, payload);
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

async fn settle(State(inside): State<Arc<Inside>>, Json(body): Json<Value>) -> Response {
    let asked = Asked::of(&body);
    let (answer, plan) = {
        let mut known = inside.known();
        let known = find(&mut known, &body["paymentPayload"]);
        known.settles += 1;
        known
            .first_ends_s
            .get_or_insert(asked.signed.valid_before_s);
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
