//! A person's rental in a real browser: its page, what it wrote, and a terminal in it, under the strict policy of our pages.

use serde_json::{Value, json};
use system_tests::{api::Api, browser::Browser, market::Store, people, stage::Stage, wait};

/// The lines of the terminal, as they are shown.
const SCREEN: &str = "[...document.querySelectorAll('.xterm-rows > div')].map(row => row.innerText.replaceAll('\\u00a0', ' ').trimEnd()).join('\\n')";
/// Says of each thing that the page's policy refused what it was.
const WATCH: &str = "(() => { window.refusedByPolicy = []; document.addEventListener('securitypolicyviolation', \
    event => window.refusedByPolicy.push(event.violatedDirective + ' ' + event.sample)); return true })()";

struct Place {
    stage: Stage,
    browser: Browser,
    consumer: Api,
    rental: String,
}

impl Place {
    /// Somebody signed in, with a rental that runs.
    async fn open() -> Self {
        let stage = Stage::set(Store::Sqlite).await;
        let consumer = people::consumer(&stage.market).await;
        let amount = json!({"amount": {"amount": "5", "currency": "USDC"}, "source": "sandbox"});
        consumer
            .post_once("/balance/topups", &amount, "first")
            .await
            .is(201);
        let mut order = stage.order(&["sh", "-c", "echo '<b>begun</b>'; exec sleep 600"], 600);
        order["pay_with"] = json!("balance");
        // a tenth of a CPU takes seconds to start a shell
        order["resources"]["cpu_millis"] = json!(500);
        let rented = consumer.post_once("/rentals", &order, "rent").await.is(201);
        let rental = rented["id"].as_str().expect("an id").to_owned();
        let path = format!("/rentals/{rental}");
        wait::until("it runs", || async {
            let view = consumer.get(&path).await.is(200);
            (view["state"] == "running").then_some(())
        })
        .await;
        let browser = Browser::start().await;
        Self {
            stage,
            browser,
            consumer,
            rental,
        }
    }

    async fn sign_in(&self, as_whom: &Api) {
        let url = self.stage.market.url();
        self.browser.set_cookie(&url, "at", as_whom.token()).await;
    }

    async fn go(&self, rest: &str) {
        let url = format!("{}/rentals/{}{rest}", self.stage.market.url(), self.rental);
        self.browser.go(&url).await;
        self.browser
            .until(&format!("location.href === '{url}'"))
            .await;
    }

    async fn until_shown(&self, text: &str) {
        self.browser
            .until(&format!("document.body.innerText.includes({text:?})"))
            .await;
    }

    async fn until_on_screen(&self, line: &str) {
        self.browser
            .until(&format!("({SCREEN}).split('\\n').includes({line:?})"))
            .await;
    }

    async fn until_status(&self, text: &str) {
        self.browser
            .until(&format!(
                "document.querySelector('#status').innerText.includes({text:?})"
            ))
            .await;
    }

    async fn run(&self, command: &str) {
        self.browser.type_keys(command).await;
        self.browser.press("Enter").await;
    }

    /// The size of the terminal, in characters, as the shell says it.
    async fn size(&self) -> String {
        let now = "[...document.querySelectorAll('.xterm-rows > div')].length";
        let rows = self
            .browser
            .eval(now)
            .await
            .and_then(|rows| rows.as_u64())
            .expect("rows");
        self.run("clear; echo size $(stty size)").await;
        let is_there = format!("/^size {rows} \\d+$/m.exec({SCREEN})");
        self.browser.until(&is_there).await;
        let size = self
            .browser
            .eval(&format!("({is_there})[0]"))
            .await
            .expect("a size");
        size.as_str().expect("text").to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_opens_a_terminal_in_their_rental_and_nobody_else_does() {
    let place = Place::open().await;
    place.browser.resize(1_000, 800).await;
    place.go("").await;
    place.until_shown("Sign in").await;
    place.sign_in(&place.consumer).await;
    place.go("").await;
    place.until_shown("running").await;
    place.go("/terminal").await;
    // what was refused while it loaded shows by what isn't styled; what comes later shows here
    assert_eq!(place.browser.eval(WATCH).await, Some(Value::Bool(true)));
    place.until_status("Connected.").await;
    place.run("echo $((6*7))").await;
    place.until_on_screen("42").await;
    let styled = "[...document.querySelectorAll('#terminal style')].map(style => style.sheet !== null && style.sheet.cssRules.length > 0)";
    let styled = place.browser.eval(styled).await.expect("style sheets");
    assert_eq!(styled, json!([true, true, true]), "the policy takes them");
    // colours by their value are set on elements, and styles of the terminal apply
    place
        .run("printf '\\033[38;2;1;2;3mcoloured\\033[0m\\n'")
        .await;
    let coloured = "[...document.querySelectorAll('.xterm-rows span')].some(span => \
        span.innerText === 'coloured' && getComputedStyle(span).color === 'rgb(1, 2, 3)')";
    place.browser.until(coloured).await;

    let wide = place.size().await;
    place.browser.resize(390, 700).await;
    place
        .browser
        .until("document.documentElement.scrollWidth <= 390")
        .await;
    // the terminal follows its page
    place
        .browser
        .until("document.querySelector('.xterm-screen').clientWidth <= 390")
        .await;
    let narrow = place.size().await;
    assert_ne!(wide, narrow);
    // by keyboard out of it, to what is below
    place.browser.press("Control+F6").await;
    place
        .browser
        .until("document.activeElement.id === 'after'")
        .await;
    place
        .browser
        .eval("document.querySelector('.xterm-helper-textarea').focus()")
        .await;
    place.run("exit 5").await;
    place.until_status("exit code 5").await;
    place.browser.click("#again").await;
    place.until_status("Connected.").await;
    place.run("echo again $((2*3))").await;
    place.until_on_screen("again 6").await;
    let refused = place.browser.eval("window.refusedByPolicy").await;
    assert_eq!(refused, Some(json!([])));

    let stranger = people::signup(&place.stage.market, "stranger", &["consumer"]).await;
    for other in [&stranger, &place.stage.provider] {
        place.sign_in(other).await;
        for page in ["", "/logs", "/terminal"] {
            place.go(page).await;
            place.until_shown("no such rental").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rentals_page_tells_of_its_end_by_itself() {
    let place = Place::open().await;
    place.sign_in(&place.consumer).await;
    place.go("").await;
    place.until_shown("running").await;
    // a page that was loaded again would have forgotten it
    place.browser.eval("window.isTheSame = true").await;
    let path = format!("/rentals/{}/stop", place.rental);
    place.consumer.post(&path, &Value::Null).await.is(200);
    place
        .browser
        .until("document.querySelector('#state').innerText === 'ended'")
        .await;
    place
        .browser
        .until("document.querySelector('#post-mortem') !== null")
        .await;
    let same = place.browser.eval("window.isTheSame").await;
    assert_eq!(same, Some(Value::Bool(true)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_says_when_more_comes_than_it_can_show() {
    let place = Place::open().await;
    place.sign_in(&place.consumer).await;
    place.go("/terminal").await;
    place.until_status("Connected.").await;
    // shows nothing any more: it would do so later
    place
        .browser
        .eval("Boolean(window.setTimeout = () => 0)")
        .await;
    place.run("yes").await;
    place.until_status("faster than this page can show").await;
    place
        .browser
        .until("!document.querySelector('#again').hidden")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_scripts_a_rental_says_all_but_the_terminal() {
    let place = Place::open().await;
    place.browser.run_no_scripts().await;
    place.sign_in(&place.consumer).await;
    place
        .browser
        .go(&format!("{}/rentals", place.stage.market.url()))
        .await;
    place.until_shown("busybox:latest").await;
    place.browser.click("table a").await;
    place.until_shown("running").await;
    place
        .until_shown(&format!("ramarket exec -it {}", place.rental))
        .await;
    place.go("/logs").await;
    place.until_shown("<b>begun</b>").await;
    place.go("/terminal").await;
    place.until_shown("needs JavaScript").await;
    place
        .until_shown(&format!("ramarket exec -it {}", place.rental))
        .await;
    let path = format!("/rentals/{}/stop", place.rental);
    place.consumer.post(&path, &Value::Null).await.is(200);
    wait::until("it has ended", || async {
        let view = place
            .consumer
            .get(&format!("/rentals/{}", place.rental))
            .await
            .is(200);
        (view["state"] == "ended").then_some(())
    })
    .await;
    place.go("").await;
    place.until_shown("stopped").await;
    let link = place
        .browser
        .eval("document.querySelector('#post-mortem').href")
        .await;
    let link = link.expect("a link").as_str().expect("text").to_owned();
    let answer = system_tests::api::http_client()
        .get(link)
        .header("cookie", format!("at={}", place.consumer.token()))
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/gzip".parse().expect("a value"))
    );
    place.go("/terminal").await;
    place.until_shown("opens while it runs").await;
}
