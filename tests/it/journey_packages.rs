//! A provider and an operator install packages on a Debian with systemd: services come up, the market's own script installs the agent,
//! a hung agent is replaced, upgrades and removals leave rentals as the provider chose, and a purge leaves nothing.

use std::time::Duration;

use coordinator::store::testing::TempDir;
use serde_json::{Value, json};
use system_tests::{
    MIB,
    api::Api,
    containers::Engine,
    machine::{self, Machine},
    market::free_port,
    payer::Payer,
    wait,
};

const AGENT: &str = "ramarket-agent.service";
const HELPER: &str = "ramarket-helper.service";
const COORDINATOR: &str = "ramarket-coordinator.service";
/// The watchdog waits for half a minute before it does anything.
const PATIENCE: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread")]
async fn packages_install_start_upgrade_and_purge_as_a_provider_expects() {
    let (first, second) = (TempDir::new(), TempDir::new());
    machine::packages(
        first.path(),
        "0.1.0-1",
        &["ramarket", "ramarket-agent", "ramarket-coordinator"],
    );
    machine::packages(second.path(), "0.1.0-2", &["ramarket-agent"]);
    let machine = Machine::boot().await;
    nearly_full_disk_is_fine(&machine);
    let api = coordinator(&machine, first.path()).await;
    let provider = signed_up(&api).await;
    let node = installed_by_script(&machine, &api, &provider).await;
    unprivileged(&machine);

    let offer = offered(&provider, &node).await;
    let rental = rented(&api, &offer).await;
    let pid = pid_of(&rental).await;
    client(&machine, &api, &offer).await;
    hung_agent_is_replaced(&machine).await;
    assert_eq!(pid_of(&rental).await, pid, "the watchdog touched a rental");
    upgraded(&machine, second.path()).await;
    assert_eq!(pid_of(&rental).await, pid, "the upgrade touched a rental");
    online(&provider, &node).await;
    removed(&machine);
    assert_eq!(pid_of(&rental).await, pid, "the removal touched a rental");
    back(&machine).await;
    online(&provider, &node).await;
    assert_eq!(pid_of(&rental).await, pid, "coming back touched a rental");

    upgraded_ending(&machine, &node).await;
    online(&provider, &node).await;
    rented(&api, &offer).await;
    removed_ending(&machine, &node).await;
    back(&machine).await;
    online(&provider, &node).await;
    // kept by the removal and taken by the purge
    rented(&api, &offer).await;
    set(&machine, "RENTALS_ON_REMOVE", "keep");
    purged(&machine).await;
    nothing_left_at_the_engine(&node).await;
}

/// A test machine's disk may be fuller than a provider's. Below `/run`, so that what a purge leaves is the packages' own.
fn nearly_full_disk_is_fine(machine: &Machine) {
    let folder = format!("/run/systemd/system/{HELPER}.d");
    let setting = "[Service]\nEnvironment=RAMARKET_HELPER_DISK_FLOOR_BYTES=1048576";
    machine.run(&format!(
        "mkdir -p {folder} && printf '{setting}\\n' >{folder}/floor.conf"
    ));
}

async fn nothing_left_at_the_engine(node: &str) {
    let engine = Engine::shared();
    let left = engine.of_node(node).await;
    assert!(left.is_empty(), "containers are left: {left:?}");
    let label = format!("label=ramarket.node={node}");
    for kind in ["network", "volume"] {
        let left = engine.docker(&[kind, "ls", "--quiet", "--filter", &label]);
        assert_eq!(left, "", "of {kind}s are left");
    }
}

/// The coordinator's package, and the market that it serves; it offers the packages of `folder`.
async fn coordinator(machine: &Machine, folder: &std::path::Path) -> Api {
    machine.copy(&folder.join("."), "/srv/packages");
    machine.run("dpkg --install /srv/packages/ramarket-coordinator_*.deb");
    assert_eq!(
        machine.run(&format!("systemctl is-enabled {COORDINATOR}")),
        "enabled"
    );
    assert!(machine.holds("ramarket-coordinator completions bash | grep -q ramarket"));
    for file in [
        "/usr/share/man/man1/ramarket-coordinator.1*",
        "/usr/share/bash-completion/completions/ramarket-coordinator",
        "/usr/share/doc/ramarket-coordinator/OPERATIONS.md*",
    ] {
        assert!(machine.holds(&format!("ls {file}")), "{file}");
    }
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let settings = "/etc/ramarket/coordinator.toml";
    machine.run(&format!(
        "sed -i 's/127.0.0.1:8402/127.0.0.1:{port}/' {settings}"
    ));
    machine.run(&format!("systemctl start {COORDINATOR}"));
    ready(&url).await;
    // no folder yet, and words that say so
    let refused = machine.run(&format!("curl -s {url}/install.sh"));
    assert!(
        refused.contains("this market offers no packages"),
        "{refused}"
    );
    // a line of the section [http], which is the last one
    machine.run(&format!(
        "echo 'packages_dir = \"/srv/packages\"' >>{settings}"
    ));
    machine.run(&format!("systemctl restart {COORDINATOR}"));
    ready(&url).await;
    Api::of(&url)
}

async fn ready(url: &str) {
    let client = system_tests::api::http_client();
    wait::until("the coordinator is ready", || async {
        let answer = client.get(format!("{url}/readyz")).send().await;
        answer
            .is_ok_and(|answer| answer.status() == 200)
            .then_some(())
    })
    .await;
}

async fn signed_up(api: &Api) -> Api {
    let body = json!({
        "email": "provider@ramarket.example",
        "password": "a long password of tests",
        "roles": ["provider"],
    });
    let answer = api.post("/auth/signup", &body).await.is(201);
    api.bearing(answer["access_token"].as_str().expect("a token"))
}

/// The agent, by the script that the market serves; returns the node's id once it is online.
async fn installed_by_script(machine: &Machine, api: &Api, provider: &Api) -> String {
    let url = api.url("");
    let url = url.strip_suffix("/api/v1").expect("the API's prefix");
    let fetch = format!(
        "cd /root && curl -fsSLO {url}/install.sh && curl -fsSL {url}/install.sh.sha256 | sha256sum -c"
    );
    machine.run(&fetch);
    // a package that isn't the one that was hashed is not installed
    machine.run("sed 's/sha256=[0-9a-f]*/sha256=00/' /root/install.sh >/root/forged.sh");
    assert!(!machine.holds("sh /root/forged.sh"));
    assert!(!machine.holds("dpkg --status ramarket-agent"));

    let made = provider.post("/nodes/enrollment-tokens", &json!({})).await;
    let token = made.is(201)["token"].as_str().expect("a token").to_owned();
    machine.write("/root/token", &token);
    machine.run("sh /root/install.sh --token-file /root/token");
    for unit in [HELPER, AGENT] {
        assert_eq!(
            machine.run(&format!("systemctl is-enabled {unit}")),
            "enabled"
        );
        assert_eq!(
            machine.run(&format!("systemctl is-active {unit}")),
            "active"
        );
    }
    let identity = machine.run("cat /var/lib/ramarket-agent/identity.json");
    let identity: Value = serde_json::from_str(&identity).expect("JSON");
    let node = identity["node_id"].as_str().expect("an id").to_owned();
    online(provider, &node).await;
    node
}

async fn online(provider: &Api, node: &str) {
    wait::until("the node is online", || async {
        let view = provider.get(&format!("/nodes/{node}")).await.is(200);
        (view["availability"] == "online").then_some(())
    })
    .await;
}

/// The client's package: somebody who has nothing else rents, looks in, and stops.
async fn client(machine: &Machine, api: &Api, offer: &str) {
    machine.run("dpkg --install /srv/packages/ramarket_*.deb");
    for file in [
        "/usr/share/man/man1/ramarket.1*",
        "/usr/share/man/man1/ramarket-port-forward.1*",
        "/usr/share/bash-completion/completions/ramarket",
        "/usr/share/zsh/vendor-completions/_ramarket",
        "/usr/share/fish/vendor_completions.d/ramarket.fish",
    ] {
        assert!(machine.holds(&format!("ls {file}")), "{file}");
    }
    let url = api.url("");
    let url = url.strip_suffix("/api/v1").expect("the API's prefix");
    let ramarket = |words: &str| machine.run(&format!("HOME=/root ramarket --url {url} {words}"));
    drop(ramarket("wallet new --plain"));
    let rent = "--ram 64MiB --cpu 0.1 --duration 10m --max-price 5 busybox:latest -- sleep 600";
    let rented = ramarket(&format!("--json rent --offer {offer} {rent}"));
    let rented: Value = serde_json::from_str(&rented).expect("JSON");
    let id = rented["id"].as_str().expect("an id");
    wait::until("it is reached", || async {
        let tried = format!("HOME=/root ramarket --url {url} exec {id} -- true");
        machine.holds(&tried).then_some(())
    })
    .await;
    assert_eq!(ramarket(&format!("exec {id} -- echo within")), "within");
    drop(ramarket(&format!("stop {id}")));
    machine.run("dpkg --purge ramarket");
    assert!(!machine.holds("command -v ramarket"));
}

/// The agent is nobody's, in no group, and can't see the engine; its helper answers it and root alone.
fn unprivileged(machine: &Machine) {
    let pid = machine.property(AGENT, "MainPID");
    assert_eq!(
        machine.run(&format!("ps -o user= -p {pid}")),
        "ramarket-agent"
    );
    assert_eq!(
        machine.run(&format!("grep ^Groups: /proc/{pid}/status | wc -w")),
        machine.run("id -G ramarket-agent | wc -w | awk '{print $1 + 1}'"),
    );
    assert_eq!(machine.run("id -nG ramarket-agent"), "ramarket-agent");
    assert_eq!(
        machine.run(&format!(
            "grep ^CapBnd: /proc/{pid}/status | awk '{{print $2}}'"
        )),
        "0000000000000000"
    );
    // as the agent sees it: something of mode 000 lies over the socket
    let seen = format!("nsenter --target {pid} --mount stat -c %a /run/docker.sock");
    assert_eq!(machine.run(&seen), "0");
    let socket = "/run/ramarket-helper/helper.sock";
    assert_eq!(
        machine.run(&format!("stat -c '%U:%G %a' {socket}")),
        "root:ramarket-agent 660"
    );
    let probe = format!("ramarket-agent probe --json --helper-socket {socket}");
    let by = |user: &str| machine.run(&format!("runuser -u {user} -- {probe}"));
    assert!(by("ramarket-agent").contains("\"docker\": {"));
    // what the helper brings into rentals
    assert!(machine.holds("/usr/lib/ramarket/ramarket-inside loaded | grep -q /libc"));
    assert!(by("nobody").contains("\"docker\": null"));
    // also where the file system would let somebody in, the kernel's word on who it is counts
    machine.run(&format!("chmod 777 /run/ramarket-helper {socket}"));
    assert!(by("nobody").contains("\"docker\": null"));
    machine.run(&format!(
        "chmod 750 /run/ramarket-helper && chmod 660 {socket}"
    ));
    let heard = format!("journalctl --no-pager --output cat --unit {HELPER}");
    let heard = machine.run(&heard);
    assert!(
        heard.contains("somebody else than the agent connected"),
        "{heard}"
    );
    let helper = machine.property(HELPER, "MainPID");
    assert_eq!(machine.run(&format!("ps -o user= -p {helper}")), "root");
}

/// An offer of the node that can be rented: its id.
async fn offered(provider: &Api, node: &str) -> String {
    let offer = json!({
        "node_id": node, "region": "test",
        "prices": {"ram_gib_hour": "3.60", "cpu_hour": "0.36"},
    });
    let offer = provider.post("/offers", &offer).await.is(201);
    offer["id"].as_str().expect("an id").to_owned()
}

async fn rented(api: &Api, offer: &str) -> String {
    let path = format!("/offers/{offer}");
    wait::until("the offer is on the market", || async {
        let answer = api.get(&path).await;
        (answer.status == 200 && answer.body["available"] == true).then_some(())
    })
    .await;
    let order = json!({
        "offer_id": offer,
        "resources": {"ram_bytes": 32 * MIB, "cpu_millis": 100},
        "duration_seconds": 3_600,
        "image": "busybox:latest",
        "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"],
    });
    let rented = Payer::new().rent(api, &order).await;
    rented.until("running").await;
    rented.id
}

/// The first process of a rental that runs, on the host.
async fn pid_of(rental: &str) -> i64 {
    let facts = Engine::shared()
        .of_rental(rental)
        .await
        .expect("a container");
    assert!(facts.running, "{facts:?}");
    facts.pid
}

async fn hung_agent_is_replaced(machine: &Machine) {
    let hung = machine.property(AGENT, "MainPID");
    machine.run(&format!("kill -STOP {hung}"));
    another_runs(machine, AGENT, &hung).await;
    let why = machine.run(&format!(
        "journalctl --no-pager --output cat --unit {AGENT}"
    ));
    assert!(why.contains("Watchdog timeout"), "{why}");
}

/// Waits until a unit is active with another process than `before`.
async fn another_runs(machine: &Machine, unit: &str, before: &str) {
    wait::until_within(PATIENCE, "another process runs", || async {
        let pid = machine.property(unit, "MainPID");
        let active = machine.property(unit, "ActiveState") == "active";
        (active && pid != "0" && pid != before).then_some(())
    })
    .await;
}

async fn upgraded(machine: &Machine, folder: &std::path::Path) {
    machine.copy(&folder.join("."), "/srv/upgrade");
    let (agent, helper) = (
        machine.property(AGENT, "MainPID"),
        machine.property(HELPER, "MainPID"),
    );
    machine.run("dpkg --install /srv/upgrade/ramarket-agent_*.deb");
    another_runs(machine, AGENT, &agent).await;
    another_runs(machine, HELPER, &helper).await;
    let version = machine.run("dpkg-query --show --showformat '${Version}' ramarket-agent");
    assert_eq!(version, "0.1.0-2");
}

/// What the provider chooses in `/etc/default/ramarket-agent`.
fn set(machine: &Machine, name: &str, value: &str) {
    machine.run(&format!(
        "sed -i s/^{name}=.*/{name}={value}/ /etc/default/ramarket-agent && grep -q ^{name}={value} /etc/default/ramarket-agent"
    ));
}

/// Removed by a provider who chose to keep what runs.
fn removed(machine: &Machine) {
    set(machine, "RENTALS_ON_REMOVE", "keep");
    machine.run("dpkg --remove ramarket-agent");
    for unit in [AGENT, HELPER] {
        assert_eq!(machine.property(unit, "LoadState"), "not-found");
    }
    assert!(!machine.holds("pgrep 'ramarket-(agent|helper)'"));
    assert!(machine.holds("test -s /var/lib/ramarket-agent/node.key"));
}

/// Installed again, with the key and the settings that were kept.
async fn back(machine: &Machine) {
    machine.run("dpkg --install /srv/upgrade/ramarket-agent_*.deb");
    another_runs(machine, AGENT, "0").await;
}

/// Upgraded by a provider who chose to end what runs.
async fn upgraded_ending(machine: &Machine, node: &str) {
    set(machine, "RENTALS_ON_UPGRADE", "end");
    let agent = machine.property(AGENT, "MainPID");
    machine.run("dpkg --install /srv/upgrade/ramarket-agent_*.deb");
    let left = Engine::shared().of_node(node).await;
    assert!(left.is_empty(), "containers are left: {left:?}");
    another_runs(machine, AGENT, &agent).await;
    set(machine, "RENTALS_ON_UPGRADE", "keep");
}

/// Removed by a provider who chose to end what runs.
async fn removed_ending(machine: &Machine, node: &str) {
    set(machine, "RENTALS_ON_REMOVE", "end");
    machine.run("dpkg --remove ramarket-agent");
    nothing_left_at_the_engine(node).await;
}

/// Both packages are purged, and nothing of them is left.
async fn purged(machine: &Machine) {
    machine.run("dpkg --purge ramarket-agent ramarket-coordinator");
    let left = machine.run(
        "find / -xdev -path /proc -prune -o -path /sys -prune -o -path /root -prune -o -path /srv -prune -o \
         -path /var/log -prune -o -path /tmp -prune -o -name '*ramarket*' -print; ls -d /etc/ramarket /run/ramarket* 2>/dev/null || true",
    );
    assert_eq!(left, "", "files are left");
    for user in ["ramarket", "ramarket-agent"] {
        assert!(!machine.holds(&format!("getent passwd {user}")), "{user}");
        assert!(!machine.holds(&format!("getent group {user}")), "{user}");
    }
    for unit in [AGENT, HELPER, COORDINATOR] {
        assert_eq!(machine.property(unit, "LoadState"), "not-found");
    }
}
