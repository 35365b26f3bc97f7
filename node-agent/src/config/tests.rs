//! Settings as people give them.

use super::*;
use crate::testing::TempDir;

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/agent.example.toml");
const DOCUMENT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../docs/AGENT_CONFIGURATION.md"
);

#[test]
fn the_example_holds_every_setting_with_its_default() {
    let config = Config::load(Some(Path::new(EXAMPLE)), &Flags::default()).expect("loads");
    assert_eq!(config, Config::default());
    let example = std::fs::read_to_string(EXAMPLE).expect("example");
    for name in settings() {
        assert!(
            example
                .lines()
                .any(|line| line.starts_with(&format!("{name} = "))),
            "{name}"
        );
    }
}

#[test]
fn every_setting_is_documented_with_flag_variable_and_default() {
    let document = std::fs::read_to_string(DOCUMENT).expect("document");
    let defaults = serde_json::to_value(Config::default()).expect("json");
    for name in settings() {
        let row = document
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}` ")))
            .unwrap_or_else(|| panic!("{name} has no row"));
        let flag = format!("`--{}`", name.replace('_', "-"));
        let variable = format!("`{ENV_PREFIX}{}`", name.to_uppercase());
        let default = match &defaults[&name] {
            serde_json::Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        for part in [flag, variable, default] {
            assert!(row.contains(&part), "{name}: {part}");
        }
    }
}

fn settings() -> Vec<String> {
    let value = serde_json::to_value(Config::default()).expect("json");
    value.as_object().expect("object").keys().cloned().collect()
}

#[test]
fn flags_win_over_the_file_and_mistakes_are_refused() {
    let temp = TempDir::new();
    let file = temp.path().join("agent.toml");
    std::fs::write(&file, "journal_keep_days = 3\nlog = \"debug\"\n").expect("written");
    let flags = Flags {
        journal_keep_days: Some(9),
        ..Flags::default()
    };
    let config = Config::load(Some(&file), &flags).expect("loads");
    assert_eq!(
        (config.journal_keep_days, config.log.as_str()),
        (9, "debug")
    );
    for wrong in [
        "journal_keep_day = 3",
        "journal_keep_days = 0",
        "logs_kept_bytes = -1",
        "logs_kept_days = 0",
        "log_format = \"xml\"",
        "docker_host = \"tcp://10.0.0.1:2375\"",
        "helper_socket = \"helper.sock\"",
        "operator_socket = \"agent.sock\"",
        "network_pool = \"8.8.0.0/16\"",
        "network_pool = \"10.0.0.1/16\"",
        "network_dns = [\"192.168.1.1\"]",
        "network_blocked = [\"site\"]",
    ] {
        std::fs::write(&file, wrong).expect("written");
        assert!(
            Config::load(Some(&file), &Flags::default()).is_err(),
            "{wrong}"
        );
    }
    assert!(
        Config::load(
            Some(Path::new("/nonexistent/agent.toml")),
            &Flags::default()
        )
        .is_err()
    );
}
