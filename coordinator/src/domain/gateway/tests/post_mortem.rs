//! What is kept of a rental that is over, as one archive.

use std::{collections::BTreeMap, io::Read as _};

use axum::http::StatusCode;
use flate2::read::GzDecoder;
use serde_json::Value;
use shared::wire::observed::ExitCause;

use super::{Place, rented_by_account};
use crate::testing::{TestApp, request};

const DAY_MS: i64 = 24 * 3_600_000;

/// The rental has ended with this exit code.
async fn over(place: &mut Place, code: i64) {
    let market = &mut place.market;
    market.node.finish(place.rental, code, ExitCause::Itself);
    market.node.beat(&market.test).await;
    market.settle().await;
}

/// The files of the archive.
async fn files(place: &Place, token: &str) -> BTreeMap<String, String> {
    let path = place.path("post-mortem");
    let answer = place
        .test()
        .open(request("GET", &path, token, &Value::Null))
        .await;
    let headers = answer.headers().clone();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(headers["content-type"], "application/gzip");
    let named = format!(
        "attachment; filename=\"{}-post-mortem.tar.gz\"",
        place.rental
    );
    assert_eq!(headers["content-disposition"], named.as_str());
    let bytes = axum::body::to_bytes(answer.into_body(), 1 << 24)
        .await
        .expect("whole");
    assert_eq!(headers["content-length"], bytes.len().to_string().as_str());
    let mut archive = tar::Archive::new(GzDecoder::new(&bytes[..]));
    let mut files = BTreeMap::new();
    for entry in archive.entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a path").to_string_lossy().into_owned();
        let name = name
            .strip_prefix(&format!("{}/", place.rental))
            .expect("in the rental's folder");
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("text");
        files.insert(name.to_owned(), text);
    }
    files
}

#[tokio::test]
async fn a_rental_that_is_over_comes_as_one_archive() {
    let mut place = Place::open(TestApp::new().await).await;
    let early = place
        .test()
        .get(&place.path("post-mortem"), &place.token())
        .await;
    assert_eq!(early.status, StatusCode::CONFLICT);
    assert_eq!(early.json()["code"], "rental_not_over");
    over(&mut place, 3).await;
    let files = files(&place, &place.token()).await;
    assert!(
        files["README.txt"].contains("Nothing is missing"),
        "{}",
        files["README.txt"]
    );
    assert_eq!(files["logs.jsonl"].lines().count(), 3);
    assert!(files["logs.jsonl"].contains("line 2"));
    assert_eq!(files["metrics.jsonl"], "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
    let rental: Value = serde_json::from_str(&files["rental.json"]).expect("JSON");
    assert_eq!(
        (&rental["state"], &rental["reason"]),
        (&"ended".into(), &"exited".into())
    );
    assert_eq!(rental["phase"]["exit"]["code"], 3, "{rental}");
    let receipts: Value = serde_json::from_str(&files["receipts.json"]).expect("JSON");
    assert_eq!(receipts["format"], "ramarket-receipts-1");
    assert_eq!(receipts["rental"]["id"], rental["id"]);
    let api = place
        .test()
        .get(&place.path("receipts"), &place.token())
        .await
        .json();
    assert_eq!(receipts["receipts"], api["items"]);
    let api = place
        .test()
        .get(&place.path("usage"), &place.token())
        .await
        .json();
    assert_eq!(receipts["usage"], api["items"]);
    let events = files["events.jsonl"].lines().count();
    let api = place
        .test()
        .get(&place.path("events?limit=100"), &place.token())
        .await
        .json();
    assert_eq!(Some(events), api["items"].as_array().map(Vec::len));
    place.until_no_stream().await;
    let names = std::fs::read_dir(&place.test().app.config.data_dir).expect("a folder");
    let left = names.filter(|name| {
        name.as_ref()
            .is_ok_and(|name| name.file_name().to_string_lossy().contains("spool"))
    });
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn what_cant_be_had_is_said_and_the_rest_comes() {
    let mut place = Place::open(TestApp::new().await).await;
    over(&mut place, 0).await;
    place.link.cut().await;
    let away = files(&place, &place.token()).await;
    let readme = &away["README.txt"];
    assert!(
        readme.contains("logs.jsonl     its node isn't connected"),
        "{readme}"
    );
    assert!(
        readme.contains("metrics.jsonl  its node isn't connected"),
        "{readme}"
    );
    assert!(away.contains_key("receipts.json") && !away.contains_key("logs.jsonl"));
    place.test().clock.advance_ms(8 * DAY_MS);
    let late = files(&place, &place.token()).await;
    assert!(late["README.txt"].contains("as a rule, and those are over"));
    assert!(late.contains_key("events.jsonl"));
}

#[tokio::test]
async fn nobody_else_gets_it() {
    let mut place = Place::open(TestApp::new().await).await;
    let (rental, token) = rented_by_account(&mut place).await;
    place.rental = rental;
    over(&mut place, 0).await;
    let path = place.path("post-mortem");
    let stranger = place
        .test()
        .signup("stranger@example.org", &["consumer"])
        .await;
    for (token, status) in [
        (stranger.as_str(), StatusCode::NOT_FOUND),
        (place.market.provider.as_str(), StatusCode::NOT_FOUND),
        ("", StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(place.test().get(&path, token).await.status, status);
    }
    assert!(files(&place, &token).await.contains_key("logs.jsonl"));
}
