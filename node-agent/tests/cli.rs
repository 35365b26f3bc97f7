//! The program as a person or systemd starts it.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use node_agent::data_dir::DataDir;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ramarket-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn agent(args: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ramarket-agent"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .expect("started")
}

fn error_of(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_second_agent_on_a_folder_is_refused() {
    let folder = Folder::new("lock");
    let dir = DataDir::new(&folder.0);
    let path = folder.0.to_str().expect("utf-8");
    let _lock = dir.lock().expect("first");
    for args in [
        vec!["run", "--data-dir", path],
        vec![
            "enroll",
            "--url",
            "http://127.0.0.1:1",
            "--token-file",
            "/proc/sys/kernel/random/boot_id",
            "--data-dir",
            path,
        ],
    ] {
        let output = agent(&args, &[]);
        let error = error_of(&output);
        assert!(
            error.contains(&format!("another agent (process {})", std::process::id())),
            "{error}"
        );
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn plain_http_and_an_absent_coordinator_are_told_apart() {
    let folder = Folder::new("enroll");
    let path = folder.0.to_str().expect("utf-8");
    let token = folder.0.join("token");
    std::fs::write(&token, "ent_x").expect("written");
    let enroll = |url: &str| {
        let token = token.to_str().expect("utf-8");
        agent(
            &[
                "enroll",
                "--url",
                url,
                "--token-file",
                token,
                "--data-dir",
                path,
            ],
            &[],
        )
    };
    let output = enroll("http://192.0.2.1");
    assert!(error_of(&output).contains("plain http"));
    assert_eq!(output.status.code(), Some(1));
    // a port of this machine on which nobody listens
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        listener.local_addr().expect("address").port()
    };
    let output = enroll(&format!("http://127.0.0.1:{port}"));
    assert_eq!(output.status.code(), Some(3), "{}", error_of(&output));
    assert!(
        folder.0.join("node.key").exists(),
        "the key is made before the request"
    );
    assert!(!folder.0.join("identity.json").exists());
}

#[test]
fn settings_come_from_flag_environment_and_file_in_this_order() {
    let folder = Folder::new("config");
    let file = folder.0.join("agent.toml");
    std::fs::write(&file, "data_dir = \"/from-file\"\n").expect("written");
    let file = file.to_str().expect("utf-8");
    let by_file = ("RAMARKET_AGENT_CONFIG", file);
    let by_variable = ("RAMARKET_AGENT_DATA_DIR", "/from-variable");
    // the error names the folder that was looked in
    let said = |args: &[&str], env: &[(&str, &str)]| error_of(&agent(args, env));
    assert!(said(&["status"], &[]).contains("/var/lib/ramarket-agent/"));
    assert!(said(&["status"], &[by_file]).contains("/from-file/"));
    assert!(said(&["status", "--config", file], &[]).contains("/from-file/"));
    assert!(said(&["status"], &[by_file, by_variable]).contains("/from-variable/"));
    let flag = ["status", "--data-dir", "/from-flag"];
    assert!(said(&flag, &[by_file, by_variable]).contains("/from-flag/"));
    let wrong = ("RAMARKET_AGENT_DATADIR", "/x");
    assert!(said(&["status"], &[wrong]).contains("datadir"));
}

#[test]
fn probe_prints_this_machine() {
    let output = agent(
        &[
            "probe",
            "--json",
            "--docker-host",
            "unix:///nonexistent.sock",
        ],
        &[],
    );
    assert!(output.status.success());
    let inventory: shared::resources::Inventory =
        serde_json::from_slice(&output.stdout).expect("an inventory");
    assert!(inventory.ram_total_bytes > 0);
    assert!(inventory.docker_absent_reason.is_some());
    let text = agent(&["probe"], &[]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("memory"));
}
