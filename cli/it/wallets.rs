//! The wallet: sealed, carried over, and within its limits over runs and crashes.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use serde_json::json;

use crate::{
    program::Person,
    stub::{Fault, Stub},
};

const RENT: &str = "rent busybox:latest --ram 256MiB --duration 10m --no-wait";

fn private(person: &Person, name: &str, text: &str) -> PathBuf {
    fs::create_dir_all(&person.folder).unwrap();
    let path = person.folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

#[tokio::test]
async fn a_sealed_wallet_pays_with_its_passphrase_only() {
    let stub = Stub::start(500, &[]).await;
    let person = Person::new(&stub.url);
    // nobody to ask, nothing named
    let alone = person.run("wallet new").await;
    assert_eq!(alone.code, 2, "{alone:?}");
    assert!(alone.stderr.contains("--passphrase-file"), "{alone:?}");
    let short = private(&person, "short", "hunter2\n");
    let short = format!("wallet new --passphrase-file {}", short.display());
    assert_eq!(person.run(&short).await.code, 2);
    let words = private(&person, "words", "four unrelated words\n");
    let words = format!("--passphrase-file {}", words.display());
    let made = person.run(&format!("--json wallet new {words}")).await;
    assert_eq!(made.code, 0, "{made:?}");
    let address = made.json()["address"].clone();
    assert_eq!(
        person.run("--json wallet address").await.json()["address"],
        address
    );
    assert_eq!(
        person.run(&format!("wallet new {words}")).await.code,
        2,
        "never replaced"
    );
    let locked = person.run(RENT).await;
    assert_eq!(locked.code, 2, "{locked:?}");
    assert!(stub.seen().payments.is_empty());
    let wrong = private(&person, "wrong", "four related words\n");
    let wrong = format!("{RENT} --passphrase-file {}", wrong.display());
    assert_eq!(person.run(&wrong).await.code, 2);
    // what wasn't paid isn't counted
    assert_eq!(
        person.run("--json wallet limit").await.json()["spent"]["USDC"],
        "0.000000"
    );
    let paid = person.run(&format!("{RENT} {words}")).await;
    assert_eq!(paid.code, 0, "{paid:?}");
    assert_eq!(
        person.run("--json wallet limit").await.json()["spent"]["USDC"],
        "0.000500"
    );
    // by the environment, and to another folder and back
    let mut command = person.command(RENT);
    command.env("RAMARKET_PASSPHRASE_FILE", person.folder.join("words"));
    assert_eq!(command.output().await.unwrap().status.code(), Some(0));
    let exported = person.folder.join("exported");
    let export = format!("wallet export {} {words}", exported.display());
    assert_eq!(person.run(&export).await.code, 0);
    let mode = fs::metadata(&exported).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let other = Person::new(&stub.url);
    let import = format!("--json wallet import {} --plain", exported.display());
    let imported = other.run(&import).await;
    assert_eq!(imported.json()["address"], address, "{imported:?}");
    let piped = person
        .run_with_input("wallet import - --plain", "0xdeadbeef\n")
        .await;
    assert_eq!(piped.code, 2);
    assert!(!format!("{piped:?}").contains("deadbeef"));
}

#[tokio::test]
async fn limits_hold_over_runs_and_refusals_cost_nothing() {
    let stub = Stub::start(400_000, &[Fault::Refused]).await;
    let person = Person::with_wallet(&stub.url).await;
    let set = person.run("--json wallet limit 0.5 --per-day 1").await;
    assert_eq!(
        set.json(),
        json!({"limit": "0.500000", "limit_per_day": "1.000000", "spent": {"USDC": "0.000000", "EURC": "0.000000"}})
    );
    assert_eq!(person.run(RENT).await.code, 6, "the market refused it");
    for _ in 0..2 {
        let paid = person.run(RENT).await;
        assert_eq!(paid.code, 0, "{paid:?}");
    }
    let third = person.run(RENT).await;
    assert_eq!(third.code, 6);
    assert!(
        third.stderr.contains("per day") && third.stderr.contains("wallet limit"),
        "{third:?}"
    );
    let by_name = person.run(&format!("{RENT} --max-price 2")).await;
    assert_eq!(by_name.code, 6, "the day's limit holds all the same");
    assert_eq!(person.run("wallet limit 0.3 --per-day 10").await.code, 0);
    let dear = person.run(RENT).await;
    assert!(
        dear.code == 6 && dear.stderr.contains("one payment"),
        "{dear:?}"
    );
    assert_eq!(person.run(&format!("{RENT} --max-price 0.4")).await.code, 0);
    assert_eq!(stub.seen().charged.len(), 3);
    // the file goes before what was kept
    private(
        &person,
        "config.toml",
        "[wallet]\nlimit = \"0.4\"\nlimit_per_day = \"1.2\"\n",
    );
    let full = person.run(RENT).await;
    assert_eq!(full.code, 6, "{full:?}");
}

#[tokio::test]
async fn a_killed_payment_counts() {
    let stub = Stub::start(400_000, &[Fault::DropAfterEffect]).await;
    let person = Person::with_wallet(&stub.url).await;
    assert_eq!(person.run("wallet limit 0.5 --per-day 0.5").await.code, 0);
    let mut child = person.command(RENT).spawn().unwrap();
    let mut waiting = tokio::time::interval(std::time::Duration::from_millis(5));
    while stub.seen().payments.is_empty() {
        waiting.tick().await;
    }
    child.kill().await.unwrap();
    assert_eq!(person.run(RENT).await.code, 6, "another one is too much");
    assert_eq!(person.run("resume").await.code, 0);
    assert_eq!(person.run(RENT).await.code, 6);
    assert_eq!(stub.seen().charged.len(), 1);
}
