//! Which lines of a rental's output are wanted, and how an engine's lines become entries: the same for live and for kept logs.
//!
//! # Invariants
//! - A line is told in pieces of at most [`LINE_BYTES_MAX`], so that any of them fits its frame.
//! - The last lines are picked within [`TAIL_MAX`] lines and [`TAIL_BYTES_MAX`] bytes, however many there are.

use std::collections::VecDeque;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use shared::{
    link::open::{Entry, LogsQuery, Output},
    time::Timestamp,
};

/// Bytes of an entry's line.
pub const LINE_BYTES_MAX: usize = 8 * 1_024;
/// The most lines from the end.
pub const TAIL_MAX: usize = 10_000;
/// The most bytes from the end.
const TAIL_BYTES_MAX: usize = 8 << 20;
/// What an entry takes besides its line.
const ENTRY_BYTES: usize = 64;

/// Whether the query asks for this entry.
#[must_use]
pub fn is_wanted(query: &LogsQuery, entry: &Entry) -> bool {
    let mut search = query.search.iter();
    query.since.is_none_or(|since| entry.at >= since)
        && query.stream.is_none_or(|stream| entry.stream == stream)
        && search.all(|text| entry.line.contains(text.as_str()))
}

/// Whether lines are told apart before the last ones are counted.
#[must_use]
pub fn has_filter(query: &LogsQuery) -> bool {
    query.since.is_some() || query.stream.is_some() || query.search.is_some()
}

/// The wanted ones of `entries`, which end.
pub fn pick<E: Send + 'static>(
    query: LogsQuery,
    entries: BoxStream<'static, Result<Entry, E>>,
) -> BoxStream<'static, Result<Entry, E>> {
    let tail = query.tail;
    let wanted = entries.filter(move |entry| {
        let wanted = entry
            .as_ref()
            .map_or(true, |entry| is_wanted(&query, entry));
        std::future::ready(wanted)
    });
    match tail {
        None => wanted.boxed(),
        Some(tail) => stream::once(last(tail, wanted.boxed()))
            .flat_map(stream::iter)
            .boxed(),
    }
}

async fn last<E>(
    tail: u32,
    mut entries: BoxStream<'static, Result<Entry, E>>,
) -> VecDeque<Result<Entry, E>> {
    let tail = usize::try_from(tail).map_or(TAIL_MAX, |tail| tail.min(TAIL_MAX));
    let (mut kept, mut bytes) = (VecDeque::new(), 0);
    while let Some(next) = entries.next().await {
        bytes += size(&next);
        let failed = next.is_err();
        kept.push_back(next);
        while kept.len() > tail.max(usize::from(failed)) || bytes > TAIL_BYTES_MAX {
            bytes -= kept.pop_front().as_ref().map_or(bytes, size);
        }
        if failed {
            break;
        }
    }
    kept
}

fn size<E>(entry: &Result<Entry, E>) -> usize {
    entry.as_ref().map_or(0, |entry| entry.line.len()) + ENTRY_BYTES
}

/// What was told already, so that what follows begins right after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Of the last entry.
    pub at: Timestamp,
    /// Entries of that very moment.
    pub count: usize,
}

impl Mark {
    /// Before everything.
    pub const START: Self = Self {
        at: Timestamp::from_micros(i64::MIN),
        count: 0,
    };

    /// Notes an entry.
    pub fn pass(&mut self, entry: &Entry) {
        if entry.at > self.at {
            *self = Self {
                at: entry.at,
                count: 0,
            };
        }
        if entry.at == self.at {
            self.count += 1;
        }
    }

    /// Whether this entry was passed before; used up one by one.
    pub fn skips(&mut self, entry: &Entry) -> bool {
        if entry.at == self.at && self.count > 0 {
            self.count -= 1;
            return true;
        }
        entry.at < self.at
    }
}

/// The entries of one message of an engine: a moment in RFC 3339, a blank, a line.
#[must_use]
pub fn entries(stream: Output, message: &[u8]) -> Vec<Entry> {
    let split = message.iter().position(|byte| *byte == b' ');
    let (head, line) = message.split_at(split.unwrap_or(message.len()));
    let at = std::str::from_utf8(head).ok();
    let Some(at) = at.and_then(|at| Timestamp::parse_rfc3339(at).ok()) else {
        return Vec::new();
    };
    let line = line.get(1..).unwrap_or_default();
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut text = String::from_utf8_lossy(line).into_owned();
    let mut pieces = Vec::new();
    while text.len() > LINE_BYTES_MAX {
        let cut = text.floor_char_boundary(LINE_BYTES_MAX);
        let rest = text.split_off(cut);
        pieces.push(std::mem::replace(&mut text, rest));
    }
    pieces.push(text);
    let entry = |line| Entry { at, stream, line };
    pieces.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(second: i64, stream: Output, line: &str) -> Entry {
        Entry {
            at: Timestamp::from_secs(second),
            stream,
            line: line.to_owned(),
        }
    }

    async fn picked(query: LogsQuery) -> Vec<String> {
        let all = [
            entry(1, Output::Stdout, "a one"),
            entry(2, Output::Stderr, "b one"),
            entry(3, Output::Stdout, "a two"),
            entry(4, Output::Stderr, "b two"),
        ];
        let all = stream::iter(all.map(Ok::<_, ()>)).boxed();
        let picked = pick(query, all);
        picked
            .map(|entry| entry.expect("entry").line)
            .collect()
            .await
    }

    #[tokio::test]
    async fn the_last_are_counted_among_the_wanted() {
        let query = LogsQuery::default();
        assert_eq!(picked(query.clone()).await.len(), 4);
        let tail = LogsQuery {
            tail: Some(1),
            ..query.clone()
        };
        assert_eq!(picked(tail.clone()).await, ["b two"]);
        let of_stdout = LogsQuery {
            stream: Some(Output::Stdout),
            ..tail.clone()
        };
        assert_eq!(picked(of_stdout).await, ["a two"]);
        let found = LogsQuery {
            search: Some("one".to_owned()),
            ..tail.clone()
        };
        assert_eq!(picked(found).await, ["b one"]);
        let none = LogsQuery {
            tail: Some(0),
            ..query.clone()
        };
        assert!(picked(none).await.is_empty());
        let since = LogsQuery {
            since: Some(Timestamp::from_secs(3)),
            ..query
        };
        assert_eq!(picked(since).await, ["a two", "b two"]);
    }

    #[test]
    fn messages_become_entries_and_long_lines_pieces() {
        let found = entries(
            Output::Stderr,
            b"2026-01-31T12:00:00.123456789Z hello world\r\n",
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, "hello world");
        assert_eq!(found[0].at.as_micros() % 1_000_000, 123_456);
        let mut long = b"2026-01-31T12:00:00Z ".to_vec();
        long.extend("ö".repeat(LINE_BYTES_MAX).as_bytes());
        let found = entries(Output::Stdout, &long);
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|entry| entry.line.len() == LINE_BYTES_MAX));
        assert!(entries(Output::Stdout, b"no moment").is_empty());
        assert_eq!(
            entries(Output::Stdout, b"2026-01-31T12:00:00Z \n")[0].line,
            ""
        );
    }

    #[test]
    fn what_was_told_is_skipped_once() {
        let mut mark = Mark::START;
        let (first, second) = (entry(1, Output::Stdout, "x"), entry(2, Output::Stdout, "x"));
        for entry in [&first, &second, &second] {
            mark.pass(entry);
        }
        assert_eq!(mark.count, 2);
        let skipped = [&first, &second, &second, &second].map(|entry| mark.skips(entry));
        assert_eq!(skipped, [true, true, true, false]);
    }
}
