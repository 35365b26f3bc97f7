//! What is told as lines of JSON: what a rental wrote, and what it used.
//!
//! # Invariants
//! - Who asked keeps its half of the stream open for as long as it listens: its end is the end of the stream.
//! - A line that isn't taken for [`IDLE_MAX`] ends it.

use std::{io, sync::Arc};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use serde::Serialize;
use shared::{
    id::RentalId,
    link::{
        open::{self, Entry, LogsQuery, Opened, Sample},
        session::Stream,
    },
    time::Timestamp,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{IDLE_MAX, Known, Streams, known, not_here, not_running};
use crate::{report::samples::Samples, runtime::RuntimeError};

/// Lines that are written at once, if there are as many.
const LINES_AT_ONCE: usize = 256;

impl Streams {
    pub(super) async fn logs(
        &self,
        rental_id: RentalId,
        query: LogsQuery,
        stream: &mut Stream,
    ) -> io::Result<()> {
        match self.log_of(rental_id, query) {
            Ok(entries) => {
                open::send(stream, &Opened::Ready {}).await?;
                let entries = entries.map(|entry| entry.map_err(io::Error::other));
                tell(entries.boxed(), stream).await
            }
            Err(refused) => open::send(stream, &refused).await,
        }
    }

    pub(super) async fn metrics(
        &self,
        rental_id: RentalId,
        follow: bool,
        stream: &mut Stream,
    ) -> io::Result<()> {
        let samples = Arc::clone(&self.sources.samples);
        if !samples.has(rental_id) {
            let refused = match known(&self.sources.live.borrow(), rental_id) {
                Known::Unknown => not_here(),
                Known::Resting(_) | Known::Running(_) => not_running(),
            };
            return open::send(stream, &refused).await;
        }
        open::send(stream, &Opened::Ready {}).await?;
        let reading = Arc::clone(&samples);
        let past = tokio::task::spawn_blocking(move || reading.of(rental_id)).await;
        let past = past.map_err(io::Error::other)?;
        let last = past.last().map(|sample| sample.at);
        let past = stream::iter(past.into_iter().map(Ok));
        if follow {
            let new = following(samples, rental_id, last);
            return tell(past.chain(new).boxed(), stream).await;
        }
        tell(past.boxed(), stream).await
    }

    fn log_of(
        &self,
        rental_id: RentalId,
        query: LogsQuery,
    ) -> Result<BoxStream<'static, Result<Entry, RuntimeError>>, Opened> {
        let runtime = &self.sources.runtime;
        let known = known(&self.sources.live.borrow(), rental_id);
        let kept = &self.sources.kept;
        // its container may be gone, and is if it was told before that
        if !matches!(known, Known::Running(_)) && kept.has(rental_id) {
            return Ok(kept.logs(rental_id, query));
        }
        match known {
            Known::Running(id) | Known::Resting(Some(id)) => Ok(runtime.logs(&id, query)),
            Known::Resting(None) => Err(not_running()),
            Known::Unknown => Err(not_here()),
        }
    }
}

/// Samples from now on, until the rental isn't measured any more.
fn following(
    samples: Arc<Samples>,
    rental_id: RentalId,
    last: Option<Timestamp>,
) -> BoxStream<'static, io::Result<Sample>> {
    let turned = samples.turned();
    let new = stream::unfold(
        (samples, turned, last),
        move |(samples, mut turned, last)| async move {
            loop {
                turned.borrow_and_update();
                let new = samples.fine_after(rental_id, last);
                if let Some(newest) = new.last().map(|sample| sample.at) {
                    let new = stream::iter(new.into_iter().map(Ok));
                    return Some((new, (samples, turned, Some(newest))));
                }
                if !samples.is_measured(rental_id) {
                    return None;
                }
                turned.changed().await.ok()?;
            }
        },
    );
    new.flatten().boxed()
}

/// Writes what `lines` brings, until it ends or nobody listens.
pub(super) async fn tell<T: Serialize>(
    lines: BoxStream<'static, io::Result<T>>,
    stream: &mut Stream,
) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut gone = [0; 1];
    let telling = async {
        let mut chunks = lines.ready_chunks(LINES_AT_ONCE);
        while let Some(chunk) = chunks.next().await {
            let mut text = Vec::new();
            for line in chunk {
                serde_json::to_writer(&mut text, &line?)?;
                text.push(b'\n');
            }
            let writing = async {
                writer.write_all(&text).await?;
                writer.flush().await
            };
            let late = |_| io::Error::from(io::ErrorKind::TimedOut);
            timeout(IDLE_MAX, writing).await.map_err(late)??;
        }
        writer.shutdown().await
    };
    tokio::select! {
        told = telling => told,
        // whatever comes: nothing is asked for any more
        _gone = reader.read(&mut gone) => Ok(()),
    }
}
