//! Networks of rentals on a real engine, and the firewall's table in a network namespace of this test's own.

use std::{
    fs::File,
    os::fd::AsFd as _,
    process::{Child, Command, Stdio},
};

use node_agent::runtime::{
    docker::DockerRuntime,
    network::{Settings, guard::Guard},
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use shared::resources::FindingStatus;
use system_tests::wait;
use tokio_util::sync::CancellationToken;

use super::node::{LEASE_MS, Node};

fn networks(node: &Node) -> Vec<String> {
    let label = format!("label=ramarket.node={}", node.scope());
    let text =
        node.engine()
            .docker(&["network", "ls", "--filter", &label, "--format", "{{.Name}}"]);
    text.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rental_without_internet_is_on_a_network_that_leads_nowhere() {
    let node = Node::new("offline");
    let agent = node.start().await;
    let mut shut = node.rental("busybox:latest", &["sleep", "600"]);
    shut.internet = false;
    let open = node.rental("busybox:latest", &["sleep", "600"]);
    agent.wish(1, &[&shut, &open], LEASE_MS).await;
    let shut_id = agent
        .until_running(&shut)
        .await
        .observed
        .container_id
        .expect("there");
    let open_id = agent
        .until_running(&open)
        .await
        .observed
        .container_id
        .expect("there");
    let shown = |words: &[&str]| node.engine().docker(words).trim().to_owned();
    let of = |id: &str| shown(&["inspect", "--format", "{{.HostConfig.NetworkMode}}", id]);
    let internal = |id: &str| shown(&["network", "inspect", "--format", "{{.Internal}}", &of(id)]);
    assert_eq!(
        (internal(&shut_id), internal(&open_id)),
        ("true".to_owned(), "false".to_owned())
    );
    let made = networks(&node);
    assert_eq!(made.len(), 2, "{made:?}");
    assert_eq!(
        made.iter().filter(|name| name.starts_with("ram-x")).count(),
        1,
        "{made:?}"
    );
    // they go with their rentals
    agent.wish(2, &[], LEASE_MS).await;
    wait::until("the networks are gone", || async {
        networks(&node).is_empty().then_some(())
    })
    .await;
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_is_swept_and_some_networks_are_kept_ready() {
    let node = Node::new("sweep");
    let before = node.runtime().spare_network().await.expect("made");
    let runtime = node.runtime();
    let shutdown = CancellationToken::new();
    let keeping = tokio::spawn(runtime.clone().keep(shutdown.clone()));
    wait::until("the left one is gone, and two are ready", || async {
        let made = networks(&node);
        (!made.contains(&before) && made.len() == 2).then_some(())
    })
    .await;
    shutdown.cancel();
    keeping.await.expect("ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_says_how_it_keeps_rentals_apart() {
    use node_agent::runtime::ContainerRuntime as _;
    let node = Node::new("facts");
    let facts = node.runtime().facts().await.expect("an engine");
    assert!(facts.isolation.network, "{:?}", facts.isolation);
    let firewall = facts
        .isolation
        .findings
        .iter()
        .find(|finding| finding.check == "firewall");
    assert_eq!(firewall.expect("looked at").status, FindingStatus::Ok);
    // asked by a command, without a node: it only looks
    let host = node.engine().host();
    let bare = DockerRuntime::new(Some(&host), String::new()).expect("a socket");
    assert!(!bare.facts().await.expect("an engine").isolation.network);
}

/// A network namespace that lives as long as this.
struct Space(Child);

impl Space {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "cat"]).stdin(Stdio::piped());
        Self(command.spawn().expect("unshare"))
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn nft(words: &str) -> String {
    let output = Command::new("/usr/sbin/nft")
        .args(words.split(' '))
        .output()
        .expect("nft");
    assert!(
        output.status.success(),
        "{words}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// On a thread of its own, whose network nobody else uses: other tests run behind the machine's table.
fn in_own_network(work: impl Future<Output = ()> + Send + 'static) {
    let space = Space::new();
    let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
    let entered =
        wait::came_to_hold(|| std::fs::read_link(space.path()).is_ok_and(|there| there != own));
    assert!(entered, "unshare made no namespace");
    let path = space.path();
    let thread = std::thread::spawn(move || {
        let file = File::open(path).expect("a namespace");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("entered");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(work);
    });
    thread.join().expect("it held");
}

#[test]
fn whoever_flushes_or_changes_the_rules_gets_them_back() {
    in_own_network(async {
        let guard = Guard::new(Settings::default());
        assert!(!guard.stands());
        assert!(guard.check().await.expect("put"), "there were none");
        assert!(guard.stands());
        assert!(!guard.check().await.expect("looked"), "nothing changed");
        for harm in [
            "flush ruleset",
            "delete table inet ramarket",
            "flush chain inet ramarket from_rental",
            "insert rule inet ramarket forward accept",
        ] {
            nft(harm);
            assert!(guard.check().await.expect("put back"), "{harm} wasn't seen");
            assert!(!guard.check().await.expect("looked"), "{harm}");
        }
        let listed = nft("list chain inet ramarket from_rental");
        assert!(
            listed.contains("169.254.0.0/16") && listed.contains("tcp dport { 25, 465, 587 } drop"),
            "{listed}"
        );
        // what the sets remember is no change
        nft("add element inet ramarket seen { \"ram-0000aaaa\" . 1.1.1.1 }");
        assert!(
            !guard.check().await.expect("looked"),
            "a remembered address was taken for a change"
        );
    });
}
