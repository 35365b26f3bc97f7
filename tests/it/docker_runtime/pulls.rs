//! Pulls from a real registry, through a line that is slow enough to watch.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use shared::{
    clock::{Clock, SystemClock},
    wire::observed::Phase,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    engine,
    node::{LEASE_MS, Node, remove_folder},
};

/// What the slow line lets through.
const BYTES_PER_PACE: usize = 256 * 1024;
const PACE: Duration = Duration::from_millis(50);
/// Random, so that no layer of it compresses.
const BLOB_BYTES: u64 = 16 << 20;

/// Debian's docker-registry on a free port.
struct Registry {
    folder: PathBuf,
    process: Child,
    port: u16,
}

impl Registry {
    async fn start(name: &str) -> Self {
        let program = engine::script("registry");
        let folder =
            std::env::temp_dir().join(format!("ramarket-registry-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let port = free_port().await;
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n",
            folder.join("data").display()
        );
        let file = folder.join("config.yml");
        std::fs::write(&file, config).expect("written");
        let process = Command::new(program)
            .arg("serve")
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a registry");
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            look.tick().await;
        }
        Self {
            folder,
            process,
            port,
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("gone");
        remove_folder(&self.folder);
    }
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    listener.local_addr().expect("bound").port()
}

/// Forwards a port of its own to `target`, answers paced; returns the port.
async fn slow_line(target: u16) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let server = TcpStream::connect(("127.0.0.1", target))
                    .await
                    .expect("the registry");
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(
                    async move { tokio::io::copy(&mut from_client, &mut to_server).await },
                );
                let mut buffer = vec![0; BYTES_PER_PACE];
                let mut pace = tokio::time::interval(PACE);
                while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                    if to_client.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                    pace.tick().await;
                }
            });
        }
    });
    port
}

/// Puts `blob/<name>:1`, busybox with a big random file, into the registry.
fn push_big_image(node: &Node, registry: &Registry) {
    let blob = registry.folder.join("blob");
    let random = std::fs::File::open("/dev/urandom").expect("random");
    let mut random = std::io::Read::take(random, BLOB_BYTES);
    let mut file = std::fs::File::create(&blob).expect("a file");
    std::io::copy(&mut random, &mut file).expect("written");
    let docker = |args: &[&str]| node.engine().docker(args);
    let image = format!("127.0.0.1:{}/it/big:1", registry.port);
    let seed = docker(&["create", "--network", "none", "busybox:latest"]);
    docker(&[
        "cp",
        "-q",
        blob.to_str().expect("text"),
        &format!("{seed}:/blob"),
    ]);
    docker(&["commit", &seed, &image]);
    docker(&["rm", &seed]);
    docker(&["push", "-q", &image]);
    docker(&["rmi", &image]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_is_watched_from_the_first_byte_to_the_running_rental() {
    let node = Node::new("pull");
    let registry = Registry::start("pull").await;
    push_big_image(&node, &registry);
    let image = format!("127.0.0.1:{}/it/big:1", slow_line(registry.port).await);
    let agent = node.start().await;
    let rental = node.rental(&image, &["sleep", "600"]);
    let quick = node.rental("busybox:latest", &["sleep", "600"]);

    let mut live = agent.handle.live();
    let mine = rental.rental_id;
    let watching = tokio::spawn(async move {
        let mut phases: Vec<Phase> = Vec::new();
        loop {
            let found = live
                .borrow_and_update()
                .iter()
                .find(|r| r.observed.rental_id == mine)
                .cloned();
            if let Some(found) = found
                && phases.last() != Some(&found.observed.phase)
            {
                phases.push(found.observed.phase.clone());
                if found.observed.phase == Phase::Running {
                    return (phases, found);
                }
            }
            live.changed().await.expect("the reconciler lives");
        }
    });
    agent.wish(1, &[&rental], LEASE_MS).await;
    agent
        .until(&rental, |phase| {
            matches!(
                phase,
                Phase::Pulling {
                    done_bytes: 1..,
                    ..
                }
            )
        })
        .await;
    agent.wish(2, &[&rental, &quick], LEASE_MS).await;
    agent.until_running(&quick).await;
    assert!(!watching.is_finished(), "a pull holds nobody up");
    let (phases, found) = tokio::time::timeout(Duration::from_secs(120), watching)
        .await
        .expect("in time")
        .expect("no panic");
    node.engine().docker(&[
        "rm",
        "-f",
        &found.observed.container_id.clone().expect("there"),
    ]);

    let pulled: Vec<(i64, i64)> = phases
        .iter()
        .filter_map(|phase| match phase {
            Phase::Pulling {
                done_bytes,
                total_bytes,
            } => Some((*done_bytes, *total_bytes)),
            _ => None,
        })
        .collect();
    assert!(pulled.len() >= 3, "{phases:?}");
    assert!(pulled.is_sorted(), "{pulled:?}");
    let (done, total) = *pulled.last().expect("some");
    assert!(
        total >= i64::try_from(BLOB_BYTES).expect("small") && done <= total,
        "{pulled:?}"
    );
    let digest = found.observed.image_digest.expect("known");
    assert!(
        digest.starts_with("sha256:") && digest.len() == 71,
        "{digest}"
    );
    let name = image.rsplit_once(':').expect("a tag").0;
    node.forget_images(&[format!("{name}@{digest}")]);
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_the_registry_lacks_fails_within_seconds() {
    let node = Node::new("absent");
    let registry = Registry::start("absent").await;
    let agent = node.start().await;
    let rental = node.rental(&format!("127.0.0.1:{}/no/such:1", registry.port), &[]);
    let begun_ms = SystemClock.boot_ms();
    agent.wish(1, &[&rental], LEASE_MS).await;
    agent.until_failed(&rental, "image_not_found").await;
    let took_ms = SystemClock.boot_ms() - begun_ms;
    assert!(took_ms < 10_000, "{took_ms} ms");

    let nobody = free_port().await;
    let rental = node.rental(&format!("127.0.0.1:{nobody}/x:1"), &[]);
    agent.wish(2, &[&rental], LEASE_MS).await;
    agent.until_failed(&rental, "image_pull_failed").await;
    agent.end().await;
}
