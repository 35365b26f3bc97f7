//! Row `reach`: what a stock SSH client moves into a rental and out of it, and how long a key takes, beside an sshd of this machine.
//!
//! Through client, gateway, link, agent, helper and engine into a rental, beside the same client and the same commands at an sshd on
//! loopback, in turn. What is compared is compared with one cipher; beside the one that OpenSSH chooses for itself it is shown. First
//! everything is carried once each way and its hash compared.

mod keys;
mod target;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Write as _},
    path::Path,
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::{process::Child, time::Instant};

use self::{
    keys::{Keyboard, percentile},
    target::{Sshd, Target, make_key},
};
use crate::{
    figures::{Goal, Report, Series, quiet_rounds, say},
    launch::engine,
    machine::process_cpu_ms,
    market::{Market, Rented, Setup},
};

const SETTINGS: &str = "[ssh]\nlisten = \"127.0.0.1:0\"\nconnections_per_minute_ip = 6000\n";
/// So that the unit of what is carried fits into a quarter of it.
const RAM_BYTES: i64 = 512 << 20;
const CPU_MILLIS: i64 = 800;
/// What is carried: random bytes, so often.
const UNIT_BYTES: u64 = 64 << 20;
const TIMES: u64 = 16;
const TIMES_QUICK: u64 = 1;
const ROUNDS: usize = 3;
const ROUNDS_QUICK: usize = 1;
const KEYS: usize = 200;
const KEYS_QUICK: usize = 50;
/// Of what the local sshd carries.
const SHARE_MIN: f64 = 0.5;
/// What we may add to a key, milliseconds.
const ADDED_MS_MAX: f64 = 5.0;
/// Where it is kept at the other end.
const UNIT_THERE: &str = "/tmp/unit";

/// Measures the row.
pub(crate) async fn measure(report: &mut Report, quick: bool) -> Result<()> {
    say("\nreach: bytes and keys into a rental by ssh, beside an sshd of this machine");
    if let Err(error) = engine::connect().await {
        report.absent("reach", &format!("no Docker engine answers: {error}"));
        return Ok(());
    }
    let setup = Setup {
        settings: SETTINGS,
        helper: true,
    };
    let market = Market::start_with("reach", &setup).await?;
    let folder = market.folder().to_owned();
    let (key, public) = make_key(&folder, "key").await?;
    let Some(sshd) = Sshd::start(&folder, &key, &public).await? else {
        market.end().await?;
        report.absent("reach", "there is no sshd (apt-get install openssh-server)");
        return Ok(());
    };
    let times = if quick { TIMES_QUICK } else { TIMES };
    let stage = Stage::set(&market, sshd.target.clone(), (&key, &public), times).await?;
    stage.compare_hashes().await?;
    let (rounds, keys) = if quick {
        (ROUNDS_QUICK, KEYS_QUICK)
    } else {
        (ROUNDS, KEYS)
    };
    let carried = quiet_rounds(rounds, &folder, async |_| Box::pin(stage.carry()).await).await?;
    let pressed =
        quiet_rounds(rounds, &folder, async |_| Box::pin(stage.press(keys)).await).await?;
    drop(sshd);
    market.end().await?;
    rows_of_bytes(report, &carried);
    rows_of_keys(report, &pressed);
    Ok(())
}

/// Two rentals of one node, and the local server.
struct Stage<'a> {
    market: &'a Market,
    rented: Rented,
    rental: Target,
    /// Another rental on the same link.
    other: Target,
    local: Target,
    /// What is carried: a file of it all, of which the unit is the beginning.
    file: std::path::PathBuf,
    unit: std::path::PathBuf,
    times: u64,
}

/// MB/s.
#[derive(Debug, Default, Clone, Copy)]
struct Carried {
    /// Into a rental, and out of it.
    ours: [f64; 2],
    same_cipher: [f64; 2],
    by_choice: [f64; 2],
}

/// Milliseconds: half of the keys took less, and ninety-nine of a hundred.
type Keys = [f64; 2];

#[derive(Debug, Default, Clone, Copy)]
struct Pressed {
    ours: Keys,
    socket: Keys,
    local: Keys,
    /// While another rental is filled, and while it is emptied.
    ours_beside: [Keys; 2],
    local_beside: [Keys; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Into,
    OutOf,
}

const WAYS: [Way; 2] = [Way::Into, Way::OutOf];

impl<'a> Stage<'a> {
    async fn set(
        market: &'a Market,
        local: Target,
        (key, public): (&Path, &str),
        times: u64,
    ) -> Result<Self> {
        let folder = market.folder();
        let resources = json!({"ram_bytes": RAM_BYTES, "cpu_millis": CPU_MILLIS});
        let gateway = market.get("/gateway/ssh", "").await?;
        let mut rented = Vec::new();
        for _ in 0..2 {
            let order = market.order_of(&resources, &[public.to_owned()]).await?;
            let one = market.pay(&order).await?;
            market.until_running(&one).await?;
            let target = Target::rental(folder, key, &one.rental_id, &gateway)?;
            rented.push((one, target));
        }
        let (_, other) = rented.pop().context("the other rental")?;
        let (rented, rental) = rented.pop().context("a rental")?;
        let (unit, file) = (folder.join("unit"), folder.join("all"));
        noise(&unit, &file, times)?;
        Ok(Self {
            market,
            rented,
            rental,
            other,
            local,
            file,
            unit,
            times,
        })
    }

    /// Carries it all once each way.
    async fn compare_hashes(&self) -> Result<()> {
        let sum_of = |file: &Path| format!("sha256sum <{}", file.display());
        let here = self.local.says(&sum_of(&self.file), Stdio::null()).await?;
        let all = File::open(&self.file)?.into();
        let there = self.rental.says("sha256sum", all).await?;
        ensure!(
            here == there,
            "what arrived is something else: {there} and not {here}"
        );
        for target in [&self.rental, &self.other] {
            let unit = File::open(&self.unit)?.into();
            target.says(&format!("cat >{UNIT_THERE}"), unit).await?;
        }
        let back = self.market.folder().join("back");
        let fetched = self
            .rental
            .ssh(&[], &self.reading(UNIT_THERE))
            .stdin(Stdio::null())
            .stdout(File::create(&back)?)
            .status()
            .await?;
        ensure!(fetched.success(), "it can't be read there");
        let back = self.local.says(&sum_of(&back), Stdio::null()).await?;
        ensure!(
            back == here,
            "what came back is something else: {back} and not {here}"
        );
        say(&format!(
            "  {} MiB into the rental and out of it again: SHA-256 {}…, the same everywhere",
            self.times * (UNIT_BYTES >> 20),
            &here[..16]
        ));
        Ok(())
    }

    /// Prints it all.
    fn reading(&self, unit: &str) -> String {
        format!("for i in $(seq {}); do cat {unit}; done", self.times)
    }

    /// Starts to carry it all to a target, or from it.
    fn start(&self, target: &Target, way: Way) -> Result<Child> {
        let is_here = target.is_where(&self.local);
        let unit = if is_here {
            self.unit.display().to_string()
        } else {
            UNIT_THERE.to_owned()
        };
        let (command, input) = match way {
            Way::Into => ("cat >/dev/null".to_owned(), File::open(&self.file)?.into()),
            Way::OutOf => (self.reading(&unit), Stdio::null()),
        };
        let mut ssh = target.ssh(&[], &command);
        Ok(ssh.stdin(input).stdout(Stdio::null()).spawn()?)
    }

    /// MB/s.
    async fn rate(&self, target: &Target, way: Way) -> Result<f64> {
        let begun = Instant::now();
        let ended = self.start(target, way)?.wait().await?;
        ensure!(ended.success(), "{way:?} failed");
        let bytes = u32::try_from(self.times * (UNIT_BYTES >> 20)).map(f64::from)? * 1_048_576.0;
        Ok(bytes / 1e6 / begun.elapsed().as_secs_f64())
    }

    async fn carry(&self) -> Result<Carried> {
        let mut carried = Carried::default();
        for (at, way) in WAYS.into_iter().enumerate() {
            let before = processor_times()?;
            carried.ours[at] = self.rate(&self.rental, way).await?;
            tell_processor_times(way, &before, self.times)?;
            carried.same_cipher[at] = self.rate(&self.local, way).await?;
            carried.by_choice[at] = self.rate(&self.local.by_choice(), way).await?;
        }
        Ok(carried)
    }

    async fn press(&self, count: usize) -> Result<Pressed> {
        let mut pressed = Pressed::default();
        let url = format!(
            "{}/rentals/{}/exec",
            self.market.socket_url(),
            self.rented.rental_id
        );
        let mut ours = Keyboard::ssh(&self.rental).await?;
        let mut socket = Keyboard::socket(&url, &self.rented.token).await?;
        let mut local = Keyboard::ssh(&self.local).await?;
        pressed.ours = both(&ours.type_keys(count).await?);
        pressed.local = both(&local.type_keys(count).await?);
        pressed.socket = both(&socket.type_keys(count).await?);
        for (at, way) in WAYS.into_iter().enumerate() {
            pressed.ours_beside[at] = self.beside(&mut ours, &self.other, way, count).await?;
            pressed.local_beside[at] = self.beside(&mut local, &self.local, way, count).await?;
        }
        Ok(pressed)
    }

    /// Keys while it all is carried elsewhere, again and again.
    async fn beside(
        &self,
        keyboard: &mut Keyboard,
        filled: &Target,
        way: Way,
        count: usize,
    ) -> Result<Keys> {
        let carrying = async {
            loop {
                self.rate(filled, way).await?;
            }
        };
        let took: Result<Vec<f64>> = tokio::select! {
            ended = carrying => ended,
            took = keyboard.type_keys(count) => took,
        };
        Ok(both(&took?))
    }
}

fn both(sorted: &[f64]) -> Keys {
    [percentile(sorted, 50), percentile(sorted, 99)]
}

/// Random bytes, and a file of them so many times.
fn noise(unit: &Path, file: &Path, times: u64) -> Result<()> {
    let mut bytes = Vec::new();
    let random = File::open("/dev/urandom")?;
    random.take(UNIT_BYTES).read_to_end(&mut bytes)?;
    std::fs::write(unit, &bytes)?;
    let mut all = File::create(file)?;
    for _ in 0..times {
        all.write_all(&bytes)?;
    }
    Ok(())
}

/// Processor time of everybody on the way, by the program's name, milliseconds.
fn processor_times() -> Result<BTreeMap<String, f64>> {
    const NAMES: [&str; 7] = [
        "ramarket-coordinator",
        "ramarket-agent",
        "ramarket-helper",
        "ramarket-inside",
        "dockerd",
        "containerd-shim",
        "containerd",
    ];
    let mut times = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // it may have ended meanwhile
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        if let Some(known) = NAMES.into_iter().find(|name| words.contains(name))
            && let Ok(ms) = process_cpu_ms(pid)
        {
            *times.entry(known.to_owned()).or_default() += ms;
        }
    }
    Ok(times)
}

fn tell_processor_times(way: Way, before: &BTreeMap<String, f64>, times: u64) -> Result<()> {
    let mib = u32::try_from(times * (UNIT_BYTES >> 20)).map(f64::from)?;
    let spent: Vec<String> = processor_times()?
        .into_iter()
        .map(|(name, ms)| {
            let spent = ms - before.get(&name).copied().unwrap_or_default();
            format!("{name} {:.0}", spent * 1_024.0 / mib)
        })
        .collect();
    say(&format!(
        "  {way:?}, processor milliseconds for a GiB: {}",
        spent.join(", ")
    ));
    Ok(())
}

fn rows_of_bytes(report: &mut Report, rounds: &[Carried]) {
    let series = |name: &str, of: &dyn Fn(&Carried) -> f64| {
        Series::new(name, "MB/s", rounds.iter().map(of).collect())
    };
    for (at, way) in ["into", "out of"].into_iter().enumerate() {
        let ours = series(&format!("{way} a rental"), &|r| r.ours[at]);
        let same = series("sshd on loopback, the same cipher", &|r| r.same_cipher[at]);
        let choice = series("sshd on loopback, its own cipher", &|r| r.by_choice[at]);
        for (limit, goal) in [(same, Goal::AtLeast(SHARE_MIN)), (choice, Goal::None)] {
            let ratio = ours.median() / limit.median();
            let name = format!("bytes {way} a rental by ssh");
            report.add(&name, &ours, &limit, (ratio, "×"), goal);
        }
    }
}

fn rows_of_keys(report: &mut Report, rounds: &[Pressed]) {
    let series = |name: &str, of: &dyn Fn(&Pressed) -> f64| {
        Series::new(name, "ms", rounds.iter().map(of).collect())
    };
    let goal = Goal::AtMost(ADDED_MS_MAX);
    for (share, at) in [("p50", 0), ("p99", 1)] {
        let local = series("sshd on loopback", &|r| r.local[at]);
        let goal = if at == 0 { goal } else { Goal::None };
        for (name, ours) in [
            ("ssh", series("ssh to a rental", &|r| r.ours[at])),
            (
                "WebSocket",
                series("a rental's WebSocket", &|r| r.socket[at]),
            ),
        ] {
            let added = ours.median() - local.median();
            let name = format!("a key by {name}, {share}: what is added");
            report.add(&name, &ours, &local, (added, "ms"), goal);
        }
        for (way, name) in ["filled", "emptied"].into_iter().enumerate() {
            let ours = series("ssh to a rental", &|r| r.ours_beside[way][at]);
            let local = series("sshd that carries as much", &|r| r.local_beside[way][at]);
            let added = ours.median() - local.median();
            let name =
                format!("a key while another rental on the link is {name}, {share}: what is added");
            report.add(&name, &ours, &local, (added, "ms"), Goal::None);
        }
    }
}
