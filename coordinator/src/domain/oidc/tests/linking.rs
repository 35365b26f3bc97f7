//! Tests of who gets which account: addresses never decide, linking needs a session with a fresh proof, the last way in stays.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    refused, signed_in,
    visitor::{Place, Visitor},
};

/// Steps over the five minutes in which a proof is fresh.
const STALE_MS: i64 = 301_000;

async fn unlink(visitor: &mut Visitor, place: &Place, id: &Value) -> crate::testing::Answer {
    let path = format!("/api/v1/auth/identities/{}", id.as_str().expect("an id"));
    visitor.visit(place, "DELETE", &path, &Value::Null).await
}

#[tokio::test]
async fn the_same_address_with_another_subject_is_refused() {
    let place = Place::new().await;
    let mut ada = Visitor::default();
    ada.sign_up(&place, "Ada@example.org").await;
    // the right address, verified; the account has a password
    let (mut other, answer) = place.sign_in().await;
    refused(&answer, StatusCode::CONFLICT, "oidc_email_taken");
    assert_eq!(other.me(&place).await["code"], "sign_in_required");

    // and between two subjects, of one issuer and of two
    place.one.script().claims = json!({"sub": "bob", "email": "bob@example.org"});
    signed_in(&place.sign_in().await.1);
    place.one.script().claims = json!({"sub": "bob-2", "email": "bob@example.org"});
    refused(
        &place.sign_in().await.1,
        StatusCode::CONFLICT,
        "oidc_email_taken",
    );
    place.two.script().claims = json!({"sub": "bob", "email": "bob@example.org"});
    let answer = Visitor::default().sign_in(&place, "two", &place.two).await;
    refused(&answer, StatusCode::CONFLICT, "oidc_email_taken");
    let log = place.audited().await;
    let taken = |entry: &&(String, Option<String>)| entry.1.as_deref() == Some("oidc_email_taken");
    assert_eq!(log.iter().filter(taken).count(), 3);
}

#[tokio::test]
async fn an_account_needs_an_address_that_the_issuer_verified() {
    let place = Place::new().await;
    for claims in [
        json!({"email_verified": false}),
        json!({"email_verified": null}),
        json!({"email_verified": "yes"}),
    ] {
        place.one.script().claims = claims;
        refused(
            &place.sign_in().await.1,
            StatusCode::FORBIDDEN,
            "oidc_email_unverified",
        );
    }
    // what the token lacks, the userinfo endpoint may tell, of the same subject
    place.one.script().claims = json!({"email": null, "email_verified": null});
    place.one.script().userinfo = json!({"sub": "ada"});
    refused(
        &place.sign_in().await.1,
        StatusCode::FORBIDDEN,
        "oidc_email_missing",
    );
    place.one.script().userinfo =
        json!({"sub": "eve", "email": "ada@example.org", "email_verified": true});
    refused(
        &place.sign_in().await.1,
        StatusCode::UNAUTHORIZED,
        "oidc_id_token",
    );
    place.one.script().userinfo =
        json!({"sub": "ada", "email": "ada@example.org", "email_verified": true});
    let (mut ada, answer) = place.sign_in().await;
    signed_in(&answer);
    assert_eq!(ada.me(&place).await["email"], "ada@example.org");
}

#[tokio::test]
async fn linking_needs_a_session_with_a_fresh_proof() {
    let place = Place::new().await;
    let link = json!({"provider": "one"});
    let answer = Visitor::default()
        .visit(&place, "POST", "/api/v1/auth/identities", &link)
        .await;
    refused(&answer, StatusCode::UNAUTHORIZED, "sign_in_required");
    let mut ada = Visitor::default();
    ada.sign_up(&place, "ada@example.org").await;
    place.pass_ms(STALE_MS);
    let answer = ada
        .visit(&place, "POST", "/api/v1/auth/identities", &link)
        .await;
    refused(&answer, StatusCode::FORBIDDEN, "step_up_required");

    let mut ada = Visitor::default();
    let body = json!({"email": "ada@example.org", "password": "a long password"});
    ada.visit(&place, "POST", "/api/v1/auth/login", &body).await;
    let id = ada.me(&place).await["id"].clone();
    let back = ada.go_link(&place, "one", &place.one).await;
    let answer = ada.get(&place, &back).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
    assert_eq!(answer.cookie("at"), None, "the session goes on");
    assert_eq!(ada.identities(&place).await.len(), 1);
    let mails = place.test.mails().await;
    let told = mails
        .iter()
        .filter(|mail| mail.contains("Subject: A way to sign in was added"));
    assert_eq!(told.count(), 1);
    // the issuer verified the address that the account has
    assert_eq!(ada.me(&place).await["email_verified"], true);
    // from now on it opens this account, whatever address it has
    let (mut again, answer) = place.sign_in().await;
    signed_in(&answer);
    assert_eq!(again.me(&place).await["id"], id);
    let log = place.audited().await;
    assert_eq!(
        log.iter()
            .filter(|entry| entry.0 == "identity.linked")
            .count(),
        1
    );
}

#[tokio::test]
async fn an_identity_opens_one_account_and_is_linked_by_the_session_that_asked() {
    let place = Place::new().await;
    signed_in(&place.sign_in().await.1);
    let mut eve = Visitor::default();
    eve.sign_up(&place, "eve@example.org").await;
    let back = eve.go_link(&place, "one", &place.one).await;
    let answer = eve.get(&place, &back).await;
    refused(&answer, StatusCode::CONFLICT, "oidc_identity_taken");
    assert!(eve.identities(&place).await.is_empty());

    // a session that ended meanwhile
    place.two.script().claims = json!({"sub": "eve", "email": "eve@example.org"});
    let back = eve.go_link(&place, "two", &place.two).await;
    let attempt = eve.cookies["oidc"].clone();
    eve.visit(&place, "POST", "/api/v1/auth/logout", &Value::Null)
        .await;
    let answer = eve.get(&place, &back).await;
    refused(&answer, StatusCode::UNAUTHORIZED, "oidc_session");
    // somebody else who signed in here meanwhile
    eve.sign_up(&place, "mallory@example.org").await;
    eve.cookies.insert("oidc".to_owned(), attempt);
    let answer = eve.get(&place, &back).await;
    refused(&answer, StatusCode::UNAUTHORIZED, "oidc_session");
    assert!(eve.identities(&place).await.is_empty());
}

#[tokio::test]
async fn the_last_way_in_stays() {
    let place = Place::new().await;
    let now_s = place.test.app.clock.now().as_secs();
    // without an auth_time of the issuer nothing was proved just now
    let (mut ada, _) = place.sign_in().await;
    let first = ada.identities(&place).await[0]["id"].clone();
    let answer = unlink(&mut ada, &place, &first).await;
    refused(&answer, StatusCode::FORBIDDEN, "step_up_required");
    // an issuer that doesn't ask again proves nothing, even when it should have
    let back = ada.go(&place, "one", &place.one, "&prove_again=true").await;
    assert_eq!(
        (ada.query["prompt"].as_str(), ada.query["max_age"].as_str()),
        ("login", "0")
    );
    let answer = ada.get(&place, &back).await;
    refused(&answer, StatusCode::UNAUTHORIZED, "oidc_not_asked_again");
    place.one.script().claims = json!({"auth_time": now_s - 3_600});
    let back = ada.go(&place, "one", &place.one, "&prove_again=true").await;
    let answer = ada.get(&place, &back).await;
    refused(&answer, StatusCode::UNAUTHORIZED, "oidc_not_asked_again");

    place.one.script().claims = json!({"auth_time": now_s});
    let back = ada.go(&place, "one", &place.one, "&prove_again=true").await;
    signed_in(&ada.get(&place, &back).await);
    let answer = unlink(&mut ada, &place, &first).await;
    refused(&answer, StatusCode::CONFLICT, "last_way_in");

    place.two.script().claims = json!({"sub": "ada at two"});
    let back = ada.go_link(&place, "two", &place.two).await;
    ada.get(&place, &back).await;
    let mut eve = Visitor::default();
    eve.sign_up(&place, "eve@example.org").await;
    let answer = unlink(&mut eve, &place, &first).await;
    refused(&answer, StatusCode::NOT_FOUND, "not_found");
    assert_eq!(
        unlink(&mut ada, &place, &first).await.status,
        StatusCode::NO_CONTENT
    );
    let left = ada.identities(&place).await;
    assert_eq!((left.len(), &left[0]["provider"]), (1, &json!("two")));
    let answer = unlink(&mut ada, &place, &left[0]["id"]).await;
    refused(&answer, StatusCode::CONFLICT, "last_way_in");
    // what was unlinked opens nothing any more, and its address belongs to the account still
    refused(
        &place.sign_in().await.1,
        StatusCode::CONFLICT,
        "oidc_email_taken",
    );
}

#[tokio::test]
async fn an_account_has_ten_identities_at_most() {
    let place = Place::new().await;
    let mut ada = Visitor::default();
    ada.sign_up(&place, "ada@example.org").await;
    for n in 0..11 {
        place.one.script().claims = json!({"sub": format!("ada-{n}")});
        let back = ada.go_link(&place, "one", &place.one).await;
        let answer = ada.get(&place, &back).await;
        if n < 10 {
            assert_eq!(answer.status, StatusCode::SEE_OTHER, "{answer:?}");
        } else {
            refused(&answer, StatusCode::CONFLICT, "oidc_too_many");
        }
    }
    assert_eq!(ada.identities(&place).await.len(), 10);
}
