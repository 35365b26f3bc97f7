//! The lists against the sources: what an answer can say is listed, and what is listed can be said. What each operation really
//! answers is held against them by the matrix (`tests/matrix`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use super::{CONFLICT, OURS, SHARED, all_own};
use crate::domain::access;

/// Said where no operation is: another path, another method, the metrics.
const OUTSIDE: [&str; 7] = [
    "no_such_route",
    "method_not_allowed",
    "no_metrics",
    // an operation that nobody opened; the tests refuse to let one in
    "not_open",
    // another coordinator
    "peer_proof",
    // a page of a rental's own host
    "port_token",
    "port_other_page",
];
/// How a problem is made; its code is the first text after it.
const MAKERS: [&str; 4] = [
    "Error::new(",
    "Error::conflict(",
    "Error::bad_request(",
    "Error::unauthenticated(",
];

fn listed() -> BTreeSet<&'static str> {
    let own = all_own().flat_map(|(_, codes)| codes.iter());
    let all = SHARED.iter().chain(OURS).chain([&CONFLICT]).chain(own);
    all.map(|(_, code, _)| *code).collect()
}

fn is_shipped(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let aside = ["tests", "testing", "/http/codes", "/store/suite"];
    text.ends_with(".rs") && !aside.iter().any(|part| text.contains(part))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if is_shipped(&path) {
            found.push(path);
        }
    }
}

/// What is compiled into the program, file by file.
fn shipped() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    assert!(found.len() > 100, "only {} files", found.len());
    // what agents hear has its names where agents have them too
    let names = "../shared/src/wire/problem.rs";
    found.push(Path::new(env!("CARGO_MANIFEST_DIR")).join(names));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source");
        let text = text.split("#[cfg(test)]\nmod tests {").next();
        (path, text.unwrap_or_default().to_owned())
    };
    found.into_iter().map(read).collect()
}

/// The codes that a source makes problems with.
fn made(text: &str) -> BTreeSet<String> {
    let constants = text
        .lines()
        .filter_map(|line| line.split_once(": &str = \"")?.1.strip_suffix("\";"));
    let mut codes: BTreeSet<String> = if text.contains("mod agent_codes") {
        constants.map(str::to_owned).collect()
    } else {
        BTreeSet::new()
    };
    for maker in MAKERS {
        for (at, _) in text.match_indices(maker) {
            let rest = &text[at + maker.len()..];
            let Some(code) = rest.split('"').nth(1) else {
                continue;
            };
            let head = rest.split('"').next().unwrap_or_default();
            // the code stands among the first arguments, not in a statement after them
            let is_here = !head.contains(';') && head.len() < 120;
            let is_code = code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            if is_here && is_code && !code.is_empty() {
                codes.insert(code.to_owned());
            }
        }
    }
    codes
}

#[test]
fn what_can_be_said_is_listed() {
    let listed = listed();
    let mut unlisted: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut seen = 0;
    for (path, text) in shipped() {
        for code in made(&text) {
            seen += 1;
            if !listed.contains(code.as_str()) && !OUTSIDE.contains(&code.as_str()) {
                unlisted.insert(code, path.clone());
            }
        }
    }
    assert!(
        seen > 60,
        "only {seen} codes were found: how are they made?"
    );
    assert!(
        unlisted.is_empty(),
        "list these in http/codes: {unlisted:#?}"
    );
}

#[test]
fn what_is_listed_can_be_said() {
    let sources = shipped();
    let said = |code: &str| {
        let quoted = format!("\"{code}\"");
        sources.iter().any(|(_, text)| text.contains(&quoted))
    };
    let mut idle = listed();
    // the stand-in for operations without a line of their own
    idle.retain(|code| !said(code) && *code != CONFLICT.1);
    assert!(idle.is_empty(), "nothing says these: {idle:?}");
}

#[test]
fn each_list_is_of_an_operation_that_there_is() {
    for (operation, codes) in all_own() {
        assert!(access::line(operation).is_some(), "{operation}");
        assert!(!codes.is_empty(), "{operation}");
    }
}
