//! Runs tasks: by their period, when poked, and when somebody asks for a run and its report.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;
use shared::time::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{
    app::App,
    error::{Error, Kind, Result},
    lifecycle::Lifecycle,
};

/// Runs that may be asked for while one is under way; more are refused with 503.
const REQUESTS_MAX: usize = 16;
/// An activation that takes longer is given up, so that a hung call to the outside can't stop a timer for good.
const ACTIVATION_S_MAX: u64 = 300;
/// Besides three periods, a task may be silent for so long before it counts as late.
const LATE_MS: i64 = 60_000;

/// One built-in timer.
#[async_trait]
pub trait Task: Send {
    /// Its name: lower case, dotted or plain, unique.
    fn name(&self) -> &'static str;

    /// Looks at the state of things and does what is due; returns what it did, as a JSON object. May be dropped at
    /// any await and run again.
    ///
    /// # Errors
    /// What failed; it is logged, counted, and tried again at the next activation.
    async fn activate(&mut self) -> Result<Value>;
}

/// What a task did last.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct TaskReport {
    /// Its name.
    pub task: &'static str,
    /// Activations since the start.
    pub activations: u64,
    /// Of these, failed.
    pub failures: u64,
    /// When the last one ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// How long it took, milliseconds.
    pub took_ms: u64,
    /// Why the last one failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the last successful one did.
    pub status: Value,
}

impl TaskReport {
    const fn new(task: &'static str) -> Self {
        Self {
            task,
            activations: 0,
            failures: 0,
            finished_at: None,
            took_ms: 0,
            error: None,
            status: Value::Null,
        }
    }
}

#[derive(Debug)]
struct Handle {
    poke: Arc<tokio::sync::Notify>,
    requests: mpsc::Sender<oneshot::Sender<TaskReport>>,
    report: Arc<Mutex<TaskReport>>,
    /// When the last activation ended, or the task was started, on the boot clock.
    turned_ms: Arc<AtomicI64>,
    period_ms: i64,
}

/// Handles on the running tasks.
#[derive(Debug, Default)]
pub struct Tasks {
    handles: Mutex<BTreeMap<&'static str, Handle>>,
}

impl Tasks {
    /// Wakes a task soon; many pokes make one activation. Without the task running, nothing: its first activation
    /// sees the state of things anyway.
    pub fn poke(&self, name: &str) {
        if let Some(handle) = self.lock().get(name) {
            handle.poke.notify_one();
        }
    }

    /// Runs the named tasks once, in the order given, each after the one before has ended; returns their reports.
    ///
    /// # Errors
    /// 503 when a task isn't running here, or too many ask.
    pub async fn run_now(&self, names: &[&str]) -> Result<Vec<TaskReport>> {
        let mut reports = Vec::new();
        for name in names {
            let (answer, report) = oneshot::channel();
            let sender = self.lock().get(name).map(|handle| handle.requests.clone());
            sender
                .ok_or_else(|| unavailable(name))?
                .try_send(answer)
                .map_err(|_| unavailable(name))?;
            reports.push(report.await.map_err(|_| unavailable(name))?);
        }
        Ok(reports)
    }

    /// What every task did last.
    #[must_use]
    pub fn reports(&self) -> Vec<TaskReport> {
        let report = |handle: &Handle| {
            handle
                .report
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        };
        self.lock().values().map(report).collect()
    }

    /// Tasks that haven't ended an activation for much longer than their period: they hang, or the process does.
    #[must_use]
    pub fn late(&self, now_ms: i64) -> Vec<&'static str> {
        let is_late = |handle: &Handle| {
            let allowed_ms = handle.period_ms.saturating_mul(3).saturating_add(LATE_MS);
            now_ms.saturating_sub(handle.turned_ms.load(Ordering::Relaxed)) > allowed_ms
        };
        let handles = self.lock();
        let late = handles.iter().filter(|(_, handle)| is_late(handle));
        late.map(|(name, _)| *name).collect()
    }

    /// Runs `task` at once, then every `period`, when poked and when asked for, until the process stops.
    ///
    /// # Errors
    /// A task of this name runs already.
    pub fn spawn(
        &self,
        app: &Arc<App>,
        lifecycle: &Lifecycle,
        period: Duration,
        task: Box<dyn Task>,
    ) -> anyhow::Result<()> {
        let name = task.name();
        anyhow::ensure!(
            !self.lock().contains_key(name),
            "the task {name} was started twice"
        );
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let handle = Handle {
            poke: Arc::default(),
            requests,
            report: Arc::new(Mutex::new(TaskReport::new(name))),
            turned_ms: Arc::new(AtomicI64::new(app.clock.boot_ms())),
            period_ms: i64::try_from(period.as_millis()).unwrap_or(i64::MAX),
        };
        let driver = Driver {
            app: Arc::clone(app),
            task,
            poke: Arc::clone(&handle.poke),
            inbox,
            report: Arc::clone(&handle.report),
            turned_ms: Arc::clone(&handle.turned_ms),
        };
        self.lock().insert(name, handle);
        lifecycle.spawn(name, driver.run(period));
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unavailable(name: &str) -> Error {
    Error::new(
        Kind::Unavailable { retry_after_s: 1 },
        "task_unavailable",
        format!("the task {name} doesn't run here, or too many ask for it; try again"),
    )
}

struct Driver {
    app: Arc<App>,
    task: Box<dyn Task>,
    poke: Arc<tokio::sync::Notify>,
    inbox: mpsc::Receiver<oneshot::Sender<TaskReport>>,
    report: Arc<Mutex<TaskReport>>,
    turned_ms: Arc<AtomicI64>,
}

impl Driver {
    async fn run(mut self, period: Duration) -> anyhow::Result<()> {
        let shutdown = self.app.shutdown.clone();
        let mut timer = tokio::time::interval(period);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // each branch may be dropped: ticks, pokes and requests stay where they are until taken
            let answer = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = timer.tick() => None,
                () = self.poke.notified() => None,
                Some(answer) = self.inbox.recv() => Some(answer),
            };
            let report = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                report = self.activate() => report,
            };
            if let Some(answer) = answer {
                // an error means that nobody waits any more
                drop(answer.send(report));
            }
        }
    }

    async fn activate(&mut self) -> TaskReport {
        let name = self.task.name();
        let started = Instant::now();
        let limit = Duration::from_secs(ACTIVATION_S_MAX);
        let outcome = match tokio::time::timeout(limit, self.task.activate()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::internal(format!(
                "no end after {ACTIVATION_S_MAX} s"
            ))),
        };
        let took = started.elapsed();
        self.turned_ms
            .store(self.app.clock.boot_ms(), Ordering::Relaxed);
        metrics::histogram!("task_seconds", "task" => name).record(took.as_secs_f64());
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.activations += 1;
        report.finished_at = Some(self.app.clock.now());
        report.took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        match outcome {
            Ok(status) => {
                report.error = None;
                report.status = status;
            }
            Err(error) => {
                metrics::counter!("task_failures_total", "task" => name).increment(1);
                report.failures += 1;
                report.error = Some(error.to_string());
                log(name, &error);
            }
        }
        report.clone()
    }
}

fn log(name: &str, error: &Error) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::error!(task.name = name, %error, cause, "task failed, it runs again at its next turn");
}
