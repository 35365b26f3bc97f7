//! A stub of the market: terms, real payment checks, one rental per payment, and faults on demand.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{OriginalUri, Path, RawQuery, State},
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use shared::{
    clock::{Clock as _, SystemClock},
    money::Amount,
    x402::{
        exact, header,
        network::{BASE_SEPOLIA, BASE_SEPOLIA_USDC},
        payment::PresentedPayment,
        terms::{Resource, Terms},
    },
};

pub(crate) const TOKEN: &str = "rmt_secret";
pub(crate) const API_KEY: &str = "ram_live_a_key";
pub(crate) const RENTAL: &str = "rnt_00000000000000000000000000000001";
const PAYMENT: &str = "pay_00000000000000000000000000000002";

/// What the stub does to the next paid requests, in order; then it serves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// Takes the payment and drops the connection.
    DropAfterEffect,
    /// Takes the payment and answers 202.
    Accepted,
    /// 503.
    Unavailable,
    /// 409 `capacity_gone`.
    CapacityGone,
    /// 402 again.
    Refused,
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Every payment header, in order.
    pub(crate) payments: Vec<String>,
    /// Payments taken, by nonce.
    pub(crate) charged: BTreeMap<String, i64>,
    /// Orders taken that are paid from a balance, by key.
    pub(crate) from_balance: BTreeSet<String>,
    pub(crate) bodies: Vec<Value>,
    pub(crate) idempotency_keys: Vec<String>,
    pub(crate) queries: Vec<String>,
    faults: Vec<Fault>,
    payment_polls: usize,
    rental_polls: usize,
    refreshed: usize,
    device_polls: usize,
    /// Nobody confirms.
    pub(crate) denies: bool,
}

impl Seen {
    /// How many orders were taken.
    pub(crate) fn taken(&self) -> usize {
        self.charged.len() + self.from_balance.len()
    }

    fn fault(&mut self) -> Option<Fault> {
        (!self.faults.is_empty()).then(|| self.faults.remove(0))
    }
}

#[derive(Clone)]
pub(crate) struct Stub {
    pub(crate) url: String,
    price: i64,
    last_state: &'static str,
    seen: Arc<Mutex<Seen>>,
}

impl Stub {
    pub(crate) async fn start(price: i64, faults: &[Fault]) -> Self {
        Self::ending_in("running", price, faults).await
    }

    pub(crate) async fn ending_in(last_state: &'static str, price: i64, faults: &[Fault]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stub = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            price,
            last_state,
            seen: Arc::default(),
        };
        stub.seen().faults = faults.to_vec();
        let router = Router::new()
            .route("/api/v1/rentals", post(order).get(rentals))
            .route("/api/v1/rentals/{id}", get(rental))
            .route("/api/v1/rentals/{id}/extend", post(order))
            .route("/api/v1/rentals/{id}/stop", post(stop))
            .route("/api/v1/payments/{id}", get(payment))
            .route("/api/v1/payments/quote", post(quote))
            .route("/api/v1/offers", get(offers))
            .route("/api/v1/auth/login", post(login))
            .route("/api/v1/auth/refresh", post(refresh))
            .route("/api/v1/auth/me", get(me))
            .route("/api/v1/auth/device", post(begin_device))
            .route("/api/v1/auth/device/token", post(redeem_device))
            .with_state(stub.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        stub
    }

    pub(crate) fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn terms(&self, uri: &Uri) -> Terms {
        Terms {
            network: &BASE_SEPOLIA,
            asset: BASE_SEPOLIA_USDC,
            pay_to: "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
                .parse()
                .unwrap(),
            amount: Amount::from_atomic(self.price).unwrap(),
            max_timeout_s: 300,
            resource: Resource {
                url: format!("{}{uri}", self.url),
                description: "a rental".into(),
                mime_type: "application/json".into(),
            },
        }
    }
}

fn problem(status: StatusCode, code: &str) -> Response {
    let body = json!({"type": "x", "title": code, "status": status.as_u16(), "detail": "because", "code": code, "request_id": "req_1"});
    (status, Json(body)).into_response()
}

fn bearer(headers: &HeaderMap) -> &str {
    let value = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default()
}

async fn order(
    State(stub): State<Stub>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    stub.seen().bodies.push(body.clone());
    if body["pay_with"] == "balance" {
        let key = headers["idempotency-key"].to_str().unwrap().to_owned();
        stub.seen().idempotency_keys.push(key.clone());
        if !matches!(bearer(&headers), "fresh" | API_KEY) {
            return problem(StatusCode::UNAUTHORIZED, "token_expired");
        }
        let fault = stub.seen().fault();
        return match fault {
            Some(Fault::CapacityGone) => problem(StatusCode::CONFLICT, "capacity_gone"),
            fault => {
                stub.seen().from_balance.insert(key);
                assert_eq!(fault, None, "the connection goes down, as the test wants");
                (StatusCode::CREATED, Json(rental_json("running"))).into_response()
            }
        };
    }
    let terms = stub.terms(&uri);
    let ask = |error: &str| {
        let terms_header = [(
            header::PAYMENT_REQUIRED,
            terms.header_v2(error, &Default::default()),
        )];
        (
            StatusCode::PAYMENT_REQUIRED,
            terms_header,
            Json(terms.body_v1(error)),
        )
            .into_response()
    };
    let Some(paid) = headers.get(header::PAYMENT_SIGNATURE) else {
        return ask("payment required");
    };
    let presented = PresentedPayment::from_json(header::decode(paid.as_bytes()).unwrap()).unwrap();
    let verified = exact::check(&terms, &presented, SystemClock.now()).expect("a good payment");
    let fault = {
        let mut seen = stub.seen();
        seen.payments.push(paid.to_str().unwrap().to_owned());
        let fault = seen.fault();
        if matches!(fault, None | Some(Fault::DropAfterEffect | Fault::Accepted)) {
            seen.charged
                .insert(verified.identity.nonce_hex(), stub.price);
        }
        fault
    };
    match fault {
        None => {
            let mut rental = rental_json("paid");
            rental["rental_token"] = TOKEN.into();
            (StatusCode::CREATED, Json(rental)).into_response()
        }
        Some(Fault::DropAfterEffect) => panic!("the connection goes down, as the test wants"),
        Some(Fault::Accepted) => {
            let body = Json(json!({"payment_id": PAYMENT, "state": "pending"}));
            (StatusCode::ACCEPTED, [("retry-after", "1")], body).into_response()
        }
        Some(Fault::Unavailable) => problem(StatusCode::SERVICE_UNAVAILABLE, "busy"),
        Some(Fault::CapacityGone) => problem(StatusCode::CONFLICT, "capacity_gone"),
        Some(Fault::Refused) => ask("insufficient_funds"),
    }
}

fn rental_json(state: &str) -> Value {
    json!({"id": RENTAL, "state": state, "reason": (state == "ended").then_some("failed_to_start"), "state_reason": null,
        "resources": {"ram_bytes": 268_435_456, "cpu_millis": 500, "gpu_count": 0, "disk_bytes": 0},
        "price": {"per_hour": {"amount": "0.000500", "currency": "USDC"}, "platform_fee_bps": 500}})
}

async fn rental(State(stub): State<Stub>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if id != RENTAL {
        return problem(StatusCode::NOT_FOUND, "not_found");
    }
    if bearer(&headers) != TOKEN {
        return problem(StatusCode::UNAUTHORIZED, "sign_in_required");
    }
    let mut seen = stub.seen();
    seen.rental_polls += 1;
    let state = match seen.rental_polls {
        1 => "scheduled",
        2 => "pulling",
        _ => stub.last_state,
    };
    Json(rental_json(state)).into_response()
}

async fn rentals(headers: HeaderMap) -> Response {
    match bearer(&headers) {
        "fresh" | API_KEY => Json(json!({"items": [], "next_cursor": null})).into_response(),
        _ => problem(StatusCode::UNAUTHORIZED, "token_expired"),
    }
}

async fn stop(headers: HeaderMap) -> Response {
    assert!(headers.contains_key("idempotency-key"));
    match bearer(&headers) {
        TOKEN => Json(rental_json("stopping")).into_response(),
        _ => problem(StatusCode::UNAUTHORIZED, "sign_in_required"),
    }
}

async fn payment(State(stub): State<Stub>, Path(id): Path<String>) -> Response {
    assert_eq!(id, PAYMENT);
    let mut seen = stub.seen();
    seen.payment_polls += 1;
    let state = if seen.payment_polls < 2 {
        "settling"
    } else {
        "credited"
    };
    Json(json!({"id": PAYMENT, "state": state})).into_response()
}

async fn quote(State(stub): State<Stub>, Json(body): Json<Value>) -> Response {
    stub.seen().bodies.push(body);
    let money = |amount: &str| json!({"amount": amount, "currency": "USDC"});
    let body = json!({"id": "quo_00000000000000000000000000000003", "offer_id": "ofr_00000000000000000000000000000004",
        "price": money("0.000500"), "platform_fee": money("0.000025"), "provider_share": money("0.000475"),
        "rate_per_hour": money("0.000500"), "expires_at": "2026-01-01T00:00:00Z"});
    Json(body).into_response()
}

async fn offers(State(stub): State<Stub>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let last = query.contains("cursor=next");
    stub.seen().queries.push(query);
    let item = |n: u8| json!({"id": format!("ofr_{n:032}"), "ram_free_bytes": 1_i64 << 30, "prices": {"ram_gib_hour": "0.002000"}});
    let body = if last {
        json!({"items": [item(3)], "next_cursor": null})
    } else {
        json!({"items": [item(1), item(2)], "next_cursor": "next"})
    };
    Json(body).into_response()
}

async fn me(headers: HeaderMap) -> Response {
    match bearer(&headers) {
        // a key that may rent and nothing else
        API_KEY => problem(StatusCode::FORBIDDEN, "scope_missing"),
        _ => problem(StatusCode::UNAUTHORIZED, "token_expired"),
    }
}

async fn begin_device(State(stub): State<Stub>, Json(body): Json<Value>) -> Response {
    stub.seen().bodies.push(body);
    let body = json!({"device_code": "d", "user_code": "BCDF-GHJK", "verification_uri": format!("{}/device", stub.url),
        "verification_uri_complete": format!("{}/device?code=BCDF-GHJK", stub.url), "expires_in": 600, "interval": 1});
    Json(body).into_response()
}

async fn redeem_device(State(stub): State<Stub>, Json(body): Json<Value>) -> Response {
    assert_eq!(body, json!({"device_code": "d"}));
    let mut seen = stub.seen();
    seen.device_polls += 1;
    match seen.device_polls {
        1 => problem(StatusCode::BAD_REQUEST, "authorization_pending"),
        _ if seen.denies => problem(StatusCode::BAD_REQUEST, "access_denied"),
        _ => Json(
            json!({"access_token": API_KEY, "token_type": "Bearer", "scope": "rentals:read",
            "expires_at": "2027-01-01T00:00:00Z"}),
        )
        .into_response(),
    }
}

async fn login(Json(body): Json<Value>) -> Response {
    if body["password"] != "correct horse" {
        return problem(StatusCode::UNAUTHORIZED, "login_failed");
    }
    Json(json!({"access_token": "stale", "refresh_token": "r1"})).into_response()
}

async fn refresh(State(stub): State<Stub>, Json(body): Json<Value>) -> Response {
    let mut seen = stub.seen();
    seen.refreshed += 1;
    if body["refresh_token"] != "r1" || seen.refreshed > 1 {
        return problem(StatusCode::UNAUTHORIZED, "refresh_refused");
    }
    Json(json!({"access_token": "fresh", "refresh_token": "r2"})).into_response()
}
