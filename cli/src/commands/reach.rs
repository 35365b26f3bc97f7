//! `logs`, `exec`, `port-forward` and `cp`: into a rental by the market's gateway.

use std::ops::ControlFlow;

use serde_json::{Value, json};
use shared::{
    clock::{Clock as _, SystemClock},
    link::open::{Exec as Program, Terminal},
};

use super::Desk;
use crate::{
    api::Request,
    args::reach::{Cp, Exec, Logs, Place, PortForward, Since, Stream, TAIL_MAX},
    failure::{Failure, Kind, Result},
    output::{self, Form, tell, text},
    reach::{self, Socket, copy::Copy, exec, forward::Forward, sftp::Sftp},
    signals::Signals,
    sse, terminal, units,
};

/// Lines from the end that are shown unless others are asked for.
const TAIL: usize = 1_000;

/// Prints what a rental wrote.
pub(super) async fn logs(desk: &Desk, wanted: &Logs) -> Result<()> {
    let id = wanted.rental.to_string();
    let since = wanted.since.map(|since| match since {
        Since::Ago(seconds) => SystemClock.now().plus_ms(seconds.saturating_mul(-1_000)),
        Since::At(at) => at,
    });
    let stream = wanted.stream.map(|stream| match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    });
    let request = Request::get(format!("/api/v1/rentals/{id}/logs"))
        .auth(desk.auth_for(&id)?)
        .query("since", since)
        .query("stream", stream)
        .query("search", wanted.search.as_deref());
    let show = |entry: &Value| show_entry(desk.form, wanted.timestamps, entry);
    if !wanted.follow {
        return page(desk, request, wanted, show).await;
    }
    let request = request
        .query("tail", wanted.tail)
        .query("follow", Some("true"));
    let mut take = |event: &sse::Event| match event.kind.as_str() {
        "end" => Ok(ControlFlow::Break(())),
        "line" => show(&event.data).map(ControlFlow::Continue),
        // the node's connection broke: it goes on behind the last line
        _ => Ok(ControlFlow::Continue(())),
    };
    sse::follow(&desk.api, &request, &mut take).await
}

/// Shows what is there now, and says what of it isn't shown.
async fn page(
    desk: &Desk,
    request: Request,
    wanted: &Logs,
    show: impl Fn(&Value) -> Result<()>,
) -> Result<()> {
    let unasked = wanted.tail.is_none() && wanted.since.is_none();
    // one more than is shown: whether there are older ones
    let tail = if unasked {
        Some(TAIL + 1)
    } else {
        wanted.tail.and_then(|tail| usize::try_from(tail).ok())
    };
    let answer = desk.api.send(&request.query("tail", tail)).await?.ok()?;
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    let older = if unasked {
        items.len().saturating_sub(TAIL)
    } else {
        0
    };
    items[older..].iter().try_for_each(show)?;
    if older > 0 {
        tell(&format!(
            "older lines are left out: ask for up to {TAIL_MAX} with --tail, or by time with --since"
        ));
    }
    if answer["more"] == true {
        let last = items.last().map(|last| text(last, "/at"));
        tell(&format!(
            "later lines are left out: go on with --since {}",
            last.unwrap_or_default()
        ));
    }
    Ok(())
}

fn show_entry(form: Form, timestamps: bool, entry: &Value) -> Result<()> {
    if form == Form::Json {
        return output::json_line(entry);
    }
    let line = text(entry, "/line");
    let line = if timestamps {
        format!("{} {line}", text(entry, "/at"))
    } else {
        line
    };
    if entry["stream"] == "stderr" {
        tell(&line);
        Ok(())
    } else {
        output::lines(&[line])
    }
}

/// A program that a rental is to run, and the stream to it: what refuses it is read from that.
pub(super) async fn start(desk: &Desk, id: &str, program: &Program) -> Result<Socket> {
    let request = Request::get(format!("/api/v1/rentals/{id}/exec")).auth(desk.auth_for(id)?);
    let mut socket = reach::open(&desk.api, request).await?;
    let program = serde_json::to_string(program)
        .map_err(|error| Failure::failed(format!("can't be written as JSON: {error}")))?;
    let said = socket.say(program).await;
    said.map_err(|error| Failure::new(Kind::Unreachable, format!("the stream broke: {error}")))?;
    Ok(socket)
}

/// Runs a program in a rental; its exit code.
pub(super) async fn exec(desk: &Desk, wanted: &Exec) -> Result<u8> {
    let tty = wanted.tty || (wanted.command.is_empty() && terminal::is_there());
    let interactive = wanted.interactive || tty;
    let asked = if tty {
        let size = terminal::size()
            .ok_or_else(|| Failure::usage("standard input is no terminal: leave --tty out"))?;
        let term = std::env::var_os("TERM").and_then(|term| term.into_string().ok());
        let term = term.unwrap_or_else(|| "xterm".to_owned());
        Some(Terminal { term, size })
    } else {
        None
    };
    let program = Program {
        command: wanted.command.clone(),
        shell: false,
        terminal: asked,
        env: wanted.env.iter().cloned().collect(),
    };
    let socket = start(desk, &wanted.rental.to_string(), &program).await?;
    exec::run(socket, interactive, tty).await
}

/// Leads ports of this machine into a rental until Ctrl-C.
pub(super) async fn port_forward(desk: &Desk, wanted: &PortForward) -> Result<()> {
    let id = wanted.rental.to_string();
    let auth = desk.auth_for(&id)?;
    // said before anybody relies on it
    let request = Request::get(format!("/api/v1/rentals/{id}")).auth(auth.clone());
    let rental = desk.api.send(&request).await?.ok()?;
    if rental["state"] != "running" {
        let state = text(&rental, "/state");
        return Err(Failure::failed(format!(
            "{id} is {state}: its ports are reached while it runs"
        )));
    }
    let mut serving = tokio::task::JoinSet::new();
    for pair in &wanted.ports {
        let forward = Forward::listen(*pair).await?;
        let (local, remote) = forward.pair()?;
        match desk.form {
            Form::Json => output::json_line(&json!({"local": local, "remote": remote}))?,
            Form::Ids => output::lines(&[local.to_string()])?,
            Form::Text => output::lines(&[format!("{local} leads to port {remote} of {id}")])?,
        }
        serving.spawn(forward.serve(desk.api.clone(), id.clone(), auth.clone()));
    }
    let interrupted = tokio::signal::ctrl_c().await;
    interrupted.map_err(|error| Failure::failed(format!("signals can't be heard: {error}")))
}

/// Copies files from and to a rental.
pub(super) async fn cp(desk: &Desk, wanted: &Cp) -> Result<()> {
    let mut signals = Signals::hear()?;
    let ended = tokio::select! {
        copied = copy(desk, wanted) => Ok(copied),
        heard = signals.next() => Err(heard),
    };
    // by now what was half copied is removed
    ended.unwrap_or_else(|heard| heard.end())
}

async fn copy(desk: &Desk, wanted: &Cp) -> Result<()> {
    let id = match (&wanted.from, &wanted.to) {
        (Place::There(id, _), Place::Here(_)) | (Place::Here(_), Place::There(id, _)) => {
            id.to_string()
        }
        _ => {
            return Err(Failure::usage(
                "one of both is in a rental: write rnt_…:PATH for it",
            ));
        }
    };
    let request = Request::get(format!("/api/v1/rentals/{id}/files")).auth(desk.auth_for(&id)?);
    let socket = reach::open(&desk.api, request).await?;
    let sftp = Sftp::begin(socket).await.map_err(|error| {
        if let Some(failure) = reach::told(&error) {
            return failure;
        }
        Failure::new(
            Kind::Unreachable,
            format!("files of {id} can't be reached: {error}"),
        )
    })?;
    let copy = Copy::new(sftp, wanted.recursive);
    let copied = match (&wanted.from, &wanted.to) {
        (Place::Here(from), Place::There(_, to)) => copy.up(from, to).await?,
        (Place::There(_, from), Place::Here(to)) => copy.down(from, to).await?,
        _ => return Ok(()),
    };
    if desk.form == Form::Json {
        let copied = json!({"files": copied.files, "bytes": copied.bytes});
        return output::one(desk.form, &copied, &[]);
    }
    let bytes = units::show_bytes(i64::try_from(copied.bytes).unwrap_or(i64::MAX));
    tell(&format!("{} files, {bytes}", copied.files));
    Ok(())
}
