//! Tests of what a cookie and a bearer token are good for.

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde_json::{Value, json};

use super::{LOGIN, LOGOUT, ME, REFRESH, SIGNUP, ada};
use crate::testing::{CRON_TOKEN, TestApp, request};

#[tokio::test]
async fn cookies_count_only_from_our_own_pages() {
    let test = TestApp::with(|config| {
        config.http.public_url = Some("https://market.example".to_owned());
    })
    .await;
    let signup = test.post(SIGNUP, "", &ada("a long password")).await;
    let set: Vec<&str> = signup
        .headers
        .get_all(header::SET_COOKIE)
        .iter()
        .map(|value| value.to_str().expect("text"))
        .collect();
    assert!(
        set[0].starts_with("__Host-at=") && set[0].contains("SameSite=Lax; Max-Age=600; Secure")
    );
    assert!(set[1].starts_with("__Host-rt=") && set[1].contains("SameSite=Strict"));
    assert!(
        set.iter()
            .all(|cookie| cookie.contains("; Path=/; HttpOnly; "))
    );

    let cookies = format!(
        "__Host-at={}; __Host-rt={}",
        signup.cookie("__Host-at").expect("set"),
        signup.cookie("__Host-rt").expect("set")
    );
    let send = async |method: &str, path: &str, more: &[(&str, &str)]| {
        let mut builder = Request::builder().method(method).uri(path);
        builder = builder.header(header::COOKIE, &cookies);
        for (name, value) in more {
            builder = builder.header(*name, *value);
        }
        test.send(builder.body(Body::empty()).expect("request"))
            .await
    };
    assert_eq!(send("GET", ME, &[]).await.status, StatusCode::OK);
    let foreign: [&[(&str, &str)]; 6] = [
        &[],
        &[("origin", "https://market.example")],
        &[
            ("sec-fetch-site", "same-origin"),
            ("x-requested-with", "XMLHttpRequest"),
        ],
        &[("sec-fetch-site", "cross-site")],
        &[
            ("sec-fetch-site", "same-site"),
            ("origin", "https://market.example"),
        ],
        &[("origin", "https://market.example.evil")],
    ];
    for headers in foreign {
        let answer = send("POST", REFRESH, headers).await;
        assert_eq!(
            (answer.status, answer.json()["code"].clone()),
            (StatusCode::FORBIDDEN, json!("csrf")),
            "{headers:?}"
        );
        assert_eq!(
            send("POST", LOGOUT, headers).await.status,
            StatusCode::FORBIDDEN
        );
    }
    let ours = [
        ("origin", "https://market.example"),
        ("x-requested-with", "ramarket"),
    ];
    let ours = send("POST", LOGOUT, &ours).await;
    assert_eq!(ours.status, StatusCode::NO_CONTENT);
    // another site can't sign anybody in either
    let mut login = request("POST", LOGIN, "", &ada("a long password"));
    login
        .headers_mut()
        .insert("sec-fetch-site", "cross-site".parse().expect("header"));
    assert_eq!(test.send(login).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn credentials_that_do_not_hold_are_never_nobody() {
    let test = TestApp::new().await;
    let token = test.signup("ada@example.org", &[]).await;
    let [header, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts")
    };
    let none = BASE64URL.encode(r#"{"alg":"none"}"#);
    let hs256 = BASE64URL.encode(r#"{"alg":"HS256","typ":"at+jwt"}"#);
    let mut other: Value =
        serde_json::from_slice(&BASE64URL.decode(claims).expect("base64")).expect("json");
    other["exp"] = json!(9_999_999_999_i64);
    let other = BASE64URL.encode(other.to_string());
    let forged = [
        format!("{none}.{claims}."),
        format!("{hs256}.{claims}.{signature}"),
        format!("{header}.{other}.{signature}"),
        format!("{header}.{claims}.{}", &signature[..signature.len() - 2]),
        format!("{header}.{claims}"),
        format!("{token}A"),
        "x".to_owned(),
        "rmt_00000000000000000000000000000001_AAAA".to_owned(),
        CRON_TOKEN.to_uppercase(),
    ];
    for forged in &forged {
        assert_eq!(
            test.get(ME, forged).await.status,
            StatusCode::UNAUTHORIZED,
            "{forged}"
        );
    }
    let mut basic = request("GET", ME, "", &Value::Null);
    basic
        .headers_mut()
        .insert(header::AUTHORIZATION, "Basic YTpi".parse().expect("header"));
    assert_eq!(test.send(basic).await.json()["code"], "authorization");
    assert_eq!(test.get(ME, &token).await.status, StatusCode::OK);
    assert_eq!(test.get(ME, "").await.json()["code"], "sign_in_required");
    // the cron token is good for its endpoints, and never for anybody's rentals
    assert_eq!(test.get(ME, CRON_TOKEN).await.json()["code"], "cron_token");
    let rentals = test.get("/api/v1/rentals", CRON_TOKEN).await;
    assert_eq!(rentals.json()["code"], "cron_token");
    let lifecycle = test.start_tasks();
    let metering = "/api/v1/cron/metering";
    let ran = test.post(metering, CRON_TOKEN, &Value::Null).await;
    assert_eq!(ran.status, StatusCode::OK, "{ran:?}");
    let refused = test.post(metering, &token, &Value::Null).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    lifecycle.stop().await.expect("in good order");
}
