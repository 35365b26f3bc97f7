//! The rules about words: how a log line speaks, and what no file may mention.

use super::{
    files::{File, Offenders},
    source::{is_word, words},
};

/// Log lines that start with a capital or end with a full stop.
pub(super) fn log_voice(file: &File) -> Offenders {
    let code = &file.source.code;
    let mut found = Vec::new();
    for (at, word) in words(code) {
        let call = at + word.len();
        let is_log = matches!(word, "trace" | "debug" | "info" | "warn" | "error")
            && code[call..].starts_with("!(");
        let Some(message) = is_log.then(|| message_of(file, call + 1)).flatten() else {
            continue;
        };
        let mut first = message.chars();
        let (one, two) = (first.next(), first.next());
        // SQLite, HTTP and the like keep their case
        let capital = one.is_some_and(char::is_uppercase) && !two.is_some_and(char::is_uppercase);
        if capital || (message.ends_with('.') && !message.ends_with("...")) {
            found.push((file.source.line_of(at), message.to_owned()));
        }
    }
    found
}

/// The first string that is an argument of its own, not the value of a field, of the call whose parenthesis is at `open`.
fn message_of(file: &File, open: usize) -> Option<&str> {
    let bytes = file.source.code.as_bytes();
    let mut depth = 0_i32;
    for at in open..bytes.len() {
        match bytes[at] {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b'"' if depth == 1 => {
                let before = bytes[..at].iter().rfind(|byte| !byte.is_ascii_whitespace());
                let literal = file
                    .source
                    .literals
                    .iter()
                    .find(|literal| literal.start == at);
                if matches!(before, Some(b'(' | b','))
                    && let Some(literal) = literal
                {
                    return Some(&literal.text);
                }
            }
            _ => {}
        }
        if depth == 0 {
            return None;
        }
    }
    None
}

/// Mentions of one machine's paths, of notes beside the repository, of a registry's host.
pub(super) fn stands_alone(file: &File) -> Offenders {
    // Lock files name where each package came from; that is their work.
    if file.path.ends_with(".lock") || file.path.ends_with("package-lock.json") {
        return Vec::new();
    }
    // Taken apart, so that this file doesn't offend.
    let banned = [
        concat!("/wor", "k/"),
        concat!("/tmp/", "target-"),
        concat!("shared/", "design"),
        concat!("x402-", "bench/"),
        concat!("crates", ".io"),
        concat!("npmjs", ".org"),
        concat!("npmjs", ".com"),
        concat!("pypi", ".org"),
        concat!("debian", ".org"),
    ];
    let mut found = Vec::new();
    for (at, line) in file.source.text.lines().enumerate() {
        for what in banned {
            let stands = line.match_indices(what).any(|(start, _)| {
                // `~/work/x` and `net/work/x` are nobody's machine
                let before = line[..start].bytes().last();
                !what.starts_with('/') || !before.is_some_and(|b| is_word(b) || b"~.-".contains(&b))
            });
            if stands {
                found.push((at + 1, what.to_owned()));
            }
        }
    }
    found
}
