//! `mcp`: the market's tools for a program that speaks the Model Context Protocol, over standard input and output.
//!
//! # Invariants
//! - A message is one line of JSON-RPC 2.0, bounded in size; nothing else is written to standard output.
//! - What a call may spend is decided here, not by who calls: never more than the wallet's limits, nobody being asked.
//! - A call that fails is a result that says so; a message that isn't understood is an error of the protocol.

mod calls;
mod purse;
mod tools;

use std::{
    io::{BufRead as _, Read as _, Write as _},
    path::Path,
    sync::Arc,
    thread,
};

use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, Semaphore, mpsc},
    task::JoinSet,
};

use self::{calls::Counter, purse::Purse};
use super::Desk;
use crate::{
    args::account::Mcp,
    failure::{Failure, Result},
    output::tell,
};

/// Versions of the protocol, newest first.
const VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// Calls at work at once.
const CALLS_MAX: usize = 8;
/// Lines and answers that wait.
const QUEUE: usize = 64;

const NOT_JSON: i64 = -32_700;
const NOT_A_REQUEST: i64 = -32_600;
const NO_SUCH_METHOD: i64 = -32_601;
const WRONG_PARAMETERS: i64 = -32_602;

const INSTRUCTIONS: &str = "Rent RAM, CPU and GPUs by the hour. Search for offers, quote, rent, wait with status until the rental is \
    running, run commands in it by exec, and stop it: what isn't used is refunded. What may be spent is limited by the person who \
    started this server; a refusal because of the limit can't be argued with.";

/// Serves until standard input ends.
pub(super) async fn serve(desk: Desk, wanted: Mcp) -> Result<()> {
    refuse_standard_input(&desk, &wanted)?;
    let purse = Purse::of(&desk, &wanted)?;
    tell(&format!("serving: {purse}"));
    let counter = Arc::new(Counter {
        desk,
        wanted,
        purse: Mutex::new(purse),
    });
    // threads of their own: who doesn't write or read holds nobody else up
    let (lines, mut input) = mpsc::channel(QUEUE);
    thread::spawn(move || read(&lines));
    let (answers, output) = mpsc::channel(QUEUE);
    let writing = tokio::task::spawn_blocking(move || write(output));
    let outcome = listen(&counter, &mut input, &answers).await;
    drop(answers);
    match writing.await {
        Ok(written) => written.and(outcome),
        Err(error) => Err(Failure::failed(format!(
            "answers can't be written: {error}"
        ))),
    }
}

/// Messages come there: a passphrase can't be read from it as well.
fn refuse_standard_input(desk: &Desk, wanted: &Mcp) -> Result<()> {
    let named = wanted.key.passphrase_file.as_ref();
    let file = named.or(desk.settings.config.wallet.passphrase_file.as_ref());
    match file {
        Some(file) if file == Path::new("-") => Err(Failure::usage(
            "`ramarket mcp` reads its messages from standard input: name a file with the passphrase, not -",
        )),
        _ => Ok(()),
    }
}

async fn listen(
    counter: &Arc<Counter>,
    input: &mut mpsc::Receiver<Result<Vec<u8>>>,
    answers: &mpsc::Sender<Value>,
) -> Result<()> {
    let places = Arc::new(Semaphore::new(CALLS_MAX));
    let mut calls = JoinSet::new();
    let mut outcome = Ok(());
    while let Some(line) = input.recv().await {
        while calls.try_join_next().is_some() {}
        let line = match line {
            Ok(line) => line,
            Err(failure) => {
                outcome = Err(failure);
                break;
            }
        };
        match understand(&line) {
            Understood::Nothing => {}
            Understood::Answer(answer) => {
                if answers.send(answer).await.is_err() {
                    break;
                }
            }
            Understood::Call {
                id,
                name,
                arguments,
            } => {
                let place = Arc::clone(&places).acquire_owned().await;
                let (counter, answers) = (Arc::clone(counter), answers.clone());
                calls.spawn(async move {
                    let result = counter.call(&name, arguments).await;
                    // whoever asked has gone
                    drop(answers.send(answer(&id, result)).await);
                    drop(place);
                });
            }
        }
    }
    // what was begun is brought to its end: it may have been paid
    while calls.join_next().await.is_some() {}
    outcome
}

/// Passes lines on until the input ends.
fn read(lines: &mpsc::Sender<Result<Vec<u8>>>) {
    let mut input = std::io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let read = input
            .by_ref()
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        let line = match read {
            Ok(0) => return,
            Ok(_) if line.ends_with(b"\n") || line.len() < 1024 * 1024 => Ok(line),
            Ok(_) => Err(Failure::failed("a message is larger than 1 MiB")),
            Err(error) => Err(Failure::failed(format!("standard input: {error}"))),
        };
        let is_over = line.is_err();
        if lines.blocking_send(line).is_err() || is_over {
            return;
        }
    }
}

fn write(mut answers: mpsc::Receiver<Value>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    while let Some(answer) = answers.blocking_recv() {
        writeln!(out, "{answer}")
            .and_then(|()| out.flush())
            .map_err(|error| Failure::failed(format!("standard output: {error}")))?;
    }
    Ok(())
}

/// What a message asks for.
#[derive(Debug, PartialEq)]
enum Understood {
    /// A notification, or an answer that we didn't ask for.
    Nothing,
    /// What can be answered at once.
    Answer(Value),
    /// A tool's call.
    Call {
        id: Value,
        name: String,
        arguments: Value,
    },
}

fn understand(line: &[u8]) -> Understood {
    if line.trim_ascii().is_empty() {
        return Understood::Nothing;
    }
    let Ok(message) = serde_json::from_slice::<Value>(line) else {
        return Understood::Answer(refused(&Value::Null, NOT_JSON, "not JSON"));
    };
    let id = message.get("id").cloned();
    let method = message.get("method").and_then(Value::as_str);
    let versioned = message
        .get("jsonrpc")
        .is_some_and(|version| version == "2.0");
    let (id, method) = match (id, method) {
        (_, None) if message.get("result").or(message.get("error")).is_some() => {
            return Understood::Nothing;
        }
        (None, Some(_)) if versioned => return Understood::Nothing,
        (Some(id), Some(method)) if versioned && (id.is_string() || id.is_number()) => (id, method),
        (id, _) => {
            let id = id.unwrap_or_default();
            return Understood::Answer(refused(&id, NOT_A_REQUEST, "not a JSON-RPC 2.0 request"));
        }
    };
    let params = message.get("params").cloned().unwrap_or_default();
    Understood::Answer(match method {
        "initialize" => answer(&id, hello(&params)),
        "ping" => answer(&id, json!({})),
        "tools/list" => answer(&id, json!({"tools": tools::list()})),
        "tools/call" => return call(id, &params),
        _ => refused(
            &id,
            NO_SUCH_METHOD,
            "this server has tools and nothing else",
        ),
    })
}

fn call(id: Value, params: &Value) -> Understood {
    let name = params
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !tools::is_known(name) {
        return Understood::Answer(refused(&id, WRONG_PARAMETERS, "there is no such tool"));
    }
    let arguments = params
        .get("arguments")
        .cloned()
        .unwrap_or_else(|| json!({}));
    if !arguments.is_object() {
        return Understood::Answer(refused(&id, WRONG_PARAMETERS, "arguments are an object"));
    }
    Understood::Call {
        id,
        name: name.to_owned(),
        arguments,
    }
}

/// The version that the client wants if we speak it, else our newest: it decides whether to go on.
fn hello(params: &Value) -> Value {
    let wanted = params.get("protocolVersion").and_then(Value::as_str);
    let known = wanted.filter(|wanted| VERSIONS.contains(wanted));
    json!({
        "protocolVersion": known.unwrap_or(VERSIONS[0]),
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "ramarket", "version": env!("CARGO_PKG_VERSION")},
        "instructions": INSTRUCTIONS,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "a result is sent once")]
fn answer(id: &Value, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

fn refused(id: &Value, code: i64, why: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": why}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Value {
        match understand(line.as_bytes()) {
            Understood::Answer(answer) => answer,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn what_is_no_request_is_refused_and_notifications_pass() {
        for (line, code) in [
            ("{", NOT_JSON),
            ("[]", NOT_A_REQUEST),
            ("1", NOT_A_REQUEST),
            (r#"{"id":1,"method":"ping"}"#, NOT_A_REQUEST),
            (
                r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
                NOT_A_REQUEST,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"resources/list"}"#,
                NO_SUCH_METHOD,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay"}}"#,
                WRONG_PARAMETERS,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"stop","arguments":[]}}"#,
                WRONG_PARAMETERS,
            ),
        ] {
            assert_eq!(said(line)["error"]["code"], code, "{line}");
        }
        for line in [
            "",
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","id":7,"result":{}}"#,
        ] {
            assert_eq!(understand(line.as_bytes()), Understood::Nothing, "{line}");
        }
    }

    #[test]
    fn versions_are_negotiated_and_tools_have_schemas() {
        let hello = |version: &str| {
            let line = json!({"jsonrpc": "2.0", "id": "a", "method": "initialize", "params": {"protocolVersion": version}});
            said(&line.to_string())["result"]["protocolVersion"].clone()
        };
        assert_eq!(hello("2025-06-18"), "2025-06-18");
        assert_eq!(hello("1999-01-01"), VERSIONS[0]);
        let listed = said(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
        let tools = listed["result"]["tools"].as_array().expect("tools").clone();
        let names: Vec<&str> = tools
            .iter()
            .filter_map(|tool| tool["name"].as_str())
            .collect();
        assert_eq!(names, ["search", "quote", "rent", "status", "exec", "stop"]);
        for tool in &tools {
            assert_eq!(tool["inputSchema"]["type"], "object", "{tool}");
            assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{tool}");
        }
    }
}
