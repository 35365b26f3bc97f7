//! What people rent machines for, from Debian's packages: a database server and a notebook, used by their ordinary clients.

use std::process::Command;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use system_tests::{
    api::send,
    home::{Home, TENANTS},
    market::free_port,
    ssh_client::SshClient,
    wait,
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use super::{debian_order, rent, says};

const DATABASE: &str = "
install -d -o postgres /srv/pg
cd /srv/pg
su postgres -c 'PATH=$PATH:/usr/lib/postgresql/15/bin; initdb -D /srv/pg/data -A trust >/srv/pg/log && exec postgres -D /srv/pg/data -k /srv/pg -c listen_addresses=127.0.0.1'
";
const NOTEBOOK: &str = "
mkdir -p /srv/work; cd /srv/work
exec jupyter notebook --allow-root --no-browser --ip=127.0.0.1 --port=8888 \
    --NotebookApp.token=of-the-notebook --NotebookApp.allow_remote_access=True
";

#[tokio::test(flavor = "multi_thread")]
async fn psql_and_pgbench_use_a_database_server() {
    let home = Home::set(&[]).await;
    let client = SshClient::of(&home.stage.market.api()).await;
    let mut order = debian_order(&home, DATABASE);
    order["ssh_keys"] = json!([client.public_key()]);
    let rented = rent(&home, &order).await;
    let port = free_port().to_string();
    let local = format!("127.0.0.1:{port}:127.0.0.1:5432");
    wait::until("the database is up", || async {
        let ready = "/usr/lib/postgresql/15/bin/pg_isready -h 127.0.0.1";
        client
            .ssh(&rented.id, &[], ready)
            .status
            .success()
            .then_some(())
    })
    .await;
    let _forward = client.forward(&rented.id, &["-L", &local]);
    let program = |name: &str| {
        let path = format!("/usr/lib/postgresql/15/bin/{name}");
        let mut command = Command::new(path);
        command.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres"]);
        command
    };
    wait::until("the forward listens", || async {
        let asked = program("psql")
            .args(["-d", "postgres", "-c", "select 1"])
            .output();
        asked.expect("psql runs").status.success().then_some(())
    })
    .await;
    let sql = "create table t as select n, md5(n::text) m from generate_series(1, 200000) n; select count(*), sum(length(m)) from t";
    let said = says(program("psql").args(["-d", "postgres", "-Atqc", sql]));
    assert_eq!(said.trim(), "200000|6400000");
    // all of it comes through
    let rows = says(program("psql").args(["-d", "postgres", "-Atqc", "copy t to stdout"]));
    assert_eq!(rows.lines().count(), 200_000);
    // several connections at once
    drop(says(
        program("pgbench").args(["-q", "-i", "-s", "1", "postgres"]),
    ));
    let said = says(program("pgbench").args(["-c", "4", "-t", "25", "postgres"]));
    assert!(
        said.contains("number of transactions actually processed: 100/100"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notebook_computes_through_its_own_host_name() {
    let home = Home::set(&[]).await;
    let rented = rent(&home, &debian_order(&home, NOTEBOOK)).await;
    let path = format!("/rentals/{}/ports/8888", rented.id);
    let request = rented
        .api
        .request("PUT", &path)
        .json(&json!({"public": true}));
    let url = send(request).await.is(200)["url"].clone();
    let url = url.as_str().expect("a URL");
    let host = format!(
        "8888-{}.{TENANTS}:{}",
        rented.id.replace('_', "-"),
        home.face.tls
    );
    assert_eq!(url, format!("https://{host}/"));
    let authority = home.authority().display().to_string();
    let there = format!("{host}:{}", home.face.address);
    let curl = |more: &[&str], path: &str| {
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "--fail",
            "--max-time",
            "60",
            "--cacert",
            &authority,
            "--resolve",
            &there,
        ]);
        curl.args(["-H", "Authorization: token of-the-notebook"]);
        curl.args(more).arg(format!("{url}{path}"));
        curl.output().expect("curl runs")
    };
    wait::until("the notebook answers", || async {
        curl(&[], "api/status").status.success().then_some(())
    })
    .await;
    let page = curl(&[], "tree").stdout;
    assert!(
        String::from_utf8_lossy(&page).contains("Jupyter"),
        "its page"
    );
    // a notebook is written and read
    let cells = json!({"type": "file", "format": "text", "content": "made outside"}).to_string();
    let written = curl(&["-X", "PUT", "-d", &cells], "api/contents/note.txt");
    assert!(written.status.success(), "{written:?}");
    let kernel = curl(&["-X", "POST"], "api/kernels");
    let kernel: Value = serde_json::from_slice(&kernel.stdout).expect("a kernel");
    let id = kernel["id"].as_str().expect("an id");
    let computed = compute(&home, &host, id, "print(6 * 7, open('note.txt').read())");
    assert_eq!(computed.await, "42 made outside\n");
}

/// Runs code in a kernel over its WebSocket, and returns what it printed.
async fn compute(home: &Home, host: &str, kernel: &str, code: &str) -> String {
    // the proxy passes the name on; so does who speaks to the market directly
    let url = format!("ws://{host}/api/kernels/{kernel}/channels?token=of-the-notebook");
    let request = url.into_client_request().expect("a request");
    let market = ("127.0.0.1", home.stage.market.port());
    let connection = TcpStream::connect(market).await.expect("connected");
    let (mut socket, _) = client_async(request, connection).await.expect("a socket");
    let asked = json!({
        "header": {"msg_id": "1", "username": "", "session": "1", "msg_type": "execute_request", "version": "5.3"},
        "parent_header": {}, "metadata": {}, "channel": "shell",
        "content": {"code": code, "silent": false, "store_history": false, "user_expressions": {}, "allow_stdin": false},
    });
    socket
        .send(Message::Text(asked.to_string().into()))
        .await
        .expect("sent");
    let printed = async {
        loop {
            let message = socket.next().await.expect("a message").expect("whole");
            let Message::Text(text) = message else {
                continue;
            };
            let said: Value = serde_json::from_str(&text).expect("JSON");
            if said["msg_type"] == "stream" {
                return said["content"]["text"].as_str().expect("text").to_owned();
            }
            assert_ne!(said["msg_type"], "error", "{said}");
        }
    };
    tokio::time::timeout(wait::PATIENCE, printed)
        .await
        .expect("in time")
}
