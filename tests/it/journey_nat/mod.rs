//! A rental behind a router that lets nobody in is reached by the clients that people have: OpenSSH's, rsync, curl, psql, ours.

mod browser;
mod client;
mod cuts;
mod files;
mod refusals;
mod services;

use std::{
    process::{Command, Output},
    sync::OnceLock,
};

use serde_json::{Value, json};
use system_tests::{
    GIB, MIB,
    home::Home,
    payer::{Payer, Rented},
};

/// The image with what people rent machines for.
fn debian() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/debian-image.sh");
        let made = runs(Command::new(script).arg("rental"));
        String::from_utf8(made.stdout)
            .expect("text")
            .trim()
            .to_owned()
    })
}

/// An order of that image.
fn debian_order(home: &Home, script: &str) -> Value {
    let mut order = home.stage.order(&["sh", "-c", script], 3_600);
    order["image"] = json!(debian());
    order["resources"] = json!({"ram_bytes": GIB, "cpu_millis": 1_000, "disk_bytes": 256 * MIB});
    order
}

/// An order of the small image.
fn small_order(home: &Home, script: &str) -> Value {
    let mut order = home.stage.order(&["sh", "-c", script], 3_600);
    order["resources"] = json!({"ram_bytes": 128 * MIB, "cpu_millis": 500});
    order
}

/// A process that ends when asked to.
const WAITS: &str = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";

async fn rent(home: &Home, order: &Value) -> Rented {
    let rented = Payer::new().rent(&home.stage.market.api(), order).await;
    rented.until("running").await;
    rented
}

/// Runs a command that succeeds.
#[track_caller]
fn runs(command: &mut Command) -> Output {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

/// What a command writes that succeeds.
#[track_caller]
fn says(command: &mut Command) -> String {
    String::from_utf8(runs(command).stdout).expect("text")
}
