//! Our own client reaches into a rental: programs, files, ports, logs, SSH.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use coordinator::store::testing::TempDir;
use serde_json::Value;
use system_tests::{
    client::Client,
    home::Home,
    ssh_client::{noise, sha256},
    wait,
};

use super::{WAITS, debian, runs, says};

/// A client that works until it is dropped.
struct Working(Child);

impl Drop for Working {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The client's command, its words after those that say which market.
fn ramarket(client: &Client, words: &[&str]) -> Command {
    let line = client.line(words);
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]).stdin(Stdio::null());
    command
}

/// Rents the image with what a shell needs; how to connect is told.
async fn rents(home: &Home, client: &Client, serves: &str) -> String {
    drop(client.json(&["wallet", "new", "--plain"]).await);
    let slice = [
        "--ram",
        "512MiB",
        "--cpu",
        "1",
        "--duration",
        "30m",
        "--max-price",
        "5",
    ];
    let offer = ["rent", "--offer", &home.stage.offer_id];
    let run = [debian(), "--", "sh", "-c", serves];
    let rented = client.run(&[&offer, &slice[..], &run].concat()).await;
    let said = String::from_utf8_lossy(&rented.stderr).into_owned();
    assert!(rented.status.success(), "{said}");
    let rentals = client.json(&["rentals"]).await;
    let id = rentals[0]["id"].as_str().expect("an id").to_owned();
    let connect = client.json(&["show", &id]).await["connect"]["ssh"].clone();
    for told in [&connect["command"], &connect["fingerprint"]] {
        assert!(said.contains(told.as_str().expect("text")), "{said}");
    }
    assert!(said.contains(&format!("ramarket exec -it {id}")), "{said}");
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_cp_port_forward_logs_and_ssh_by_our_own_client() {
    let home = Home::set(&[]).await;
    let client = Client::of(&home.stage.market.url());
    let serves = format!(
        "python3 -m http.server 8080 --bind 127.0.0.1 -d /srv & echo it serves; echo it complains >&2; {WAITS}"
    );
    let id = rents(&home, &client, &serves).await;
    wait::until("the rental is reached", || async {
        let tried = client.run(&["exec", &id, "--", "true"]).await;
        tried.status.success().then_some(())
    })
    .await;

    programs(&client, &id);
    files(&client, &id);
    ports(&client, &id).await;
    let logs = says(&mut ramarket(&client, &["logs", &id, "--stream", "stdout"]));
    assert!(
        logs.contains("it serves") && !logs.contains("it complains"),
        "{logs}"
    );
    let found = says(&mut ramarket(
        &client,
        &["--json", "logs", &id, "--search", "complains"],
    ));
    let entry: Value = serde_json::from_str(found.trim()).expect("one line");
    assert_eq!(
        (&entry["line"], &entry["stream"]),
        (&"it complains".into(), &"stderr".into())
    );

    // the stock client, with key and host key brought along
    let home_folder = TempDir::new();
    let mut ssh = ramarket(
        &client,
        &[
            "ssh",
            &id,
            "--",
            "-o",
            "BatchMode=yes",
            "echo by ssh; exit 5",
        ],
    );
    let output = ssh
        .env("HOME", home_folder.path())
        .output()
        .expect("it starts");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "by ssh\n",
        "{output:?}"
    );
    assert_eq!(output.status.code(), Some(5));

    // after the end: what was written is still there, what would need it running says so
    drop(client.json(&["stop", &id]).await);
    wait::until("it has ended", || async {
        let shown = client.json(&["show", &id]).await;
        (shown["state"] == "ended").then_some(())
    })
    .await;
    let kept = wait::until("its logs are kept", || async {
        let logs = client.run(&["logs", &id]).await;
        logs.status.success().then_some(logs.stdout)
    });
    assert!(String::from_utf8_lossy(&kept.await).contains("it serves"));
    let refused = client.run(&["exec", &id, "--", "true"]).await;
    assert!(
        !refused.status.success() && !refused.stderr.is_empty(),
        "{refused:?}"
    );
}

/// Exit codes, both outputs, standard input.
fn programs(client: &Client, id: &str) {
    let output = ramarket(
        client,
        &[
            "exec",
            id,
            "--",
            "sh",
            "-c",
            "echo out; echo err >&2; exit 3",
        ],
    )
    .output()
    .expect("it starts");
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        (&output.stdout[..], &output.stderr[..]),
        (&b"out\n"[..], &b"err\n"[..])
    );
    let mut child = ramarket(client, &["exec", "-i", id, "--", "wc", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(&vec![b'x'; 3_000_000]).expect("it reads");
    drop(stdin);
    let counted = child.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&counted.stdout).trim(), "3000000");
    let missing = ramarket(client, &["exec", id, "--", "no-such-program"]).output();
    let missing = missing.expect("it starts");
    assert!(
        !missing.status.success() && !missing.stderr.is_empty(),
        "{missing:?}"
    );
}

/// A file and a folder, there and back.
fn files(client: &Client, id: &str) {
    let folder = TempDir::new();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir_all(folder.path().join("tree/inner")).expect("folders");
    noise(&folder.path().join("tree/big"), 5 << 20);
    std::fs::write(folder.path().join("tree/inner/small"), "small\n").expect("written");
    runs(&mut ramarket(
        client,
        &["cp", &path("tree/big"), &format!("{id}:/srv/one")],
    ));
    runs(&mut ramarket(
        client,
        &["cp", &format!("{id}:/srv/one"), &path("back")],
    ));
    let hash = sha256(&folder.path().join("tree/big"));
    assert_eq!(sha256(&folder.path().join("back")), hash);
    runs(&mut ramarket(
        client,
        &["cp", "-r", &path("tree"), &format!("{id}:/srv/tree")],
    ));
    runs(&mut ramarket(
        client,
        &["cp", "-r", &format!("{id}:/srv/tree"), &path("again")],
    ));
    assert_eq!(sha256(&folder.path().join("again/big")), hash);
    let small = std::fs::read_to_string(folder.path().join("again/inner/small"));
    assert_eq!(small.expect("copied"), "small\n");
    let missing = ramarket(client, &["cp", &format!("{id}:/no/such"), &path("x")]).output();
    let missing = missing.expect("it starts");
    let said = String::from_utf8_lossy(&missing.stderr);
    assert!(
        !missing.status.success() && said.contains("/no/such"),
        "{said}"
    );
}

async fn ports(client: &Client, id: &str) {
    let mut child = ramarket(client, &["--json", "port-forward", id, ":8080"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut told = String::new();
    let stdout = child.stdout.take().expect("a pipe");
    let _working = Working(child);
    BufReader::new(stdout).read_line(&mut told).expect("a line");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let local = told["local"].as_str().expect("an address").to_owned();
    let page = wait::until("the page is served", || async {
        let mut stream = TcpStream::connect(&local).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).ok()?;
        (!page.is_empty()).then_some(page)
    });
    let page = page.await;
    assert!(page.contains("Directory listing"), "{page}");
}
