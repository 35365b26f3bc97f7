//! A fuzzer that reads the document of the API (schemathesis, from PyPI) against the live market, as each kind of caller:
//! no failure of ours, no answer outside of the document, no operation that forgets to ask who calls.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use system_tests::{api::Api, market::Store, payer::Payer, people, stage::Stage};

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance,ignored_auth";
/// Streams without end, and what would sign the caller out.
const LEFT_OUT: [&str; 3] = ["follow_events", "node_link", "logout"];
/// Callers share one address and one clock: what limits them is tested elsewhere.
const UNLIMITED: [(&str, &str); 2] = [
    ("limits.topups_per_minute", "60000"),
    ("payments.quotes_per_minute_ip", "60000"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_caller_gets_what_the_document_says() {
    let Some(program) = program() else {
        eprintln!("SKIPPED: schemathesis isn't installed (scripts/test.sh installs it)");
        return;
    };
    let stage = Stage::with(Store::Sqlite, &UNLIMITED).await;
    let consumer = people::consumer(&stage.market).await;
    let admin = people::admin(&stage.market).await;
    let order = stage.order(&["sleep", "600"], 600);
    let rented = Payer::new().rent(&stage.market.api(), &order).await;
    let token = rented.api.token();
    let config = stage.market.folder().join("schemathesis.toml");
    let known = known_ids(&stage.offer_id, stage.node.id(), &rented.id);
    std::fs::write(&config, known).expect("written");
    let anonymous = stage.market.api();
    for (who, caller) in [
        ("nobody", &anonymous),
        ("a consumer", &consumer),
        ("a provider", &stage.provider),
        ("an administrator", &admin),
        ("the bearer of a rental's token", &anonymous.bearing(token)),
    ] {
        fuzz(&program, &config, &stage, who, caller);
    }
    assert!(!stage.market.log().contains("\"level\":\"ERROR\""));
}

/// The program that `scripts/test.sh` installs.
fn program() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemathesis/.venv/bin/schemathesis");
    path.exists().then_some(path)
}

/// Things that are there, so that more is tested than how absent ones are answered.
fn known_ids(offer: &str, node: &str, rental: &str) -> String {
    let known = [
        ("get_offer", offer),
        ("change_offer", offer),
        ("get_node", node),
        ("change_node", node),
        ("cordon_node", node),
        ("uncordon_node", node),
        ("get_rental", rental),
        ("extend_rental", rental),
        ("rental_events", rental),
        ("rental_usage", rental),
        ("rental_receipts", rental),
    ];
    known
        .map(|(operation, id)| {
            format!(
                "[[operations]]\ninclude-operation-id = \"{operation}\"\nparameters = {{ \"path.id\" = \"{id}\" }}\n\n"
            )
        })
        .concat()
}

/// Seconds for one caller.
fn budget_s() -> &'static str {
    match std::env::var_os("TEST_FULL") {
        Some(full) if full == "1" => "120",
        _ => "12",
    }
}

fn fuzz(program: &Path, config: &Path, stage: &Stage, who: &str, caller: &Api) {
    let url = stage.market.url();
    let mut command = Command::new(program);
    command
        .arg("--config-file")
        .arg(config)
        .args(["run", &format!("{url}/api/openapi.json"), "--url", &url])
        .args(["--max-time", budget_s(), "--checks", CHECKS])
        .args(["--continue-on-failure", "--no-shrink", "--warnings", "off"])
        // what it remembers of earlier runs stays out of the repository
        .current_dir(stage.market.folder());
    for operation in LEFT_OUT {
        command.args(["--exclude-operation-id", operation]);
    }
    if !caller.token().is_empty() {
        let header = format!("Authorization: Bearer {}", caller.token());
        command.args(["--header", &header]);
    }
    let ran = command.output().expect("schemathesis starts");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(
        ran.status.success(),
        "as {who}:\n{said}\n{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    assert!(said.contains("Test cases:"), "as {who}:\n{said}");
}
