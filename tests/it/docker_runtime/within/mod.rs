//! What is done within a rental: programs, terminals, files, connections and logs, through the helper, in an image that holds busybox alone.

mod ends;
mod files;
mod stage;

use shared::{
    link::{
        frame::{self, Exit, Frame},
        open::{Exec, LogsQuery, Open, Opened, Output, Size, Terminal, code},
    },
    time::Timestamp,
};
use system_tests::wait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use self::stage::{Stage, exec, output, refusal, said_until};

#[tokio::test(flavor = "multi_thread")]
async fn a_program_runs_with_the_rentals_own_rights() {
    let stage = Stage::new("rights", &["sleep", "600"]).await;
    let script = "cat; echo oops >&2; grep -E 'CapEff|Seccomp:|NoNewPrivs' /proc/self/status; hostname; exit 7";
    let (mut stream, opened) = stage.open(&stage.exec(&["sh", "-c", script])).await;
    assert_eq!(opened, Opened::Ready {});
    for chunk in [&b"input\n"[..], b""] {
        let frame = Frame::Stdin(chunk.to_vec());
        frame::write(&mut stream, &frame).await.expect("sent");
    }
    let (out, err, exit) = output(&mut stream).await;
    let first = stage.engine().docker(&[
        "exec",
        &stage.container,
        "grep",
        "-E",
        "CapEff|Seccomp:|NoNewPrivs",
        "/proc/1/status",
    ]);
    let host = stage
        .engine()
        .docker(&["exec", &stage.container, "hostname"]);
    assert_eq!(
        out,
        format!("input\n{first}\n{host}\n"),
        "those of its first process"
    );
    assert_eq!((err.as_str(), exit), ("oops\n", Exit::Code(7)));
    for (words, expected) in [
        (&["true"][..], Exit::Code(0)),
        (&["sh", "-c", "kill -9 $$"], Exit::Signal(9)),
        (&["sh", "-c", "exit 200"], Exit::Code(200)),
    ] {
        let (mut stream, _) = stage.open(&stage.exec(words)).await;
        assert_eq!(output(&mut stream).await.2, expected, "{words:?}");
    }
    let (_, opened) = stage.open(&stage.exec(&["no-such-program"])).await;
    assert_eq!(refusal(&opened), code::NOT_STARTED);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_a_size_that_changes_and_keys_that_interrupt() {
    let stage = Stage::new("terminal", &["sleep", "600"]).await;
    let size = |columns, rows| Size { columns, rows };
    let shell = Open::Exec {
        rental_id: stage.rental_id,
        exec: Exec {
            terminal: Some(Terminal {
                term: "vt100".to_owned(),
                size: size(80, 24),
            }),
            ..exec(&[])
        },
    };
    let (mut stream, opened) = stage.open(&shell).await;
    assert_eq!(opened, Opened::Ready {});
    let keys = |text: &str| Frame::Stdin(text.as_bytes().to_vec());
    let typed = keys("echo \"$(stty size) $TERM $0 $((6*7))\"\n");
    frame::write(&mut stream, &typed).await.expect("sent");
    said_until(&mut stream, "24 80 vt100 -sh 42").await;
    let resize = Frame::Resize(size(132, 50));
    frame::write(&mut stream, &resize).await.expect("sent");
    let typed = keys("stty size; sleep 1000; echo after-$((1+1))\n");
    frame::write(&mut stream, &typed).await.expect("sent");
    said_until(&mut stream, "50 132").await;
    // control-C ends what has the terminal and not the shell
    frame::write(&mut stream, &keys("\x03"))
        .await
        .expect("sent");
    frame::write(&mut stream, &keys("echo again-$((1+2))\n"))
        .await
        .expect("sent");
    said_until(&mut stream, "again-3").await;
    frame::write(&mut stream, &keys("exit 3\n"))
        .await
        .expect("sent");
    assert_eq!(output(&mut stream).await.2, Exit::Code(3));
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_that_nobody_reads_stops_and_takes_no_memory() {
    let stage = Stage::new("flood", &["sleep", "600"]).await;
    let (flood, _) = stage.open(&stage.exec(&["cat", "/dev/zero"])).await;
    let cpu = || async {
        // the flood's own count: utime and stime
        let script = "cat $(grep -l '^cat' /proc/[0-9]*/comm | head -1 | sed s/comm/stat/)";
        let (mut stream, _) = stage.open(&stage.exec(&["sh", "-c", script])).await;
        let said = output(&mut stream).await.0;
        said.split(' ')
            .skip(13)
            .take(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let last = std::sync::Mutex::new((Vec::new(), 0));
    wait::until("the flood stands still", || async {
        let now = cpu().await;
        let mut last = last.lock().expect("nobody panicked");
        let same = if now == last.0 && !now.is_empty() {
            last.1 + 1
        } else {
            0
        };
        *last = (now, same);
        (same > 5).then_some(())
    })
    .await;
    let script = "grep VmHWM $(grep -l 'ramarket-insid[e]' /proc/[0-9]*/cmdline | head -1 | sed s/cmdline/status/)";
    let (mut stream, _) = stage.open(&stage.exec(&["sh", "-c", script])).await;
    let said = output(&mut stream).await.0;
    let kib: u64 = said
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("a size");
    eprintln!("within: the program took {kib} KiB at its most");
    assert!(kib < 64 * 1_024, "{kib} KiB");
    drop(flood);
    stage.until_left_with("cat", 0).await;
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_own_ports_are_reached_and_nobody_elses() {
    let script =
        "mkdir /tmp/w; echo served > /tmp/w/index.html; httpd -f -p 127.0.0.1:8080 -h /tmp/w";
    let stage = Stage::new("dial", &["sh", "-c", script]).await;
    let dial = |host: &str, port| Open::Dial {
        rental_id: stage.rental_id,
        host: host.to_owned(),
        port,
    };
    let mut stream = wait::until("the server listens", || async {
        let (stream, opened) = stage.open(&dial("localhost", 8080)).await;
        (opened == Opened::Ready {}).then_some(stream)
    })
    .await;
    let request = b"GET / HTTP/1.0\r\n\r\n";
    stream.write_all(request).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    assert!(
        answer.starts_with("HTTP/1.") && answer.ends_with("served\n"),
        "{answer}"
    );
    let gateway = stage.engine().docker(&[
        "inspect",
        "-f",
        "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}",
        &stage.container,
    ]);
    for host in [
        gateway.as_str(),
        "10.0.0.1",
        "169.254.169.254",
        "192.168.0.1",
        "fd00::1",
    ] {
        let (_, opened) = stage.open(&dial(host, 80)).await;
        assert_eq!(refusal(&opened), code::NOT_ALLOWED, "{host}");
    }
    let (_, opened) = stage.open(&dial("127.0.0.1", 9)).await;
    assert_eq!(refusal(&opened), code::NOT_CONNECTED);
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_picked_and_followed() {
    let script = "for n in 1 2 3 4; do echo out $n; echo err $n >&2; done; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo last";
    let stage = Stage::new("logs", &["sh", "-c", script]).await;
    let everything = LogsQuery::default();
    wait::until("it has written", || async {
        let told = stage.logs(everything.clone()).await;
        (told.len() == 8).then_some(())
    })
    .await;
    let tail = LogsQuery {
        tail: Some(2),
        ..everything.clone()
    };
    let of_stdout = LogsQuery {
        stream: Some(Output::Stdout),
        ..tail.clone()
    };
    assert_eq!(stage.logs(of_stdout.clone()).await, ["out 3", "out 4"]);
    let search = LogsQuery {
        search: Some("r 2".to_owned()),
        ..everything.clone()
    };
    assert_eq!(stage.logs(search).await, ["err 2"]);
    let future = Timestamp::from_secs(4_000_000_000);
    let later = LogsQuery {
        since: Some(future),
        ..everything
    };
    assert!(stage.logs(later).await.is_empty());
    let follow = LogsQuery {
        follow: true,
        ..of_stdout
    };
    let following = stage.logs(follow);
    let go = async {
        let (mut stream, _) = stage.open(&stage.exec(&["touch", "/tmp/go"])).await;
        output(&mut stream).await
    };
    let (told, _) = tokio::join!(following, go);
    assert_eq!(told, ["out 3", "out 4", "last"]);
    stage.end().await;
}
