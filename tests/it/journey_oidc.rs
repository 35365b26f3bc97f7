//! Signing in with an account elsewhere, as people do it: a real browser, a real OpenID Connect server (npm's `oidc-provider`) with
//! its login and consent pages, and the market between them.

use std::os::unix::fs::PermissionsExt as _;

use coordinator::store::testing::TempDir;
use serde_json::{Value, json};
use system_tests::{
    api::Api,
    browser::Browser,
    market::{Market, Store, free_port},
    oidc_issuer::{self, CLIENT_ID, CLIENT_SECRET, OidcIssuer},
    people,
};

/// A market with one identity provider, which it calls `google`.
struct Place {
    market: Market,
    issuer: OidcIssuer,
    _secret: TempDir,
}

impl Place {
    async fn open(store: Store, alg: &str) -> Self {
        let secret = TempDir::new();
        let file = secret.path().join("client_secret");
        std::fs::write(&file, CLIENT_SECRET).expect("written");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("private");
        let port = free_port();
        let settings = [
            ("outbound.allow_private", "127.0.0.2"),
            ("oidc.google.issuer", &oidc_issuer::url(port)),
            ("oidc.google.client_id", CLIENT_ID),
            (
                "oidc.google.client_secret_file",
                file.to_str().expect("a path of text"),
            ),
            ("oidc.google.display_name", "Google & Co"),
        ];
        let market = Market::with(store, &settings).await;
        let back = format!("{}/api/v1/auth/oidc/google/callback", market.url());
        let issuer = OidcIssuer::start(port, alg, &[back]).await;
        Self {
            market,
            issuer,
            _secret: secret,
        }
    }

    fn page(&self, path: &str) -> String {
        format!("{}{path}", self.market.url())
    }

    /// From the market's login page to the issuer's.
    async fn leave_for_the_issuer(&self, browser: &Browser) {
        browser.go(&self.page("/login?next=/")).await;
        browser
            .until("document.querySelector('#oidc-google')")
            .await;
        browser.click("#oidc-google").await;
    }

    /// The issuer's login page, and its consent page where it asks.
    async fn log_in_there(&self, browser: &Browser, name: &str) {
        let at_issuer = format!("location.origin === '{}'", self.issuer.url());
        browser
            .until(&format!(
                "{at_issuer} && document.querySelector('input[name=login]')"
            ))
            .await;
        browser.fill("input[name=login]", name).await;
        browser.fill("input[name=password]", "anything").await;
        browser.click("button[type=submit]").await;
        let consent = "document.querySelector('input[name=prompt][value=consent]')";
        let back = format!("location.origin === '{}'", self.market.url());
        browser.until(&format!("{consent} || {back}")).await;
        if browser.eval(&format!("Boolean({consent})")).await == Some(json!(true)) {
            browser.click("button[type=submit]").await;
        }
    }

    async fn until_at(&self, browser: &Browser, path: &str) {
        browser
            .until(&format!("location.href === '{}'", self.page(path)))
            .await;
    }

    /// Who the market says is signed in.
    async fn me(&self, browser: &Browser) -> Value {
        browser.go(&self.page("/api/v1/auth/me")).await;
        browser
            .until(
                "location.pathname === '/api/v1/auth/me' && document.body.innerText.includes('{')",
            )
            .await;
        let shown = browser
            .eval("document.querySelector('pre').innerText")
            .await;
        serde_json::from_str(shown.expect("shown").as_str().expect("text")).expect("JSON")
    }

    /// The API with the access token that the browser has as a cookie.
    async fn api_of(&self, browser: &Browser) -> Api {
        let cookie = self.cookie(browser, "at").await.expect("signed in");
        self.market
            .api()
            .bearing(cookie["value"].as_str().expect("a token"))
    }

    async fn cookie(&self, browser: &Browser, name: &str) -> Option<Value> {
        let all = browser.cookies(&self.page("/")).await;
        all.into_iter().find(|cookie| cookie["name"] == name)
    }
}

#[tokio::test]
async fn somebody_signs_in_through_the_pages_of_a_real_issuer() {
    let place = Place::open(Store::Sqlite, "RS256").await;
    let browser = Browser::start().await;
    place.leave_for_the_issuer(&browser).await;
    place.log_in_there(&browser, "ada").await;
    place.until_at(&browser, "/").await;
    let ada = place.me(&browser).await;
    assert_eq!(ada["email"], "ada@example.org", "{ada}");
    let (access, refresh) = (
        place.cookie(&browser, "at").await.unwrap(),
        place.cookie(&browser, "rt").await.unwrap(),
    );
    assert_eq!(
        (&access["httpOnly"], &access["sameSite"]),
        (&json!(true), &json!("Lax"))
    );
    assert_eq!(
        (&refresh["httpOnly"], &refresh["sameSite"]),
        (&json!(true), &json!("Strict"))
    );
    assert_eq!(
        place.cookie(&browser, "oidc").await,
        None,
        "the attempt is over"
    );

    // the same person again: stopped just before the market gets the answer
    let stopped = browser
        .stop_before(&place.page("/api/v1/auth/oidc/google/callback"))
        .await;
    place.leave_for_the_issuer(&browser).await;
    let callback = stopped.address().await;
    let attempt = place.cookie(&browser, "oidc").await.expect("begun");
    let attempt = attempt["value"].as_str().unwrap();
    let state = callback
        .split("state=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap();
    browser
        .go(&callback.replace(state, &state.chars().rev().collect::<String>()))
        .await;
    place.until_at(&browser, "/login?error=oidc_attempt").await;
    browser
        .until("document.querySelector('#refusal').innerText.includes('begin again')")
        .await;

    browser.go(&callback).await;
    place.until_at(&browser, "/").await;
    assert_eq!(place.me(&browser).await["id"], ada["id"]);

    // the same answer a second time: without the attempt's cookie, and by somebody who kept it
    browser.go(&callback).await;
    place.until_at(&browser, "/login?error=oidc_attempt").await;
    browser.set_cookie(&place.page("/"), "oidc", attempt).await;
    browser.go(&callback).await;
    place.until_at(&browser, "/login?error=oidc_replayed").await;

    // nobody but the browser that asked
    let answer = reqwest::get(&callback).await.unwrap();
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("oidc_attempt"));
    let log = place.market.log();
    assert!(!log.contains(CLIENT_SECRET) && !log.contains(attempt) && !log.contains(state));
}

#[tokio::test]
async fn addresses_join_no_accounts_and_unverified_ones_open_none() {
    let place = Place::open(Store::Postgres, "ES256").await;
    let browser = Browser::start().await;
    place.leave_for_the_issuer(&browser).await;
    place.log_in_there(&browser, "bob").await;
    place.until_at(&browser, "/").await;
    let bob = place.me(&browser).await["id"].clone();

    // another subject with bob's verified address, asked for by the issuer's login page again
    for (name, code) in [
        ("twin-of-bob", "oidc_email_taken"),
        ("unverified-eve", "oidc_email_unverified"),
    ] {
        browser
            .go(&place.page("/api/v1/auth/oidc/google/start?prove_again=true"))
            .await;
        place.log_in_there(&browser, name).await;
        place
            .until_at(&browser, &format!("/login?error={code}"))
            .await;
    }
    assert_eq!(
        place.me(&browser).await["id"],
        bob,
        "still whoever was signed in"
    );
}

#[tokio::test]
async fn a_password_account_is_linked_from_its_session_and_the_last_way_in_stays() {
    let place = Place::open(Store::Sqlite, "EdDSA").await;
    let browser = Browser::start().await;
    let carol = people::signup(&place.market, "carol", &["consumer"]).await;
    let id = carol.get("/auth/me").await.is(200)["id"].clone();
    let begun = carol
        .post("/auth/identities", &json!({"provider": "google"}))
        .await;
    let set = begun.header("set-cookie").unwrap().to_owned();
    let to = begun.is(200)["authorize_url"].as_str().unwrap().to_owned();
    let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
    browser.set_cookie(&place.page("/"), name, value).await;
    browser.go(&to).await;
    place.log_in_there(&browser, "somebody-else").await;
    place.until_at(&browser, "/").await;
    let linked = carol.get("/auth/identities").await.is(200);
    assert_eq!(
        linked["items"][0]["email"], "somebody-else@example.org",
        "{linked}"
    );

    // with that identity a new browser gets into carol's account
    let other = Browser::start().await;
    place.leave_for_the_issuer(&other).await;
    place.log_in_there(&other, "somebody-else").await;
    place.until_at(&other, "/").await;
    assert_eq!(place.me(&other).await["id"], id);

    // an account without a password keeps its identity, even for somebody whom the issuer asked just now
    let third = Browser::start().await;
    place.leave_for_the_issuer(&third).await;
    place.log_in_there(&third, "dave").await;
    place.until_at(&third, "/").await;
    let dave = place.api_of(&third).await;
    let only = dave.get("/auth/identities").await.is(200)["items"][0]["id"].clone();
    let path = format!("/auth/identities/{}", only.as_str().unwrap());
    dave.delete(&path).await.refused(403, "step_up_required");
    third
        .go(&place.page("/api/v1/auth/oidc/google/start?prove_again=true"))
        .await;
    place.log_in_there(&third, "dave").await;
    place.until_at(&third, "/").await;
    let dave = place.api_of(&third).await;
    dave.delete(&path).await.refused(409, "last_way_in");
}
