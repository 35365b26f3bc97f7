//! `enroll` is killed in the middle: repeated with the same token it makes one node, which works.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use coordinator::store::testing::TempDir;
use serde_json::Value;
use system_tests::{
    containers::Engine,
    market::{Market, Store},
    node::{Node, enroll, enrolment_token},
    people, wait,
};

use crate::faults_support::Chance;

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_its_key_was_written_it_can_be_repeated() {
    let mut chance = Chance::new("faults_enrol");
    let market = Market::start(Store::Sqlite).await;
    let provider = people::provider(&market).await;
    let engine = Engine::shared();
    let program = Node::enrol(engine.clone(), &market, &provider).await;
    let program = program.command(&[]).get_program().to_owned();
    let mut done_before = 0;
    for moment in 0..Chance::moments() {
        let folder = TempDir::new();
        let (data, token_file) = (folder.path().join("agent"), folder.path().join("token"));
        let token = enrolment_token(&provider).await;
        std::fs::write(&token_file, &token).expect("a token file");
        let mut command = Command::new(&program);
        command.args(["enroll", "--url", &market.url(), "--token-file"]);
        command.arg(&token_file).arg("--data-dir").arg(&data);
        command.args(["--docker-host", &engine.host()]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut enrolling = command.spawn().expect("it can be started");
        wait::until("the key is on disk", || async {
            data.join("node.key").exists().then_some(())
        })
        .await;
        chance.moment(0..30).await;
        // an error means that it has ended already
        drop(enrolling.kill());
        enrolling.wait().expect("our child");
        if data.join("identity.json").exists() {
            done_before += 1;
        }

        let key = std::fs::read(data.join("node.key")).expect("a key");
        let repeated = enroll(&data, &market.url(), &token, &engine);
        let said = String::from_utf8_lossy(&repeated.stderr);
        assert!(
            repeated.status.success() || said.contains("enrolled already"),
            "moment {moment}: {said}"
        );
        assert_eq!(std::fs::read(data.join("node.key")).expect("a key"), key);
        let id = node_id(&data);
        let view = provider.get(&format!("/nodes/{id}")).await.is(200);
        assert_eq!(view["id"], id);
    }
    eprintln!("faults_enrol: {done_before} were done before they were killed");
    let nodes = provider.get("/nodes?limit=100").await.is(200);
    let nodes = nodes["items"].as_array().expect("a page").len();
    let wanted = 1 + usize::try_from(Chance::moments()).expect("a count");
    assert_eq!(nodes, wanted, "one node for each token");
}

fn node_id(data: &Path) -> String {
    let text = std::fs::read(data.join("identity.json")).expect("an identity");
    let identity: Value = serde_json::from_slice(&text).expect("JSON");
    identity["node_id"].as_str().expect("an id").to_owned()
}
