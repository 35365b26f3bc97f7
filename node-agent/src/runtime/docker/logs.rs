//! What a container wrote, from the engine's log driver.
//!
//! # Invariants
//! - A container that this node didn't label has no logs.
//! - The engine counts the last lines where nothing is filtered; else they are counted here, and what follows begins after them.

use bollard::{
    Docker,
    container::LogOutput,
    errors::Error,
    query_parameters::{InspectContainerOptions, LogsOptions},
};
use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use shared::{
    link::open::{Entry, LogsQuery, Output},
    time::Timestamp,
};

use super::{DockerRuntime, engine, engine::is_status, parse};
use crate::runtime::{
    RuntimeError, code,
    logs::{self, Mark},
};

type Entries = BoxStream<'static, Result<Entry, RuntimeError>>;

/// A container's log.
#[derive(Debug, Clone)]
struct Log {
    client: Docker,
    container_id: String,
}

impl DockerRuntime {
    pub(super) fn read_log(&self, container_id: &str, query: LogsQuery) -> Entries {
        let client = match self.engine.connect() {
            Ok(client) => client,
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        let (scope, container_id) = (self.scope.clone(), container_id.to_owned());
        stream::once(async move {
            let client = client.negotiate_version().await;
            let client = client.map_err(|error| engine::unavailable(&error))?;
            let log = Log {
                client,
                container_id,
            };
            log.check(&scope).await?;
            Ok::<_, RuntimeError>(log.wanted(query))
        })
        .try_flatten()
        .boxed()
    }
}

impl Log {
    async fn check(&self, scope: &str) -> Result<(), RuntimeError> {
        let options = None::<InspectContainerOptions>;
        let found = self
            .client
            .inspect_container(&self.container_id, options)
            .await;
        let ours = match &found {
            Ok(answer) => parse::container(answer, scope).is_some(),
            Err(error) if is_status(error, 404) => false,
            Err(error) => return Err(engine::unavailable(error)),
        };
        if ours {
            return Ok(());
        }
        let why = "this node has no such container";
        Err(RuntimeError::refused(code::ENGINE_REFUSED, why))
    }

    fn wanted(self, query: LogsQuery) -> Entries {
        let counted_here = query.tail.is_some() && logs::has_filter(&query);
        if !counted_here {
            let tail = query.tail;
            let read = self.read(&query, query.follow, tail);
            // counted by the engine
            return logs::pick(
                LogsQuery {
                    tail: None,
                    ..query
                },
                read,
            );
        }
        let history = self.read(&query, false, None);
        if !query.follow {
            return logs::pick(query, history);
        }
        stream::once(self.then_following(query, history))
            .flatten()
            .boxed()
    }

    /// The last wanted lines of `history`, and all wanted ones after it.
    async fn then_following(self, query: LogsQuery, history: Entries) -> Entries {
        let mark = std::sync::Arc::new(std::sync::Mutex::new(Mark::START));
        let passing = std::sync::Arc::clone(&mark);
        let passed = history.inspect_ok(move |entry| lock(&passing).pass(entry));
        let last = logs::pick(query.clone(), passed.boxed());
        let last: Vec<_> = last.collect().await;
        let mut mark = *lock(&mark);
        let since = LogsQuery {
            since: (mark != Mark::START).then_some(mark.at).or(query.since),
            ..query.clone()
        };
        let rest = self.read(&since, true, None);
        let rest = rest.try_filter(move |entry| std::future::ready(!mark.skips(entry)));
        let rest = logs::pick(
            LogsQuery {
                tail: None,
                ..query
            },
            rest.boxed(),
        );
        stream::iter(last).chain(rest).boxed()
    }

    fn read(&self, query: &LogsQuery, follow: bool, tail: Option<u32>) -> Entries {
        let is = |stream| query.stream.is_none_or(|wanted| wanted == stream);
        let since = query.since.map_or(0, Timestamp::as_secs);
        let options = LogsOptions {
            follow,
            stdout: is(Output::Stdout),
            stderr: is(Output::Stderr),
            // to the second; the rest is told apart here
            since: i32::try_from(since).unwrap_or(0),
            timestamps: true,
            tail: tail.map_or_else(|| "all".to_owned(), |tail| tail.to_string()),
            ..LogsOptions::default()
        };
        let parts = self.client.logs(&self.container_id, Some(options));
        let entries = parts.map_ok(|part| {
            let from = match &part {
                LogOutput::StdErr { .. } => Output::Stderr,
                _ => Output::Stdout,
            };
            let entries = logs::entries(from, &part.into_bytes());
            stream::iter(entries.into_iter().map(Ok))
        });
        let entries = entries.map_err(failed);
        entries.try_flatten().boxed()
    }
}

/// An error status is the engine's answer.
fn failed(error: Error) -> RuntimeError {
    match error {
        Error::DockerResponseServerError {
            status_code,
            message,
        } if status_code != 503 => RuntimeError::refused(code::ENGINE_REFUSED, message),
        other => engine::unavailable(&other),
    }
}

fn lock(mark: &std::sync::Mutex<Mark>) -> std::sync::MutexGuard<'_, Mark> {
    mark.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
