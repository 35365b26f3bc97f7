//! The list of rentals, one of them, and what it wrote, as HTML.

use serde_json::Value;
use shared::{
    id::RentalId,
    link::open::{Entry, Output},
};

use super::{Shown, escape, money, text};

/// The list; of more than `most` the rest is one link away.
pub(super) fn list(rentals: &[Value], most: usize) -> String {
    if rentals.is_empty() {
        return "<p>There is none here. To rent: <code>ramarket rent</code>, or the API.</p>\n"
            .to_owned();
    }
    let rows: String = rentals.iter().take(most).map(row).collect();
    let older = rentals.get(most).and(rentals.get(most - 1));
    let older = older.map_or_else(String::new, |last| {
        let id = escape(text(last, "/id"));
        format!("<p><a href=\"/rentals?before={id}\">Older ones</a></p>\n")
    });
    format!(
        "<table>\n<thead><tr><th scope=\"col\">Rental</th><th scope=\"col\">Image</th><th scope=\"col\">Since</th>\
         <th scope=\"col\">State</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n{older}"
    )
}

fn row(rental: &Value) -> String {
    let cell = |pointer| escape(text(rental, pointer));
    let (id, state) = (cell("/id"), cell("/state"));
    format!(
        "<tr><th scope=\"row\"><a href=\"/rentals/{id}\">{id}</a></th><td>{}</td><td>{}</td><td>{state}</td></tr>\n",
        cell("/image"),
        cell("/created_at"),
    )
}

/// A rental.
pub(super) fn one(shown: &Shown) -> String {
    let reach = if shown.is_over() {
        after(shown)
    } else {
        connect(shown)
    };
    format!(
        "<p><a href=\"/rentals\">Your rentals</a></p>\n<div id=\"live\" data-rental=\"{}\" aria-live=\"polite\">\n{}{reach}</div>\n",
        escape(shown.text("/id")),
        facts(shown)
    )
}

fn facts(shown: &Shown) -> String {
    let fact = |name: &str, value: &str| {
        let value = escape(value);
        if value.is_empty() {
            return String::new();
        }
        let id = name.to_ascii_lowercase().replace(' ', "-");
        format!("<dt>{name}</dt><dd id=\"{id}\">{value}</dd>\n")
    };
    let rows = [
        fact("Rental", shown.text("/id")),
        fact("State", shown.text("/state")),
        fact("Reason", shown.text("/reason")),
        fact("In words", shown.text("/state_reason")),
        fact("Exit code", &exit(&shown.view)),
        fact("Image", shown.text("/image")),
        fact("Digest", shown.text("/image_digest")),
        fact("An hour costs", &money(&shown.view, "/price/per_hour")),
        fact("Paid", &money(&shown.view, "/paid")),
        fact("Cost so far", &money(&shown.view, "/cost_so_far")),
        fact("Given back", &money(&shown.view, "/refunded")),
        fact("Started", shown.text("/started_at")),
        fact("Paid until", shown.text("/paid_until")),
        fact("Finished", shown.text("/finished_at")),
    ];
    format!("<dl class=\"facts\">\n{}</dl>\n", rows.concat())
}

/// How its process ended, if it has.
fn exit(view: &Value) -> String {
    let Some(code) = view.pointer("/phase/exit/code").and_then(Value::as_i64) else {
        return String::new();
    };
    let oom = view.pointer("/phase/exit/oom_killed") == Some(&Value::Bool(true));
    if oom {
        format!("{code}: killed, as it took more memory than was rented")
    } else {
        code.to_string()
    }
}

/// How to get in.
fn connect(shown: &Shown) -> String {
    let id = escape(shown.text("/id"));
    let terminal = if shown.is_running() {
        format!(
            "<p><a id=\"terminal-link\" href=\"/rentals/{id}/terminal\">Open a terminal here</a></p>\n"
        )
    } else {
        "<p>It is reached while it runs.</p>\n".to_owned()
    };
    let ports: String = shown
        .ports
        .iter()
        .map(|(url, public)| {
            let url = escape(url);
            let who = if *public {
                "for everybody"
            } else {
                "by its token"
            };
            format!("<li><a href=\"{url}\" rel=\"noreferrer\">{url}</a>, {who}</li>\n")
        })
        .collect();
    let ports = if ports.is_empty() {
        String::new()
    } else {
        format!("<h3>By the web</h3>\n<ul>\n{ports}</ul>\n")
    };
    format!(
        "<h2>Reach it</h2>\n{terminal}{}<h3>By the client</h3>\n{}{ports}\
         <p><a href=\"/rentals/{id}/logs\">What it wrote</a></p>\n",
        ssh(shown),
        client(&id),
    )
}

/// The SSH command, and by what its user knows that it is us.
pub(super) fn ssh(shown: &Shown) -> String {
    let command = escape(shown.text("/connect/ssh/command"));
    if command.is_empty() {
        return String::new();
    }
    let fingerprint = escape(shown.text("/connect/ssh/fingerprint"));
    format!(
        "<h3>By SSH</h3>\n<pre tabindex=\"0\"><code id=\"ssh\">{command}</code></pre>\n\
         <p>With a key of your account or of this rental. The host key's fingerprint is <code id=\"fingerprint\">{fingerprint}</code>.</p>\n"
    )
}

/// Commands of the client.
pub(super) fn client(id: &str) -> String {
    format!(
        "<pre tabindex=\"0\"><code>ramarket exec -it {id}\nramarket logs -f {id}\nramarket cp -r ./data {id}:/tmp/\n\
         ramarket port-forward {id} 8080</code></pre>\n"
    )
}

/// What is left of it.
fn after(shown: &Shown) -> String {
    let id = escape(shown.text("/id"));
    format!(
        "<h2>What is left of it</h2>\n<ul>\n<li><a href=\"/rentals/{id}/logs\">What it wrote</a>, for 7 days</li>\n\
         <li><a id=\"post-mortem\" href=\"/api/v1/rentals/{id}/post-mortem\" download>Everything as one archive</a>: logs, metrics, events, \
         exit code, receipts</li>\n</ul>\n"
    )
}

/// The end of what it wrote.
pub(super) fn log(id: RentalId, lines: &[Entry], most: u32) -> String {
    let text: String = lines
        .iter()
        .map(|entry| {
            let mark = match entry.stream {
                Output::Stdout => " ",
                Output::Stderr => "!",
            };
            format!("{} {mark} {}\n", entry.at, escape(&entry.line))
        })
        .collect();
    let text = if text.is_empty() {
        "It wrote nothing.\n".to_owned()
    } else {
        text
    };
    format!(
        "<p><a href=\"/rentals/{id}\">The rental</a></p>\n<p>The last {most} lines; <code>!</code> marks standard error. More: \
         <code>ramarket logs {id}</code></p>\n<pre id=\"log\" tabindex=\"0\">{text}</pre>\n"
    )
}
