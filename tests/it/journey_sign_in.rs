//! Signing in as people do it: a real browser, with scripts switched off, mail through a real SMTP server, and codes of a real
//! authenticator (oathtool).

use serde_json::{Value, json};
use system_tests::{
    authenticator::code_of,
    browser::Browser,
    mail_server::{LOGIN, MailServer},
    market::{Market, Store},
    people, wait,
};

/// The password of [`people`].
const PASSWORD: &str = "a long password of tests";
const NEW_PASSWORD: &str = "four entirely other words";

struct Place {
    market: Market,
    browser: Browser,
}

impl Place {
    async fn open(settings: &[(&str, &str)]) -> Self {
        let market = Market::with(Store::Sqlite, settings).await;
        let browser = Browser::start().await;
        browser.run_no_scripts().await;
        Self { market, browser }
    }

    async fn go(&self, path: &str) {
        self.browser
            .go(&format!("{}{path}", self.market.url()))
            .await;
        self.until_at(path).await;
    }

    async fn until_at(&self, path: &str) {
        let url = format!("{}{path}", self.market.url());
        self.browser
            .until(&format!("location.href === '{url}'"))
            .await;
    }

    async fn until_told(&self, text: &str) {
        self.browser
            .until(&format!("document.body.innerText.includes({text:?})"))
            .await;
    }

    /// From the login page, by password.
    async fn enter(&self, email: &str, password: &str) {
        self.go("/login").await;
        self.browser.fill("#email", email).await;
        self.browser.fill("#password", password).await;
        self.browser.click("button").await;
    }

    async fn enter_code(&self, code: &str) {
        self.browser.fill("#code", code).await;
        self.browser.click("button").await;
    }

    /// Whoever the browser's cookie stands for.
    async fn me(&self) -> Value {
        let cookies = self.browser.cookies(&self.market.url()).await;
        let access = cookies.iter().find(|cookie| cookie["name"] == "at");
        let access = access.expect("signed in")["value"].as_str().expect("text");
        let api = self.market.api().bearing(access);
        api.get("/auth/me").await.is(200)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_without_scripts_chooses_a_new_password_by_the_link_in_a_mail() {
    let server = MailServer::start("plain").await;
    let url = server.url(LOGIN, "");
    let settings = [("mail.smtp_url", url.as_str()), ("tasks.mail_ms", "100")];
    let place = Place::open(&settings).await;
    let ada = people::signup(&place.market, "ada", &["consumer"]).await;
    let me = ada.get("/auth/me").await.is(200);
    let email = me["email"].as_str().expect("text").to_owned();

    place.enter(&email, NEW_PASSWORD).await;
    place
        .until_told("the e-mail address or the password is wrong")
        .await;
    place
        .browser
        .click("a[href='/account/forgot-password']")
        .await;
    place.until_at("/account/forgot-password").await;
    place.browser.fill("#email", &email).await;
    place.browser.click("button").await;
    place.until_told("a mail is on its way").await;
    let link = wait::until("the link arrives", async || {
        let mails = server.mails();
        let mut lines = mails.iter().flat_map(|mail| mail.raw.lines());
        let link = lines.find(|line| line.contains("/account/reset-password?token="));
        link.map(str::to_owned)
    })
    .await;
    let path = link.strip_prefix(&place.market.url()).expect("ours");
    place.go(path).await;
    place.browser.fill("#password", "password1").await;
    place.browser.click("button").await;
    place.until_told("first that attackers try").await;
    place.browser.fill("#password", NEW_PASSWORD).await;
    place.browser.click("button").await;
    place.until_told("sign in with the new password").await;
    // whoever was signed in isn't any more
    ada.get("/auth/me").await.refused(401, "session_ended");

    place.enter(&email, PASSWORD).await;
    place.until_told("password is wrong").await;
    place.enter(&email, NEW_PASSWORD).await;
    place.until_at("/").await;
    let me = place.me().await;
    assert_eq!(
        (&me["email"], &me["email_verified"]),
        (&json!(email), &json!(true))
    );
    // a link works once
    place.go(path).await;
    place
        .browser
        .fill("#password", "one more long password")
        .await;
    place.browser.click("button").await;
    place.until_told("this link was used already").await;
    let log = place.market.log();
    let token = path.split_once('=').expect("a token").1;
    assert!(!log.contains(token) && !log.contains(NEW_PASSWORD));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_signs_in_with_an_authenticator_and_with_a_recovery_code() {
    let place = Place::open(&[]).await;
    let ada = people::signup(&place.market, "ada", &["consumer"]).await;
    let me = ada.get("/auth/me").await.is(200);
    let email = me["email"].as_str().expect("text").to_owned();
    let begun = ada.post("/auth/totp", &Value::Null).await.is(201);
    let secret = begun["secret"].as_str().expect("a secret").to_owned();
    let code = json!({ "code": code_of(&secret, 0) });
    let set = ada.post("/auth/totp/confirm", &code).await.is(200);
    let recovery = set["recovery_codes"][0]
        .as_str()
        .expect("a code")
        .to_owned();

    place.enter(&email, PASSWORD).await;
    place.until_at("/login/code?next=%2F").await;
    assert!(
        place
            .browser
            .cookies(&place.market.url())
            .await
            .iter()
            .all(|cookie| cookie["name"] != "at")
    );
    place.enter_code("not a code").await;
    place.until_told("the code is wrong").await;
    // the code of before was used up by setting it; the next one is taken already
    place.enter_code(&code_of(&secret, 30)).await;
    place.until_at("/").await;
    assert_eq!(place.me().await["second_factor"], true);
    let cookies = place.browser.cookies(&place.market.url()).await;
    assert!(
        cookies.iter().all(|cookie| cookie["name"] != "code"),
        "{cookies:?}"
    );

    let other = Browser::start().await;
    let other = Place {
        market: place.market,
        browser: other,
    };
    other.enter(&email, PASSWORD).await;
    other.until_at("/login/code?next=%2F").await;
    other.enter_code(&recovery.to_lowercase()).await;
    other.until_at("/").await;
    assert_eq!(other.me().await["email"], json!(email));
    other.enter(&email, PASSWORD).await;
    other.until_at("/login/code?next=%2F").await;
    other.enter_code(&recovery).await;
    other.until_told("the code is wrong").await;
}
