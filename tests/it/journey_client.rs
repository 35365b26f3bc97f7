//! The client `ramarket` against a real market: somebody without an account rents, looks, stops; programs read its JSON and
//! its exit codes.

use std::os::unix::fs::PermissionsExt as _;

use coordinator::store::testing::TempDir;
use serde_json::json;
use system_tests::{
    api::{Api, http_client},
    books::{atomic, check},
    client::Client,
    market::{Market, Store},
    people,
    stage::Stage,
    wait,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 3;
const AUTH: i32 = 4;
const NOT_FOUND: i32 = 5;
const PAYMENT: i32 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn somebody_without_an_account_rents_looks_extends_and_stops() {
    let stage = Stage::set(Store::Sqlite).await;
    let client = Client::of(&stage.market.url());
    let offers = client.json(&["offers", "--ram", "256MiB"]).await;
    assert_eq!(offers[0]["id"], stage.offer_id.as_str(), "{offers}");
    let slice = [
        "--offer",
        &stage.offer_id,
        "--ram",
        "256MiB",
        "--cpu",
        "0.1",
        "--duration",
        "10m",
    ];
    let quote = client.json(&[&["quote"], &slice[..]].concat()).await;
    assert_eq!(atomic(&quote["price"]), 156_000);

    let rent = [&["rent"], &slice[..]].concat();
    let run = ["busybox:latest", "--", "sleep", "600"];
    let unpaid = client.fails(USAGE, &[&rent[..], &run].concat()).await;
    assert!(unpaid.contains("wallet"), "{unpaid}");
    let wallet = client.json(&["wallet", "new", "--plain"]).await;
    assert_eq!(
        client.json(&["wallet", "address"]).await["address"],
        wallet["address"]
    );
    let dear = [&rent[..], &["--max-price", "0.1"], &run].concat();
    client.fails(PAYMENT, &dear).await;
    assert!(
        client
            .json(&["rentals"])
            .await
            .as_array()
            .is_some_and(Vec::is_empty)
    );

    let rental = client.json(&[&rent[..], &run].concat()).await;
    assert_eq!(rental["state"], "running", "{rental}");
    let id = rental["id"].as_str().expect("an id");
    assert!(
        rental["rental_token"].is_string(),
        "a program may hand it on"
    );
    let listed = client.json(&["rentals"]).await;
    assert_eq!(listed[0]["id"], id);
    let longer = client.json(&["extend", id, "--duration", "10m"]).await;
    assert_eq!(longer["duration_seconds"], 1_200);
    let shown = client.json(&["show", id]).await;
    assert_eq!(
        (&shown["id"], atomic(&shown["paid"])),
        (&rental["id"], 312_000)
    );
    let quiet = client.run(&["--quiet", "rentals"]).await;
    assert_eq!(String::from_utf8_lossy(&quiet.stdout).trim(), id);
    client.json(&["stop", id]).await;
    wait::until("it has ended", || async {
        let shown = client.json(&["show", id]).await;
        (shown["reason"] == "stopped" && shown["settled_at"].is_string()).then_some(())
    })
    .await;
    stage.until_no_container_is_left().await;
    check(&stage.market);
    // another folder holds no token of it
    let stranger = Client::of(&stage.market.url());
    let output = stranger.run(&["show", id]).await;
    assert!(
        [AUTH, NOT_FOUND].contains(&output.status.code().unwrap_or(0)),
        "{output:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_can_be_told_apart() {
    let stage = Stage::set(Store::Sqlite).await;
    let client = Client::of(&stage.market.url());
    client.fails(USAGE, &["rent", "busybox:latest"]).await;
    client.fails(USAGE, &["offers", "--ram", "much"]).await;
    let nothing = "rnt_00000000000000000000000000000001";
    let output = client.run(&["show", nothing]).await;
    assert!(
        [AUTH, NOT_FOUND].contains(&output.status.code().unwrap_or(0)),
        "{output:?}"
    );
    client.json(&["wallet", "new", "--plain"]).await;
    let slice = ["--ram", "256MiB", "--cpu", "0.1", "--duration", "10m"];
    let of_nobody = ["quote", "--offer", "ofr_00000000000000000000000000000001"];
    client
        .fails(NOT_FOUND, &[&of_nobody, &slice[..]].concat())
        .await;
    let too_much = ["quote", "--ram", "100000GiB", "--duration", "10m"];
    client.fails(FAILED, &too_much).await;
    let balance = [&["rent", "--balance"], &slice[..], &["busybox:latest"]].concat();
    client.fails(AUTH, &balance).await;
    // an image that can't be had: paid, refunded, and said so
    let broken = [&["rent"], &slice[..], &["127.0.0.1:9/nothing/here:latest"]].concat();
    let said = client.fails(FAILED, &broken).await;
    assert!(said.contains("failed_to_start"), "{said}");
    let password = stage.market.folder().join("password");
    std::fs::write(&password, "not the password\n").expect("a file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&password, mode).expect("private");
    let login = [
        "login",
        "--email",
        "provider@ramarket.example",
        "--password-file",
    ];
    let password = password.to_str().expect("text");
    client
        .fails(AUTH, &[&login[..], &[password]].concat())
        .await;

    let url = stage.market.url();
    assert_eq!(Api::of(&url).get("/offers").await.status, 200);
    drop(stage);
    let nobody = Client::of(&url);
    nobody.fails(UNREACHABLE, &["offers"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_rents_by_an_api_key_until_it_is_revoked() {
    let stage = Stage::set(Store::Sqlite).await;
    let consumer = people::consumer(&stage.market).await;
    let amount = json!({"amount": {"amount": "5", "currency": "USDC"}, "source": "sandbox"});
    let filled = consumer
        .post_once("/balance/topups", &amount, "first")
        .await;
    filled.is(201);
    let wish = json!({"name": "a program", "scopes": ["rentals:read", "rentals:write"]});
    let made = consumer.post("/api-keys", &wish).await.is(201);
    let folder = TempDir::new();
    let file = folder.path().join("program.key");
    std::fs::write(&file, made["key"].as_str().expect("a key")).expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("private");
    let client = Client::of(&stage.market.url());
    let file = file.to_str().expect("text");
    let kept = client.run(&["login", "--api-key-file", file]).await;
    assert!(kept.status.success(), "{kept:?}");
    let rent = [
        "rent",
        "--balance",
        "--no-wait",
        "--offer",
        &stage.offer_id,
        "--ram",
        "256MiB",
        "--cpu",
        "0.1",
        "--duration",
        "10m",
        "busybox:latest",
        "--",
        "sleep",
        "600",
    ];
    let rental = client.json(&rent).await;
    let id = rental["id"].as_str().expect("an id");
    assert_eq!(client.json(&["rentals"]).await[0]["id"], id);
    client.json(&["stop", id]).await;
    let path = format!("/api-keys/{}", made["id"].as_str().expect("an id"));
    consumer.delete(&path).await.is(204);
    let said = client.fails(AUTH, &["rentals"]).await;
    assert!(
        !said.contains(made["key"].as_str().expect("a key")),
        "{said}"
    );
}

/// The client shows an address, a person confirms there, and it acts for them with what they saw and no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_the_client_in_by_browser() {
    let market = Market::with(Store::Sqlite, &[]).await;
    let consumer = people::consumer(&market).await;
    let client = Client::of(&market.url());
    let line = client.line(&["login", "--scope", "account:read", "--name", "a desk"]);
    let mut waiting = tokio::process::Command::new(&line[0])
        .args(&line[1..])
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let mut said = BufReader::new(waiting.stderr.take().expect("a pipe")).lines();
    let told = said.next_line().await.expect("read").expect("a line");
    let mut words = told.split(' ');
    let link = words
        .find(|word| word.contains("/device?code="))
        .expect("a link");
    let code = told.rsplit(' ').next().expect("a code").to_owned();

    let cookie = format!("at={}", consumer.token());
    let http = http_client();
    let page = http
        .get(link)
        .header("cookie", &cookie)
        .send()
        .await
        .expect("a page");
    let page = page.text().await.expect("text");
    assert!(
        page.contains("a desk") && page.contains("account:read"),
        "{page}"
    );
    let (_, mark) = page.split_once("name=\"mark\" value=\"").expect("a mark");
    let mark = mark.split('"').next().expect("its end");
    let form = format!("code={code}&mark={mark}&decision=approve");
    let confirm = || {
        http.post(format!("{}/device", market.url()))
            .header("cookie", &cookie)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.clone())
    };
    let elsewhere = confirm()
        .header("sec-fetch-site", "cross-site")
        .send()
        .await;
    assert_eq!(elsewhere.expect("an answer").status(), 403);
    let done = confirm()
        .header("sec-fetch-site", "same-origin")
        .send()
        .await;
    assert_eq!(done.expect("an answer").status(), 200);

    assert!(waiting.wait().await.expect("it ends").success());
    assert!(client.json(&["balance"]).await.is_array());
    client.fails(AUTH, &["rentals"]).await;
    let keys = consumer.get("/api-keys").await.is(200);
    assert_eq!(keys["items"][0]["name"], "a desk");
}
