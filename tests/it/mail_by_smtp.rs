//! Mail through a real SMTP server: the link in it works, a refused recipient is given up, and without a trusted certificate
//! nothing is said.

use serde_json::json;
use system_tests::{
    mail_server::{LOGIN, MailServer},
    market::{Market, Store},
    wait,
};

async fn market_of(server: &MailServer, login: &str, query: &str) -> Market {
    let url = server.url(login, query);
    let settings = [
        ("mail.smtp_url", url.as_str()),
        ("mail.from", "RAMarket <no-reply@market.example>"),
        ("tasks.mail_ms", "100"),
    ];
    Market::with(Store::Sqlite, &settings).await
}

async fn signup(market: &Market, email: &str) -> String {
    let body = json!({"email": email, "password": "a long password of tests"});
    let answer = market.api().post("/auth/signup", &body).await.is(201);
    answer["access_token"].as_str().expect("a token").to_owned()
}

async fn until_logged(market: &Market, line: &str) {
    wait::until("it is logged", async || {
        market.log().contains(line).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_link_in_a_mail_verifies_the_address() {
    let server = MailServer::start("plain").await;
    let market = market_of(&server, LOGIN, "").await;
    let token = signup(&market, "ada@example.org").await;
    let mail = server.mail_to("ada@example.org").await.raw;
    for header in [
        "From: RAMarket <no-reply@market.example>\r\n",
        "Subject: Confirm your e-mail address\r\n",
        "Auto-Submitted: auto-generated\r\n",
    ] {
        assert!(mail.contains(header), "{header} in {mail}");
    }
    let link = mail.lines().find(|line| line.contains("?token="));
    let (page, link) = link
        .expect("a link")
        .split_once("?token=")
        .expect("a token");
    assert_eq!(page, format!("{}/account/verify-email", market.url()));
    let body = json!({ "token": link });
    market.api().post("/auth/email/verify", &body).await.is(204);
    let me = market.api().bearing(&token).get("/auth/me").await.is(200);
    assert_eq!(me["email_verified"], true);

    signup(&market, "refused@example.org").await;
    until_logged(&market, "mail given up").await;
    assert!(market.log().contains("no such box"));
    // neither the link nor the relay's password is in the log
    assert!(!market.log().contains(link) && !market.log().contains("relay%20password"));
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_lets_us_in_no_more_or_is_not_trusted_gets_nothing_and_mail_waits() {
    let server = MailServer::start("plain").await;
    let market = market_of(&server, "market:wrong", "").await;
    signup(&market, "ada@example.org").await;
    until_logged(&market, "mail not sent, it is tried again").await;

    let impostor = MailServer::start("starttls").await;
    let other = market_of(&impostor, LOGIN, "?tls=required").await;
    signup(&other, "ada@example.org").await;
    until_logged(&other, "mail not sent, it is tried again").await;
    assert!(other.log().contains("certificate"), "{}", other.log());
    assert!(!market.log().contains("given up") && !other.log().contains("given up"));
    assert!(server.mails().is_empty() && impostor.mails().is_empty());
}
