//! The person in front of the machine: how it is doing, and what the market does for a word on the command line.

use std::{
    fs::Permissions,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Output},
};

use coordinator::store::testing::TempDir;
use serde_json::Value;
use system_tests::{
    MIB,
    books::{adds_up, check},
    market::Store,
    payer::Payer,
    stage::Stage,
    wait,
};

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

fn run(stage: &Stage, arguments: &[&str]) -> Output {
    let mut command = stage.node.command(arguments);
    command.output().expect("it can be started")
}

fn done(stage: &Stage, arguments: &[&str]) -> String {
    let output = run(stage, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    said(&output)
}

fn status(stage: &Stage) -> Value {
    let output = run(stage, &["status", "--json"]);
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The offer as it is on the market now.
async fn offer(stage: &Stage) -> Value {
    let path = format!("/offers/{}", stage.offer_id);
    stage.market.api().get(&path).await.is(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_on_the_machine_is_known_to_the_market() {
    let stage = Stage::set(Store::Sqlite).await;
    let (api, payer) = (stage.market.api(), Payer::new());
    let order = stage.order(&["sleep", "600"], 600);
    let rented = payer.rent(&api, &order).await;
    rented.until("running").await;

    let shown = wait::until("the running rental is measured", || async {
        let shown = status(&stage);
        shown["in_use"][0]["ram_bytes"].is_i64().then_some(shown)
    })
    .await;
    assert_eq!(shown["running"], true);
    assert_eq!(shown["contact"], "connected");
    assert_eq!(shown["node_id"], stage.node.id());
    assert_eq!(shown["rentals"][0]["rental_id"], rented.id);
    assert_eq!(shown["standing"]["schedulability"], "active");
    let words = done(&stage, &["status"]);
    for part in [
        "offered",
        "rented       256 MiB",
        "running for",
        "acknowledged",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }

    let words = done(&stage, &["cordon"]);
    assert!(words.contains("cordoned"), "{words}");
    api.post("/rentals", &order)
        .await
        .refused(409, "node_cordoned");
    wait::until("the offer is off the market", || async {
        (offer(&stage).await["available"] == false).then_some(())
    })
    .await;
    done(&stage, &["uncordon"]);
    assert_eq!(api.post("/rentals", &order).await.status, 402);

    let words = done(&stage, &["share", "--ram", "512MiB"]);
    assert!(words.contains("512 MiB"), "{words}");
    assert_eq!(stage.node.free_ram_bytes().await, 256 * MIB);
    let refused = run(&stage, &["share", "--ram", "128MiB"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        said(&refused).contains("capacity_in_use"),
        "{}",
        said(&refused)
    );
    let refused = run(&stage, &["share", "--ram", "90TiB"]);
    assert!(said(&refused).contains("reserve"), "{}", said(&refused));
    assert_eq!(run(&stage, &["share"]).status.code(), Some(2), "what?");

    done(
        &stage,
        &[
            "maintenance",
            "plan",
            "--start",
            "2020-01-01T00:00:00Z",
            "--for",
            "2h",
        ],
    );
    assert!(
        done(&stage, &["maintenance", "list"]).contains("nothing"),
        "it is over"
    );

    // what still runs ends, by the provider's doing: paid is what it ran
    done(&stage, &["drain", "--deadline", "0s"]);
    let ended = rented.until_settled().await;
    assert_eq!(ended["reason"], "preempted", "{ended}");
    adds_up(&rented.split().await);
    wait::until("the node is drained", || async {
        let shown = status(&stage);
        (shown["standing"]["schedulability"] == "drained").then_some(())
    })
    .await;
    stage.until_no_container_is_left().await;
    check(&stage.market);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_without_a_market_is_kept_and_told_later() {
    let mut stage = Stage::set(Store::Sqlite).await;
    stage.market.kill9();
    wait::until("the agent has lost contact", || async {
        let output = run(&stage, &["status", "--json"]);
        (output.status.code() == Some(3)).then_some(())
    })
    .await;
    let kept = run(&stage, &["cordon"]);
    assert_eq!(kept.status.code(), Some(3), "{}", said(&kept));
    assert!(said(&kept).contains("is kept"), "{}", said(&kept));
    // not even the agent's end loses it
    stage.node.kill9();
    stage.node.launch();
    stage.market.restart().await;
    wait::until("the market has heard", || async {
        (stage.node.view().await["schedulability"] == "cordoned").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_isnt_heard_even_if_the_file_lets_them_through() {
    /// `nobody`.
    const STRANGER: u32 = 65_534;
    let mut stage = Stage::set(Store::Sqlite).await;
    stage.node.stop();
    let folder = TempDir::new();
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("its mode is set");
    };
    open(folder.path(), 0o755);
    let socket = folder.path().join("agent.sock");
    let path = socket.to_str().expect("text").to_owned();
    stage
        .node
        .launch_by(stage.node.command(&["run", "--operator-socket", &path]));
    stage.node.until_online().await;
    let asked = |uid: Option<u32>| {
        let program = stage.node.command(&[]).get_program().to_owned();
        let mut command = Command::new(program);
        command.args(["status", "--json", "--operator-socket", &path]);
        command.args(["--data-dir", "/nonexistent"]);
        if let Some(uid) = uid {
            command.uid(uid).gid(uid);
        }
        command.output().expect("it can be started")
    };
    wait::until("root is answered", || async {
        asked(None).status.success().then_some(())
    })
    .await;
    let mode = std::fs::metadata(&socket)
        .expect("it is there")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o660);
    let refused = asked(Some(STRANGER));
    assert!(said(&refused).contains("as root"), "{}", said(&refused));
    open(&socket, 0o666);
    let refused = asked(Some(STRANGER));
    assert!(!refused.status.success());
    assert!(
        said(&refused).contains("root and its own user only"),
        "{}",
        said(&refused)
    );
    assert!(
        stage.node.log().contains("isn't heard"),
        "{}",
        stage.node.log()
    );
}
