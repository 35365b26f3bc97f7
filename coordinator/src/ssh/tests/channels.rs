//! Several channels of one connection, a link that breaks, bounds.

use std::process::Stdio;

use shared::link::open::{Opened, code};
use tokio::io::AsyncWriteExt as _;

use super::{Reach, ended, fed, noise, run, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_programs_share_a_connection() {
    let reach = Reach::open().await;
    let control = reach.path("control");
    let path = format!("ControlPath={}", control.display());
    let master = reach.ssh(&["-N", "-M", "-o", &path], &[]).spawn();
    let _master = master.expect("it starts");
    until("the first connection stands", || control.exists()).await;
    let shared = ["-o", &path, "-o", "ControlMaster=no"];
    let (one, two) = (noise(4 << 20), noise(3 << 20));
    let mut first = reach.ssh(&shared, &["cat"]);
    let mut second = reach.ssh(&shared, &["cat; exit 5"]);
    let (first, second) = tokio::join!(fed(&mut first, one.clone()), fed(&mut second, two.clone()));
    assert!(first.code == Some(0) && first.out == one, "{}", first.err);
    assert!(
        second.code == Some(5) && second.out == two,
        "{}",
        second.err
    );
    // many, one after the other
    for number in 0..40 {
        let came = run(&mut reach.ssh(&shared, &[&format!("echo {number}")])).await;
        assert_eq!(came.text(), format!("{number}\n"), "{came:?}");
    }
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_breaks_ends_what_runs_over_it_with_a_word() {
    let reach = Reach::open().await;
    let marker = reach.path("runs");
    let command = format!("touch {}; cat", marker.display());
    let mut child = reach
        .ssh(&[], &[&command])
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"before").await.expect("written");
    until("it runs", || marker.exists()).await;
    reach.double.cut();
    let came = ended(child).await;
    drop(stdin);
    assert_eq!(came.code, Some(255), "{came:?}");
    assert!(
        came.err.contains("the connection to the rental was lost"),
        "{came:?}"
    );
    let came = run(&mut reach.ssh(&[], &["true"])).await;
    assert_eq!(came.code, Some(255), "{came:?}");
    assert!(came.err.contains("can't be reached"), "{came:?}");
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_rental_refuses_is_said() {
    let reach = Reach::open().await;
    let refusal = Opened::refused(code::NOT_RUNNING, "this rental's program has just ended");
    *reach.double.refuses.lock().expect("fine") = Some(refusal.clone());
    let came = run(&mut reach.ssh(&[], &["true"])).await;
    assert_eq!(came.code, Some(255), "{came:?}");
    assert!(
        came.err
            .contains("ramarket: this rental's program has just ended"),
        "{came:?}"
    );
    *reach.double.refuses.lock().expect("fine") = Some(refusal);
    let mut sftp = tokio::process::Command::new("sftp");
    sftp.args(reach.options("key")).arg(reach.host());
    let came = run(sftp.stdout(Stdio::piped()).stderr(Stdio::piped())).await;
    assert!(came.err.contains("has just ended"), "{came:?}");
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rental_has_sixteen_connections_and_no_more() {
    let reach = Reach::open().await;
    let mut open = Vec::new();
    for number in 0..16 {
        let marker = reach.path(&format!("open-{number}"));
        let command = format!("touch {}; cat", marker.display());
        let mut ssh = reach.ssh(&[], &[&command]);
        open.push(ssh.stdin(Stdio::piped()).spawn().expect("it starts"));
        until("it runs", || marker.exists()).await;
    }
    let came = run(&mut reach.ssh(&[], &["true"])).await;
    assert_eq!(came.code, Some(255), "{came:?}");
    assert!(
        came.err.contains("as many connections as may be"),
        "{came:?}"
    );
    let mut one = open.pop().expect("sixteen");
    drop(one.stdin.take());
    assert_eq!(ended(one).await.code, Some(0));
    let came = run(&mut reach.ssh(&[], &["echo in"])).await;
    assert_eq!(came.text(), "in\n", "{came:?}");
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_never_reads_holds_its_client_back() {
    let reach = Reach::open().await;
    let marker = reach.path("runs");
    let command = format!("touch {}; sleep 600", marker.display());
    let mut child = reach
        .ssh(&[], &[&command])
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    until("it runs", || marker.exists()).await;
    // far more than a pipe, a window and what the gateway holds: it isn't taken
    let flood = noise(64 << 20);
    let pushing = tokio::time::timeout(std::time::Duration::from_secs(5), stdin.write_all(&flood));
    assert!(pushing.await.is_err(), "64 MiB went nowhere");
    // others aren't held back by it
    let came = run(&mut reach.ssh(&[], &["echo in"])).await;
    assert_eq!(came.text(), "in\n", "{came:?}");
    child.kill().await.expect("killed");
    reach.close().await;
}
