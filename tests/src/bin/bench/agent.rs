//! Row `agent`: what the agent takes from its machine, beside Debian's prometheus-node-exporter.
//!
//! Processor time: one sampling pass of the agent (load of the machine, counters of its containers from their cgroup files, a signed
//! record of each in one durable commit) by this thread's clock, beside one scrape of the exporter by `/proc/PID/stat`, in turn.
//! Memory: `ramarket-agent run` of this build with its coordinator, with no, 10 and 50 rentals running, beside the exporter after scrapes.

use std::{
    collections::BTreeSet,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use node_agent::{
    boot,
    journal::{Journal, Moment, Owner},
    measure::Sampler,
    probe::Prober,
    rental::LiveRental,
    report::{Due, Meter, sample_pass},
};
use shared::{
    clock::{Clock as _, SystemClock},
    id::{Ids, NodeId},
    resources::Inventory,
    sign::SigningKey,
    wire::observed::{ObservedRental, Phase},
};

use crate::{
    figures::{Goal, Report, Series, quiet_rounds, say},
    launch::engine,
    machine::{process_cpu_ms, rss_mib, thread_cpu_ms, until},
    market::Market,
};

const RENTALS: [usize; 2] = [10, 50];
/// So that fifty fit on two processors.
const CPU_MILLIS: i64 = 30;
const ROUNDS: usize = 9;
const ROUNDS_QUICK: usize = 3;
/// Passes or scrapes in one round: enough for a clock that ticks each 10 ms.
const PER_ROUND: u32 = 40;
const CPU_RATIO_MAX: f64 = 0.15;
const RSS_RATIO_MAX: f64 = 0.7;
/// Samples of resident memory, a second apart: over two beats.
const RSS_SAMPLES: usize = 11;
const EXPORTER: &str = "prometheus-node-exporter";

/// Measures the row.
pub(crate) async fn measure(report: &mut Report, quick: bool) -> Result<()> {
    say("\nagent: processor time of a pass and resident memory, beside prometheus-node-exporter");
    let docker = match engine::connect().await {
        Ok(docker) => docker,
        Err(error) => {
            report.absent("agent", &format!("no Docker engine answers: {error}"));
            return Ok(());
        }
    };
    let Some(exporter) = Exporter::start().await? else {
        report.absent(
            "agent",
            "prometheus-node-exporter isn't installed (apt-get install prometheus-node-exporter)",
        );
        return Ok(());
    };
    let market = Market::start("agent").await?;
    let rounds = if quick { ROUNDS_QUICK } else { ROUNDS };
    let mut memories = vec![memory(0, market.agent_pid()?).await?];
    let mut pairs = Vec::new();
    let mut rented = 0;
    for wanted in RENTALS {
        while rented < wanted {
            market.pay(&market.order(CPU_MILLIS).await?).await?;
            rented += 1;
        }
        let live = until("all rentals run", async || {
            let live = live(&docker, &market.node_id).await;
            Ok(live.ok().filter(|live| live.len() == wanted))
        })
        .await?;
        memories.push(memory(wanted, market.agent_pid()?).await?);
        let [nothing, passes, scrapes] = passes(&market, &exporter, &live, rounds).await?;
        if pairs.is_empty() {
            pairs.push((0, nothing, scrapes.clone()));
        }
        pairs.push((wanted, passes, scrapes));
    }
    let peer = memory_of("exporter", exporter.process.id()).await?;
    market.end().await?;
    for (rentals, passes, scrapes) in pairs {
        let ratio = passes.median() / scrapes.median();
        let name = format!("agent, CPU of a pass with {rentals} containers");
        let goal = goal(rentals, CPU_RATIO_MAX);
        report.add(&name, &passes, &scrapes, (ratio, "×"), goal);
    }
    for (rentals, ours) in [0].into_iter().chain(RENTALS).zip(memories) {
        let ratio = ours.median() / peer.median();
        let name = format!("agent, RSS with {rentals} rentals");
        let goal = goal(rentals, RSS_RATIO_MAX);
        report.add(&name, &ours, &peer, (ratio, "×"), goal);
    }
    Ok(())
}

/// More rentals than the goals speak of are shown.
fn goal(rentals: usize, at_most: f64) -> Goal {
    if rentals <= RENTALS[0] {
        Goal::AtMost(at_most)
    } else {
        Goal::None
    }
}

async fn memory(rentals: usize, pid: u32) -> Result<Series> {
    memory_of(&format!("agent, {rentals} rentals"), pid).await
}

/// Resident memory of a process, looked at each second.
async fn memory_of(name: &str, pid: u32) -> Result<Series> {
    let (mut all, mut anonymous) = (Vec::new(), Vec::new());
    let mut second = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..RSS_SAMPLES {
        second.tick().await;
        let (rss, anon) = rss_mib(pid)?;
        all.push(rss);
        anonymous.push(anon);
    }
    Series::new(format!("{name}, of it anonymous"), "MiB", anonymous).tell();
    Ok(Series::new(format!("{name}, RSS"), "MiB", all))
}

/// The rentals of a node that run, as its agent sees them.
async fn live(docker: &bollard::Docker, node_id: &str) -> Result<Vec<LiveRental>> {
    let mut live = Vec::new();
    for (rental, container) in engine::of_node(docker, node_id).await? {
        let (started_at, pid) = engine::started(docker, &container).await?;
        anyhow::ensure!(pid > 0, "it doesn't run yet");
        live.push(LiveRental {
            observed: ObservedRental {
                rental_id: rental.parse()?,
                lease_id: Ids::System.mint(),
                phase: Phase::Running,
                container_id: Some(container),
                image_digest: Some(format!("sha256:{}", "0".repeat(64))),
                started_at: Some(started_at),
                finished_at: None,
            },
            spec_sha256: "0".repeat(64),
            pid: Some(pid),
            gpus: Vec::new(),
        });
    }
    Ok(live)
}

/// Milliseconds of processor time: a pass over nothing, a pass over `live`, a scrape; in turn.
async fn passes(
    market: &Market,
    exporter: &Exporter,
    live: &[LiveRental],
    rounds: usize,
) -> Result<[Series; 3]> {
    let mut agent = Passes::new(market)?;
    agent.cpu_ms(live)?;
    exporter.cpu_ms().await?;
    let folder = market.folder().to_owned();
    let rounds = quiet_rounds(rounds, &folder, async |_| {
        let nothing = agent.cpu_ms(&[])?;
        let ours = agent.cpu_ms(live)?;
        Ok((nothing, ours, exporter.cpu_ms().await?))
    })
    .await?;
    Ok([
        Series::new(
            "pass without containers",
            "ms CPU",
            rounds.iter().map(|r| r.0).collect(),
        ),
        Series::new("pass", "ms CPU", rounds.iter().map(|r| r.1).collect()),
        Series::new(
            "scrape of the exporter",
            "ms CPU",
            rounds.iter().map(|r| r.2).collect(),
        ),
    ])
}

/// The agent's measuring parts, in this process.
struct Passes {
    meter: Meter,
    prober: Prober,
    inventory: Inventory,
}

impl Passes {
    fn new(market: &Market) -> Result<Self> {
        let key = Arc::new(SigningKey::from_pkcs8(&SigningKey::generate_pkcs8()?)?);
        let node_id: NodeId = Ids::System.mint();
        let path = market.folder().join(format!("{node_id}.db"));
        Journal::create(&path, node_id, &key.public())?;
        let owner = Owner {
            node_id,
            coordinator_key: key.public(),
            key,
            boot_id: boot::id()?,
        };
        let journal = Journal::open(&path, owner)?;
        let mut prober = Prober::new();
        let inventory = prober.inventory(Err("not asked".to_owned()))?;
        Ok(Self {
            meter: Meter::new(journal, Sampler::new("/")),
            prober,
            inventory,
        })
    }

    /// Of one pass, in the mean of several.
    fn cpu_ms(&mut self, live: &[LiveRental]) -> Result<f64> {
        let begun = thread_cpu_ms();
        for _ in 0..PER_ROUND {
            let load = self.prober.load(&self.inventory);
            anyhow::ensure!(load.ram_available_bytes > 0, "the load can't be read");
            let moment = Moment {
                beacon: "ab".repeat(16),
                t_wall: SystemClock.now(),
                t_boot_ms: SystemClock.boot_ms(),
            };
            let made = sample_pass(&mut self.meter, live, &BTreeSet::new(), &moment, Due::Tick)?;
            anyhow::ensure!(made == live.len(), "{made} records of {}", live.len());
        }
        Ok((thread_cpu_ms() - begun) / f64::from(PER_ROUND))
    }
}

/// Debian's exporter with its default collectors, on a port of its own.
struct Exporter {
    process: Child,
    url: String,
    client: reqwest::Client,
}

impl Exporter {
    /// `None` when it isn't installed.
    async fn start() -> Result<Option<Self>> {
        shared::tls::init();
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let process = Command::new(EXPORTER)
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = match process {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(EXPORTER),
        };
        let exporter = Self {
            process,
            url: format!("http://127.0.0.1:{port}/metrics"),
            client: reqwest::Client::builder().no_proxy().build()?,
        };
        until("the exporter answers", async || {
            Ok(exporter.scrape().await.is_ok().then_some(()))
        })
        .await?;
        Ok(Some(exporter))
    }

    async fn scrape(&self) -> Result<()> {
        let answer = self
            .client
            .get(&self.url)
            .send()
            .await?
            .error_for_status()?;
        let text = answer.bytes().await?;
        anyhow::ensure!(text.len() > 1_000, "too short for a scrape");
        Ok(())
    }

    /// Of one scrape, in the mean of several.
    async fn cpu_ms(&self) -> Result<f64> {
        let begun = process_cpu_ms(self.process.id())?;
        for _ in 0..PER_ROUND {
            self.scrape().await?;
        }
        Ok((process_cpu_ms(self.process.id())? - begun) / f64::from(PER_ROUND))
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // gone already is as good; the wait only takes its entry from the process table
        drop(self.process.kill().and_then(|()| self.process.wait()));
    }
}
