//! Signing in elsewhere, through the router and over a socket to issuers of the tests' own: what holds, and everything
//! hostile that must not.

mod issuer;
mod linking;
mod second_factor;
mod visitor;

use axum::http::{StatusCode, header};
use serde_json::json;

use self::{
    issuer::Signer,
    visitor::{Place, Visitor},
};
use crate::testing::Answer;

/// Refused with this code, and nobody signed in.
fn refused(answer: &Answer, status: StatusCode, code: &str) {
    assert_eq!(answer.json()["code"], code, "{answer:?}");
    assert_eq!(answer.status, status);
    assert_eq!(answer.cookie("at"), None);
}

fn signed_in(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
    assert_eq!(answer.headers[header::LOCATION], "/rentals");
    assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(answer.headers[header::REFERRER_POLICY], "no-referrer");
    assert_eq!(answer.cookie("oidc").as_deref(), Some(""));
}

#[tokio::test]
async fn somebody_new_gets_an_account_and_comes_back_to_it_on_sqlite() {
    comes_back(Place::new().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_new_gets_an_account_and_comes_back_to_it_on_postgres() {
    comes_back(Place::on_postgres().await).await;
}

async fn comes_back(place: Place) {
    let (mut ada, answer) = place.sign_in().await;
    signed_in(&answer);
    let me = ada.me(&place).await;
    assert_eq!(me["email"], "ada@example.org");
    assert_eq!(me["roles"], json!(["consumer"]));
    // the issuer says so
    assert_eq!(me["email_verified"], true);

    // the same subject is the same account, whatever its address has become
    place.one.script().claims = json!({"email": "countess@example.org", "email_verified": false});
    place.one.script().signer = Signer::Es256;
    let (mut again, answer) = place.sign_in().await;
    signed_in(&answer);
    assert_eq!(again.me(&place).await["id"], me["id"]);
    let identities = again.identities(&place).await;
    assert_eq!(identities.len(), 1);
    assert_eq!(identities[0]["email"], "countess@example.org");
    assert_eq!(identities[0]["provider"], "one");
    assert_eq!(place.one.asked("/.well-known/openid-configuration"), 1);
    assert_eq!(place.one.asked("/keys"), 1, "kept");

    let actions: Vec<String> = place.audited().await.into_iter().map(|it| it.0).collect();
    let ours = [
        "account.created",
        "identity.signed_in",
        "identity.signed_in",
    ];
    let told: Vec<&String> = actions
        .iter()
        .filter(|action| ours.contains(&action.as_str()))
        .collect();
    assert_eq!(told, ours);
}

#[tokio::test]
async fn an_account_without_a_password_has_none() {
    let place = Place::new().await;
    place.sign_in().await;
    for password in ["!", "a long password", "!!!!!!!!"] {
        let body = json!({"email": "ada@example.org", "password": password});
        let answer = place.test.post("/api/v1/auth/login", "", &body).await;
        refused(&answer, StatusCode::UNAUTHORIZED, "login_failed");
    }
}

#[tokio::test]
async fn tokens_that_do_not_hold_sign_nobody_in() {
    let place = Place::new().await;
    let now_s = place.test.app.clock.now().as_secs();
    let claims = [
        ("nonce of another attempt", json!({"nonce": "another"})),
        ("no nonce", json!({"nonce": null})),
        ("another audience", json!({"aud": "them"})),
        ("two audiences", json!({"aud": [issuer::CLIENT, "them"]})),
        ("no audience", json!({"aud": []})),
        ("given to another", json!({"azp": "them"})),
        ("another issuer", json!({"iss": place.two.url})),
        (
            "nearly the issuer",
            json!({"iss": format!("{}/", place.one.url)}),
        ),
        ("expired", json!({"exp": now_s - 31})),
        ("not yet", json!({"nbf": now_s + 31})),
        ("of the future", json!({"iat": now_s + 31})),
        ("of long ago", json!({"iat": now_s - 631})),
        ("no expiry", json!({"exp": null})),
        ("no subject", json!({"sub": ""})),
        ("a long subject", json!({"sub": "x".repeat(256)})),
        (
            "of another access token",
            json!({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}),
        ),
    ];
    for (what, claims) in claims {
        place.one.script().claims = claims;
        let (_, answer) = place.sign_in().await;
        let told = (
            answer.status,
            answer.json()["code"].clone(),
            answer.cookie("at"),
        );
        assert_eq!(
            told,
            (StatusCode::UNAUTHORIZED, json!("oidc_id_token"), None),
            "{what}"
        );
    }
    place.one.script().claims = json!({});
    for signer in [Signer::None, Signer::Hs256, Signer::Stranger] {
        place.one.script().signer = signer;
        let (_, answer) = place.sign_in().await;
        refused(&answer, StatusCode::UNAUTHORIZED, "oidc_id_token");
    }
    place.one.script().signer = Signer::EdDsa;
    for header in [
        json!({"typ": "at+jwt"}),
        json!({"crit": ["exp"]}),
        json!({"alg": "none"}),
        json!({"alg": "ES256"}),
        json!({"alg": "RS256"}),
    ] {
        place.one.script().header = header;
        let (_, answer) = place.sign_in().await;
        refused(&answer, StatusCode::UNAUTHORIZED, "oidc_id_token");
    }
    let log = place.audited().await;
    assert_eq!(log.len(), 24);
    let told = (
        "identity.refused".to_owned(),
        Some("oidc_id_token".to_owned()),
    );
    assert!(log.iter().all(|entry| *entry == told));
    // and all of it was about the token
    place.one.script().header = json!({});
    place.one.script().claims = json!({"aud": [issuer::CLIENT], "azp": issuer::CLIENT});
    let (_, answer) = place.sign_in().await;
    signed_in(&answer);
}

#[tokio::test]
async fn an_answer_counts_once_in_the_browser_that_asked() {
    let place = Place::new().await;
    let mut ada = Visitor::default();
    let back = ada.go(&place, "one", &place.one, "").await;
    let cookie = ada.cookies["oidc"].clone();

    let mut stranger = Visitor::default();
    let answer = stranger.get(&place, &back).await;
    refused(&answer, StatusCode::BAD_REQUEST, "oidc_attempt");
    stranger.go(&place, "one", &place.one, "").await;
    let answer = stranger.get(&place, &back).await;
    refused(&answer, StatusCode::BAD_REQUEST, "oidc_attempt");

    let state = &ada.query["state"];
    for wrong in [
        back.replace(state, "x"),
        back.replace("&state=", "&stat="),
        back.replace(state, &ada.query["nonce"]),
    ] {
        let answer = ada.get(&place, &wrong).await;
        refused(&answer, StatusCode::BAD_REQUEST, "oidc_attempt");
    }
    assert_eq!(place.one.asked("/token"), 0, "no code was tried");
    signed_in(&ada.get(&place, &back).await);

    // the same callback again, from a browser that kept the cookie
    ada.cookies.insert("oidc".to_owned(), cookie);
    let answer = ada.get(&place, &back).await;
    refused(&answer, StatusCode::BAD_REQUEST, "oidc_replayed");
    assert_eq!(place.one.asked("/token"), 1);

    // its code in another attempt: whoever stole it lacks the verifier, and it was used
    let mut thief = Visitor::default();
    let own = thief.go(&place, "one", &place.one, "").await;
    let answer = thief.get(&place, &own.replace("code-2", "code-0")).await;
    refused(&answer, StatusCode::UNAUTHORIZED, "oidc_code");
}

#[tokio::test]
async fn a_stolen_code_is_worth_nothing_without_the_verifier() {
    let place = Place::new().await;
    let (mut ada, mut thief) = (Visitor::default(), Visitor::default());
    ada.go(&place, "one", &place.one, "").await;
    let own = thief.go(&place, "one", &place.one, "").await;
    let answer = thief.get(&place, &own.replace("code-1", "code-0")).await;
    refused(&answer, StatusCode::UNAUTHORIZED, "oidc_code");
}

#[tokio::test]
async fn an_attempt_ends_after_ten_minutes() {
    let place = Place::new().await;
    let mut ada = Visitor::default();
    let back = ada.go(&place, "one", &place.one, "").await;
    place.pass_ms(600_000);
    let answer = ada.get(&place, &back).await;
    refused(&answer, StatusCode::BAD_REQUEST, "oidc_attempt");
}

#[tokio::test]
async fn an_answer_of_another_provider_is_refused() {
    let place = Place::new().await;
    let mut ada = Visitor::default();
    let back = ada.go(&place, "one", &place.one, "").await;
    let mixed_up = back.replace("/oidc/one/", "/oidc/two/");
    let answer = ada.get(&place, &mixed_up).await;
    refused(&answer, StatusCode::BAD_REQUEST, "oidc_attempt");
    assert!(ada.query["redirect_uri"].ends_with("/api/v1/auth/oidc/one/callback"));

    let answer = ada
        .get(&place, &format!("{back}&iss={}", place.two.url))
        .await;
    refused(&answer, StatusCode::BAD_REQUEST, "oidc_issuer");
    assert_eq!(place.one.asked("/token") + place.two.asked("/token"), 0);
    let back = ada.go(&place, "one", &place.one, "").await;
    signed_in(
        &ada.get(&place, &format!("{back}&iss={}", place.one.url))
            .await,
    );

    // one that says that it names itself must do so
    place.two.script().document = json!({"authorization_response_iss_parameter_supported": true});
    let back = ada.go(&place, "two", &place.two, "").await;
    let answer = ada.get(&place, &back).await;
    refused(&answer, StatusCode::BAD_REQUEST, "oidc_issuer");

    let answer = ada.get(&place, "/api/v1/auth/oidc/three/start").await;
    refused(&answer, StatusCode::NOT_FOUND, "not_found");
}

#[tokio::test]
async fn a_provider_may_say_no() {
    let place = Place::new().await;
    let mut ada = Visitor::default();
    let back = ada.go(&place, "one", &place.one, "").await;
    let answer = ada
        .get(
            &place,
            &format!("{back}&error=access_denied&error_description=%3Cb%3E"),
        )
        .await;
    refused(&answer, StatusCode::UNAUTHORIZED, "oidc_denied");
    assert!(!String::from_utf8_lossy(&answer.body).contains("<b>"));
    assert_eq!(place.one.asked("/token"), 0);
}

#[tokio::test]
async fn an_unknown_key_asks_for_the_keys_again_but_not_often() {
    let place = Place::new().await;
    signed_in(&place.sign_in().await.1);
    // a new key, that isn't published yet
    place.one.script().kid = "ed-2".to_owned();
    for _ in 0..3 {
        refused(
            &place.sign_in().await.1,
            StatusCode::UNAUTHORIZED,
            "oidc_id_token",
        );
    }
    assert_eq!(place.one.asked("/keys"), 1, "asked a moment ago");
    place.pass_ms(60_000);
    for _ in 0..3 {
        refused(
            &place.sign_in().await.1,
            StatusCode::UNAUTHORIZED,
            "oidc_id_token",
        );
    }
    assert_eq!(place.one.asked("/keys"), 2);
    place.one.script().published_kid = "ed-2".to_owned();
    place.pass_ms(60_000);
    signed_in(&place.sign_in().await.1);
    assert_eq!(place.one.asked("/keys"), 3);
}

#[tokio::test]
async fn a_provider_that_is_not_what_it_should_be_is_not_used_and_not_knocked_up() {
    let place = Place::new().await;
    let bent = [
        json!({"issuer": place.two.url}),
        json!({"issuer": format!("{}/", place.one.url)}),
        json!({"id_token_signing_alg_values_supported": ["HS256", "none"]}),
        json!({"id_token_signing_alg_values_supported": null}),
        json!({"response_types_supported": ["token"]}),
        json!({"code_challenge_methods_supported": ["plain"]}),
        json!({"authorization_endpoint": "javascript:alert(1)"}),
        json!({"token_endpoint": null}),
    ];
    let mut asked = 0;
    for document in bent {
        place.one.script().document = document;
        for _ in 0..3 {
            let answer = Visitor::default()
                .get(&place, "/api/v1/auth/oidc/one/start")
                .await;
            refused(&answer, StatusCode::SERVICE_UNAVAILABLE, "oidc_unavailable");
            assert_eq!(answer.headers[header::RETRY_AFTER], "5");
        }
        asked += 1;
        assert_eq!(place.one.asked("/.well-known/openid-configuration"), asked);
        place.pass_ms(5_000);
    }
    place.one.script().document = json!({
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
    });
    signed_in(&place.sign_in().await.1);
}

#[tokio::test]
async fn next_is_a_page_of_ours() {
    let place = Place::new().await;
    for bad in [
        "//evil.example",
        "https://evil.example",
        "/%5Cevil.example",
        "/api/v1/auth/me",
    ] {
        let answer = Visitor::default()
            .get(&place, &format!("/api/v1/auth/oidc/one/start?next={bad}"))
            .await;
        refused(&answer, StatusCode::UNPROCESSABLE_ENTITY, "invalid");
        assert_eq!(answer.cookie("oidc"), None);
    }
    let answer = Visitor::default()
        .get(&place, "/api/v1/auth/oidc/one/start?to=/")
        .await;
    refused(&answer, StatusCode::BAD_REQUEST, "query");
}

#[tokio::test]
async fn the_attempt_cookie_is_for_this_host_and_this_sign_in() {
    let place = Place::new().await;
    let answer = Visitor::default()
        .get(&place, "/api/v1/auth/oidc/one/start")
        .await;
    let set = answer.headers[header::SET_COOKIE].to_str().expect("text");
    assert!(
        set.starts_with("oidc=") && set.ends_with("; Path=/; HttpOnly; SameSite=Lax; Max-Age=600"),
        "{set}"
    );
    let tls = crate::testing::TestApp::with(|config| {
        config.http.public_url = Some("https://market.example".to_owned());
    })
    .await;
    let set = tls.app.auth.cookies.set_attempt("x", 600);
    assert_eq!(
        set,
        "__Host-oidc=x; Path=/; HttpOnly; SameSite=Lax; Max-Age=600; Secure"
    );
}

#[tokio::test]
async fn people_are_told_on_a_page_and_programs_by_a_problem() {
    let place = Place::new().await;
    let request = axum::http::Request::get("/api/v1/auth/oidc/one/callback?code=x&state=y")
        .header(header::ACCEPT, "text/html,application/xhtml+xml")
        .body(axum::body::Body::empty())
        .expect("a request");
    let answer = place.test.send(request).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(
        answer.headers[header::LOCATION],
        "/login?error=oidc_attempt"
    );
    let page = place.test.get("/login?error=oidc_attempt", "").await;
    let page = String::from_utf8_lossy(&page.body).into_owned();
    assert!(
        page.contains("in this browser") && page.contains("/api/v1/auth/oidc/two/start"),
        "{page}"
    );
    let listed = place.test.get("/api/v1/auth/oidc", "").await.json();
    assert_eq!(
        listed["items"][1]["start_url"],
        "/api/v1/auth/oidc/two/start"
    );
}

#[tokio::test]
async fn begun_attempts_are_limited_per_address() {
    let place = Place::new().await;
    let few = crate::testing::TestApp::with(|config| {
        config.oidc = place.test.app.config.oidc.clone();
        config.outbound = place.test.app.config.outbound.clone();
    })
    .await;
    let path = "/api/v1/auth/oidc/one/start";
    for _ in 0..20 {
        assert_eq!(few.get(path, "").await.status, StatusCode::SEE_OTHER);
    }
    let answer = few.get(path, "").await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    let answer = few.get("/api/v1/auth/oidc/one/callback", "").await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn secrets_stay_out_of_debug_output() {
    let place = Place::new().await;
    let shown = format!("{:?}{:?}", place.test.app.oidc, place.test.app.config);
    assert!(!shown.contains(issuer::SECRET) && shown.contains("one"));
}
