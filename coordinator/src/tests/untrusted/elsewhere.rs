//! Properties of what comes by way of other programs: API keys, tags, ranges, patterns, and everything of signing in elsewhere.

use axum::extract::FromRequestParts as _;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use proptest::prelude::*;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use shared::{id::Ids, image::rules::LAYERS_MAX};

use super::{
    NOW, headers,
    mangled::{cases, mangled, mangled_text},
};
use crate::{
    domain::{
        apikeys::model::{KeySecret, parse},
        images::{self, model::Kept},
        oidc::{
            attempt::{AttemptKeys, Purpose},
            id_token::{Expected, check},
            jwks::{Alg, Jwks, KEYS_MAX},
            model::Next,
        },
        webhooks::model::Patterns,
    },
    http::etag::{IfMatch, Tag},
    keys::TokenSecret,
    outbound::address::{IpRange, is_public},
};

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key")
}

fn key_set() -> Value {
    let public = BASE64URL.encode(pair().public_key().as_ref());
    json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "use": "sig", "alg": "EdDSA", "x": public}]})
}

fn id_token(claims: &[u8]) -> String {
    let header = BASE64URL.encode(r#"{"alg":"EdDSA","kid":"a","typ":"JWT"}"#);
    let signed = format!("{header}.{}", BASE64URL.encode(claims));
    let signature = pair().sign(signed.as_bytes());
    format!("{signed}.{}", BASE64URL.encode(signature))
}

fn claims() -> Value {
    json!({"iss": "https://i.example", "sub": "ada", "aud": "us", "exp": 1_800_000_300, "iat": 1_800_000_000, "nonce": "n",
        "email": "ada@example.org", "email_verified": true})
}

fn expected() -> Expected<'static> {
    Expected {
        issuer: "https://i.example",
        client_id: "us",
        algs: &[Alg::EdDsa],
        nonce: "n",
        access_token: None,
        now: NOW,
    }
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn api_keys_have_one_text(text in prop_oneof![
        ".{0,120}", mangled_text(KeySecret::random().expect("random").key_text(Ids::counting().mint()).expose().clone()),
    ]) {
        if let Some((id, secret)) = parse(&text) {
            let again = secret.key_text(id);
            prop_assert_eq!(again.expose(), &text);
            let shown = format!("{secret:?}");
            prop_assert!(!shown.contains(&text[42..60]));
        }
    }

    #[test]
    fn nobody_else_makes_a_provider_s_token(edits in mangled_text(id_token(claims().to_string().as_bytes()))) {
        let keys = Jwks::parse(key_set().to_string().as_bytes()).expect("keys");
        let real = id_token(claims().to_string().as_bytes());
        prop_assert!(check(&real, &keys, &expected()).is_ok());
        prop_assert_eq!(check(&edits, &keys, &expected()).is_ok(), edits == real);
    }

    #[test]
    fn whatever_a_provider_signs_is_for_us_or_refused(claims in prop_oneof![
        mangled(claims().to_string()), prop::collection::vec(any::<u8>(), 0..200),
    ]) {
        let keys = Jwks::parse(key_set().to_string().as_bytes()).expect("keys");
        if let Ok(person) = check(&id_token(&claims), &keys, &expected()) {
            let said: Value = serde_json::from_slice(&claims).expect("it was read");
            prop_assert_eq!(&said["aud"], "us");
            prop_assert_eq!(&said["nonce"], "n");
            prop_assert_eq!(person.issuer.as_str(), "https://i.example");
            prop_assert_eq!(said["sub"].as_str(), Some(person.subject.as_str()));
        }
    }

    #[test]
    fn key_sets_are_bounded(bytes in prop_oneof![mangled(key_set().to_string()), prop::collection::vec(any::<u8>(), 0..200)], times in 0..60_usize) {
        drop(Jwks::parse(&bytes));
        let many = json!({"keys": vec![key_set()["keys"][0].clone(); times]});
        let kept = Jwks::parse(many.to_string().as_bytes());
        prop_assert_eq!(kept.is_some(), times > 0);
        let shown = format!("{kept:?}");
        prop_assert!(shown.matches("kid").count() <= KEYS_MAX);
    }

    #[test]
    fn attempts_are_ours_or_nothing(edits in any::<(prop::sample::Index, u8)>(), noise in ".{0,300}") {
        let keys = AttemptKeys::new(&TokenSecret::from_bytes([7; 32]));
        let begun = keys.begin("i", Next::default(), Purpose::SignIn, NOW).expect("random");
        let cookie = begun.cookie().expect("text").expose().clone();
        prop_assert!(keys.open(&cookie, NOW).is_some_and(|attempt| attempt.has_state(&begun.state())));
        let mut forged = cookie.clone().into_bytes();
        let at = edits.0.index(forged.len());
        forged[at] = edits.1;
        let forged = String::from_utf8_lossy(&forged).into_owned();
        prop_assert_eq!(keys.open(&forged, NOW).is_some(), forged == cookie);
        prop_assert!(keys.open(&noise, NOW).is_none() && !begun.has_state(&noise));
        let shown = format!("{begun:?}");
        prop_assert!(!shown.contains(begun.verifier().expose()));
    }

    #[test]
    fn one_goes_on_to_pages_of_ours_only(text in prop_oneof![".{0,60}", "[/\\\\.:@a-z]{0,30}", mangled_text("/nodes?x=1#a")]) {
        if let Some(next) = Next::parse(&text) {
            let base = reqwest::Url::parse("https://m.example/").expect("a URL");
            let page = base.join(next.as_str()).expect("a URL");
            prop_assert_eq!(page.origin(), base.origin(), "{}", text);
        }
    }

    #[test]
    fn tags_match_what_they_name(text in prop_oneof![prop::collection::vec(any::<u8>(), 0..100), mangled("\"v2\", W/\"v3\", \"v4\"")]) {
        let mut request = axum::http::Request::new(());
        *request.headers_mut() = headers("if-match", &text);
        let sent = request.headers().get("if-match").cloned();
        let (mut parts, ()) = request.into_parts();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let read = runtime.block_on(IfMatch::from_request_parts(&mut parts, &()));
        if let (Some(sent), Ok(wanted)) = (sent, read) {
            let passes = wanted.check(&Tag::of_version(4)).is_ok();
            let said = sent.to_str().expect("it was read");
            prop_assert!(!passes || said.contains("\"v4\"") || said.trim() == "*", "{}", said);
        }
    }

    #[test]
    fn ranges_and_patterns_are_written_as_they_were_read(
        range in prop_oneof![".{0,50}", mangled_text("2001:db8::/32"), mangled_text("10.0.0.0/8")],
        patterns in prop::collection::vec(prop_oneof![".{0,80}", mangled_text("rental.*")], 0..60),
        address in any::<std::net::IpAddr>(),
    ) {
        if let Ok(range) = range.parse::<IpRange>() {
            prop_assert_eq!(range.to_string().parse::<IpRange>(), Ok(range));
        }
        if let Ok(kept) = Patterns::parse(patterns.clone()) {
            prop_assert_eq!(kept.list(), patterns.as_slice());
            prop_assert!(kept.list().len() <= 50 && kept.list().iter().all(|one| one.is_ascii() && one.len() <= 64));
            prop_assert!(!kept.want("") || patterns.is_empty());
        }
        // whatever wraps it, an address means what it means
        if let std::net::IpAddr::V4(inner) = address {
            prop_assert_eq!(is_public(address), is_public(inner.to_ipv6_mapped().into()));
        }
    }

    #[test]
    fn whatever_a_registry_answers_is_bounded(bytes in mangled(MANIFEST)) {
        if let Ok(Kept::Image(image)) = images::model::read(&bytes) {
            prop_assert!((0..=LAYERS_MAX).contains(&image.layers) && image.bytes >= 0);
        }
        if let Ok(Kept::Index(entries)) = images::model::read(&bytes) {
            prop_assert!(entries.len() <= 256);
            prop_assert!(entries.iter().all(|(made, _)| made.os.chars().count() <= 32));
        }
    }
}

const MANIFEST: &str = r#"{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": {"digest": "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "size": 7},
    "layers": [{"digest": "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "size": 9}],
    "manifests": [{"digest": "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc", "size": 1,
        "platform": {"os": "linux", "architecture": "amd64"}}]}"#;
