//! A terminal in a real browser: TLS by nginx, the gateway, the link through the router, the container.

use serde_json::json;
use system_tests::{browser::Browser, home::Home, payer::Payer, people};

use super::{WAITS, small_order};

const SCREEN: &str =
    "[...document.querySelectorAll('.xterm-rows > div')].map(row => row.innerText.trimEnd())";

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_in_a_browser_reaches_it() {
    let home = Home::set(&[]).await;
    let person = people::consumer(&home.stage.market).await;
    let rented = Payer::new().rent(&person, &small_order(&home, WAITS)).await;
    rented.until("running").await;
    let browser = Browser::start().await;
    browser.believe_any_certificate().await;
    let market = format!("https://{}:{}", home.face.address, home.face.tls);
    browser
        .set_cookie(&market, "__Host-at", person.token())
        .await;
    let page = format!("{market}/rentals/{}/terminal", rented.id);
    browser.go(&page).await;
    let connected = "document.querySelector('#status').innerText.includes('Connected.')";
    browser.until(connected).await;
    browser.type_keys("echo $((6*7)) $(hostname)").await;
    browser.press("Enter").await;
    let hostname = home.stage.node.engine().of_rental(&rented.id).await;
    let hostname = hostname.expect("it runs").id[..12].to_owned();
    let line = json!(format!("42 {hostname}"));
    browser.until(&format!("({SCREEN}).includes({line})")).await;
}
