//! Docker's answers, parsed into this crate's types. What can't be parsed is an error or absent, never a guess.

use std::collections::HashMap;

use bollard::models::{
    ContainerInspectResponse, ContainerState as State, ContainerStateStatusEnum, ContainerSummary,
    ContainerSummaryStateEnum, EventActor,
};
use shared::{journal::Exit, time::Timestamp};

use super::{
    Container, ContainerState, Event, LABEL_GPUS, LABEL_LEASE, LABEL_NODE, LABEL_RENTAL,
    LABEL_SPEC, label,
};

/// One container as Docker's inspect tells it; `None` when it isn't of this `scope` or the answer has no id or state.
/// `image_digest` is left out: it needs another question.
pub(super) fn container(answer: &ContainerInspectResponse, scope: &str) -> Option<Container> {
    let labels = answer.config.as_ref()?.labels.as_ref()?;
    if labels.get(LABEL_NODE).map(String::as_str) != Some(scope) {
        return None;
    }
    label(labels, LABEL_RENTAL)?;
    let state = answer.state.as_ref()?;
    let phase = phase(state)?;
    let running = phase == ContainerState::Running;
    let mut container = labelled(answer.id.clone()?, labels);
    container.state = phase;
    Some(Container {
        pid: state
            .pid
            .and_then(|pid| i32::try_from(pid).ok())
            .filter(|pid| running && *pid > 0),
        started_at: moment(state.started_at.as_deref()),
        finished_at: moment(state.finished_at.as_deref()).filter(|_| !running),
        ..container
    })
}

/// A container of the list (which is filtered by scope) that was created and never started.
pub(super) fn never_started(summary: &ContainerSummary) -> Option<Container> {
    let created = summary.state == Some(ContainerSummaryStateEnum::CREATED);
    let labels = summary.labels.as_ref().filter(|_| created)?;
    label(labels, LABEL_RENTAL)?;
    Some(labelled(summary.id.clone()?, labels))
}

/// An event's container (events are filtered by scope).
pub(super) fn event(actor: EventActor) -> Option<Event> {
    let labels = actor.attributes.unwrap_or_default();
    Some(Event {
        rental_id: label(&labels, LABEL_RENTAL).and_then(|id| id.parse().ok()),
        container_id: actor.id?,
    })
}

fn labelled(id: String, labels: &HashMap<String, String>) -> Container {
    Container {
        id,
        rental_id: label(labels, LABEL_RENTAL).and_then(|id| id.parse().ok()),
        lease_id: label(labels, LABEL_LEASE).and_then(|id| id.parse().ok()),
        spec_sha256: labels.get(LABEL_SPEC).cloned().unwrap_or_default(),
        gpus: label(labels, LABEL_GPUS)
            .map(|uuids| uuids.split_terminator(',').map(str::to_owned).collect())
            .unwrap_or_default(),
        state: ContainerState::Created,
        pid: None,
        started_at: None,
        finished_at: None,
        image_digest: None,
        over_disk: None,
    }
}

fn phase(state: &State) -> Option<ContainerState> {
    Some(match state.status? {
        ContainerStateStatusEnum::CREATED => ContainerState::Created,
        ContainerStateStatusEnum::RUNNING
        | ContainerStateStatusEnum::PAUSED
        | ContainerStateStatusEnum::RESTARTING
        | ContainerStateStatusEnum::STOPPING => ContainerState::Running,
        ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD => {
            ContainerState::Exited(Exit {
                code: state.exit_code?,
                oom_killed: state.oom_killed.unwrap_or(false),
            })
        }
        ContainerStateStatusEnum::REMOVING => ContainerState::Removing,
        ContainerStateStatusEnum::EMPTY => return None,
    })
}

/// Docker writes the year 1 for "never".
fn moment(text: Option<&str>) -> Option<Timestamp> {
    Timestamp::parse_rfc3339(text?)
        .ok()
        .filter(|moment| moment.as_micros() > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn inspected(scope: &str, state: &serde_json::Value) -> ContainerInspectResponse {
        serde_json::from_value(json!({
            "Id": "abc",
            "Config": {"Labels": {
                "ramarket.rental": "rnt_00000000000000000000000000000001",
                "ramarket.lease": "lea_00000000000000000000000000000002",
                "ramarket.spec_sha256": "00ff",
                "ramarket.node": scope,
            }},
            "State": state,
        }))
        .expect("Docker's form")
    }

    #[test]
    fn a_running_container_has_a_pid_and_its_start_in_microseconds() {
        let answer = inspected(
            "here",
            &json!({"Status": "running", "Pid": 42, "ExitCode": 0,
                   "StartedAt": "2026-11-22T20:14:00.338638373Z", "FinishedAt": "0001-01-01T00:00:00Z"}),
        );
        let parsed = container(&answer, "here").expect("ours");
        assert_eq!(parsed.pid, Some(42));
        assert_eq!(parsed.state, ContainerState::Running);
        let started_at = parsed.started_at.expect("started").to_string();
        assert_eq!(started_at, "2026-11-22T20:14:00.338638Z");
        assert_eq!(parsed.finished_at, None);
        assert_eq!(
            parsed.rental_id.expect("a rental").to_string(),
            "rnt_00000000000000000000000000000001"
        );
    }

    #[test]
    fn an_ended_container_has_its_exit_and_no_pid() {
        let answer = inspected(
            "here",
            &json!({"Status": "exited", "Pid": 0, "ExitCode": 137, "OOMKilled": true,
                   "StartedAt": "2026-11-22T20:14:00Z", "FinishedAt": "2026-11-22T20:14:01.5Z"}),
        );
        let parsed = container(&answer, "here").expect("ours");
        let exit = Exit {
            code: 137,
            oom_killed: true,
        };
        assert_eq!(parsed.state, ContainerState::Exited(exit));
        assert_eq!(parsed.pid, None);
        assert!(parsed.finished_at > parsed.started_at);
    }

    #[test]
    fn containers_of_others_are_not_seen() {
        let answer = inspected("elsewhere", &json!({"Status": "running", "Pid": 42}));
        assert_eq!(container(&answer, "here"), None);
    }

    #[test]
    fn an_empty_label_is_as_none() {
        let running = json!({"Status": "running", "Pid": 42});
        let mut answer = serde_json::to_value(inspected("here", &running)).expect("json");
        answer["Config"]["Labels"][LABEL_GPUS] = json!("");
        let parsed = |answer: &serde_json::Value| {
            let answer = serde_json::from_value(answer.clone()).expect("Docker's form");
            container(&answer, "here")
        };
        assert!(parsed(&answer).expect("ours").gpus.is_empty());
        answer["Config"]["Labels"][LABEL_RENTAL] = json!("");
        assert_eq!(parsed(&answer), None);
    }
}
