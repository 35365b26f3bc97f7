//! Waiting until a rental runs, telling each state on the way.

use std::time::Duration;

use serde_json::Value;

use crate::{
    api::{Api, Auth, Request},
    failure::{Failure, Kind, Result},
    output::text,
    progress::Progress,
    units,
};

const POLL: Duration = Duration::from_millis(500);

/// Polls until the rental runs and returns it.
///
/// # Errors
/// It ended instead (exit code 1, with the reason), or it takes longer than `timeout_s`.
pub async fn until_running(api: &Api, auth: &Auth, id: &str, timeout_s: i64) -> Result<Value> {
    let timeout = Duration::from_secs(u64::try_from(timeout_s).unwrap_or(0));
    let progress = Progress::new();
    tokio::time::timeout(timeout, poll(api, auth, id, &progress))
        .await
        .unwrap_or_else(|_| {
            Err(Failure::failed(format!(
                "{id} doesn't run yet after {timeout_s} s; it isn't billed until it does: look again with `ramarket show {id}`"
            )))
        })
}

async fn poll(api: &Api, auth: &Auth, id: &str, progress: &Progress) -> Result<Value> {
    let request = Request::get(format!("/api/v1/rentals/{id}")).auth(auth.clone());
    let mut shown = String::new();
    loop {
        match api.send(&request).await {
            Ok(answer) if is_passing(answer.status.as_u16()) => progress.show("the market is busy"),
            Ok(answer) => {
                let rental = answer.ok()?;
                let step = step(&rental);
                if step != shown {
                    progress.show(&step);
                    shown = step;
                }
                match rental.get("state").and_then(Value::as_str) {
                    Some("running") => return Ok(rental),
                    Some("stopping" | "ended") => return Err(ended(id, &rental)),
                    _ => {}
                }
            }
            // it was paid and goes on without us: keep asking
            Err(failure) if failure.kind == Kind::Unreachable => {
                progress.show("no answer, asking again");
            }
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(POLL).await;
    }
}

const fn is_passing(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}

/// A state in words: `pulling 12 MiB of 40 MiB`.
fn step(rental: &Value) -> String {
    let state = text(rental, "/state");
    let bytes = |name: &str| rental.pointer(name).and_then(Value::as_i64);
    match (bytes("/phase/done_bytes"), bytes("/phase/total_bytes")) {
        (Some(done), Some(total)) if state == "pulling" && total > 0 => {
            format!(
                "{state} {} of {}",
                units::show_bytes(done),
                units::show_bytes(total)
            )
        }
        _ => state,
    }
}

fn ended(id: &str, rental: &Value) -> Failure {
    let reason = ["/reason", "/state_reason"]
        .into_iter()
        .filter_map(|pointer| rental.pointer(pointer)?.as_str())
        .filter(|text| !text.is_empty())
        .collect::<Vec<_>>()
        .join(": ");
    let state = text(rental, "/state");
    Failure::failed(format!(
        "{id} is {state} and never ran ({reason}); what wasn't used is refunded"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_show_how_far_a_pull_is() {
        let pulling = json!({"state": "pulling", "phase": {"phase": "pulling", "done_bytes": 12 << 20, "total_bytes": 40 << 20}});
        assert_eq!(step(&pulling), "pulling 12 MiB of 40 MiB");
        assert_eq!(step(&json!({"state": "starting"})), "starting");
    }

    #[test]
    fn an_end_says_why() {
        let rental =
            json!({"state": "ended", "reason": "failed_to_start", "state_reason": "no such image"});
        let failure = ended("rnt_1", &rental).to_string();
        assert!(
            failure.contains("failed_to_start: no such image"),
            "{failure}"
        );
    }
}
