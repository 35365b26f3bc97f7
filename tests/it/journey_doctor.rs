//! The doctor and the self-test as programs on this machine's engine: before enrolment, with the agent running, and with things broken on
//! purpose.

use std::{
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output},
};

use coordinator::store::testing::TempDir;
use serde_json::Value;
use system_tests::{containers::Engine, market::Store, node, stage::Stage};

/// Every check, as programs that read them know it.
const NAMES: [&str; 27] = [
    "helper",
    "docker",
    "docker_version",
    "containerd_version",
    "runc_version",
    "kernel_version",
    "isolation_class",
    "seccomp",
    "userns_remap",
    "kernel_confinement",
    "firewall",
    "isolation_probe",
    "live_restore",
    "docker_over_tcp",
    "gpu_toolkit",
    "cgroups",
    "disk_quota",
    "memory",
    "files",
    "ports",
    "clock_sync",
    "enrolment",
    "dns",
    "coordinator",
    "clock",
    "agent",
    "service",
];

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

fn report(mut command: Command) -> (Option<i32>, Value) {
    let output = command.output().expect("it can be started");
    let value = serde_json::from_slice(&output.stdout);
    let value = value.unwrap_or_else(|error| panic!("{error}: {}", said(&output)));
    (output.status.code(), value)
}

fn status_of<'a>(report: &'a Value, name: &str) -> &'a str {
    let findings = report["findings"].as_array().expect("findings");
    let mut found = findings.iter().filter(|finding| finding["check"] == name);
    let finding = found.next().unwrap_or_else(|| panic!("{name}: {report}"));
    finding["status"].as_str().expect("a status")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_what_is_broken_and_mends_what_is_safe() {
    let mut stage = Stage::set(Store::Sqlite).await;
    let (code, all) = report(stage.node.command(&["doctor", "--json"]));
    let findings = all["findings"].as_array().expect("findings");
    let names: Vec<&str> = findings
        .iter()
        .filter_map(|finding| finding["check"].as_str())
        .collect();
    assert_eq!(names, NAMES);
    for name in [
        "helper",
        "docker",
        "seccomp",
        "firewall",
        "cgroups",
        "files",
        "dns",
        "coordinator",
        "clock",
        "agent",
        "enrolment",
    ] {
        assert_eq!(status_of(&all, name), "ok", "{name}: {all}");
    }
    let worst = findings.iter().map(|finding| match &finding["status"] {
        status if status == "failed" => 2,
        status if status == "warning" => 1,
        _ => 0,
    });
    assert_eq!(code, worst.max());

    // the key can be read by everybody
    let key = stage.node.data_dir().join("node.key");
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&key, open).expect("its mode is set");
    let only = ["doctor", "--json", "--only", "files"];
    let (code, found) = report(stage.node.command(&only));
    assert_eq!((code, status_of(&found, "files")), (Some(2), "failed"));
    let fixing = ["doctor", "--json", "--only", "files", "--fix"];
    let (code, found) = report(stage.node.command(&fixing));
    assert_eq!((code, status_of(&found, "files")), (Some(0), "ok"));
    assert_eq!(found["mended"].as_array().map(Vec::len), Some(1), "{found}");
    let mode = std::fs::metadata(&key).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // no helper, and so no engine
    stage.node.stop();
    stage.node.kill9_helper();
    let only = ["doctor", "--json", "--only", "helper", "--only", "docker"];
    let (code, found) = report(stage.node.command(&only));
    assert_eq!(code, Some(2));
    assert_eq!(status_of(&found, "helper"), "failed", "{found}");
    assert_eq!(status_of(&found, "docker"), "failed", "{found}");
    // and no market
    stage.market.kill9();
    let only = ["doctor", "--json", "--only", "coordinator"];
    let (code, found) = report(stage.node.command(&only));
    assert_eq!(
        (code, status_of(&found, "coordinator")),
        (Some(2), "failed")
    );
    let unknown = stage.node.command(&["doctor", "--only", "dokcer"]).output();
    assert_eq!(unknown.expect("it can be started").status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_isnt_enrolled_can_be_looked_at_and_tested() {
    let (folder, engine) = (TempDir::new(), Engine::shared());
    let command = |arguments: &[&str]| {
        let mut command = node::agent(&folder.path().join("agent"), &engine);
        command.args(arguments);
        command
    };
    let (_, found) = report(command(&["doctor", "--json"]));
    assert_eq!(status_of(&found, "enrolment"), "warning", "{found}");
    assert_eq!(status_of(&found, "coordinator"), "warning", "{found}");
    assert_eq!(status_of(&found, "docker"), "ok", "{found}");

    let output = command(&["self-test", "--json"]).output().expect("started");
    let test: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert!(output.status.success(), "{}", said(&output));
    let steps = test["steps"].as_array().expect("steps");
    let names: Vec<&str> = steps.iter().filter_map(|s| s["name"].as_str()).collect();
    let whole = [
        "image", "create", "start", "measure", "network", "stop", "remove",
    ];
    assert_eq!(names, whole, "{test}");
    assert!(steps.iter().all(|step| step["well"] == true), "{test}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_self_test_goes_through_the_helper_beside_a_running_agent() {
    let stage = Stage::set(Store::Sqlite).await;
    let output = stage.node.command(&["self-test"]).output();
    let output = output.expect("it can be started");
    assert!(output.status.success(), "{}", said(&output));
    for step in ["create", "measure", "network", "remove"] {
        assert!(said(&output).contains(step), "{}", said(&output));
    }
    assert_eq!(stage.node.view().await["availability"], "online");
}
