//! A rental that runs on this machine's engine, behind a helper, with the streams that a link would bring.

use std::{
    fs::File,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command},
    sync::Arc,
};

use node_agent::{
    boundary::{Engine as Guarded, Helper, HelperRuntime, Peers, Room},
    report::samples::Samples,
    streams::{Sources, Streams},
};
use shared::{
    id::RentalId,
    link::{
        frame::{self, Exit, Frame},
        open::{self, Entry, Exec, LogsQuery, Open, Opened},
        session::{Role, Session, Started, Stream},
    },
    wire::desired::DesiredRental,
};
use system_tests::{program, wait};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, duplex},
    net::UnixListener,
    sync::Mutex,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::super::{
    engine::Engine,
    node::{Agent, LEASE_MS, Node, images},
};

pub(super) struct Stage {
    node: Node,
    agent: Agent,
    link: Mutex<Session>,
    helper: Mutex<CancellationToken>,
    streams: Mutex<CancellationToken>,
    pub(super) rental_id: RentalId,
    pub(super) container: String,
}

/// A program with these words.
pub(super) fn exec(words: &[&str]) -> Exec {
    Exec {
        command: words.iter().map(|&word| word.to_owned()).collect(),
        ..Exec::default()
    }
}

pub(super) fn refusal(opened: &Opened) -> &str {
    match opened {
        Opened::Refused { code, .. } => code,
        Opened::Ready {} => "none",
    }
}

/// Both outputs, and how it ended.
pub(super) async fn output(stream: &mut Stream) -> (String, String, Exit) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        match frame::read(stream).await.expect("a frame") {
            Some(Frame::Stdout(bytes)) => out.extend(bytes),
            Some(Frame::Stderr(bytes)) => err.extend(bytes),
            Some(Frame::Exit(exit)) => {
                let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                return (text(out), text(err), exit);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Reads until the terminal shows this.
pub(super) async fn said_until(stream: &mut Stream, text: &str) {
    let mut shown = String::new();
    while !shown.contains(text) {
        match frame::read(stream).await.expect("a frame") {
            Some(Frame::Stdout(bytes)) => shown.push_str(&String::from_utf8_lossy(&bytes)),
            other => panic!("{other:?} after {shown:?}"),
        }
    }
}

impl Stage {
    /// With a rental that runs this command.
    pub(super) async fn new(name: &str, command: &[&str]) -> Self {
        let node = Node::new(name);
        let agent = node.start().await;
        let rental = node.rental("busybox:latest", command);
        agent.wish(1, &[&rental], LEASE_MS).await;
        let live = agent.until_running(&rental).await;
        let container = live.observed.container_id.expect("its container");
        Self::of(node, agent, &rental, container)
    }

    fn of(node: Node, agent: Agent, rental: &DesiredRental, container: String) -> Self {
        let helper = CancellationToken::new();
        let socket = start_helper(&node, &helper);
        let streams = CancellationToken::new();
        let link = link(serve(&node, &agent, socket, &streams));
        Self {
            link: Mutex::new(link),
            helper: Mutex::new(helper),
            streams: Mutex::new(streams),
            rental_id: rental.rental_id,
            node,
            agent,
            container,
        }
    }

    /// Streams through `ramarket-helper` as a program of its own, in place of the one in this process.
    pub(super) async fn through_program(&self) -> HelperProcess {
        let (program, socket) = HelperProcess::start(&self.node);
        let streams = CancellationToken::new();
        let served = serve(&self.node, &self.agent, socket, &streams);
        *self.link.lock().await = link(served);
        *self.streams.lock().await = streams;
        program
    }

    pub(super) fn engine(&self) -> &Engine {
        self.node.engine()
    }

    pub(super) async fn open(&self, open: &Open) -> (Stream, Opened) {
        let mut stream = self.link.lock().await.stream().await.expect("a stream");
        open::send(&mut stream, open).await.expect("sent");
        let opened = open::receive(&mut stream).await.expect("an answer");
        (stream, opened)
    }

    pub(super) fn exec(&self, words: &[&str]) -> Open {
        Open::Exec {
            rental_id: self.rental_id,
            exec: exec(words),
        }
    }

    /// The lines of a query, until it ends.
    pub(super) async fn logs(&self, query: LogsQuery) -> Vec<String> {
        let rental_id = self.rental_id;
        let (stream, opened) = self.open(&Open::Logs { rental_id, query }).await;
        assert_eq!(opened, Opened::Ready {});
        let (mut lines, mut told) = (BufReader::new(stream).lines(), Vec::new());
        while let Some(line) = lines.next_line().await.expect("read") {
            let entry: Entry = serde_json::from_str(&line).expect("an entry");
            told.push(entry.line);
        }
        told
    }

    /// Numbers of the container's processes on this machine whose words hold this.
    pub(super) fn processes(&self, words: &str) -> Vec<String> {
        let table = self
            .engine()
            .docker(&["top", &self.container, "-eo", "pid,args"]);
        let lines = table.lines().skip(1).filter(|line| line.contains(words));
        lines
            .filter_map(|line| line.split_whitespace().next())
            .map(str::to_owned)
            .collect()
    }

    /// Waits until so many of its processes have these words.
    pub(super) async fn until_left_with(&self, words: &str, count: usize) {
        wait::until("its processes are as expected", || async {
            (self.processes(words).len() == count).then_some(())
        })
        .await;
    }

    /// What a helper's or an agent's sudden end looks like to everybody else: its connections are closed.
    pub(super) async fn cut(&self, helper: bool) {
        let which = if helper { &self.helper } else { &self.streams };
        which.lock().await.cancel();
    }

    /// The container of another node on this engine: its name for the engine, and how a stranger asks to enter it.
    pub(super) fn runtime_of(&self, scope: &str) -> HelperRuntime {
        HelperRuntime::new(self.node.folder().join("helper.sock"), scope.to_owned())
    }

    pub(super) fn scope(&self) -> &str {
        self.node.scope()
    }

    pub(super) async fn end(self) {
        self.agent.end().await;
    }
}

/// `ramarket-helper` as a process. Killed when dropped.
pub(super) struct HelperProcess(Child);

impl HelperProcess {
    fn start(node: &Node) -> (Self, PathBuf) {
        let socket = node.folder().join("program.sock");
        let log = File::create(node.folder().join("helper.log")).expect("a log file");
        let child = Command::new(program::binary("ramarket-helper"))
            .arg("--socket")
            .arg(&socket)
            .arg("--state-dir")
            .arg(node.folder().join("program"))
            .args(["--docker-host", &node.engine().host()])
            .args(["--disk-floor-bytes", "1048576", "--log-format", "json"])
            .stderr(log)
            .spawn();
        let helper = Self(child.expect("it starts"));
        let listens = wait::came_to_hold(|| UnixStream::connect(&socket).is_ok());
        assert!(listens, "the helper doesn't listen");
        (helper, socket)
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("gone");
    }
}

impl Drop for HelperProcess {
    fn drop(&mut self) {
        // it may be gone already
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn serve(
    node: &Node,
    agent: &Agent,
    socket: PathBuf,
    shutdown: &CancellationToken,
) -> Arc<Streams> {
    let samples = Samples::open(node.folder().join("samples"));
    let sources = Sources {
        runtime: Arc::new(HelperRuntime::new(socket, node.scope().to_owned())),
        kept: Arc::new(node.kept()),
        samples: Arc::new(samples.expect("a folder")),
        live: agent.handle.live(),
    };
    Streams::new(sources, shutdown.clone(), TaskTracker::new())
}

fn start_helper(node: &Node, shutdown: &CancellationToken) -> PathBuf {
    let socket = node.folder().join("helper.sock");
    let host = node.engine().host();
    let engines = move |scope: &str| {
        use node_agent::runtime::docker::DockerRuntime;
        let engine = DockerRuntime::new(Some(&host), scope.to_owned())?.with_images(images());
        let engine = engine.with_inside(program::binary("ramarket-inside"));
        Ok(Arc::new(engine) as Arc<dyn Guarded>)
    };
    let room = Room::of_this_machine(0).expect("a machine");
    let peers = Peers {
        agent_uid: Some(rustix::process::geteuid().as_raw()),
    };
    let state = node.folder().join("helper");
    std::fs::create_dir_all(&state).expect("a folder");
    let helper = Helper::new(Box::new(engines), room, peers, &state, shutdown.clone());
    let helper = Arc::new(helper.expect("a helper"));
    let listener = UnixListener::bind(&socket).expect("a socket");
    tokio::spawn(helper.serve(listener, TaskTracker::new()));
    socket
}

/// As the agent's link has it: reads what a stream is for, and hands it on.
fn link(streams: Arc<Streams>) -> Session {
    let (agent, coordinator) = duplex(256 * 1_024);
    let Started {
        session: own,
        mut accepted,
        driver,
    } = Session::start(agent, Role::Client);
    tokio::spawn(driver);
    tokio::spawn(async move {
        let _own = own;
        while let Some(mut stream) = accepted.recv().await {
            let streams = Arc::clone(&streams);
            tokio::spawn(async move {
                let open = open::receive(&mut stream).await.expect("what it is for");
                streams.serve(open, stream).await;
            });
        }
    });
    let started = Session::start(coordinator, Role::Server);
    tokio::spawn(started.driver);
    started.session
}
