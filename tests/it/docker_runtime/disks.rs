//! Rentals' disks on a real engine: as large as ordered and no larger, the data stays as long as it should and no longer, and whatever a
//! crash leaves is put in order.
//!
//! Loop devices are needed, which takes root. Where there are none these tests show nothing, and say so aloud.

use std::{os::unix::fs::MetadataExt as _, path::PathBuf, process::Command, sync::Arc};

use node_agent::runtime::{
    ContainerRuntime as _, Created,
    disk::{Settings, Volumes},
    docker::DockerRuntime,
};
use shared::{
    clock::{Clock, ManualClock, SystemClock},
    id::{Ids, RentalId},
    wire::{desired::DesiredRental, observed::ExitCause},
};

use system_tests::wait;

use super::{
    engine::PrivateEngine,
    node::{LEASE_MS, MIB, Node},
};

const GRACE_S: u32 = 3_600;
const SIZE: i64 = 96 * MIB;

/// What a rental may write besides, here.
const WRITABLE: i64 = 32 * MIB;

/// A node whose runtime makes disks.
struct Bench {
    // before the node: its containers go first
    runtime: Arc<DockerRuntime>,
    clock: Arc<ManualClock>,
    folder: PathBuf,
    node: Node,
}

impl Bench {
    /// `None`, said aloud, where this machine makes no disks of files.
    async fn new(name: &str) -> Option<Self> {
        Self::on(Node::new(name), name).await
    }

    async fn on(node: Node, name: &str) -> Option<Self> {
        let folder = node.folder().join("disks");
        let clock = Arc::new(ManualClock::starting_at(SystemClock.now()));
        let trial = Volumes::open(settings(&folder), Arc::new(SystemClock)).expect("a folder");
        if let Err(error) = trial.trial().await {
            eprintln!("NOT SHOWN: {name}: this machine makes no disks of files: {error:#}");
            return None;
        }
        let runtime = runtime(&node, &folder, Arc::clone(&clock) as Arc<dyn Clock>);
        Some(Self {
            runtime,
            clock,
            folder,
            node,
        })
    }

    fn rental(&self, command: &str) -> DesiredRental {
        let mut rental = self.node.rental("busybox:latest", &["sh", "-c", command]);
        rental.resources.disk_bytes = SIZE;
        rental.internet = false;
        rental
    }

    async fn started(&self, rental: &DesiredRental) -> String {
        let created = self.runtime.create(rental).await.expect("created");
        let Created::Fresh(id) = created else {
            panic!("{created:?}");
        };
        self.runtime.start(&id).await.expect("started");
        id
    }

    /// What a shell in the container says to this, whether it went well or not.
    fn told(&self, container: &str, command: &str) -> String {
        let command = format!("{command} 2>&1; true");
        self.node
            .engine()
            .docker(&["exec", container, "sh", "-c", &command])
    }

    fn files(&self) -> Vec<String> {
        let mut files: Vec<String> = std::fs::read_dir(&self.folder)
            .expect("a folder")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("text")
            })
            .collect();
        files.sort();
        files
    }

    /// Loop devices that have a file of this node's.
    fn loops(&self) -> Vec<String> {
        let listed = Command::new("losetup")
            .args(["--list", "--noheadings", "--output", "NAME,BACK-FILE"])
            .output()
            .expect("losetup");
        let listed = String::from_utf8(listed.stdout).expect("text");
        let folder = self.folder.to_str().expect("text");
        let ours = listed.lines().filter(|line| line.contains(folder));
        ours.map(str::to_owned).collect()
    }

    fn volumes(&self) -> String {
        let label = format!("label=ramarket.node={}", self.node.scope());
        self.node
            .engine()
            .docker(&["volume", "ls", "-q", "--filter", &label])
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for id in self.node.containers() {
            self.node.engine().docker(&["rm", "-fv", &id]);
        }
        for name in self.volumes().split_whitespace() {
            self.node.engine().docker(&["volume", "rm", name]);
        }
        for line in self.loops() {
            let device = line.split_whitespace().next().expect("a device");
            let detached = Command::new("losetup").args(["-d", device]).status();
            assert!(detached.expect("losetup").success(), "{line}");
        }
    }
}

fn settings(folder: &std::path::Path) -> Settings {
    Settings {
        grace_s: GRACE_S,
        // a busy machine's disk may be fuller than a provider's
        floor_bytes: 1,
        writable_bytes: WRITABLE,
        ..Settings::new(folder.to_owned())
    }
}

fn runtime(node: &Node, folder: &std::path::Path, clock: Arc<dyn Clock>) -> Arc<DockerRuntime> {
    let volumes = Volumes::open(settings(folder), clock).expect("a folder");
    let runtime = DockerRuntime::new(Some(&node.engine().host()), node.scope().to_owned());
    Arc::new(runtime.expect("a socket").with_disks(Some(volumes)))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fills_a_disk_fills_his_own() {
    let Some(bench) = Bench::new("disk-full").await else {
        return;
    };
    let rental = bench.rental("sleep 600");
    let neighbour = bench.rental("sleep 600");
    let (id, other) = (
        bench.started(&rental).await,
        bench.started(&neighbour).await,
    );
    let file = bench.folder.join(format!("{}.disk", rental.rental_id));
    let taken = || std::fs::metadata(&file).expect("there").blocks() * 512;
    let before = taken();
    assert!(
        before >= SIZE.unsigned_abs(),
        "the space is reserved: {before}"
    );
    assert_eq!(
        bench.told(&id, "stat -c %a /data"),
        "777",
        "for every user of the image"
    );
    let mounted = bench.told(&id, "grep ' /data ' /proc/mounts");
    assert!(
        mounted.contains("nosuid") && mounted.contains("nodev"),
        "{mounted}"
    );
    assert!(
        !mounted.contains("noexec"),
        "tenants run what they build: {mounted}"
    );
    let said = bench.told(&id, "dd if=/dev/urandom of=/data/fill bs=1M count=4096");
    assert!(said.contains("No space left on device"), "{said}");
    let filled: i64 = bench
        .told(&id, "stat -c %s /data/fill")
        .parse()
        .expect("a size");
    assert!(
        (SIZE / 10 * 8..SIZE).contains(&filled),
        "{filled} of {SIZE}"
    );
    // nothing more of the machine is taken than was before, and nobody else notices
    assert_eq!(taken(), before);
    let said = bench.told(&other, "dd if=/dev/zero of=/data/some bs=1M count=60");
    assert!(!said.contains("No space"), "{said}");
    // the same with files: as many as the disk was made for
    bench.told(&id, "rm /data/fill");
    let made = bench.told(
        &id,
        "mkdir /data/f; i=0; while true >/data/f/$i; do i=$((i+1)); done; echo $i",
    );
    let made: i64 = made
        .lines()
        .last()
        .expect("a number")
        .parse()
        .expect("a number");
    assert!((1_000..=SIZE / (16 << 10)).contains(&made), "{made}");
    assert_eq!(bench.told(&other, "echo >/data/one && echo well"), "well");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_outlives_restarts_and_a_new_lease_and_is_wiped_after_its_grace() {
    let Some(bench) = Bench::new("disk-kept").await else {
        return;
    };
    let mut rental = bench.rental("sleep 600");
    let id = bench.started(&rental).await;
    bench.told(&id, "echo precious >/data/it");
    bench.node.engine().docker(&["restart", "-t", "0", &id]);
    assert_eq!(
        bench.told(&id, "cat /data/it"),
        "precious",
        "after a restart"
    );
    // the helper comes back and finds everything in order
    let again = runtime(
        &bench.node,
        &bench.folder,
        Arc::clone(&bench.clock) as Arc<dyn Clock>,
    );
    again.sweep_disks().await.expect("in order");
    bench.node.engine().docker(&["restart", "-t", "0", &id]);
    assert_eq!(bench.told(&id, "cat /data/it"), "precious", "after a look");
    // its end: nothing is attached any more, and the file is kept
    bench.runtime.remove(&id).await.expect("removed");
    assert_eq!(
        (bench.loops(), bench.volumes()),
        (Vec::new(), String::new())
    );
    let kept = bench.files();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(kept[0].contains(".kept-"), "{kept:?}");
    let held = Volumes::open(settings(&bench.folder), Arc::new(SystemClock));
    let held = held.expect("a folder").held().expect("read");
    assert_eq!(
        (held.live_bytes, held.kept_bytes),
        (0, SIZE),
        "it isn't free yet"
    );
    // under another lease it is the same rental
    rental.lease_id = Ids::System.mint();
    let id = bench.started(&rental).await;
    assert_eq!(
        bench.told(&id, "cat /data/it"),
        "precious",
        "under a new lease"
    );
    bench.runtime.remove(&id).await.expect("removed");
    bench.clock.advance_ms(i64::from(GRACE_S) * 1_000 - 5_000);
    bench.runtime.sweep_disks().await.expect("in order");
    assert_eq!(bench.files().len(), 1, "within its grace");
    bench.clock.advance_ms(10_000);
    bench.runtime.sweep_disks().await.expect("in order");
    assert_eq!(bench.files(), Vec::<String>::new(), "after its grace");
    // whoever comes next finds nothing
    let id = bench.started(&rental).await;
    assert_eq!(bench.told(&id, "ls /data"), "lost+found");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_leaves_is_put_in_order() {
    let Some(bench) = Bench::new("disk-crash").await else {
        return;
    };
    let held = bench.rental("sleep 600");
    let id = bench.started(&held).await;
    bench.told(&id, "echo mine >/data/it");
    // cut off while a file was made
    let half = Ids::System.mint::<RentalId>();
    std::fs::write(bench.folder.join(format!("{half}.making")), "half").expect("written");
    // cut off between the file and its container
    let whole = Volumes::open(settings(&bench.folder), Arc::new(SystemClock)).expect("a folder");
    let orphan = Ids::System.mint::<RentalId>();
    drop(whole.take(orphan, SIZE).await.expect("made"));
    // cut off between the volume and the container
    let scope = format!("ramarket.node={}", bench.node.scope());
    let name = format!("ramarket-disk-{orphan}");
    let rental = format!("ramarket.rental={orphan}");
    let labels = ["--label", scope.as_str(), "--label", rental.as_str()];
    let words = ["volume", "create", "--driver", "local"];
    bench
        .node
        .engine()
        .docker(&[&words[..], &labels[..], &[name.as_str()]].concat());
    // cut off in the trial, and a link to nothing
    std::fs::write(bench.folder.join("rnt_0.disk"), "a stranger's").expect("written");
    let link = bench.folder.join(format!("{half}.dev"));
    std::os::unix::fs::symlink("/dev/loop99", link).expect("linked");
    assert_eq!(bench.loops().len(), 2);
    bench.runtime.sweep_disks().await.expect("in order");
    let files = bench.files();
    assert_eq!(files.len(), 4, "{files:?}");
    assert!(
        files
            .iter()
            .any(|file| file.starts_with(&format!("{orphan}.kept-")))
    );
    assert!(
        files.contains(&"rnt_0.disk".to_owned()),
        "a stranger's file is left alone"
    );
    assert_eq!(
        (bench.loops().len(), bench.volumes().lines().count()),
        (1, 1)
    );
    // as after a restart of the machine: no loop device, and a link that leads elsewhere
    bench.node.engine().docker(&["stop", "-t", "0", &id]);
    let device = bench.loops()[0]
        .split_whitespace()
        .next()
        .expect("a device")
        .to_owned();
    assert!(
        Command::new("losetup")
            .args(["-d", &device])
            .status()
            .expect("losetup")
            .success()
    );
    let link = bench.folder.join(format!("{}.dev", held.rental_id));
    std::fs::remove_file(&link).expect("there");
    std::os::unix::fs::symlink("/dev/null", &link).expect("linked");
    bench.runtime.sweep_disks().await.expect("in order");
    bench.node.engine().docker(&["start", &id]);
    assert_eq!(bench.told(&id, "cat /data/it"), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_was_never_used_leaves_nothing() {
    let Some(bench) = Bench::new("disk-unused").await else {
        return;
    };
    let rental = bench.rental("sleep 600");
    let created = bench.runtime.create(&rental).await.expect("created");
    let Created::Fresh(id) = created else {
        panic!("{created:?}");
    };
    bench.runtime.remove(&id).await.expect("removed");
    assert_eq!(bench.files(), Vec::<String>::new());
    // nothing is promised twice, and nothing that isn't there
    let facts = bench.runtime.facts().await.expect("facts");
    let promised = facts.rental_disk.expect("disks").total_bytes;
    let mut large = bench.rental("true");
    large.resources.disk_bytes = promised + (4 << 30);
    let refused = bench.runtime.create(&large).await.expect_err("too large");
    assert!(refused.to_string().starts_with("no_space"), "{refused}");
    assert_eq!(bench.files(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_too_much_beside_his_disk_is_stopped_for_that() {
    let Some(bench) = Bench::new("disk-police").await else {
        return;
    };
    let agent = bench.node.start_on(Arc::clone(&bench.runtime)).await;
    let modest = bench.rental("dd if=/dev/zero of=/some bs=1M count=16; sleep 600");
    let large = bench.rental("dd if=/dev/zero of=/data/ok bs=1M count=40; dd if=/dev/zero of=/fill bs=1M count=48; touch /done; sleep 600");
    let mut many = bench.rental(
        "mkdir /f; i=0; while [ $i -lt 16500 ]; do true >/f/$i; i=$((i+1)); done; chmod 700 /f; touch /done; sleep 600",
    );
    // without a disk it is bounded as well
    many.resources.disk_bytes = 0;
    agent.wish(1, &[&modest, &large, &many], LEASE_MS).await;
    let live = agent.until_running(&modest).await;
    for rental in [&large, &many] {
        let id = agent.until_running(rental).await.observed.container_id;
        let id = id.expect("a container");
        wait::until("it has written", || async {
            (bench.told(&id, "ls /done") == "/done").then_some(())
        })
        .await;
    }
    bench.runtime.look_at_writers().await.expect("looked");
    for rental in [&large, &many] {
        agent.until_exited(rental, ExitCause::OverDisk).await;
    }
    agent.until_running(&modest).await;
    let id = live.observed.container_id.expect("a container");
    assert_eq!(bench.told(&id, "stat -c %s /some"), (16 * MIB).to_string());
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_is_told_of_the_layer_and_of_the_disk() {
    let Some(bench) = Bench::new("disk-use").await else {
        return;
    };
    let writes = "dd if=/dev/zero of=/some bs=1M count=16; dd if=/dev/zero of=/data/some bs=1M count=8; touch /done; sleep 600";
    let rental = bench.rental(writes);
    let id = bench.started(&rental).await;
    assert_eq!(bench.runtime.disk_use().await.expect("told"), [], "unseen");
    wait::until("it has written", || async {
        (bench.told(&id, "ls /done").trim() == "/done").then_some(())
    })
    .await;
    bench.runtime.look_at_writers().await.expect("looked");
    let told = async || {
        let told = bench.runtime.disk_use().await.expect("told");
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].rental_id, rental.rental_id);
        told[0].bytes
    };
    let both = told().await;
    assert!((24 * MIB..32 * MIB).contains(&both), "{both}");
    // its own disk is looked at each time
    let more = "dd if=/dev/zero of=/data/more bs=1M count=8; sync";
    drop(bench.told(&id, more));
    let grown = told().await - both;
    assert!((8 * MIB..10 * MIB).contains(&grown), "{grown}");
    bench.runtime.remove(&id).await.expect("removed");
    bench.runtime.look_at_writers().await.expect("looked");
    assert_eq!(bench.runtime.disk_use().await.expect("told"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_killed_takes_no_disk_with_it_and_leaves_none() {
    let mut engine = PrivateEngine::start();
    let node = Node::on(engine.address(), "disk-engine");
    let Some(bench) = Bench::on(node, "disk-engine").await else {
        return;
    };
    let rental = bench.rental("echo mine >/data/it; sleep 600");
    let id = bench.started(&rental).await;
    wait::until("it has written", || async {
        (bench.told(&id, "cat /data/it") == "mine").then_some(())
    })
    .await;
    engine.kill();
    bench
        .runtime
        .sweep_disks()
        .await
        .expect_err("nothing is decided without an engine");
    engine.restart();
    bench.runtime.sweep_disks().await.expect("in order");
    let said = bench.told(&id, "cat /data/it; echo more >/data/other; cat /data/other");
    assert_eq!(said, "mine\nmore", "it has its disk as before");
    bench.runtime.remove(&id).await.expect("removed");
    wait::until("the disk is put away", || async {
        bench.runtime.sweep_disks().await.ok()?;
        let kept = bench.files().iter().all(|file| file.contains(".kept-"));
        (kept && bench.loops().is_empty()).then_some(())
    })
    .await;
    // Docker 20.10 forgets over its restart who mounted a volume, until the next one
    engine.kill();
    engine.restart();
    bench.runtime.sweep_disks().await.expect("in order");
    assert_eq!((bench.volumes(), bench.files().len()), (String::new(), 1));
    drop(bench);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_disk_is_nearly_full_says_so_and_begins_nothing() {
    let Some(bench) = Bench::new("disk-short").await else {
        return;
    };
    let strict = Settings {
        floor_bytes: 1 << 50,
        ..settings(&bench.folder)
    };
    let volumes = Volumes::open(strict, Arc::new(SystemClock)).expect("a folder");
    let host = bench.node.engine().host();
    let runtime = DockerRuntime::new(Some(&host), bench.node.scope().to_owned());
    let runtime = runtime.expect("a socket").with_disks(Some(volumes));
    let facts = runtime.facts().await.expect("facts");
    let why = facts.shortage.expect("a reason");
    assert!(why.contains("nearly full"), "{why}");
    let mut small = bench.rental("sleep 600");
    for disk_bytes in [0, SIZE] {
        small.resources.disk_bytes = disk_bytes;
        let refused = runtime.create(&small).await.expect_err("full");
        assert!(refused.to_string().starts_with("no_space"), "{refused}");
    }
    assert_eq!(bench.runtime.facts().await.expect("facts").shortage, None);
    bench.started(&small).await;
}
