//! Row `launch`: from the paid request to the moment at which the container runs, beside Docker alone.
//!
//! A: a signed `POST /rentals` is sent → Docker's `StartedAt`, through coordinator, nudge, agent. B: `docker run -d` → its
//! `StartedAt`. C: the engine's create and start calls alone → `StartedAt`. All three make the same container, in turn, each round in
//! another order. Networks are made ahead for all three: the agent has some in stock, and B and C get theirs before the clock starts. What the market adds is A without the agent's own two calls of the engine, by the agent's log: one start of the
//! engine's differs from the next by several times that, so A − C only shows it in the middle of many.

pub(crate) mod engine;

use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};

use bollard::{Docker, models::ContainerCreateBody, query_parameters::InspectContainerOptions};
use node_agent::runtime::{docker::DockerRuntime, profile};
use shared::{
    clock::{Clock as _, SystemClock},
    container::RawSpec,
    id::Ids,
    resources::Resources,
    time::Timestamp,
    wire::desired::{DesiredRental, Wanted},
};

use self::engine::Events;
use crate::{
    figures::{Goal, Report, Series, quiet_rounds, say},
    machine::ms_between,
    market::{COMMAND, IMAGE, Market, RAM_BYTES},
};

const PAIRS: usize = 30;
const PAIRS_QUICK: usize = 5;
/// A whole processor: a smaller share would throttle the container's own start, and the figure would be the share's.
const CPU_MILLIS: i64 = 1_000;
/// Of `docker run -d`.
const RATIO_MAX: f64 = 1.05;
/// What the market may add, milliseconds.
const SHARE_MS_MAX: f64 = 10.0;

/// Milliseconds of one rental's launch, from the request sent.
#[derive(Debug, Default, Clone, Copy)]
struct Ours {
    answered: f64,
    /// Without the time in which the engine had the create or the start call.
    own: f64,
    created: f64,
    started: f64,
}

/// Milliseconds of one bare launch.
#[derive(Debug, Default, Clone, Copy)]
struct Bare {
    created: f64,
    started: f64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Round {
    ours: Ours,
    command: f64,
    bare: Bare,
}

/// Measures the row.
pub(crate) async fn measure(report: &mut Report, quick: bool) -> Result<()> {
    say(
        "\nlaunch: A paid request → StartedAt · B docker run -d → StartedAt · C create and start calls → StartedAt",
    );
    let docker = match engine::connect().await {
        Ok(docker) => docker,
        Err(error) => {
            report.absent("launch", &format!("no Docker engine answers: {error}"));
            return Ok(());
        }
    };
    let market = Market::start("launch").await?;
    let mut events = Events::of_node(&docker, &market.node_id);
    let peer = Peer::new(market.folder())?;
    let pairs = if quick { PAIRS_QUICK } else { PAIRS };
    // one of each for warm caches
    round(&market, &docker, &mut events, &peer, 0).await?;
    let folder = market.folder().to_owned();
    let rounds = quiet_rounds(pairs, &folder, async |number| {
        round(&market, &docker, &mut events, &peer, number).await
    })
    .await?;
    market.end().await?;
    rows(report, &rounds);
    Ok(())
}

fn rows(report: &mut Report, rounds: &[Round]) {
    let series = |name: &str, of: fn(&Round) -> f64| {
        Series::new(name, "ms", rounds.iter().map(of).collect())
    };
    let ours = series("A paid request to StartedAt", |r| r.ours.started);
    let command = series("B docker run -d", |r| r.command);
    let bare = series("C create and start calls to StartedAt", |r| r.bare.started);
    series("A request to answer", |r| r.ours.answered).tell();
    series("A request to Docker's create event", |r| r.ours.created).tell();
    series("A create event to StartedAt", |r| {
        r.ours.started - r.ours.created
    })
    .tell();
    series("C create call", |r| r.bare.created).tell();
    series("C start call to StartedAt", |r| {
        r.bare.started - r.bare.created
    })
    .tell();
    let ratio = ours.median() / command.median();
    report.add(
        "launch, p50 A ÷ p50 B",
        &ours,
        &command,
        (ratio, "×"),
        Goal::AtMost(RATIO_MAX),
    );
    let calls = series("A create and start calls to StartedAt", |r| {
        r.ours.started - r.ours.own
    });
    let share = series("A without both calls", |r| r.ours.own);
    let middle = share.median();
    report.add(
        "launch, our own share: A without its create and start calls",
        &share,
        &calls,
        (middle, "ms"),
        Goal::AtMost(SHARE_MS_MAX),
    );
    let share = series("A − C", |r| r.ours.started - r.bare.started);
    let middle = share.median();
    report.add(
        "launch, p50 of A − C",
        &share,
        &bare,
        (middle, "ms"),
        Goal::None,
    );
}

async fn round(
    market: &Market,
    docker: &Docker,
    events: &mut Events,
    peer: &Peer,
    number: usize,
) -> Result<Round> {
    let mut round = Round::default();
    for step in 0..3 {
        match (number + step) % 3 {
            0 => round.ours = ours(market, docker, events).await?,
            1 => round.command = peer.by_command(docker).await?,
            _ => round.bare = peer.bare(docker).await?,
        }
    }
    Ok(round)
}

/// A launch through the market; its container is gone when this returns.
async fn ours(market: &Market, docker: &Docker, events: &mut Events) -> Result<Ours> {
    let order = market.order(CPU_MILLIS).await?;
    let sent = SystemClock.now();
    let rented = market.pay(&order).await?;
    let answered = SystemClock.now();
    let created = events.next("create", &rented.rental_id).await?;
    events.next("start", &rented.rental_id).await?;
    let (started, _) = engine::started(docker, &created.container_id).await?;
    let own = own_share_ms(market, sent, &rented.rental_id, &created.container_id)?;
    market.stop(&rented).await?;
    events.next("destroy", &rented.rental_id).await?;
    Ok(Ours {
        answered: ms_between(sent, answered),
        own,
        created: ms_between(sent, created.at),
        started: ms_between(sent, started),
    })
}

/// Up to the create call, and from its answer to the start call.
fn own_share_ms(
    market: &Market,
    sent: Timestamp,
    rental_id: &str,
    container_id: &str,
) -> Result<f64> {
    let rental = ("rental.id", rental_id);
    let container = (
        "container.id",
        container_id.get(..12).context("a container's id")?,
    );
    let asked = market.agent_wrote("container asked for", rental)?;
    let made = market.agent_wrote("container made", rental)?;
    let start_asked = market.agent_wrote("start asked for", container)?;
    Ok(ms_between(sent, asked) + ms_between(made, start_asked))
}

/// Launches without the market: what the agent would create for the same order, under the label of a node that doesn't exist.
struct Peer {
    runtime: DockerRuntime,
    rental: DesiredRental,
    /// The list of system calls, which the command reads from a file.
    seccomp: PathBuf,
}

impl Peer {
    fn new(folder: &Path) -> Result<Self> {
        let spec = RawSpec {
            image: IMAGE.to_owned(),
            command: COMMAND.map(str::to_owned).to_vec(),
            ..RawSpec::default()
        };
        let rental = DesiredRental {
            rental_id: Ids::System.mint(),
            lease_id: Ids::System.mint(),
            wanted: Wanted::Run,
            spec: spec.try_into().ok().context("a valid specification")?,
            resources: Resources {
                ram_bytes: RAM_BYTES,
                cpu_millis: CPU_MILLIS,
                ..Resources::default()
            },
            gpus: Vec::new(),
            internet: true,
            isolation: None,
            image: None,
            private_image: false,
        };
        let scope = format!("bench-{}", std::process::id());
        let seccomp = folder.join("seccomp.json");
        std::fs::write(&seccomp, profile::seccomp::text())?;
        Ok(Self {
            runtime: DockerRuntime::new(None, scope)?,
            rental,
            seccomp,
        })
    }

    /// A container's body on a network that was made for it.
    async fn body(&self) -> Result<(ContainerCreateBody, String)> {
        let network = self.runtime.spare_network().await?;
        let body = self.runtime.body(&self.rental, &network).await?;
        let body = body.with_context(|| format!("the image {IMAGE} isn't on this machine"))?;
        Ok((body, network))
    }

    async fn by_command(&self, docker: &Docker) -> Result<f64> {
        let (body, network) = self.body().await?;
        let sent = SystemClock.now();
        let id = engine::run_by_command(&body, &self.seccomp).await?;
        let (started, _) = engine::started(docker, &id).await?;
        // the same container, or the comparison is none
        let held = docker
            .inspect_container(&id, None::<InspectContainerOptions>)
            .await?;
        profile::check(&body, &held)?;
        engine::remove(docker, &id).await?;
        docker.remove_network(&network).await?;
        Ok(ms_between(sent, started))
    }

    async fn bare(&self, docker: &Docker) -> Result<Bare> {
        let (body, network) = self.body().await?;
        let sent = SystemClock.now();
        let (id, created) = engine::create_and_start(docker, body).await?;
        let (started, _): (Timestamp, _) = engine::started(docker, &id).await?;
        engine::remove(docker, &id).await?;
        docker.remove_network(&network).await?;
        Ok(Bare {
            created: ms_between(sent, created),
            started: ms_between(sent, started),
        })
    }
}
