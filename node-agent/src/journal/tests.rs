//! The journal under kills, truncation, restores and random orders of events.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use proptest::prelude::*;
use shared::{id::Ids, journal::verify_chain};

use super::*;
use crate::testing::TempDir;

/// A node, its coordinator, and its journal's file.
struct Node {
    dir: TempDir,
    owner: Owner,
    coordinator: SigningKey,
}

fn new_key() -> SigningKey {
    SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().expect("random")).expect("key")
}

impl Node {
    fn new() -> Self {
        let coordinator = new_key();
        let owner = Owner {
            node_id: Ids::counting().mint(),
            key: Arc::new(new_key()),
            boot_id: "0".repeat(32),
            coordinator_key: coordinator.public(),
        };
        let node = Self {
            dir: TempDir::new(),
            owner,
            coordinator,
        };
        Journal::create(&node.path(), node.owner.node_id, &node.owner.key.public()).expect("made");
        node
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("journal.db")
    }

    fn open(&self) -> Journal {
        self.try_open().expect("opened")
    }

    fn try_open(&self) -> Result<Journal, JournalError> {
        Journal::open(&self.path(), self.owner.clone())
    }

    fn ack(&self, seq: i64, hash: Hash) -> Ack {
        let received_at = Timestamp::from_secs(9);
        let canonical = Ack::canonical(self.owner.node_id, seq, &hash, received_at);
        Ack {
            seq,
            hash,
            received_at,
            signature: self.coordinator.sign(ACK_DOMAIN, &canonical),
        }
    }

    fn verify(&self) -> Verified {
        verify_file(&self.path(), &self.owner.key.public()).expect("one chain")
    }
}

fn moment(seconds: i64) -> Moment {
    Moment {
        beacon: "be".repeat(16),
        t_wall: Timestamp::from_secs(seconds),
        t_boot_ms: seconds * 1_000,
    }
}

fn drafts(count: usize) -> Vec<Draft> {
    let ids = Ids::counting();
    let draft = |_| Draft {
        rental_id: ids.mint(),
        lease_id: ids.mint(),
        state: MeterState::Running,
        container_id: "c".repeat(64),
        image_digest: format!("sha256:{}", "0".repeat(64)),
        spec_sha256: "0".repeat(64),
        started_at: Some(Timestamp::from_secs(1)),
        finished_at: None,
        counters: Counters::default(),
        exit: None,
    };
    (0..count).map(draft).collect()
}

#[test]
fn records_form_one_chain_over_restarts_and_leave_when_acknowledged() {
    let node = Node::new();
    let mut journal = node.open();
    assert_eq!(journal.append(&moment(1), drafts(3)).expect("appended"), 3);
    drop(journal);
    let mut journal = node.open();
    assert_eq!(journal.append(&moment(2), drafts(2)).expect("appended"), 5);

    let records = journal.unacked(usize::MAX).expect("records");
    let key = node.owner.key.public();
    let head = verify_chain(0, Hash::GENESIS, &records, &key).expect("a chain");
    assert_eq!(head, (journal.head().seq, journal.head().hash));

    let third = records[2].record.hash();
    assert!(
        journal
            .acknowledge(&node.ack(3, third))
            .expect("acknowledged")
    );
    assert!(!journal.acknowledge(&node.ack(3, third)).expect("again"));
    assert_eq!(journal.unacked(usize::MAX).expect("rest"), records[3..]);
    journal.append(&moment(3), drafts(1)).expect("appended");
    drop(journal);
    assert_eq!(
        node.open().acked_seq(),
        3,
        "the receipt came with the next commit"
    );
    assert_eq!(node.verify().records, 6);
}

#[test]
fn what_is_sent_is_bounded_in_bytes_and_always_something() {
    let node = Node::new();
    let mut journal = node.open();
    journal.append(&moment(1), drafts(100)).expect("appended");
    let max = 20_000;
    let part = journal.unacked(max).expect("part");
    let json = serde_json::to_vec(&part).expect("json").len();
    assert!(
        json <= max + 1 && json > max / 2,
        "{json} bytes, {} records",
        part.len()
    );
    assert_eq!(part[0].record.seq, 1);
    assert_eq!(journal.unacked(1).expect("one").len(), 1);
}

#[test]
fn receipts_that_are_not_the_coordinators_or_not_for_these_records_are_refused() {
    let node = Node::new();
    let mut journal = node.open();
    journal.append(&moment(1), drafts(2)).expect("appended");
    let head = journal.head();

    let mut forged = node.ack(2, head.hash);
    forged.signature = new_key().sign(ACK_DOMAIN, b"x");
    assert!(matches!(
        journal.acknowledge(&forged),
        Err(JournalError::AckNotSigned { seq: 2 })
    ));
    assert!(matches!(
        journal.acknowledge(&node.ack(1, head.hash)),
        Err(JournalError::AckOtherHash { seq: 1 })
    ));
    let ahead = journal.acknowledge(&node.ack(3, head.hash));
    assert!(
        matches!(&ahead, Err(error) if error.is_final()),
        "{ahead:?}"
    );
    assert_eq!(journal.acked_seq(), 0);
}

#[test]
fn a_coordinator_that_was_restored_gets_the_records_again() {
    let node = Node::new();
    let mut journal = node.open();
    journal.append(&moment(1), drafts(4)).expect("appended");
    let records = journal.unacked(usize::MAX).expect("records");
    let hash = |seq: usize| records[seq - 1].record.hash();
    journal.acknowledge(&node.ack(4, hash(4))).expect("all");
    assert!(!journal.acknowledge(&node.ack(2, hash(2))).expect("back"));
    assert_eq!(journal.unacked(usize::MAX).expect("again"), records[2..]);
}

#[test]
fn old_acknowledged_records_go_in_order_and_the_rest_still_verifies() {
    let node = Node::new();
    let mut journal = node.open();
    for second in 1..=10 {
        journal
            .append(&moment(second), drafts(1))
            .expect("appended");
    }
    let records = journal.unacked(usize::MAX).expect("records");
    let before = Timestamp::from_secs(6);
    assert_eq!(
        journal.prune(before, i64::MAX).expect("pruned"),
        0,
        "none is acknowledged"
    );
    journal
        .acknowledge(&node.ack(8, records[7].record.hash()))
        .expect("acknowledged");
    assert_eq!(
        journal.prune(before, 4).expect("pruned"),
        3,
        "a rental still needs the fourth"
    );
    assert_eq!(journal.prune(before, i64::MAX).expect("pruned"), 2);
    assert_eq!(
        journal
            .prune(Timestamp::from_secs(100), i64::MAX)
            .expect("pruned"),
        2,
        "up to the last receipt"
    );
    let verified = node.verify();
    assert_eq!(
        (verified.first_seq, verified.head.seq, verified.acked_seq),
        (8, 10, 8)
    );
    let last = journal
        .last_of(records[9].record.rental_id)
        .expect("read")
        .expect("kept");
    assert_eq!(last, records[9].record);
    assert_eq!(node.open().unacked(usize::MAX).expect("rest"), records[8..]);
}

#[test]
fn missing_foreign_and_damaged_journals_are_refused_with_a_way_out() {
    let refusal = |node: &Node| {
        let error = node.try_open().expect_err("refused");
        assert!(error.is_final(), "{error}");
        assert!(error.to_string().contains("enroll --force"), "{error}");
    };
    let node = Node::new();
    std::fs::remove_file(node.path()).expect("removed");
    refusal(&node);

    let mut node = Node::new();
    node.owner.key = Arc::new(new_key());
    refusal(&node);

    let node = Node::new();
    std::fs::write(
        node.path(),
        "this is no database, but it is long enough to be read",
    )
    .expect("written");
    refusal(&node);

    for change in [
        "UPDATE records SET body = replace(body, '\"cum_cpu_ns\":0', '\"cum_cpu_ns\":1') WHERE seq = 2",
        "DELETE FROM records WHERE seq = 2",
        "UPDATE records SET hash = zeroblob(32) WHERE seq = 3",
        "DELETE FROM records; UPDATE chain SET acked_seq = 3",
    ] {
        let node = Node::new();
        node.open().append(&moment(1), drafts(3)).expect("appended");
        let db = Connection::open(node.path()).expect("opened");
        db.execute_batch(change).expect("changed");
        drop(db);
        refusal(&node);
        assert!(verify_file(&node.path(), &node.owner.key.public()).is_err());
    }
}

#[test]
fn making_a_journal_again_keeps_the_one_that_is_there() {
    let node = Node::new();
    node.open().append(&moment(1), drafts(1)).expect("appended");
    Journal::create(&node.path(), node.owner.node_id, &node.owner.key.public()).expect("kept");
    assert_eq!(node.open().head().seq, 1);
    let other: NodeId = {
        let ids = Ids::counting();
        ids.mint::<NodeId>();
        ids.mint()
    };
    assert!(Journal::create(&node.path(), other, &node.owner.key.public()).is_err());
}

#[test]
fn a_log_that_was_cut_anywhere_still_holds_a_verified_chain() {
    let node = Node::new();
    let mut journal = node.open();
    for second in 1..=6 {
        journal
            .append(&moment(second), drafts(2))
            .expect("appended");
    }
    let copy = |name: &str| std::fs::read(node.dir.path().join(name)).expect("copied");
    let (db, wal) = (copy("journal.db"), copy("journal.db-wal"));
    drop(journal);
    let mut heads = std::collections::BTreeSet::new();
    // odd steps: cuts inside of headers, pages and frames
    for cut in (0..=wal.len()).step_by(997) {
        let other = TempDir::new();
        let path = other.path().join("journal.db");
        std::fs::write(&path, &db).expect("written");
        std::fs::write(other.path().join("journal.db-wal"), &wal[..cut]).expect("written");
        let journal = Journal::open(&path, node.owner.clone()).expect("opened");
        assert_eq!(
            journal.head().seq % 2,
            0,
            "a commit is there as a whole or not at all"
        );
        heads.insert(journal.head().seq);
        let found = verify_file(&path, &node.owner.key.public()).expect("a chain");
        assert_eq!(found.records, journal.head().seq);
    }
    assert!(heads.len() >= 6, "{heads:?}");
}

/// How the child below is told its journal and key.
const ORDER: &str = "append-to=";

/// The process that the next test kills: started with an order on its command line, it appends until it dies. Otherwise nothing.
#[test]
fn child_that_appends_until_it_is_killed() {
    let order = std::env::args().find_map(|arg| arg.strip_prefix(ORDER).map(str::to_owned));
    let Some(order) = order else { return };
    let (path, key) = order.split_once('=').expect("a path and a key");
    let key = SigningKey::from_pkcs8(&hex::decode(key).expect("hex")).expect("key");
    let owner = Owner {
        node_id: Ids::counting().mint(),
        coordinator_key: key.public(),
        key: Arc::new(key),
        boot_id: "0".repeat(32),
    };
    let mut journal = Journal::open(path.as_ref(), owner).expect("opened");
    let mut out = std::io::stdout();
    loop {
        let seq = journal.append(&moment(1), drafts(3)).expect("appended");
        writeln!(out, "durable {seq}").expect("written");
        out.flush().expect("flushed");
    }
}

#[test]
fn killed_at_any_moment_nothing_acknowledged_is_lost() {
    let mut node = Node::new();
    let pkcs8 = SigningKey::generate_pkcs8().expect("random");
    node.owner.key = Arc::new(SigningKey::from_pkcs8(&pkcs8).expect("key"));
    std::fs::remove_file(node.path()).expect("removed");
    Journal::create(&node.path(), node.owner.node_id, &node.owner.key.public()).expect("made");
    let mut expected = 0;
    for round in 1..=6 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "--nocapture"])
            .arg("journal::tests::child_that_appends_until_it_is_killed")
            // one more name that no test has
            .arg(format!(
                "{ORDER}{}={}",
                node.path().display(),
                hex::encode(&pkcs8)
            ))
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let mut said = BufReader::new(child.stdout.take().expect("stdout")).lines();
        // let a few commits pass, then kill in the middle of whatever it does
        for _ in 0..round * 7 {
            expected = loop {
                let line = said.next().expect("it goes on").expect("text");
                if let Some((_, seq)) = line.split_once("durable ") {
                    break seq.parse().expect("a number");
                }
            };
        }
        child.kill().expect("killed");
        child.wait().expect("dead");
        for line in said.map_while(Result::ok) {
            if let Some(seq) = line
                .strip_prefix("durable ")
                .and_then(|text| text.parse().ok())
            {
                expected = seq;
            }
        }
        let head = node.open().head().seq;
        assert!(head >= expected, "{head} < {expected}");
        assert_eq!(head % 3, 0);
        assert_eq!(node.verify().records, head);
    }
}

#[derive(Debug, Clone)]
enum Event {
    Append(usize),
    Ack(u8),
    Restart,
    Prune(i64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_usize..5).prop_map(Event::Append),
        2 => any::<u8>().prop_map(Event::Ack),
        1 => Just(Event::Restart),
        1 => (0_i64..40).prop_map(Event::Prune),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_happens_the_coordinator_can_be_brought_up_to_date(
        events in proptest::collection::vec(event(), 1..40),
    ) {
        let node = Node::new();
        let mut journal = node.open();
        let key = node.owner.key.public();
        // what the coordinator has, each record once
        let (mut seq, mut hash, mut second) = (0, Hash::GENESIS, 0);
        for event in events {
            second += 1;
            match event {
                Event::Append(count) => {
                    journal.append(&moment(second), drafts(count)).expect("appended");
                }
                Event::Ack(take) => {
                    let sent = journal.unacked(3_000).expect("records");
                    let fresh: Vec<_> = sent.into_iter().filter(|signed| signed.record.seq > seq).collect();
                    let take = usize::from(take) % (fresh.len() + 1);
                    (seq, hash) = verify_chain(seq, hash, &fresh[..take], &key).expect("continues");
                    journal.acknowledge(&node.ack(seq, hash)).expect("acknowledged");
                }
                Event::Restart => {
                    drop(journal);
                    journal = node.open();
                }
                Event::Prune(age) => {
                    journal.prune(Timestamp::from_secs(second - age), i64::MAX).expect("pruned");
                }
            }
            prop_assert!(journal.acked_seq() <= seq, "never ahead of the coordinator");
        }
        node.verify();
        while seq < journal.head().seq {
            let sent = journal.unacked(3_000).expect("records");
            let fresh: Vec<_> = sent.into_iter().filter(|signed| signed.record.seq > seq).collect();
            (seq, hash) = verify_chain(seq, hash, &fresh, &key).expect("continues");
            journal.acknowledge(&node.ack(seq, hash)).expect("acknowledged");
        }
        prop_assert_eq!((seq, hash), (journal.head().seq, journal.head().hash));
    }
}

/// A file system of 16 MiB, mounted for one test; `None`, said aloud, where that isn't allowed.
struct Small(PathBuf);

impl Small {
    fn mount(at: &std::path::Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16m", "none"])
            .arg(at)
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self(at.to_owned()));
        }
        eprintln!(
            "NOT SHOWN: a full disk needs a file system of this test's own, and mounting isn't allowed here"
        );
        None
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let gone = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(gone.expect("umount").success());
    }
}

#[test]
fn a_full_disk_doesnt_stop_the_meter_while_the_reserve_lasts() {
    let node = Node::new();
    let small_at = TempDir::new();
    let Some(_small) = Small::mount(small_at.path()) else {
        return;
    };
    let path = small_at.path().join("journal.db");
    Journal::create(&path, node.owner.node_id, &node.owner.key.public()).expect("made");
    let journal = Journal::open(&path, node.owner.clone()).expect("opened");
    let mut journal = journal.with_reserve(&path, 2 << 20);
    let reserve = path.with_extension("reserve");
    let filler = small_at.path().join("filler");
    let fill = |path: &PathBuf| {
        let mut file = std::fs::File::create(path).expect("made");
        while file.write_all(&[1; 4_096]).is_ok() {}
    };
    journal.append(&moment(1), drafts(1)).expect("stored");
    assert!(reserve.exists());
    fill(&filler);
    // the log of SQLite has some room of its own; then the reserve is needed
    let mut seq = 1;
    while reserve.exists() {
        seq += 1;
        assert_eq!(
            journal.append(&moment(seq), drafts(1)).expect("stored"),
            seq
        );
    }
    journal.prune(Timestamp::from_secs(0), 0).expect("pruned");
    assert!(!reserve.exists(), "there is no room for it");
    // and when that is full as well, it says so, and loses nothing
    let more = small_at.path().join("more");
    fill(&more);
    let refused = loop {
        match journal.append(&moment(seq + 1), drafts(1)) {
            Ok(_) => seq += 1,
            Err(error) => break error,
        }
    };
    assert!(refused.is_full(), "{refused}");
    std::fs::remove_file(&filler).expect("there");
    journal
        .append(&moment(seq + 1), drafts(1))
        .expect("by itself");
    journal.prune(Timestamp::from_secs(0), 0).expect("pruned");
    assert!(reserve.exists(), "for the next time");
    drop(journal);
    let journal = Journal::open(&path, node.owner.clone()).expect("whole");
    assert_eq!(journal.head().seq, seq + 1);
}
