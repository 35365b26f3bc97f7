//! The same walls stand around what the gateway brings in: programs by `exec`, connections by SSH.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use system_tests::{client::Client, market::Store, payer::Payer, stage::Stage, wait};

use super::{CLASSES_MIN, FILLERS, Line, PROBES_MIN, address, lines, order, targets};
use crate::journey_cage::ground::{Ground, IMAGE};

fn ramarket(client: &Client, words: &[&str]) -> Command {
    let line = client.line(words);
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]).stdin(Stdio::null());
    command
}

/// What the probe writes until it has tried everything; it stays, so it is ended.
fn until_end(mut probe: Child) -> String {
    let stdout = probe.stdout.take().expect("a pipe");
    let lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let log: Vec<String> = lines.take_while(|line| line != "END").collect();
    probe.kill().expect("ended");
    probe.wait().expect("gone");
    log.join("\n")
}

async fn rents(stage: &Stage, client: &Client) -> String {
    drop(client.json(&["wallet", "new", "--plain"]).await);
    let slice = [
        "--offer",
        &stage.offer_id,
        "--ram",
        "256MiB",
        "--cpu",
        "1",
        "--disk",
        "64MiB",
        "--duration",
        "15m",
        "--max-price",
        "5",
    ];
    let run = [IMAGE, "--", "/probe", "listen", "7001"];
    let rented = client.json(&[&["rent"], &slice[..], &run].concat()).await;
    let id = rented["id"].as_str().expect("an id").to_owned();
    wait::until("the rental is reached", || async {
        let tried = client.run(&["exec", &id, "--", "/no-such"]).await;
        String::from_utf8_lossy(&tried.stderr)
            .contains("/no-such")
            .then_some(())
    })
    .await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_by_the_gateway_gets_no_further() {
    let ground = Ground::lay();
    ground.check();
    let stage = Stage::with(Store::Sqlite, &[("ssh.listen", "127.0.0.1:0")]).await;
    let api = stage.market.api();
    let listens = order(
        &stage,
        &["/probe", "listen", "7001"],
        100,
        &serde_json::json!({}),
    );
    let neighbour = Payer::new().rent(&api, &listens).await;
    neighbour.until("running").await;
    let (_, neighbour_address) = address(&stage, &neighbour.id).await;
    let wanted = targets(SocketAddr::new(neighbour_address, 7_001));
    let client = Client::of(&stage.market.url());
    let id = rents(&stage, &client).await;

    // connections by SSH, first: the probe may leave little of the rental
    let through = |to: &str| {
        let mut ssh = ramarket(&client, &["ssh", &id, "--", "-W", to]);
        ssh.output().expect("it starts")
    };
    let own = through("127.0.0.1:7001");
    assert!(own.status.success() && !own.stdout.is_empty(), "{own:?}");
    let mut refused = 0_usize;
    // (not the internet's stand-in either: the gateway knows that its address is one of documentation)
    for (name, host, port) in &wanted {
        if name == "loopback" || host == "gateway" {
            continue;
        }
        let to = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let output = through(&to);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.stdout.is_empty() && said.contains("open failed"),
            "{name} {to}: {output:?}"
        );
        refused += 1;
    }
    assert!(refused >= CLASSES_MIN, "{refused} refused");

    let list: Vec<String> = wanted
        .iter()
        .map(|(name, host, port)| format!("{name}={host}:{port}"))
        .collect();
    let list = format!("TARGETS={}", list.join(" "));
    let mut exec = ramarket(
        &client,
        &["exec", "-e", &list, &id, "--", "/probe", "attack"],
    );
    let probe = exec.stdout(Stdio::piped()).spawn().expect("it starts");
    let log = tokio::task::spawn_blocking(move || until_end(probe));
    let log = tokio::time::timeout(super::PATIENCE, log)
        .await
        .expect("in time")
        .expect("read");
    let lines = lines(&log);
    let probes = lines.iter().filter(|line| line.what == "PROBE").count();
    assert!(probes >= PROBES_MIN, "{probes} probes: {log}");
    let has_disk = stage.node.view().await["inventory"]["rental_disk"]["means"] == "loopback";
    let out: Vec<&Line> = lines
        .iter()
        // the rental's own port listens on its own loopback
        .filter(|line| {
            line.succeeded
                && !line.name.starts_with("internet ")
                && !line.name.starts_with("loopback ")
        })
        .filter(|line| has_disk || !FILLERS.contains(&line.name.as_str()))
        .collect();
    assert!(out.is_empty(), "got through: {out:?}");
    eprintln!(
        "journey_cage: {probes} probes by exec and {refused} addresses by SSH: nothing got through"
    );
}
