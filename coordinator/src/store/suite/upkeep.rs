//! Cases about what surrounds transactions: metrics and the schema's version.

use crate::store::Db;

pub(super) async fn measures_itself(db: Db) {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    // a local recorder belongs to one thread, so that the futures are driven on one
    let handle = tokio::runtime::Handle::current();
    let measured = std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            metrics::with_local_recorder(&recorder, || {
                handle.block_on(async {
                    db.write("test.measured", |_| Ok(())).await.unwrap();
                    db.read("test.measured", |_| Ok(())).await.unwrap();
                });
            });
        });
        work.join().unwrap();
        recorder.handle().render()
    });
    for metric in ["store_write_seconds", "store_read_seconds"] {
        let line = format!("{metric}_count{{name=\"test.measured\"}} 1");
        assert!(measured.contains(&line), "{measured}");
    }
}

pub(super) async fn migrates_once(db: Db) {
    let id = db.database_id().await.unwrap();
    assert_eq!(id.len(), 32);
    assert!(db.migrate().await.unwrap().is_empty());
    assert_eq!(db.database_id().await.unwrap(), id);
    db.check_schema().await.unwrap();
}

pub(super) async fn notices_another_schema(db: Db) {
    let edit = |sql: &'static str| {
        let db = db.clone();
        async move {
            db.write("test.edit", move |tx| Ok(tx.execute(sql, &[])?))
                .await
                .unwrap();
            format!("{:?}", db.check_schema().await.unwrap_err())
        }
    };
    let newer = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
                 VALUES (9999, 'future', '2030-01-01T00:00:00Z', '1')";
    assert!(
        edit(newer)
            .await
            .contains("newer than this binary (it has V9999__future)")
    );
    assert!(db.migrate().await.is_err());
    let edited = "UPDATE refinery_schema_history SET checksum = '1' WHERE version = 10";
    assert!(edit(edited).await.contains("another V10__store_meta"));
    let older = "DELETE FROM refinery_schema_history WHERE version >= 10";
    assert!(
        edit(older)
            .await
            .contains("older than this binary (V10__store_meta")
    );
    assert!(
        edit("DROP TABLE refinery_schema_history")
            .await
            .contains("V10__store_meta")
    );
}
