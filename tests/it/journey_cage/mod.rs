//! A stranger rents, tries every way out and every way to starve others, and gets nowhere; the neighbour and the agent don't notice.

mod ground;
mod through_gateway;

use std::{collections::BTreeSet, net::SocketAddr, path::Path, time::Duration};

use serde_json::{Value, json};
use system_tests::{market::Store, payer::Payer, stage::Stage, wait};

use ground::{CLOSED, Ground, IMAGE, NEXT_DOOR, OWN_PUBLIC, PORT, PUBLIC, calls};

/// All probes and connections, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
const PROBES_MIN: usize = 40;
const CLASSES_MIN: usize = 24;
/// What tries to fill the attacker's own disk, and how large that is (as probe.c knows).
const FILLERS: [&str; 2] = ["disk_filler", "inode_filler"];
const DISK_BYTES: i64 = 64 << 20;
/// Three files of 10 MB, and what is being written.
const LOG_BYTES_MAX: u64 = 40_000_000;

/// A line of the probe's report.
#[derive(Debug)]
struct Line {
    what: String,
    name: String,
    succeeded: bool,
    detail: String,
}

fn lines(log: &str) -> Vec<Line> {
    log.lines()
        .filter_map(|line| {
            let (what, rest) = line
                .split_once(' ')
                .filter(|(what, _)| ["PROBE", "NET"].contains(what))?;
            let succeeded = rest.contains(" SUCCEEDED ");
            let verdict = if succeeded {
                " SUCCEEDED "
            } else {
                " blocked "
            };
            let (name, detail) = rest.split_once(verdict)?;
            Some(Line {
                what: what.to_owned(),
                name: name.to_owned(),
                succeeded,
                detail: detail.to_owned(),
            })
        })
        .collect()
}

/// What is connected to: name, address, port.
fn targets(neighbour: SocketAddr) -> Vec<(String, String, u16)> {
    let target = |name: &str, address: &str, port| (name.to_owned(), address.to_owned(), port);
    let mut all = vec![
        target("own_gateway", "gateway", PORT),
        target("docker_api", "gateway", 2_375),
        target("host_public", OWN_PUBLIC, PORT),
        target("host_docker_api", OWN_PUBLIC, 2_375),
        target("loopback", "127.0.0.1", PORT),
        target("this_network", "0.0.0.1", PORT),
        target("multicast", "224.0.0.251", PORT),
        target("broadcast", "255.255.255.255", PORT),
        target("next_door", NEXT_DOOR, PORT),
        target(
            "other_rental",
            &neighbour.ip().to_string(),
            neighbour.port(),
        ),
        target("mail_25", PUBLIC, 25),
        target("mail_465", PUBLIC, 465),
        target("mail_587", PUBLIC, 587),
        target("ipv6_host", "2001:db8:77::1", PORT),
        target("ipv6_link_local", "fe80::1", PORT),
        target("ipv6_metadata", "fd00:ec2::254", 80),
        target("ipv6_translated", "64:ff9b::a63:1", PORT),
    ];
    all.extend(CLOSED.map(|(name, address)| target(name, address, PORT)));
    // the internet, which a rental is promised: whoever is cut off altogether would pass every other line
    all.push(target("internet", PUBLIC, PORT));
    all
}

/// An order of the probe's image.
fn order(stage: &Stage, words: &[&str], cpu_millis: i64, env: &Value) -> Value {
    let mut order = stage.order(words, 900);
    order["image"] = json!(IMAGE);
    order["env"] = env.clone();
    order["resources"]["cpu_millis"] = json!(cpu_millis);
    order
}

/// The address of a running rental on its own network, and its container.
async fn address(stage: &Stage, rental: &str) -> (String, std::net::IpAddr) {
    let engine = stage.node.engine();
    let container = engine.of_rental(rental).await.expect("it runs").id;
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let address = engine.docker(&["inspect", "--format", format, &container]);
    let address = address.trim().parse().expect("an address");
    (container, address)
}

/// What was seen of the neighbour and of the agent while the other tried.
#[derive(Debug, Default)]
struct Seen {
    answers: Vec<Duration>,
    silences: usize,
    online: usize,
    not_online: usize,
}

async fn watch(stage: &Stage, attacker: &str, neighbour: SocketAddr) -> (String, Seen) {
    let seen = std::cell::RefCell::new(Seen::default());
    let log = wait::until_within(PATIENCE, "the probe has tried everything", || async {
        let called = tokio::task::spawn_blocking(move || calls(neighbour))
            .await
            .expect("called");
        let online = stage.node.view().await["availability"] == "online";
        {
            let mut seen = seen.borrow_mut();
            match called {
                Some(took) => seen.answers.push(took),
                None => seen.silences += 1,
            }
            if online {
                seen.online += 1;
            } else {
                seen.not_online += 1;
            }
        }
        let log = stage
            .node
            .engine()
            .docker(&["logs", "--tail", "200", attacker]);
        log.lines().any(|line| line == "END").then_some(log)
    })
    .await;
    (log, seen.into_inner())
}

fn tell(lines: &[Line], seen: &Seen, log_bytes: u64) {
    eprintln!("| what | name | verdict | detail |\n|---|---|---|---|");
    for line in lines {
        let verdict = if line.succeeded {
            "SUCCEEDED"
        } else {
            "blocked"
        };
        eprintln!(
            "| {} | {} | {verdict} | {} |",
            line.what, line.name, line.detail
        );
    }
    let mut answers = seen.answers.clone();
    answers.sort_unstable();
    eprintln!(
        "neighbour: {} calls answered, {} not; middle {:?}, slowest {:?}",
        answers.len(),
        seen.silences,
        answers.get(answers.len() / 2),
        answers.last()
    );
    eprintln!(
        "agent: {} looks found the node online, {} didn't",
        seen.online, seen.not_online
    );
    eprintln!("log on the provider's disk after a flood of 67 MB: {log_bytes} bytes");
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("the log's folder");
    entries
        .map(|entry| entry.expect("an entry").metadata().expect("a file").len())
        .sum()
}

/// A rental of an offer without internet reaches not even that.
async fn offline(stage: &Stage, text: &str) {
    let body = json!({"node_id": stage.node.id(), "internet": false, "prices": {"ram_gib_hour": "3.60", "cpu_hour": "0.36"}});
    let offer = stage.node.offer_with(&body).await;
    let mut order = order(
        stage,
        &["/probe", "connect"],
        100,
        &json!({"TARGETS": text}),
    );
    order["offer_id"] = offer["id"].clone();
    let rented = Payer::new().rent(&stage.market.api(), &order).await;
    rented.until("running").await;
    let (container, _) = address(stage, &rented.id).await;
    let log = wait::until("it has tried", || async {
        let log = stage.node.engine().docker(&["logs", &container]);
        log.lines().any(|line| line == "END").then_some(log)
    })
    .await;
    let lines = lines(&log);
    eprintln!(
        "without internet: {} addresses tried, {} reached",
        lines.len(),
        lines.iter().filter(|line| line.succeeded).count()
    );
    assert!(
        lines.len() > CLASSES_MIN && lines.iter().all(|line| !line.succeeded),
        "{lines:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_gets_out_of_a_rental_and_nobody_else_notices() {
    // before the agent, which closes the networks that its machine is connected to
    let ground = Ground::lay();
    let listeners = ground.check();
    let stage = Stage::set(Store::Sqlite).await;
    let api = stage.market.api();
    let neighbour = Payer::new()
        .rent(
            &api,
            &order(&stage, &["/probe", "listen", "7001"], 100, &json!({})),
        )
        .await;
    neighbour.until("running").await;
    let (neighbour_container, neighbour_address) = address(&stage, &neighbour.id).await;
    let neighbour_at = SocketAddr::new(neighbour_address, 7_001);

    // the agent's own look, as its owner and every searcher see it
    wait::until("the node has looked itself", || async {
        let view = stage.node.view().await;
        let findings = view["inventory"]["isolation"]["findings"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let probe = findings
            .into_iter()
            .find(|finding| finding["check"] == "isolation_probe")?;
        assert_eq!(probe["status"], "ok", "{probe}");
        Some(())
    })
    .await;

    let wanted = targets(neighbour_at);
    let text: Vec<String> = wanted
        .iter()
        .map(|(name, address, port)| format!("{name}={address}:{port}"))
        .collect();
    let env = json!({"TARGETS": text.join(" ")});
    let mut attack = order(&stage, &["/probe", "attack"], 1_000, &env);
    let means = stage.node.view().await["inventory"]["rental_disk"]["means"].clone();
    let has_disk = means == "loopback";
    if has_disk {
        attack["resources"]["disk_bytes"] = json!(DISK_BYTES);
    } else {
        eprintln!(
            "NOT SHOWN: this machine makes no disks of files ({means}), so {FILLERS:?} mean nothing"
        );
    }
    let attacker = Payer::new().rent(&api, &attack).await;
    attacker.until("running").await;
    let (container, _) = address(&stage, &attacker.id).await;
    let (log, seen) = watch(&stage, &container, neighbour_at).await;

    offline(&stage, &text.join(" ")).await;
    let lines = lines(&log);
    let log_folder = Path::new("/var/lib/docker/containers")
        .join(&container)
        .join("local-logs");
    let log_bytes = folder_bytes(&log_folder);
    tell(&lines, &seen, log_bytes);
    let probes: BTreeSet<&str> = lines
        .iter()
        .filter(|line| line.what == "PROBE")
        .map(|line| line.name.as_str())
        .collect();
    assert!(probes.len() >= PROBES_MIN, "{} probes", probes.len());
    let (internet, closed): (Vec<&Line>, Vec<&Line>) = lines
        .iter()
        .filter(|line| line.what == "NET")
        .partition(|line| line.name.starts_with("internet "));
    assert_eq!(
        closed.len() + internet.len(),
        wanted.len(),
        "each address was tried"
    );
    assert!(closed.len() >= CLASSES_MIN && listeners > CLOSED.len());
    assert!(
        internet.iter().all(|line| line.succeeded),
        "a rental reaches the internet: {internet:?}"
    );
    let out: Vec<&Line> = lines
        .iter()
        .filter(|line| line.succeeded && !line.name.starts_with("internet "))
        .filter(|line| has_disk || !FILLERS.contains(&line.name.as_str()))
        .collect();
    assert!(out.is_empty(), "got through: {out:?}");
    assert!(log_bytes < LOG_BYTES_MAX, "{log_bytes} bytes of log");
    assert!(
        seen.answers.len() > 10,
        "nobody looked at the neighbour meanwhile"
    );
    assert_eq!(
        (seen.silences, seen.not_online),
        (0, 0),
        "neighbour or agent suffered"
    );
    let neighbour_now = stage
        .node
        .engine()
        .inspect(&neighbour_container)
        .await
        .expect("there");
    assert!(
        neighbour_now.running && !neighbour_now.oom_killed,
        "{neighbour_now:?}"
    );
}
