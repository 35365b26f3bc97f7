//! Agent and helper are killed while rentals' disks are made and put away: every rental gets its disk, with what is in it, and in the end
//! there is no file but those that are kept, no volume and no loop device.
//!
//! Loop devices are needed, which takes root. Where there are none this shows nothing, and says so aloud.

use std::{path::Path, process::Command};

use serde_json::json;
use system_tests::{market::Store, node::Node, payer::Payer, wait};

use crate::faults_support::{Chance, Stage, is_full};

const REDUCED: u32 = 6;
const FULL: u32 = 60;
const SIZE: i64 = 80 << 20;

/// Loop devices with a file in a folder, taken off at the end whatever comes.
struct Loops(String);

impl Loops {
    fn of(folder: &Path) -> Self {
        Self(folder.display().to_string())
    }

    fn devices(&self) -> Vec<String> {
        let listed = Command::new("losetup")
            .args(["--list", "--noheadings", "--output", "NAME,BACK-FILE"])
            .output()
            .expect("losetup");
        let listed = String::from_utf8(listed.stdout).expect("text");
        let ours = listed.lines().filter(|line| line.contains(&self.0));
        ours.filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect()
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        for device in self.devices() {
            let detached = Command::new("losetup").args(["-d", &device]).status();
            eprintln!("{device} was left: {detached:?}");
        }
    }
}

#[derive(Clone, Copy)]
enum Victim {
    Helper,
    Both,
}

impl Victim {
    fn kill(self, node: &mut Node) {
        if matches!(self, Self::Both) {
            node.kill9();
        }
        node.kill9_helper();
    }

    /// Starts what was killed.
    fn revive(self, node: &mut Node) {
        match self {
            Self::Helper => node.launch_helper(),
            Self::Both => node.launch(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_between_the_steps_of_a_disk_leave_nothing() {
    let mut stage = Stage::new(Store::Sqlite, &[]).await;
    let means = stage.node.view().await["inventory"]["rental_disk"]["means"].clone();
    if means != "loopback" {
        eprintln!("NOT SHOWN: this machine makes no disks of files: {means}");
        return;
    }
    let folder = stage.node.disks();
    let loops = Loops::of(&folder);
    let mut chance = Chance::new("faults_disk");
    let mut order = stage.order();
    order["resources"]["disk_bytes"] = json!(SIZE);
    order["command"] = json!([
        "sh",
        "-c",
        "trap 'exit 0' TERM; echo mine >/data/it; while :; do sleep 1 & wait $!; done"
    ]);
    let kills = if is_full() { FULL } else { REDUCED };
    for _ in 0..kills {
        let rented = Payer::new().rent(&stage.market.api(), &order).await;
        let victim = chance.pick(&[Victim::Helper, Victim::Both]);
        chance.moment(0..400).await;
        victim.kill(&mut stage.node);
        chance.moment(0..200).await;
        victim.revive(&mut stage.node);
        rented.until("running").await;
        let name = format!("ramarket-{}", rented.id);
        wait::until("its disk holds what it wrote", || async {
            let said =
                stage
                    .node
                    .engine()
                    .docker(&["exec", &name, "sh", "-c", "cat /data/it; true"]);
            (said.trim() == "mine").then_some(())
        })
        .await;
        rented.stop().await;
        chance.moment(0..400).await;
        victim.kill(&mut stage.node);
        victim.revive(&mut stage.node);
        rented.until("ended").await;
    }
    wait::until("nothing is left but what is kept", || async {
        let names = names(&folder);
        let kept = names.iter().filter(|name| name.contains(".kept-")).count();
        let label = format!("label=ramarket.node={}", stage.node.id());
        let volumes = stage
            .node
            .engine()
            .docker(&["volume", "ls", "-q", "--filter", &label]);
        let clean = kept == names.len() && volumes.trim().is_empty() && loops.devices().is_empty();
        clean.then_some(())
    })
    .await;
    eprintln!(
        "faults_disk: {kills} disks, {} kills: {} kept, nothing else",
        2 * kills,
        names(&folder).len()
    );
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect()
}
