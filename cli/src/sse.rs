//! Server-sent events, followed over lost connections.
//!
//! # Invariants
//! - An event is bounded in size; silence is bounded in time: the market sends a comment every 15 s.
//! - After a lost connection it goes on behind the last event (`Last-Event-ID`), without a gap.

use std::{ops::ControlFlow, time::Duration};

use reqwest::header::{HeaderName, HeaderValue};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    api::{Api, Request},
    failure::{Failure, Kind, Result},
    output::tell,
};

const EVENT_BYTES_MAX: usize = 1024 * 1024;
const SILENCE_MAX: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// Its place, if it has one.
    pub id: Option<String>,
    /// Its kind.
    pub kind: String,
    /// What it says; null if that is no JSON.
    pub data: Value,
}

/// Takes a stream apart as it comes.
#[derive(Debug, Default)]
pub struct Parser {
    unread: Vec<u8>,
    event: Event,
    data: String,
}

impl Parser {
    /// The events that are complete with `bytes`.
    ///
    /// # Errors
    /// An event is too large.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<Event>> {
        self.unread.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            if let Some(event) = self.line(line.trim_end_matches(['\r', '\n'])) {
                events.push(event);
            }
        }
        if self.unread.len() + self.data.len() > EVENT_BYTES_MAX {
            return Err(Failure::failed("an event is larger than 1 MiB"));
        }
        Ok(events)
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            let mut event = std::mem::take(&mut self.event);
            event.data = serde_json::from_str(&data).unwrap_or_default();
            return (!data.is_empty()).then_some(event);
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => self.event.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event.kind),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // a comment, or of a newer market
            _ => {}
        }
        None
    }
}

/// Hands each event to `take` until it breaks off, or the market refuses; connects again when a connection is lost.
///
/// # Errors
/// What the market says, and what `take` says.
pub async fn follow(
    api: &Api,
    request: &Request,
    take: &mut impl FnMut(&Event) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let mut last: Option<String> = None;
    let mut pause = Duration::from_secs(1);
    loop {
        let behind = last.clone();
        let mut note = |event: &Event| {
            let heard = take(event)?;
            if event.id.is_some() {
                last.clone_from(&event.id);
            }
            Ok(heard)
        };
        match read(api, request, behind.as_deref(), &mut note).await {
            Ok(ControlFlow::Break(())) => return Ok(()),
            Ok(ControlFlow::Continue(())) => pause = Duration::from_secs(1),
            Err(failure) if failure.kind == Kind::Unreachable => tell(&failure.to_string()),
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Hands the events of one connection to `take`, until it ends or `take` breaks off.
///
/// # Errors
/// What the market says, what `take` says, or it is silent for too long.
pub async fn read(
    api: &Api,
    request: &Request,
    last: Option<&str>,
    take: &mut impl FnMut(&Event) -> Result<ControlFlow<()>>,
) -> Result<ControlFlow<()>> {
    let accept = HeaderValue::from_static("text/event-stream");
    let mut request = request.clone().with(reqwest::header::ACCEPT, accept);
    if let Some(last) = last.and_then(|last| HeaderValue::try_from(last).ok()) {
        request = request.with(HeaderName::from_static("last-event-id"), last);
    }
    let mut response = api.open(&request).await?;
    let mut parser = Parser::default();
    loop {
        let chunk = timeout(SILENCE_MAX, response.chunk())
            .await
            .map_err(|_| Failure::new(Kind::Unreachable, "the stream fell silent"))?
            .map_err(|error| api.unreachable(&error))?;
        let Some(chunk) = chunk else {
            return Ok(ControlFlow::Continue(()));
        };
        for event in parser.take(&chunk)? {
            if take(&event)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_whole_however_they_are_cut() {
        let text = ": hello\nretry: 2000\n\nid: 7\nevent: rental.running\ndata: {\"a\":\ndata: 1}\n\n: \n\ndata: 2\r\n\r\n";
        for size in [1, 3, text.len()] {
            let mut parser = Parser::default();
            let chunks = text.as_bytes().chunks(size);
            let events: Vec<Event> = chunks
                .flat_map(|chunk| parser.take(chunk).unwrap())
                .collect();
            assert_eq!(events.len(), 2, "{events:?}");
            assert_eq!(events[0].id.as_deref(), Some("7"));
            assert_eq!(events[0].kind, "rental.running");
            assert_eq!(
                (&events[0].data, &events[1].data),
                (&json!({"a": 1}), &json!(2))
            );
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut parser = Parser::default();
        let flood = vec![b'x'; EVENT_BYTES_MAX + 1];
        assert!(parser.take(&flood).is_err());
    }
}
