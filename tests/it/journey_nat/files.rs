//! Shell, files, forwards and web pages by the stock clients.

use std::process::Command;

use serde_json::json;
use system_tests::{
    MIB,
    api::send,
    home::{Home, TENANTS},
    market::free_port,
    payer::Rented,
    ssh_client::{SshClient, noise, sha256},
    wait,
};
use tokio::time::Instant;

use super::{debian_order, rent, runs, says};
use crate::faults_support::is_full;

/// Serves pages to itself alone.
const SERVES: &str = "mkdir -p /srv/www; echo from within >/srv/www/index.html; exec python3 -m http.server 8080 --bind 127.0.0.1 -d /srv/www";

fn bytes() -> u64 {
    if is_full() { 1 << 30 } else { 48 << 20 }
}

fn curl(more: &[&str]) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--max-time", "60"]).args(more);
    curl
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_scp_sftp_rsync_and_curl_reach_it() {
    let home = Home::set(&[]).await;
    let client = SshClient::of(&home.stage.market.api()).await;
    let mut order = debian_order(&home, SERVES);
    order["ssh_keys"] = json!([client.public_key()]);
    let rented = rent(&home, &order).await;

    // nothing at home can be connected to, and the agent listens nowhere
    let listeners = says(&mut home.nat.inside(Command::new("ss").args(["-Hltn"])));
    assert_eq!(listeners, "", "somebody listens at home");
    assert!(!home.nat.lets_in(22) && !home.nat.lets_in(home.face.tls));

    shell(&client, &rented).await;
    files(&client, &rented.id);
    forwards(&client, &rented.id);
    pages(&home, &rented).await;
    metrics(&client, &rented).await;
    assert_eq!(rented.view().await["state"], "running");
}

async fn shell(client: &SshClient, rented: &Rented) {
    let id = &rented.id;
    let connect = rented.view().await["connect"]["ssh"].clone();
    assert_eq!(connect["user"], id.as_str(), "{connect}");
    let known = client.path("known_hosts");
    let whole = says(Command::new("ssh-keygen").arg("-lf").arg(known));
    assert!(
        whole.contains(connect["fingerprint"].as_str().expect("a fingerprint")),
        "{whole} isn't {connect}"
    );
    wait::until("the rental is reached", || async {
        client.ssh(id, &[], "true").status.success().then_some(())
    })
    .await;
    assert_eq!(
        client.says(id, "echo in; cat /srv/www/index.html"),
        "in\nfrom within\n"
    );
    let output = client.ssh(id, &[], "echo lost >&2; exit 9");
    assert_eq!(output.status.code(), Some(9), "{output:?}");
    assert_eq!(output.stderr, b"lost\n");
    // a terminal, though there is none here
    let terminal = client.ssh(id, &["-tt"], "tty; stty size");
    let said = String::from_utf8_lossy(&terminal.stdout).into_owned();
    assert!(said.starts_with("/dev/pts/"), "{said}");
    // in its cage: its own processes, its own limit of memory
    let limit = client.says(
        id,
        "cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes",
    );
    assert_eq!(limit.trim(), (1_u64 << 30).to_string());
    assert!(client.says(id, "ps -e -o comm=").contains("python3"));
}

/// Both ways by each, with the same hash at the end.
fn files(client: &SshClient, id: &str) {
    let (here, back) = (client.path("here"), client.path("back"));
    noise(&here, bytes());
    let (text, hash) = (here.display().to_string(), sha256(&here));
    let far = |name: &str| format!("{}:/srv/{name}", client.target(id));
    let took = |what: &str, from: Instant| {
        eprintln!(
            "journey_nat: {what}: {} MiB in {:?}",
            bytes() >> 20,
            from.elapsed()
        );
    };
    let from = Instant::now();
    runs(&mut client.command("scp", &["-q", &text, &far("scp")]));
    took("scp to it", from);
    let from = Instant::now();
    runs(&mut client.command("scp", &["-q", &far("scp"), &back.display().to_string()]));
    took("scp from it", from);
    assert_eq!(sha256(&back), hash, "by scp");

    let (batch, got) = (client.path("batch"), client.path("got"));
    let lines = format!(
        "put {text} /srv/sftp\nget /srv/sftp {}\nls -l /srv\n",
        got.display()
    );
    std::fs::write(&batch, lines).expect("written");
    runs(&mut client.command(
        "sftp",
        &["-b", &batch.display().to_string(), &client.target(id)],
    ));
    assert_eq!(sha256(&got), hash, "by sftp");

    let by = format!("ssh {}", client.options().join(" "));
    let synced = client.path("synced");
    runs(Command::new("rsync").args(["-a", "-e", &by, &text, &far("rsync/")]));
    runs(
        Command::new("rsync")
            .args(["-a", "-e", &by, &far("rsync/here")])
            .arg(&synced),
    );
    assert_eq!(sha256(&synced), hash, "by rsync");
    let there = client.says(id, "sha256sum /srv/scp /srv/sftp /srv/rsync/here");
    let hashes: Vec<&str> = there
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(hashes, [hash.as_str(); 3], "{there}");
}

/// What listens on the rental's own loopback, by `-L` and `-D`.
fn forwards(client: &SshClient, id: &str) {
    let (port, socks) = (free_port(), free_port());
    let local = format!("127.0.0.1:{port}:localhost:8080");
    let dynamic = format!("127.0.0.1:{socks}");
    let _forward = client.forward(id, &["-L", &local, "-D", &dynamic]);
    let mut retries = curl(&["--retry", "60", "--retry-delay", "1", "--retry-connrefused"]);
    let page = says(retries.arg(format!("http://127.0.0.1:{port}/")));
    assert_eq!(page, "from within\n");
    let by = format!("127.0.0.1:{socks}");
    let page = says(&mut curl(&[
        "--socks5-hostname",
        &by,
        "http://localhost:8080/",
    ]));
    assert_eq!(page, "from within\n");
}

/// Under its own host name, with TLS.
async fn pages(home: &Home, rented: &Rented) {
    let path = format!("/rentals/{}/ports/8080", rented.id);
    let request = rented
        .api
        .request("PUT", &path)
        .json(&json!({"public": false}));
    let opened = send(request).await.is(200);
    let url = opened["url"].as_str().expect("a URL").to_owned();
    let host = format!("8080-{}.{TENANTS}", rented.id.replace('_', "-"));
    assert_eq!(url, format!("https://{host}:{}/", home.face.tls));
    let ports = rented.view().await["connect"]["ports_url"].clone();
    let ports = ports.as_str().and_then(|url| url.strip_prefix("/api/v1"));
    let listed = rented.api.get(ports.expect("a URL")).await.is(200);
    assert_eq!(listed["items"], json!([opened]));
    let authority = home.authority().display().to_string();
    let there = format!("{host}:{}:{}", home.face.tls, home.face.address);
    let ask = |more: &[&str]| {
        let mut curl = curl(&["--cacert", &authority, "--resolve", &there]);
        says(curl.args(["-w", "%{http_code}"]).args(more).arg(&url))
    };
    assert!(ask(&[]).ends_with("401"), "private");
    let token = opened["token"].as_str().expect("a token");
    let header = format!("X-Ramarket-Port-Token: {token}");
    assert_eq!(ask(&["-H", &header]), "from within\n200");
    let request = rented
        .api
        .request("PUT", &path)
        .json(&json!({"public": true}));
    send(request).await.is(200);
    assert_eq!(ask(&[]), "from within\n200");
    send(rented.api.request("DELETE", &path)).await.is(204);
    assert!(ask(&["-H", &header]).ends_with("404"), "closed");
}

/// What it uses, its own disk included.
async fn metrics(client: &SshClient, rented: &Rented) {
    let fills = "dd if=/dev/zero of=/data/some bs=1M count=8 2>&1; sync";
    drop(client.says(&rented.id, fills));
    let path = format!("/rentals/{}/metrics", rented.id);
    let last = wait::until("the disk is told", || async {
        let page = rented.api.get(&path).await.is(200);
        let last = page["items"].as_array()?.last()?.clone();
        (last["disk_bytes"].as_i64()? >= 8 * MIB).then_some(last)
    });
    let last = last.await;
    for figure in ["cpu_ns", "ram_bytes"] {
        assert!(last[figure].as_i64().is_some_and(|it| it > 0), "{last}");
    }
}
