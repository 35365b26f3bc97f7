//! A rental that is over tells why, in one file: its log, its exit code, what it used, and a bill that the client finds borne out.

use std::{collections::BTreeMap, path::Path, process::Command};

use coordinator::store::testing::TempDir;
use serde_json::{Value, json};
use system_tests::{client::Client, market::Store, stage::Stage, wait};

const FAILED: i32 = 1;

/// The files of an archive, by name; `tar` of the system reads it.
fn unpack(archive: &Path, folder: &Path, id: &str) -> BTreeMap<String, String> {
    let done = Command::new("tar")
        .arg("-xzf")
        .arg(archive)
        .arg("-C")
        .arg(folder)
        .status();
    assert!(done.expect("tar runs").success());
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(entry.path()).expect("text");
        (name, text)
    };
    let files = std::fs::read_dir(folder.join(id)).expect("a folder named like the rental");
    files.map(read).collect()
}

struct Place {
    stage: Stage,
    client: Client,
    folder: TempDir,
}

impl Place {
    async fn open() -> Self {
        let stage = Stage::set(Store::Sqlite).await;
        let client = Client::of(&stage.market.url());
        client.json(&["wallet", "new", "--plain"]).await;
        Self {
            stage,
            client,
            folder: TempDir::new(),
        }
    }

    /// Rents this script, by the client.
    async fn rent(&self, cpu: &str, script: &str) -> String {
        let order = [
            "rent",
            "--no-wait",
            "--offer",
            &self.stage.offer_id,
            "--ram",
            "256MiB",
            "--cpu",
            cpu,
            "--duration",
            "10m",
            "busybox:latest",
            "--",
            "sh",
            "-c",
            script,
        ];
        let rental = self.client.json(&order).await;
        rental["id"].as_str().expect("an id").to_owned()
    }

    async fn until_settled(&self, id: &str) -> Value {
        wait::until("it is settled", || async {
            let shown = self.client.json(&["show", id]).await;
            shown["settled_at"].is_string().then_some(shown)
        })
        .await
    }

    /// The files of a rental's archive, fetched under this name.
    async fn files(&self, id: &str, name: &str) -> BTreeMap<String, String> {
        let path = self.folder.path().join(name);
        let to = path.to_str().expect("text");
        let said = self.client.json(&["post-mortem", id, "-o", to]).await;
        assert_eq!(
            said["bytes"].as_u64(),
            Some(std::fs::metadata(&path).expect("there").len())
        );
        self.client.fails(2, &["post-mortem", id, "-o", to]).await;
        let folder = self.folder.path().join(format!("{name}.d"));
        std::fs::create_dir(&folder).expect("made");
        unpack(&path, &folder, id)
    }

    async fn holds(&self, receipts: &str) {
        let path = self.folder.path().join("receipts.json");
        std::fs::write(&path, receipts).expect("written");
        let checked = self
            .client
            .json(&["receipts", "verify", path.to_str().expect("text")])
            .await;
        assert_eq!(checked["holds"], true, "{checked}");
    }
}

/// Writes to both outputs, and lives long enough to be measured and billed.
const FAILS: &str = "echo begun; echo something broke >&2; sleep 12; exit 3";
/// Fills a shell variable with 300 MiB.
const TAKES_300_MIB: &str =
    "echo filling; sleep 3; x=$(dd if=/dev/zero bs=1M count=300 | tr '\\0' x); echo ${#x}";

#[tokio::test(flavor = "multi_thread")]
async fn whoever_rented_reads_why_it_ended() {
    let mut place = Place::open().await;
    let (failing, greedy) = (
        place.rent("0.1", FAILS).await,
        place.rent("1", TAKES_300_MIB).await,
    );
    let early = place.client.fails(FAILED, &["post-mortem", &failing]).await;
    assert!(early.contains("when the rental has ended"), "{early}");
    let ended = place.until_settled(&failing).await;
    assert_eq!(ended["reason"], "exited", "{ended}");
    let files = place.files(&failing, "failing.tar.gz").await;
    let readme = &files["README.txt"];
    assert!(readme.contains("Nothing is missing"), "{readme}");
    let lines: Vec<Value> = files["logs.jsonl"]
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let wrote = |stream: &str, text: &str| {
        lines
            .iter()
            .any(|line| line["stream"] == stream && line["line"] == text)
    };
    assert!(
        wrote("stdout", "begun") && wrote("stderr", "something broke"),
        "{lines:?}"
    );
    let rental: Value = serde_json::from_str(&files["rental.json"]).expect("JSON");
    assert_eq!(
        rental["phase"]["exit"],
        json!({"code": 3, "oom_killed": false}),
        "{rental}"
    );
    assert!(
        files["events.jsonl"].contains("rental.ended"),
        "{}",
        files["events.jsonl"]
    );
    let used = files["metrics.jsonl"].lines().last().expect("a sample");
    let used: Value = serde_json::from_str(used).expect("JSON");
    assert!(used["cpu_ns"].as_i64().expect("a count") > 0, "{used}");
    place.holds(&files["receipts.json"]).await;

    let ended = place.until_settled(&greedy).await;
    assert_eq!(ended["reason"], "oom_killed", "{ended}");
    let files = place.files(&greedy, "greedy.tar.gz").await;
    assert!(files["logs.jsonl"].contains("filling"));
    let rental: Value = serde_json::from_str(&files["rental.json"]).expect("JSON");
    assert_eq!(rental["phase"]["exit"]["oom_killed"], true, "{rental}");
    place.holds(&files["receipts.json"]).await;

    // an agent that starts anew still has both; one that is away is named
    let samples = files["metrics.jsonl"].clone();
    place.stage.node.restart().await;
    let again = wait::until("the node is reached again", || async {
        let files = place.fetched(&greedy).await;
        files.contains_key("logs.jsonl").then_some(files)
    })
    .await;
    assert_eq!(again["metrics.jsonl"], samples);
    place.stage.node.stop();
    let away = wait::until("the node is gone", || async {
        let files = place.fetched(&greedy).await;
        (!files.contains_key("logs.jsonl")).then_some(files)
    })
    .await;
    assert!(
        away["README.txt"].contains("logs.jsonl     its node isn't connected"),
        "{}",
        away["README.txt"]
    );
    place.holds(&away["receipts.json"]).await;
}

impl Place {
    /// The files of a rental's archive as it is now.
    async fn fetched(&self, id: &str) -> BTreeMap<String, String> {
        let output = self.client.run(&["post-mortem", id, "-o", "-"]).await;
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let folder = TempDir::new();
        let path = folder.path().join("archive");
        std::fs::write(&path, &output.stdout).expect("written");
        unpack(&path, folder.path(), id)
    }
}
