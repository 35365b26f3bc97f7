//! What a gateway's streams lead to, without agent and container: a session whose other end runs programs of this machine.

use std::{
    process::Stdio,
    sync::{Arc, Mutex},
};

use shared::link::{
    frame::{self, Exit, FRAME_BYTES_MAX, Frame},
    open::{self, Exec, Open, Opened, Size, code},
    session::{Role, Session, Stream},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, copy, copy_bidirectional, split},
    net::TcpStream,
    process::Command,
    sync::mpsc,
    task::AbortHandle,
};

use crate::{error::Error, ssh::Opens};

/// Both ends.
pub(super) struct Double {
    session: Session,
    moves: AbortHandle,
    /// What was opened.
    pub(super) asked: Mutex<Vec<Open>>,
    /// Sizes that terminals were given after their beginning.
    pub(super) resized: Mutex<Vec<Size>>,
    /// The refusal of whatever is opened next.
    pub(super) refuses: Mutex<Option<Opened>>,
}

impl Double {
    pub(super) fn new() -> Arc<Self> {
        let (near, far) = tokio::io::duplex(1 << 20);
        let near = Session::start(near, Role::Server);
        let far = Session::start(far, Role::Client);
        let moves = tokio::spawn(near.driver).abort_handle();
        let driver = tokio::spawn(far.driver);
        let double = Arc::new(Self {
            session: near.session,
            moves,
            asked: Mutex::default(),
            resized: Mutex::default(),
            refuses: Mutex::default(),
        });
        let (this, mut accepted) = (Arc::downgrade(&double), far.accepted);
        tokio::spawn(async move {
            // as long as the other end has a handle, there are streams to come
            let _far = far.session;
            while let Some(stream) = accepted.recv().await {
                let Some(this) = this.upgrade() else { break };
                tokio::spawn(this.serve(stream));
            }
            driver.abort();
        });
        double
    }

    /// As the gateway opens streams.
    pub(super) fn opens(self: &Arc<Self>) -> Opens {
        let this = Arc::clone(self);
        Arc::new(move |open: Open| {
            let session = this.session.clone();
            Box::pin(async move {
                let mut stream = session.stream().await.map_err(unavailable)?;
                open::send(&mut stream, &open).await.map_err(unavailable)?;
                match open::receive(&mut stream).await.map_err(unavailable)? {
                    Opened::Ready {} => Ok(Box::new(stream) as crate::ssh::Stream),
                    Opened::Refused { detail, .. } => {
                        Err(Error::conflict("rental_not_running", detail))
                    }
                }
            })
        })
    }

    /// The link breaks: everything that runs over it ends.
    pub(super) fn cut(&self) {
        self.moves.abort();
    }

    async fn serve(self: Arc<Self>, mut stream: Stream) {
        let Ok(open) = open::receive::<Open>(&mut stream).await else {
            return;
        };
        self.asked.lock().expect("fine").push(open.clone());
        let refusal = self.refuses.lock().expect("fine").take();
        if let Some(refusal) = refusal {
            open::send(&mut stream, &refusal).await.expect("answered");
            return;
        }
        match open {
            Open::Exec { exec, .. } => {
                ready(&mut stream).await;
                self.run(stream, exec).await;
            }
            Open::Sftp { .. } => {
                ready(&mut stream).await;
                sftp(stream).await;
            }
            Open::Dial { host, port, .. } => {
                match TcpStream::connect((host.as_str(), port)).await {
                    Ok(mut dialled) => {
                        ready(&mut stream).await;
                        // either end may break it off
                        let _broken = copy_bidirectional(&mut stream, &mut dialled).await;
                    }
                    Err(error) => {
                        let refused = Opened::refused(code::NOT_CONNECTED, error.to_string());
                        open::send(&mut stream, &refused).await.expect("answered");
                    }
                }
            }
            other => panic!("an SSH gateway opens no {other:?}"),
        }
    }

    async fn run(&self, stream: Stream, exec: Exec) {
        let mut child = program(&exec)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let (mut reader, mut writer) = split(stream);
        let mut stdin = child.stdin.take();
        let pid = child.id();
        let input = async {
            while let Ok(Some(frame)) = frame::read(&mut reader).await {
                match frame {
                    Frame::Stdin(bytes) if bytes.is_empty() => stdin = None,
                    Frame::Stdin(bytes) => {
                        if let Some(stdin) = &mut stdin {
                            // it may have ended, or read no more
                            let _ended = stdin.write_all(&bytes).await;
                        }
                    }
                    Frame::Resize(size) => self.resized.lock().expect("fine").push(size),
                    Frame::Signal(number) => kill(pid, number).await,
                    other => panic!("a client sends no {other:?}"),
                }
            }
            // nobody is there any more: its program reads an end
            stdin = None;
        };
        let (frames, mut outputs) = mpsc::channel(4);
        let pump = |output, wrap| tokio::spawn(pump(output, frames.clone(), wrap));
        pump_both(&mut child, pump);
        drop(frames);
        let output = async {
            while let Some(frame) = outputs.recv().await {
                if frame::write(&mut writer, &frame).await.is_err() {
                    return;
                }
            }
            let status = child.wait().await.expect("it ends");
            let exit = status.code().map_or_else(
                || {
                    use std::os::unix::process::ExitStatusExt as _;
                    Exit::Signal(status.signal().expect("a signal"))
                },
                Exit::Code,
            );
            let _left = frame::write(&mut writer, &Frame::Exit(exit)).await;
            let _left = writer.shutdown().await;
        };
        tokio::pin!(input, output);
        tokio::select! {
            () = &mut output => {}
            () = &mut input => output.await,
        }
    }
}

type Output = Box<dyn AsyncRead + Send + Unpin>;

fn pump_both(
    child: &mut tokio::process::Child,
    pump: impl Fn(Output, fn(Vec<u8>) -> Frame) -> tokio::task::JoinHandle<()>,
) {
    let out: Output = Box::new(child.stdout.take().expect("piped"));
    let err: Output = Box::new(child.stderr.take().expect("piped"));
    drop(pump(out, Frame::Stdout));
    drop(pump(err, Frame::Stderr));
}

async fn pump(mut output: Output, frames: mpsc::Sender<Frame>, wrap: fn(Vec<u8>) -> Frame) {
    let mut bytes = vec![0; FRAME_BYTES_MAX];
    while let Ok(count @ 1..) = output.read(&mut bytes).await {
        if frames.send(wrap(bytes[..count].to_vec())).await.is_err() {
            return;
        }
    }
}

fn program(exec: &Exec) -> Command {
    let mut command = Command::new("sh");
    if let Some(terminal) = &exec.terminal {
        // a real terminal of the size that was asked for
        let size = format!(
            "stty cols {} rows {}; ",
            terminal.size.columns, terminal.size.rows
        );
        let inner = exec.command.first().map_or("sh", String::as_str);
        command = Command::new("script");
        command.args(["-qec", &format!("{size}{inner}"), "/dev/null"]);
        command.env("TERM", &terminal.term);
    } else if exec.shell {
        command.arg("-c").args(&exec.command);
    }
    command.envs(&exec.env);
    command
}

async fn kill(pid: Option<u32>, number: u8) {
    let pid = pid.expect("it runs").to_string();
    let killed = Command::new("kill")
        .arg(format!("-{number}"))
        .arg(pid)
        .status()
        .await;
    assert!(killed.expect("kill runs").success());
}

async fn sftp(stream: Stream) {
    let mut child = Command::new("/usr/lib/openssh/sftp-server")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("openssh-sftp-server is installed");
    let (mut reader, mut writer) = split(stream);
    let (mut stdin, mut stdout) = (
        child.stdin.take().expect("piped"),
        child.stdout.take().expect("piped"),
    );
    let asked = async move {
        let _broken = copy(&mut reader, &mut stdin).await;
    };
    let answered = async {
        let _broken = copy(&mut stdout, &mut writer).await;
        let _broken = writer.shutdown().await;
    };
    tokio::join!(asked, answered);
}

async fn ready(stream: &mut Stream) {
    open::send(stream, &Opened::Ready {})
        .await
        .expect("answered");
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn unavailable(error: std::io::Error) -> Error {
    Error::conflict(
        "node_unavailable",
        format!("the rental's node can't be reached: {error}"),
    )
}
