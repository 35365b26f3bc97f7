//! What people do, and what goes wrong on the way.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::{
    program::Person,
    stub::{API_KEY, Fault, RENTAL, Stub, TOKEN},
};

const RENT: &str = "rent busybox:latest --ram 256MiB --duration 10m -- sleep 60";

/// Every payment header was the same, and one charge came of them.
fn assert_paid_once(stub: &Stub, requests: usize) {
    let seen = stub.seen();
    assert_eq!(seen.payments.len(), requests, "paid requests");
    assert!(
        seen.payments
            .iter()
            .all(|payment| *payment == seen.payments[0])
    );
    assert_eq!(seen.charged.len(), 1, "charges");
}

#[tokio::test]
async fn rents_without_an_account_and_comes_back() {
    let stub = Stub::start(500, &[]).await;
    let person = Person::with_wallet(&stub.url).await;
    let rented = person.run(&format!("--json {RENT}")).await;
    assert_eq!(rented.code, 0, "{rented:?}");
    assert_eq!(
        (&rented.json()["id"], &rented.json()["state"]),
        (&json!(RENTAL), &json!("running"))
    );
    assert_paid_once(&stub, 1);
    assert!(rented.stderr.contains("paying 0.000500 USDC") && rented.stderr.contains("play money"));
    for step in ["scheduled", "pulling", "running"] {
        assert!(rented.stderr.contains(step), "{step}: {rented:?}");
    }
    assert_eq!(
        stub.seen().bodies[0],
        json!({"requirements": {}, "resources": {"ram_bytes": 268_435_456, "cpu_millis": 500}, "duration_seconds": 600,
            "image": "busybox:latest", "command": ["sleep", "60"], "pay_with": "x402"})
    );
    // the token is kept, and given to whoever reads the JSON, but not told
    assert_eq!(rented.json()["rental_token"], TOKEN);
    assert!(!rented.stderr.contains(TOKEN));
    assert_eq!(person.run("-q rentals").await.stdout, format!("{RENTAL}\n"));
    assert_eq!(
        person.run(&format!("--json show {RENTAL}")).await.json()["state"],
        "running"
    );
    let stopped = person.run(&format!("--json stop {RENTAL}")).await;
    assert_eq!(stopped.json()["state"], "stopping");
    let stranger = Person::new(&stub.url);
    assert_eq!(stranger.run(&format!("stop {RENTAL}")).await.code, 4);
    assert_eq!(stranger.run("-q rentals").await.stdout, "");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_and_charged_once() {
    let faults = [
        Fault::DropAfterEffect,
        Fault::Unavailable,
        Fault::DropAfterEffect,
    ];
    let stub = Stub::start(500, &faults).await;
    let person = Person::with_wallet(&stub.url).await;
    let rented = person.run(&format!("-q {RENT}")).await;
    assert_eq!(
        (rented.code, rented.stdout.as_str()),
        (0, format!("{RENTAL}\n").as_str()),
        "{rented:?}"
    );
    assert_paid_once(&stub, 4);
}

#[tokio::test]
async fn a_payment_in_progress_is_watched_and_then_served() {
    let stub = Stub::start(500, &[Fault::Accepted]).await;
    let person = Person::with_wallet(&stub.url).await;
    let rented = person.run(&format!("--json {RENT}")).await;
    assert_eq!(rented.code, 0, "{rented:?}");
    assert!(rented.stderr.contains("is being settled"));
    assert_paid_once(&stub, 2);
}

#[tokio::test]
async fn a_killed_client_resumes_its_payment() {
    let stub = Stub::start(500, &[Fault::DropAfterEffect]).await;
    let person = Person::with_wallet(&stub.url).await;
    let mut child = person.command(RENT).spawn().unwrap();
    let mut waiting = tokio::time::interval(std::time::Duration::from_millis(5));
    while stub.seen().payments.is_empty() {
        waiting.tick().await;
    }
    child.kill().await.unwrap();
    let resumed = person.run("-q resume").await;
    assert_eq!(
        (resumed.code, resumed.stdout.as_str()),
        (0, format!("{RENTAL}\n").as_str()),
        "{resumed:?}"
    );
    assert_paid_once(&stub, 2);
    assert_eq!(person.run("-q rentals").await.stdout, format!("{RENTAL}\n"));
    // nothing is left to do
    assert_eq!(person.run("-q resume").await.stdout, "");
    assert_paid_once(&stub, 2);
}

#[tokio::test]
async fn nothing_is_signed_above_the_limit() {
    let stub = Stub::start(1_000_001, &[]).await;
    let person = Person::with_wallet(&stub.url).await;
    let refused = person.run(RENT).await;
    assert_eq!(refused.code, 6, "{refused:?}");
    assert!(refused.stderr.contains("--max-price"), "{refused:?}");
    assert!(stub.seen().payments.is_empty());
    let paid = person
        .run("rent busybox --ram 1GiB --duration 1h --max-price 1.000001 --max-spend 2 --no-wait")
        .await;
    assert_eq!(paid.code, 0, "{paid:?}");
    let asked = stub.seen().bodies.last().cloned().unwrap();
    assert_eq!(
        asked["max_spend"],
        json!({"amount": "2.000000", "currency": "USDC"})
    );
    // people aren't shown the token
    assert!(!paid.stdout.contains(TOKEN), "{paid:?}");
}

#[tokio::test]
async fn refusals_have_their_exit_codes_and_leave_nothing_open() {
    for (fault, code, word) in [
        (Fault::CapacityGone, 1, "capacity_gone"),
        (Fault::Refused, 6, "insufficient_funds"),
    ] {
        let stub = Stub::start(500, &[fault]).await;
        let person = Person::with_wallet(&stub.url).await;
        let refused = person.run(RENT).await;
        assert_eq!(refused.code, code, "{refused:?}");
        assert!(refused.stderr.contains(word), "{refused:?}");
        assert_eq!(stub.seen().payments.len(), 1);
        assert_eq!(person.run("resume").await.code, 0);
        assert_eq!(stub.seen().payments.len(), 1, "repeated a refused payment");
    }
}

#[tokio::test]
async fn a_rental_that_never_runs_says_why() {
    let stub = Stub::ending_in("ended", 500, &[]).await;
    let person = Person::with_wallet(&stub.url).await;
    let failed = person.run(RENT).await;
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.contains("failed_to_start"), "{failed:?}");
}

#[tokio::test]
async fn signs_in_renews_and_pays_from_the_balance() {
    let stub = Stub::start(500, &[]).await;
    let person = Person::new(&stub.url);
    let rent = "rent busybox --ram 256MiB --duration 10m --balance --no-wait";
    assert_eq!(person.run(rent).await.code, 4, "nobody is signed in");
    let login = "login --email a@example.org --password-file -";
    assert_eq!(person.run_with_input(login, "wrong\n").await.code, 4);
    assert_eq!(
        person.run_with_input(login, "correct horse\n").await.code,
        0
    );
    let rented = person.run(rent).await;
    assert_eq!(rented.code, 0, "{rented:?}");
    // the first attempt had an old token: the repetition is under the same key
    let keys = stub.seen().idempotency_keys.clone();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);
    assert_eq!(person.run("rentals").await.code, 0);
}

#[tokio::test]
async fn acts_by_an_api_key_of_a_file_of_the_environment_or_as_remembered() {
    let stub = Stub::start(500, &[]).await;
    let person = Person::new(&stub.url);
    let rent = "rent busybox --ram 256MiB --duration 10m --balance --no-wait";
    let file = person.folder.with_extension("key");
    let written = |text: &str, mode: u32| {
        drop(std::fs::remove_file(&file));
        std::fs::write(&file, format!("{text}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let named = format!("--api-key-file {}", file.display());
    assert_eq!(person.run(&format!("{named} {rent}")).await.code, 2);
    written(API_KEY, 0o644);
    let shown = person.run(&format!("{named} {rent}")).await;
    assert_eq!(shown.code, 2);
    assert!(shown.stderr.contains("chmod 600"), "{shown:?}");
    written(API_KEY, 0o600);
    assert_eq!(person.run(&format!("{named} {rent}")).await.code, 0);
    assert_eq!(person.run(&format!("{named} rentals")).await.code, 0);
    // a key that holds no more isn't renewed, and never shown
    written("ram_live_revoked", 0o600);
    let revoked = person.run(&format!("{named} {rent}")).await;
    assert_eq!(revoked.code, 4);
    assert!(!format!("{revoked:?}").contains("ram_live_revoked"));
    assert_eq!(person.run(&format!("{named} login")).await.code, 4);
    assert_eq!(person.run(rent).await.code, 4, "nothing was kept");
    // by the environment
    let mut command = person.command(rent);
    let by_variable = command.env("RAMARKET_API_KEY", API_KEY).output().await;
    assert_eq!(by_variable.unwrap().status.code(), Some(0));
    // kept for this market, until it is forgotten
    written(API_KEY, 0o600);
    assert_eq!(person.run(&format!("login {named}")).await.code, 0);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(person.run(rent).await.code, 0);
    assert_eq!(person.run("logout").await.code, 0);
    assert_eq!(person.run(rent).await.code, 4);
}

#[tokio::test]
async fn lists_follow_cursors_and_quotes_add_up() {
    let stub = Stub::start(500, &[]).await;
    let person = Person::new(&stub.url);
    let listed = person
        .run("-q offers --ram 256MiB --price-max 0.01 --limit 3")
        .await;
    assert_eq!(listed.stdout.lines().count(), 3, "{listed:?}");
    let queries = stub.seen().queries.clone();
    assert!(
        queries[0].contains("ram_gib_min=0.25&price_max=0.010000&sort=price&order=asc&limit=3"),
        "{queries:?}"
    );
    assert!(queries[1].contains("limit=1&cursor=next"), "{queries:?}");
    let table = person.run("offers --limit 1").await;
    assert!(
        table.stdout.contains("1 GiB") && table.stdout.contains("0.002000"),
        "{table:?}"
    );
    let quote = person
        .run("quote --ram 256MiB --duration 1h --region eu")
        .await;
    assert!(quote.stdout.contains("0.000475 USDC"), "{quote:?}");
    assert_eq!(
        stub.seen().bodies[0]["requirements"],
        json!({"region": "eu"})
    );
}

#[tokio::test]
async fn exit_codes_tell_what_kind_of_failure_it_was() {
    let stub = Stub::start(500, &[]).await;
    let person = Person::new(&stub.url);
    let unknown = "show rnt_00000000000000000000000000000009";
    assert_eq!(person.run(unknown).await.code, 5);
    assert_eq!(person.run("show 9").await.code, 2);
    let keyless = person.run(RENT).await;
    assert_eq!(keyless.code, 2);
    assert!(keyless.stderr.contains("wallet new"), "{keyless:?}");
    // a port that was just free
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let away = Person::with_wallet(&format!("http://{free}")).await;
    assert_eq!(away.run(RENT).await.code, 3);
    assert_eq!(away.run("offers").await.code, 3);
}

#[tokio::test]
async fn a_key_that_others_can_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let stub = Stub::start(500, &[]).await;
    let person = Person::with_wallet(&stub.url).await;
    let key = person.folder.join("wallet.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = person.run(RENT).await;
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("chmod 600"), "{refused:?}");
    let secret = std::fs::read_to_string(&key).unwrap();
    assert!(!refused.stderr.contains(secret.trim()));
    assert!(stub.seen().bodies.is_empty());
}
