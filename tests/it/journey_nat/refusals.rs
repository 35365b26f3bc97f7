//! Who may not is refused, at each way in: other rentals' tickets and keys, used tickets, revoked people, forwards to elsewhere.

use std::{
    net::TcpListener,
    process::{Child, Stdio},
};

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use system_tests::{
    api::{Api, send},
    home::Home,
    payer::{Payer, Rented},
    people,
    ssh_client::SshClient,
    wait,
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Error, client::IntoClientRequest as _},
};

use super::{WAITS, rent, small_order};

/// Whether a WebSocket is opened with a ticket, or the status that refuses it.
async fn opens(home: &Home, rental: &str, rest: &str, ticket: &str) -> u16 {
    let at = format!("127.0.0.1:{}", home.stage.market.port());
    let url = format!("ws://{at}/api/v1/rentals/{rental}/{rest}?ticket={ticket}");
    let request = url.into_client_request().expect("a request");
    let connection = TcpStream::connect(at).await.expect("connected");
    match client_async(request, connection).await {
        Ok((mut socket, answer)) => {
            drop(socket.close(None).await);
            drop(socket.next().await);
            answer.status().as_u16()
        }
        Err(Error::Http(answer)) => answer.status().as_u16(),
        Err(other) => panic!("{other}"),
    }
}

async fn ticket(rented: &Rented, body: Value) -> String {
    let path = format!("/rentals/{}/tickets", rented.id);
    let made = rented.api.post(&path, &body).await.is(201);
    made["ticket"].as_str().expect("a ticket").to_owned()
}

async fn reached(client: &SshClient, id: &str) {
    wait::until("the rental is reached", || async {
        client.ssh(id, &[], "true").status.success().then_some(())
    })
    .await;
}

#[track_caller]
fn denied(client: &SshClient, id: &str) {
    let output = client.ssh(id, &[], "true");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("Permission denied"), "{said}");
    assert_eq!(output.status.code(), Some(255));
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_and_keys_open_one_rental_once_and_to_whom_they_belong() {
    let home = Home::set(&[]).await;
    let market = home.stage.market.api();
    let (mine, yours) = (SshClient::of(&market).await, SshClient::of(&market).await);
    let (one, other) = (
        rent(&home, &small_order(&home, WAITS)).await,
        rent(&home, &small_order(&home, WAITS)).await,
    );
    mine.let_into(&one).await;
    yours.let_into(&other).await;
    reached(&mine, &one.id).await;
    reached(&yours, &other.id).await;

    let exec = ticket(&one, json!({"verb": "exec"})).await;
    assert_eq!(
        opens(&home, &other.id, "exec", &exec).await,
        401,
        "of another rental"
    );
    assert_eq!(
        opens(&home, &one.id, "ports/8080", &exec).await,
        401,
        "of another verb"
    );
    let exec = ticket(&one, json!({"verb": "exec"})).await;
    assert_eq!(opens(&home, &one.id, "exec", &exec).await, 101);
    assert_eq!(opens(&home, &one.id, "exec", &exec).await, 401, "used");
    assert_eq!(opens(&home, &one.id, "exec", "rmk_made-up").await, 401);
    let port = ticket(&one, json!({"verb": "port", "port": 8080})).await;
    assert_eq!(
        opens(&home, &one.id, "ports/8081", &port).await,
        401,
        "of another port"
    );
    // a rental's token makes no ticket for another
    let path = format!("/rentals/{}/tickets", other.id);
    let asked = one.api.post(&path, &json!({"verb": "exec"})).await;
    assert!([401, 403, 404].contains(&asked.status), "{}", asked.body);

    // keys: each opens its rental and no other, and no rental that isn't
    denied(&yours, &one.id);
    denied(&mine, &other.id);
    denied(&mine, "rnt_00000000000000000000000000000001");
    denied(&mine, "root");
    other.stop().await;
    other.until("ended").await;
    let output = yours.ssh(&other.id, &[], "true");
    assert_eq!(output.status.code(), Some(255), "{output:?}");
    reached(&mine, &one.id).await;
}

/// A program that runs until its session is ended.
fn session(client: &SshClient, id: &str) -> Child {
    let mut ssh = client.command("ssh", &[]);
    ssh.arg(client.target(id)).arg("sleep 600");
    ssh.stderr(Stdio::null()).spawn().expect("ssh starts")
}

async fn is_ended(mut session: Child, why: &str) {
    let status = wait::until(why, || {
        let ended = session.try_wait().expect("our child");
        std::future::ready(ended)
    });
    assert!(!status.await.success());
}

async fn streams(home: &Home, count: f64) {
    wait::until("so many streams are open", || async {
        (home.gauge("gateway_streams").await >= count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_loses_access_is_out_at_once_and_stays_out() {
    let recheck = [("ssh.recheck_s", "1"), ("gateway.recheck_s", "1")];
    let home = Home::set(&recheck).await;
    let market = home.stage.market.api();
    // a rental's own key, taken away
    let client = SshClient::of(&market).await;
    let rented = rent(&home, &small_order(&home, WAITS)).await;
    client.let_into(&rented).await;
    reached(&client, &rented.id).await;
    let open = session(&client, &rented.id);
    streams(&home, 1.0).await;
    let path = format!("/rentals/{}/ssh-keys", rented.id);
    let none = rented
        .api
        .request("PUT", &path)
        .json(&json!({"ssh_keys": []}));
    send(none).await.is(200);
    is_ended(open, "the session of a key that was taken away has ended").await;
    denied(&client, &rented.id);

    // an account's, whose owner is disabled
    let person = people::consumer(&home.stage.market).await;
    let theirs = SshClient::of(&market).await;
    let line = json!({"public_key": theirs.public_key()});
    person.post("/ssh-keys", &line).await.is(201);
    let order = small_order(&home, WAITS);
    let bought = Payer::new().rent(&person, &order).await;
    bought.until("running").await;
    reached(&theirs, &bought.id).await;
    denied(&theirs, &rented.id);
    let open = session(&theirs, &bought.id);
    streams(&home, 1.0).await;
    disable(&home, &person).await;
    is_ended(open, "the session of a disabled account has ended").await;
    let refused = theirs.ssh(&bought.id, &[], "true");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("disabled"),
        "{said}"
    );
}

async fn disable(home: &Home, person: &Api) {
    let me = person.get("/auth/me").await.is(200);
    let id = me["id"].as_str().expect("an id");
    let admin = people::admin(&home.stage.market).await;
    let why = json!({"reason": "a test of who gets in"});
    admin
        .post(&format!("/admin/users/{id}/disable"), &why)
        .await
        .is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn forwards_lead_into_the_rental_and_nowhere_else() {
    let home = Home::set(&[]).await;
    let client = SshClient::of(&home.stage.market.api()).await;
    let named = "echo '192.168.200.2 harmless.example' >>/etc/hosts; echo '127.0.0.1 myself.example' >>/etc/hosts";
    let serves = format!("{named}; (while :; do echo within | nc -l -p 7777; done) & {WAITS}");
    let rented = rent(&home, &small_order(&home, &serves)).await;
    let other = rent(&home, &small_order(&home, &serves)).await;
    client.let_into(&rented).await;
    reached(&client, &rented.id).await;
    let engine = home.stage.node.engine();
    let address_of = |format: &str, id: String| {
        let format = format!("{{{{range .NetworkSettings.Networks}}}}{{{{{format}}}}}{{{{end}}}}");
        let said = engine.docker(&["inspect", "--format", &format, &id]);
        said.trim().to_owned()
    };
    let own = engine.of_rental(&rented.id).await.expect("it runs").id;
    let next = engine.of_rental(&other.id).await.expect("it runs").id;
    let (gateway, neighbour) = (address_of(".Gateway", own), address_of(".IPAddress", next));
    // somebody answers at each of these, if they are reached
    let listeners = ["0.0.0.0:0"].map(|at| TcpListener::bind(at).expect("a port"));
    let port = listeners[0].local_addr().expect("an address").port();
    let outside = home.nat.outside();

    let through = |to: &str| {
        let mut ssh = client.command("ssh", &["-W", to]);
        ssh.arg(client.target(&rented.id))
            .output()
            .expect("ssh runs")
    };
    for within in ["localhost:7777", "127.0.0.1:7777", "myself.example:7777"] {
        let served = wait::until("the rental's own port answers", || async {
            let output = through(within);
            output.status.success().then_some(output.stdout)
        });
        assert_eq!(served.await, b"within\n", "{within}");
    }
    for refused in [
        format!("{gateway}:{port}"),
        format!("{outside}:{port}"),
        format!("{neighbour}:7777"),
        format!("{}:22", system_tests::nat::HOME),
        "harmless.example:22".to_owned(),
        "169.254.169.254:80".to_owned(),
        "10.0.0.1:80".to_owned(),
        "[::ffff:10.0.0.1]:80".to_owned(),
        "[fe80::1]:80".to_owned(),
        // 10.0.0.1, written as old resolvers read it
        "167772161:80".to_owned(),
        "0.0.0.0:7777".to_owned(),
    ] {
        let output = through(&refused);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && output.stdout.is_empty(),
            "{refused}: {output:?}"
        );
        assert!(said.contains("open failed"), "{refused}: {said}");
    }
    let back = client.ssh(
        &rented.id,
        &["-o", "ExitOnForwardFailure=yes", "-R", "0:localhost:80"],
        "true",
    );
    assert_eq!(back.status.code(), Some(255), "{back:?}");
    for listener in listeners {
        listener.set_nonblocking(true).expect("set");
        assert!(listener.accept().is_err(), "somebody got out");
    }
}
