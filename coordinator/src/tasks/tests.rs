//! Tests of the driver: periodic, poked, asked for; failures counted and tried again; a dead part ends everything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};

use super::Task;
use crate::{
    error::{Error, Result},
    lifecycle::Lifecycle,
    testing::TestApp,
};

const PATIENCE: Duration = Duration::from_secs(20);
const NEVER: Duration = Duration::from_secs(86_400);

struct Probe {
    turns: mpsc::Sender<u64>,
    count: Arc<AtomicU64>,
}

#[async_trait]
impl Task for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    async fn activate(&mut self) -> Result<Value> {
        let turn = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        self.turns.send(turn).await.map_err(Error::internal)?;
        match turn {
            2 => Err(Error::conflict("second", "the second turn fails")),
            4 => panic!("the fourth turn panics"),
            _ => Ok(json!({ "turn": turn })),
        }
    }
}

#[tokio::test]
async fn a_task_turns_when_due_poked_and_asked_for() {
    let test = TestApp::new().await;
    let lifecycle = Lifecycle::new(test.app.shutdown.clone());
    let (turns, mut seen) = mpsc::channel(8);
    let count = Arc::new(AtomicU64::new(0));
    let probe = || {
        Box::new(Probe {
            turns: turns.clone(),
            count: Arc::clone(&count),
        })
    };
    let tasks = &test.app.tasks;
    assert!(
        tasks.run_now(&["probe"]).await.is_err(),
        "it isn't there yet"
    );
    tasks
        .spawn(&test.app, &lifecycle, NEVER, probe())
        .expect("started");
    assert!(
        tasks.spawn(&test.app, &lifecycle, NEVER, probe()).is_err(),
        "twice"
    );
    let mut turn = async || timeout(PATIENCE, seen.recv()).await.expect("in time");
    assert_eq!(turn().await, Some(1), "at once");
    tasks.poke("probe");
    assert_eq!(turn().await, Some(2), "poked");
    let reports = tasks.run_now(&["probe"]).await.expect("ran");
    assert_eq!((reports[0].activations, reports[0].failures), (3, 1));
    assert_eq!(
        (&reports[0].error, &reports[0].status),
        (&None, &json!({"turn": 3}))
    );
    assert!(tasks.late(0).is_empty());
    assert_eq!(tasks.late(i64::MAX), ["probe"]);

    // a part that dies takes the process along, and says so
    tasks.poke("probe");
    timeout(PATIENCE, test.app.shutdown.cancelled())
        .await
        .expect("stops");
    assert!(lifecycle.stop().await.is_err());
}
