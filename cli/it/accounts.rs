//! Signing in by browser, settings in a file, manual pages.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::json;

use crate::{
    program::Person,
    stub::{API_KEY, Stub},
};

const RENT: &str = "rent busybox --ram 256MiB --duration 10m --balance --no-wait";

#[tokio::test]
async fn signs_in_by_browser_and_keeps_the_key_to_itself() {
    let stub = Stub::start(500, &[]).await;
    let person = Person::new(&stub.url);
    let wish = "login --scope rentals:read --scope rentals:write --days 2 --name laptop";
    let signed_in = person.run(wish).await;
    assert_eq!(signed_in.code, 0, "{signed_in:?}");
    assert!(
        signed_in.stderr.contains("/device?code=BCDF-GHJK"),
        "{signed_in:?}"
    );
    assert!(!format!("{signed_in:?}").contains(API_KEY), "shown");
    assert_eq!(
        stub.seen().bodies[0],
        json!({"client_name": "laptop", "scopes": ["rentals:read", "rentals:write"], "expires_in_days": 2})
    );
    let kept = person.folder.join("client.json");
    let mode = fs::metadata(&kept).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert_eq!(person.run(RENT).await.code, 0);
    assert_eq!(person.run("logout").await.code, 0);
    assert_eq!(person.run(RENT).await.code, 4);
}

#[tokio::test]
async fn who_is_refused_in_the_browser_isnt_signed_in() {
    let stub = Stub::start(500, &[]).await;
    stub.seen().denies = true;
    let person = Person::new(&stub.url);
    let refused = person.run("login").await;
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("access_denied"));
    assert_eq!(person.run(RENT).await.code, 4);
}

#[tokio::test]
async fn markets_of_the_file_are_named_and_the_flag_goes_first() {
    let stub = Stub::start(500, &[]).await;
    let person = Person::new("nowhere");
    assert_eq!(
        person.run("offers").await.code,
        2,
        "there is no such market"
    );
    fs::create_dir_all(&person.folder).unwrap();
    let key = person.folder.join("work.key");
    fs::write(&key, API_KEY).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "json = true\n[markets.nowhere]\nurl = \"{}\"\napi_key_file = \"{}\"\n",
        stub.url,
        key.display()
    );
    let file = person.folder.join("config.toml");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let listed = person.run("offers --limit 1").await;
    assert!(listed.json()[0]["id"].is_string(), "{listed:?}");
    assert_eq!(person.run(RENT).await.code, 0, "by the key of that market");
    let quiet = person.run("-q offers --limit 1").await;
    assert!(quiet.stdout.starts_with("ofr_"), "{quiet:?}");
    fs::write(&file, "jsn = true\n").unwrap();
    let misspelt = person.run("offers").await;
    assert_eq!(misspelt.code, 2);
    assert!(misspelt.stderr.contains("jsn"), "{misspelt:?}");
}

#[tokio::test]
async fn every_command_has_a_manual_page_and_completions() {
    let person = Person::new("http://127.0.0.1:1");
    fs::create_dir_all(&person.folder).unwrap();
    let folder = person.folder.to_str().unwrap();
    assert_eq!(person.run(&format!("man {folder}")).await.code, 0);
    for page in ["ramarket", "ramarket-rent", "ramarket-wallet-limit"] {
        let text = fs::read_to_string(person.folder.join(format!("{page}.1")));
        assert!(text.unwrap().contains(".TH"), "{page}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = person.run(&format!("completions {shell}")).await;
        assert!(script.stdout.contains("receipts"), "{shell}");
    }
}
