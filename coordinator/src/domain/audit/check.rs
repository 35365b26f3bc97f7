//! Proves that the log is as it was written, or says where it isn't.
//!
//! # What can be seen
//! - The chain alone shows a changed, removed, inserted or reordered row, and the head a removed tail, unless whoever did it
//!   could write to the database and made every later hash and the head agree.
//! - A checkpoint (see [`super::checkpoint`]) shows that too, for all rows up to it: making it agree needs the signing key.
//!   Rows written after the last checkpoint, a minute's worth, are only as safe as the database.
//! - Whoever has the database, the key and every copy of the checkpoints can rewrite all of it: keep copies of the
//!   checkpoints, or the log lines that carry them, on another machine.

use serde::Serialize;

use super::{
    checkpoint::Checkpoint,
    model::{GENESIS, Hash, Record},
    store,
};
use crate::{
    error::Result,
    store::{Db, Tx},
};

/// Rows read at a time.
const PAGE_ROWS: i64 = 1_000;
/// Findings kept: whoever rewrote everything gets no endless list.
pub const FINDINGS_MAX: usize = 100;

/// Something that isn't as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// At which place of the log.
    pub seq: i64,
    /// What is wrong there.
    pub what: String,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Rows that were read.
    pub rows: i64,
    /// The place of the last row.
    pub last_seq: i64,
    /// Checkpoints that were compared.
    pub checkpoints: usize,
    /// The place of the last checkpoint: rows up to it can't have been rewritten without the key.
    pub anchored_to: i64,
    /// What is wrong; empty if nothing.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether the log is as it was written.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Follows the chain, row by row.
#[derive(Debug)]
struct Walk<'a> {
    seq: i64,
    hash: Hash,
    rows: i64,
    checkpoints: &'a [Checkpoint],
    findings: Vec<Finding>,
}

impl Walk<'_> {
    fn find(&mut self, seq: i64, what: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding {
                seq,
                what: what.into(),
            });
        }
    }

    fn step(&mut self, row: &Record) {
        let due = self.seq.saturating_add(1);
        if row.seq != due {
            let last = row.seq.saturating_sub(1);
            self.find(
                due,
                format!("missing: there is no row from {due} to {last}"),
            );
        } else if row.prev_hash != self.hash {
            self.find(
                row.seq,
                "doesn't follow the row before it: one of the two was changed, replaced or moved",
            );
        }
        if row.computed_hash() != row.hash {
            self.find(
                row.seq,
                "changed: its fields don't give the hash that was written with them",
            );
        }
        // sorted by place, so these are next
        while let [first, rest @ ..] = self.checkpoints
            && first.seq <= row.seq
        {
            let (seq, agrees) = (first.seq, first.seq == row.seq && first.hash == row.hash);
            self.checkpoints = rest;
            if !agrees {
                self.find(
                    seq,
                    "rewritten: the signed checkpoint of this place has another hash",
                );
            }
        }
        (self.seq, self.hash) = (row.seq, row.hash);
        self.rows = self.rows.saturating_add(1);
    }

    fn end(&mut self, head: (i64, Hash)) {
        if head.0 > self.seq {
            let from = self.seq.saturating_add(1);
            let to = head.0;
            self.find(from, format!("missing: the log was written up to {to}"));
        } else if head.0 < self.seq {
            let from = head.0.saturating_add(1);
            self.find(from, "not written by a coordinator: the head is before it");
        } else if head.1 != self.hash {
            self.find(head.0, "the head has another hash than the last row");
        }
        for checkpoint in self.checkpoints {
            let seq = checkpoint.seq;
            if self.findings.len() < FINDINGS_MAX {
                self.findings.push(Finding {
                    seq,
                    what: "missing: a signed checkpoint says that this row was written".to_owned(),
                });
            }
        }
    }
}

/// Follows the log on after a place whose hash is known, a page at a time; where it got to, and whether that is the end.
///
/// # Errors
/// What the database says.
pub fn follow(tx: &mut dyn Tx, (seq, hash): (i64, Hash)) -> Result<(Report, Hash, bool)> {
    let mut walk = Walk {
        seq,
        hash,
        rows: 0,
        checkpoints: &[],
        findings: Vec::new(),
    };
    let (rows, head) = (store::after(tx, seq, PAGE_ROWS)?, store::head(tx)?);
    rows.iter().for_each(|row| walk.step(row));
    let is_end = i64::try_from(rows.len()).unwrap_or(PAGE_ROWS) < PAGE_ROWS;
    if is_end {
        walk.end(head);
    }
    let report = Report {
        rows: walk.rows,
        last_seq: walk.seq,
        checkpoints: 0,
        anchored_to: 0,
        findings: walk.findings,
    };
    Ok((report, walk.hash, is_end))
}

/// Reads the whole log and compares it with itself, its head and `checkpoints`, whose signatures were checked.
///
/// # Errors
/// What the database says.
pub async fn check(db: &Db, mut checkpoints: Vec<Checkpoint>) -> Result<Report> {
    checkpoints.sort_by_key(|checkpoint| checkpoint.seq);
    let mut walk = Walk {
        seq: 0,
        hash: GENESIS,
        rows: 0,
        checkpoints: &checkpoints,
        findings: Vec::new(),
    };
    loop {
        let after = walk.seq;
        // the head of the same moment as the last page: the log may grow while it is read
        let read =
            move |tx: &mut dyn Tx| Ok((store::after(tx, after, PAGE_ROWS)?, store::head(tx)?));
        let (rows, head) = db.read("audit.check", read).await?;
        rows.iter().for_each(|row| walk.step(row));
        if i64::try_from(rows.len()).unwrap_or(PAGE_ROWS) < PAGE_ROWS {
            walk.end(head);
            break;
        }
    }
    Ok(Report {
        rows: walk.rows,
        last_seq: walk.seq,
        checkpoints: checkpoints.len(),
        anchored_to: checkpoints.last().map_or(0, |checkpoint| checkpoint.seq),
        findings: walk.findings,
    })
}
