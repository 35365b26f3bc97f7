//! An invoice and a statement as people see them: a real browser on a telephone's screen, with scripts switched off.

use coordinator::testing::{TestApp, market::Market};
use serde_json::{Value, json};
use shared::id::RentalId;
use system_tests::browser::Browser;

async fn sign_in(test: &TestApp) -> String {
    let body = json!({"email": "consumer@example.org", "password": "a long password"});
    let answer = test.post("/api/v1/auth/login", "", &body).await.json();
    let token = answer["access_token"].as_str().map(str::to_owned);
    token.unwrap_or_else(|| panic!("{answer}"))
}

/// A rental of a minute, over and settled.
async fn rented(market: &mut Market) -> RentalId {
    let test = &market.test;
    let token = test.signup("consumer@example.org", &["consumer"]).await;
    let order = market.order(60);
    let bought = market.payer.buy(test, "/api/v1/rentals", &token, &order);
    let bought = bought.await.json();
    let id = bought["id"].as_str().map(str::parse::<RentalId>);
    let id = id.expect("an id").expect("a rental's id");
    market.node.beat(&market.test).await;
    market.node.start(id);
    market.node.beat(&market.test).await;
    market.pass(80_000).await;
    market.settle().await;
    id
}

/// Serves a coordinator in process; returns where.
async fn served(test: &TestApp) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = coordinator::router::router(&test.app);
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn fits(browser: &Browser) {
    let width = browser.eval("document.documentElement.scrollWidth").await;
    assert_eq!(width, Some(json!(360)), "the page scrolls sideways");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invoice_is_read_on_a_telephone_and_printed() {
    let mut market = Market::open(TestApp::new().await).await;
    let id = rented(&mut market).await;
    let token = sign_in(&market.test).await;
    let path = format!("/api/v1/rentals/{id}/invoice");
    let invoice: Value = market.test.get(&path, &token).await.json();
    let url = served(&market.test).await;
    let browser = Browser::start().await;
    browser.run_no_scripts().await;
    browser.resize(360, 740).await;

    let page = format!("{url}/invoices/{}", invoice["id"].as_str().expect("an id"));
    browser.go(&page).await;
    browser
        .until("document.querySelector('[role=alert]')")
        .await;
    let way_in = browser
        .eval("document.querySelector('.paper a').getAttribute('href')")
        .await;
    let way_in = way_in.expect("a link");
    assert!(
        way_in
            .as_str()
            .is_some_and(|href| href.starts_with("/login?next=/invoices/"))
    );

    browser.set_cookie(&url, "at", &token).await;
    browser.go(&page).await;
    browser.until("document.querySelector('#total')").await;
    let total = invoice["total"]["amount"].as_str().expect("a total");
    let shown = browser
        .eval("document.querySelector('#total').innerText")
        .await;
    assert_eq!(shown, Some(json!(format!("{total} USDC"))));
    let told = browser.eval("document.body.innerText").await.expect("text");
    for fact in [
        "RM-2027-000001",
        "consumer@example.org",
        "busybox:latest",
        "VAT included",
    ] {
        assert!(
            told.as_str().is_some_and(|told| told.contains(fact)),
            "{fact}: {told}"
        );
    }
    fits(&browser).await;
    // every link can be reached by the keyboard: links and nothing else are to be clicked
    let other = browser
        .eval("document.querySelectorAll('[onclick], [tabindex=\"-1\"]').length")
        .await;
    assert_eq!(other, Some(json!(0)));

    browser.go(&format!("{url}/statements/2027-01")).await;
    browser.until("document.querySelector('caption')").await;
    fits(&browser).await;
}
