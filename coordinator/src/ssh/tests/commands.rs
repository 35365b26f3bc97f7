//! Programs: their input, their outputs, their terminals, how they end; files by sftp, scp and rsync.

use std::process::Stdio;

use shared::link::open::{Open, Size};
use tokio::process::Command;

use super::{Reach, ended, fed, noise, run, same, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_heard_on_both_outputs_and_ends_as_it_ended() {
    let reach = Reach::open().await;
    let came = run(&mut reach.ssh(&[], &["echo out; echo err >&2; exit 3"])).await;
    assert_eq!(
        (came.code, came.text().as_str()),
        (Some(3), "out\n"),
        "{came:?}"
    );
    assert!(came.err.ends_with("err\n"), "{came:?}");
    let came = fed(&mut reach.ssh(&[], &["cat"]), b"what is said".to_vec()).await;
    assert_eq!((came.code, came.text().as_str()), (Some(0), "what is said"));
    // without a command the shell reads what to do
    let came = fed(
        &mut reach.ssh(&["-T"], &[]),
        b"echo shell; exit 4\n".to_vec(),
    )
    .await;
    assert_eq!(
        (came.code, came.text().as_str()),
        (Some(4), "shell\n"),
        "{came:?}"
    );
    // ssh itself ends with 255 when its program was killed, and says nothing of it
    let came = run(&mut reach.ssh(&["-v"], &["kill -TERM $$"])).await;
    assert_eq!(came.code, Some(255), "{came:?}");
    assert!(came.err.contains("exit-signal"), "{came:?}");
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_goes_through_both_ways_at_once_and_comes_as_it_went() {
    let reach = Reach::open().await;
    let sent = noise(100 << 20);
    // both directions are full: neither may wait for the other
    let came = fed(&mut reach.ssh(&[], &["cat"]), sent.clone()).await;
    assert_eq!(came.code, Some(0), "{}", came.err);
    assert_eq!(came.out.len(), sent.len());
    assert!(came.out == sent, "other bytes came back");
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_languages_come_along_and_a_command_may_be_long() {
    let reach = Reach::open().await;
    let mut ssh = reach.ssh(
        &["-o", "SendEnv=LC_ALL LANG SECRET_OF_MINE"],
        &["echo $LC_ALL $SECRET_OF_MINE"],
    );
    let came = run(ssh.env("LC_ALL", "C").env("SECRET_OF_MINE", "hush")).await;
    assert_eq!(came.text(), "C\n", "{came:?}");
    let long = format!("echo {}", "x".repeat(30_000));
    let came = run(&mut reach.ssh(&[], &[&long])).await;
    assert_eq!(came.out.len(), 30_001);
    let longer = format!("echo {}", "x".repeat(40_000));
    let came = run(&mut reach.ssh(&[], &[&longer])).await;
    assert_eq!(came.code, Some(255), "{}", came.err);
    reach.close().await;
}

/// Runs a client in a terminal of 100 × 40 that becomes one of 120 × 50 once it says `ready`, and prints what it says.
const TERMINAL: &str = r#"
import fcntl, os, pty, struct, sys, termios
def resize(fd, columns, rows):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
gate_r, gate_w = os.pipe()
pid, fd = pty.fork()
if pid == 0:
    os.read(gate_r, 1)
    os.execvp(sys.argv[1], sys.argv[1:])
resize(fd, 100, 40)
os.write(gate_w, b"x")
said = b""
while True:
    try:
        part = os.read(fd, 4096)
    except OSError:
        break
    if not part:
        break
    said += part
    if b"ready" in said and b"typed" not in said:
        resize(fd, 120, 50)
        os.write(fd, b"typed\n")
sys.stdout.buffer.write(said)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_has_the_clients_kind_and_size_and_follows_it() {
    let reach = Reach::open().await;
    let mut terminal = Command::new("python3");
    terminal.args(["-c", TERMINAL, "ssh"]);
    terminal.args(reach.options("key"));
    terminal.arg("-t").arg(reach.host());
    terminal.arg("stty size; echo $TERM; echo ready; read line; echo got $line; exit 7");
    terminal.env("TERM", "xterm-256color");
    terminal
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let came = ended(terminal.spawn().expect("python3 runs")).await;
    let said = came.text();
    assert_eq!(came.code, Some(7), "{came:?}");
    for word in ["40 100", "xterm-256color", "got typed"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let now = Size {
        columns: 120,
        rows: 50,
    };
    assert_eq!(*reach.double.resized.lock().expect("fine"), [now]);
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_copied_by_sftp_scp_and_rsync() {
    let reach = Reach::open().await;
    let (here, there) = (reach.path("here"), reach.path("there"));
    std::fs::write(&here, noise(5 << 20)).expect("written");
    let (here_text, there_text) = (here.display().to_string(), there.display().to_string());
    let batch = reach.path("batch");
    let lines = format!("put {here_text} {there_text}\nget {there_text} {here_text}.back\n");
    std::fs::write(&batch, lines).expect("written");
    let mut sftp = Command::new("sftp");
    sftp.args(reach.options("key"))
        .arg("-b")
        .arg(&batch)
        .arg(reach.host());
    let came = run(sftp.stdout(Stdio::piped()).stderr(Stdio::piped())).await;
    assert_eq!(came.code, Some(0), "{came:?}");
    assert!(same(&here, &there) && same(&here, &reach.path("here.back")));
    assert!(matches!(
        reach.double.asked.lock().expect("fine").last(),
        Some(Open::Sftp { rental_id }) if *rental_id == reach.rental
    ));
    let mut scp = Command::new("scp");
    let target = format!("{}:{}", reach.host(), reach.path("scp").display());
    scp.args(reach.options("key"))
        .arg("-q")
        .arg(&here)
        .arg(target);
    let came = run(scp.stdout(Stdio::piped()).stderr(Stdio::piped())).await;
    assert_eq!(came.code, Some(0), "{came:?}");
    assert!(same(&here, &reach.path("scp")));
    let mut rsync = Command::new("rsync");
    let by = format!("ssh {}", reach.options("key").join(" "));
    let target = format!("{}:{}/", reach.host(), reach.path("rsync").display());
    rsync.args(["-a", "-e", &by]).arg(&here).arg(target);
    let came = run(rsync.stdout(Stdio::piped()).stderr(Stdio::piped())).await;
    assert_eq!(came.code, Some(0), "{came:?}");
    assert!(same(&here, &reach.path("rsync/here")));
    reach.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_ends_its_program() {
    let reach = Reach::open().await;
    let marker = reach.path("runs");
    let command = format!("touch {0}; cat >/dev/null; rm {0}", marker.display());
    let mut ssh = reach.ssh(&[], &[&command]);
    let mut child = ssh.stdin(Stdio::piped()).spawn().expect("it starts");
    until("the program runs", || marker.exists()).await;
    child.kill().await.expect("killed");
    // its input ends with its channel
    until("the program has ended", || !marker.exists()).await;
    reach.close().await;
}
