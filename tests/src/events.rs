//! A follower of `GET /events`: server-sent events, read one by one.

use std::time::Duration;

use reqwest::Response;
use serde_json::Value;

use crate::api::Api;

const PATIENCE: Duration = Duration::from_secs(60);

/// An event as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its place in the stream.
    pub seq: i64,
    /// What happened: `rental.started`.
    pub kind: String,
    /// The facts.
    pub data: Value,
}

/// An open stream.
#[derive(Debug)]
pub struct Events {
    response: Response,
    unread: Vec<u8>,
}

impl Events {
    /// Opens the stream from now on, or after an event's place. Returns when the market has answered.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn open(api: &Api, after: Option<i64>) -> Self {
        let mut request = api.request("GET", "/events").timeout(3 * PATIENCE);
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let response = request.send().await.expect("the market answers");
        assert_eq!(response.status(), 200, "the stream opens");
        let mut events = Self {
            response,
            unread: Vec::new(),
        };
        // the greeting: from here on nothing is missed
        events.block().await.expect("a greeting");
        events
    }

    /// The next event; `None` when the stream has ended.
    ///
    /// # Panics
    /// If none comes in time.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| {
                let mut lines = block.lines();
                lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
            };
            let (Some(seq), Some(kind)) = (field("id:"), field("event:")) else {
                // a heartbeat
                continue;
            };
            let data = field("data:").expect("an event has data");
            return Some(Event {
                seq: seq.parse().expect("a number"),
                kind,
                data: serde_json::from_str(&data).expect("JSON"),
            });
        }
    }

    /// Events up to the first of this kind, that one included.
    ///
    /// # Panics
    /// If the stream ends before.
    pub async fn until(&mut self, kind: &str) -> Vec<Event> {
        let mut seen = Vec::new();
        loop {
            let event = self.next().await;
            let event = event.unwrap_or_else(|| panic!("no {kind} after {seen:?}"));
            let found = event.kind == kind;
            seen.push(event);
            if found {
                return seen;
            }
        }
    }

    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.unread.drain(..end + 2).collect();
                return Some(String::from_utf8(block).expect("text"));
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            match chunk.expect("the market says something") {
                Ok(Some(bytes)) => self.unread.extend_from_slice(&bytes),
                // ended, or broken off
                Ok(None) | Err(_) => return None,
            }
        }
    }
}
