//! Somebody with the database in their hands: each kind of tampering is done to the tables directly, and found.

use shared::sign::SigningKey;

use super::write;
use crate::{
    audit_file,
    domain::audit::{
        check::{Report, check},
        checkpoint::Checkpoint,
        model::GENESIS,
        store,
    },
    store::Tx,
    tasks::{Task as _, audit_checkpoint::AuditCheckpoint},
    testing::{TestApp, on_both_stores},
};

on_both_stores!(
    what_was_written_holds,
    each_changed_field_is_found,
    removed_moved_and_added_rows_are_found,
    a_rewritten_chain_is_found_by_a_checkpoint,
);

/// Takes the guards away, as whoever owns the database can, and runs statements.
async fn tamper(test: &TestApp, statements: &[&str]) {
    let guards: &[&str] = if format!("{:?}", test.app.db).contains("sqlite") {
        &[
            "DROP TRIGGER IF EXISTS audit_log_no_update",
            "DROP TRIGGER IF EXISTS audit_log_no_delete",
            "DROP TRIGGER IF EXISTS audit_log_no_replace",
            "DROP TRIGGER IF EXISTS audit_head_forward",
        ]
    } else {
        &[
            "DROP TRIGGER IF EXISTS audit_log_no_change ON audit_log",
            "DROP TRIGGER IF EXISTS audit_head_forward ON audit_head",
        ]
    };
    let all: Vec<String> = guards
        .iter()
        .chain(statements)
        .map(|sql| (*sql).to_owned())
        .collect();
    let body = move |tx: &mut dyn Tx| {
        for sql in &all {
            tx.execute(sql, &[])?;
        }
        Ok(())
    };
    test.app.db.write("test.tamper", body).await.expect("done");
}

async fn ten_rows(test: &TestApp) {
    for number in 1..=10 {
        write(test, number).await;
    }
}

async fn found(test: &TestApp) -> Vec<(i64, String)> {
    let report = check(&test.app.db, Vec::new()).await.expect("read");
    report
        .findings
        .into_iter()
        .map(|finding| (finding.seq, finding.what))
        .collect()
}

async fn what_was_written_holds(test: TestApp) {
    assert_eq!(found(&test).await, []);
    ten_rows(&test).await;
    let report = check(&test.app.db, Vec::new()).await.expect("read");
    assert!(report.holds(), "{report:?}");
    assert_eq!((report.rows, report.last_seq), (10, 10));
}

async fn each_changed_field_is_found(test: TestApp) {
    ten_rows(&test).await;
    let changes = [
        ("at_us", "at_us + 1"),
        ("actor", "'usr_x'"),
        ("via", "'ses_x'"),
        ("action", "'test.undone'"),
        ("object", "'thing_5'"),
        ("before_json", "'{}'"),
        ("after_json", "NULL"),
        ("reason", "'because'"),
        ("client", "'1.2.3.4'"),
        ("request_id", "'x'"),
        ("prev_hash", "(SELECT hash FROM audit_log WHERE seq = 9)"),
        ("hash", "(SELECT hash FROM audit_log WHERE seq = 9)"),
    ];
    for (column, value) in changes {
        let read = |tx: &mut dyn Tx| Ok(store::after(tx, 3, 1)?.remove(0));
        let before = test.app.db.read("test.row", read).await.expect("read");
        let change = format!("UPDATE audit_log SET {column} = {value} WHERE seq = 4");
        tamper(&test, &[&change]).await;
        let found = found(&test).await;
        assert!(
            found.iter().any(|(seq, _)| *seq == 4),
            "{column}: {found:?}"
        );
        // and back
        let body = move |tx: &mut dyn Tx| {
            tx.execute("DELETE FROM audit_log WHERE seq = 4", &[])?;
            tx.execute("UPDATE audit_head SET seq = 3 WHERE one = 1", &[])?;
            store::append(tx, &before)?;
            let sql = "UPDATE audit_head SET seq = 10 WHERE one = 1";
            tx.execute(sql, &[])?;
            let sql = "UPDATE audit_head SET hash = (SELECT hash FROM audit_log WHERE seq = 10)";
            Ok(tx.execute(sql, &[])?)
        };
        test.app.db.write("test.back", body).await.expect("back");
        assert_eq!(self::found(&test).await, [], "{column}");
    }
}

async fn removed_moved_and_added_rows_are_found(test: TestApp) {
    ten_rows(&test).await;
    let head = "UPDATE audit_head SET seq = 9, hash = (SELECT hash FROM audit_log WHERE seq = 9)";
    // each goes on where the one before left off
    let steps: [(&[&str], i64, &str); 5] = [
        (&["DELETE FROM audit_log WHERE seq = 10"], 10, "missing"),
        // the head made to agree: only a checkpoint could tell
        (&[head], 0, ""),
        (&["DELETE FROM audit_log WHERE seq IN (4, 5)"], 4, "missing"),
        (
            &["UPDATE audit_log SET seq = seq - 2 WHERE seq IN (6, 7)"],
            4,
            "follow",
        ),
        (
            &["UPDATE audit_head SET seq = 3, hash = (SELECT hash FROM audit_log WHERE seq = 3)"],
            4,
            "head is before",
        ),
    ];
    for (statements, seq, what) in steps {
        tamper(&test, statements).await;
        let found = found(&test).await;
        if seq == 0 {
            assert_eq!(found, [], "{statements:?}");
        } else {
            let told = found
                .iter()
                .any(|(at, text)| *at == seq && text.contains(what));
            assert!(told, "{statements:?}: {found:?}");
        }
    }
    let head = "UPDATE audit_head SET seq = 9 WHERE one = 1";
    tamper(&test, &["DELETE FROM audit_log", head]).await;
    let found = found(&test).await;
    assert!(
        found[0].1.contains("missing: the log was written up to 9"),
        "{found:?}"
    );
}

/// Rewrites row `from` and makes everything after it agree, the head too.
async fn rewrite(test: &TestApp, from: i64) {
    tamper(test, &[]).await;
    let body = move |tx: &mut dyn Tx| {
        let mut rows = store::after(tx, 0, 100)?;
        tx.execute("DELETE FROM audit_log", &[])?;
        tx.execute("UPDATE audit_head SET seq = 0", &[])?;
        let mut last = GENESIS;
        for row in &mut rows {
            if row.seq == from {
                row.actor = "somebody else".to_owned();
            }
            row.prev_hash = last;
            row.hash = row.computed_hash();
            last = row.hash;
            store::append(tx, row)?;
        }
        Ok(())
    };
    test.app
        .db
        .write("test.rewrite", body)
        .await
        .expect("rewritten");
}

async fn verify(test: &TestApp) -> Report {
    let path = audit_file::path(&test.app.config);
    let key = test.app.keys.audit.public();
    let verdict = audit_file::verify(&test.app.db, &[path], &key).await;
    verdict.expect("compared").report
}

async fn a_rewritten_chain_is_found_by_a_checkpoint(test: TestApp) {
    let mut task = AuditCheckpoint::new(test.app.clone());
    ten_rows(&test).await;
    task.activate().await.expect("signed");
    write(&test, 11).await;
    task.activate().await.expect("signed");
    task.activate().await.expect("nothing new");
    write(&test, 12).await;
    let report = verify(&test).await;
    assert!(report.holds(), "{report:?}");
    assert_eq!(
        (report.rows, report.checkpoints, report.anchored_to),
        (12, 2, 11)
    );

    // after the last checkpoint whoever can write to the database can rewrite: that is what the words say
    rewrite(&test, 12).await;
    assert!(verify(&test).await.holds());
    // before it they can't
    rewrite(&test, 5).await;
    assert!(check(&test.app.db, Vec::new()).await.expect("read").holds());
    let seqs: Vec<i64> = verify(&test)
        .await
        .findings
        .iter()
        .map(|it| it.seq)
        .collect();
    assert_eq!(seqs, [10, 11]);
    // nor can they cut the tail off, the head with it
    let head = "UPDATE audit_head SET seq = 9, hash = (SELECT hash FROM audit_log WHERE seq = 9)";
    tamper(&test, &["DELETE FROM audit_log WHERE seq > 9", head]).await;
    assert!(check(&test.app.db, Vec::new()).await.expect("read").holds());
    let findings = verify(&test).await.findings;
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(
        findings.iter().all(|it| it.what.contains("missing")),
        "{findings:?}"
    );
}

#[tokio::test]
async fn forged_and_torn_checkpoints_are_told_apart() {
    let test = TestApp::new().await;
    let mut task = AuditCheckpoint::new(test.app.clone());
    write(&test, 1).await;
    task.activate().await.expect("signed");
    let path = audit_file::path(&test.app.config);
    let key = test.app.keys.audit.public();
    // a crash tears a line; the next is whole all the same
    let whole = std::fs::read_to_string(&path).expect("a file");
    std::fs::write(&path, format!("{whole}{}", &whole[..whole.len() / 2])).expect("written");
    write(&test, 2).await;
    task.activate().await.expect("signed");
    let verdict = audit_file::verify(&test.app.db, std::slice::from_ref(&path), &key)
        .await
        .expect("compared");
    assert!(verdict.report.holds(), "{verdict:?}");
    assert_eq!((verdict.torn_lines, verdict.report.checkpoints), (1, 2));
    // by another key, and changed
    let stranger =
        SigningKey::from_pkcs8(&SigningKey::generate_pkcs8().expect("a key")).expect("a key");
    let end = Checkpoint {
        seq: 2,
        hash: [7; 32],
    };
    let forged = end
        .to_line(test.app.clock.now(), &stranger)
        .expect("a line");
    audit_file::append(&path, &forged).expect("written");
    audit_file::append(
        &path,
        whole.trim_end().replace("\"seq\":1", "\"seq\":2").as_str(),
    )
    .expect("written");
    let verdict = audit_file::verify(&test.app.db, &[path], &key)
        .await
        .expect("compared");
    assert_eq!(verdict.report.findings.len(), 2, "{verdict:?}");
    assert!(
        verdict
            .report
            .findings
            .iter()
            .all(|it| it.what.contains("signed")),
        "{verdict:?}"
    );
}
