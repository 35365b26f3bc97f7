//! Pull progress: Docker tells it per layer, a consumer wants one figure.

use std::collections::{HashMap, HashSet};

use bollard::models::CreateImageInfo;

use super::{PullProgress, RuntimeError, code};

/// Layers that are followed; an image has at most 127.
const LAYERS_MAX: usize = 256;

/// Sums the progress of all layers, and counts them.
#[derive(Debug, Default)]
pub(super) struct Layers {
    coming: HashMap<String, PullProgress>,
    named: HashSet<String>,
}

impl Layers {
    /// Takes one line of Docker's answer; returns the sum when the line was about a download.
    pub(super) fn take(&mut self, line: &CreateImageInfo) -> Option<PullProgress> {
        let layer = line.id.as_ref()?;
        let status = line.status.as_deref()?;
        // the reference itself has lines too
        if !status.starts_with("Pulling from") && self.named.len() < LAYERS_MAX {
            self.named.insert(layer.clone());
        }
        let known = self.coming.contains_key(layer);
        if !known && self.coming.len() >= LAYERS_MAX {
            return None;
        }
        match status {
            "Downloading" => {
                let detail = line.progress_detail.as_ref()?;
                let done_bytes = detail.current.unwrap_or(0).max(0);
                let progress = PullProgress {
                    done_bytes,
                    // a registry may not say how long a layer is; then it is at least what has come
                    total_bytes: detail.total.unwrap_or(0).max(done_bytes),
                };
                self.coming.insert(layer.clone(), progress);
            }
            "Download complete" | "Pull complete" => {
                let progress = self.coming.get_mut(layer)?;
                progress.done_bytes = progress.total_bytes;
            }
            _ => return None,
        }
        Some(self.sum())
    }

    /// How many layers were named so far, those that are here already among them; more than are followed are too many anyway.
    pub(super) fn count(&self) -> i64 {
        i64::try_from(self.named.len()).unwrap_or(i64::MAX)
    }

    /// What came of all, and how much there is as far as that is known.
    pub(super) fn sum(&self) -> PullProgress {
        self.coming
            .values()
            .fold(PullProgress::default(), |sum, layer| PullProgress {
                done_bytes: sum.done_bytes.saturating_add(layer.done_bytes),
                total_bytes: sum.total_bytes.saturating_add(layer.total_bytes),
            })
    }
}

/// The refusal for what Docker said when a pull failed.
pub(super) fn refusal(reference: &str, message: &str) -> RuntimeError {
    // registries answer "not there" and "not for you" alike, and Docker passes their words on
    const ABSENT: [&str; 8] = [
        "manifest unknown",
        "manifest for",
        "not found",
        "name unknown",
        "does not exist",
        "access denied",
        "unauthorized",
        "no basic auth credentials",
    ];
    let lower = message.to_lowercase();
    if ABSENT.iter().any(|words| lower.contains(words)) {
        return RuntimeError::refused(
            code::IMAGE_NOT_FOUND,
            format!(
                "the registry doesn't have {reference}, or shows it only after a login: {message}"
            ),
        );
    }
    RuntimeError::refused(
        code::IMAGE_PULL_FAILED,
        format!("{reference} couldn't be fetched: {message}"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::mangled::{cases, mangled, mangled_text};

    fn line(value: serde_json::Value) -> CreateImageInfo {
        serde_json::from_value(value).expect("Docker's form")
    }

    #[test]
    fn layers_add_up_and_end_complete() {
        let mut layers = Layers::default();
        let fetching = |id: &str, current: i64, total: i64| {
            line(json!({"id": id, "status": "Downloading",
                        "progressDetail": {"current": current, "total": total}}))
        };
        assert_eq!(
            layers.take(&line(json!({"status": "Pulling from a", "id": "1"}))),
            None
        );
        layers.take(&fetching("a", 10, 100));
        let sum = layers.take(&fetching("b", 5, 50)).expect("a download");
        assert_eq!((sum.done_bytes, sum.total_bytes), (15, 150));
        layers.take(&line(json!({"id": "a", "status": "Download complete"})));
        let sum = layers
            .take(&line(json!({"id": "b", "status": "Pull complete"})))
            .expect("a download");
        assert_eq!((sum.done_bytes, sum.total_bytes), (150, 150));
        layers.take(&line(json!({"id": "c", "status": "Already exists"})));
        assert_eq!(layers.count(), 3);
    }

    #[test]
    fn an_absent_image_is_told_from_a_failed_pull() {
        let code_of = |message: &str| match refusal("x", message) {
            RuntimeError::Refused { code, .. } => code,
            RuntimeError::Unavailable(_) | RuntimeError::Busy(_) => "unavailable",
        };
        for absent in [
            "manifest for 127.0.0.1:5000/x:1 not found: manifest unknown: manifest unknown",
            "pull access denied for x, repository does not exist or may require 'docker login'",
        ] {
            assert_eq!(code_of(absent), code::IMAGE_NOT_FOUND, "{absent}");
        }
        for failed in ["dial tcp: lookup registry: no such host", "unexpected EOF"] {
            assert_eq!(code_of(failed), code::IMAGE_PULL_FAILED, "{failed}");
        }
    }

    proptest! {
        #![proptest_config(cases(200))]

        #[test]
        fn whatever_a_registry_says_is_summed_within_bounds(
            lines in prop::collection::vec((0..400_u16, 0..4_usize, any::<Option<i64>>(), any::<Option<i64>>()), 0..600),
            noise in mangled(r#"{"id":"a","status":"Downloading","progressDetail":{"current":1,"total":2}}"#),
            words in mangled_text("pull access denied: manifest unknown"),
        ) {
            let mut layers = Layers::default();
            for (id, status, current, total) in lines {
                let status = ["Downloading", "Download complete", "Pull complete", "odd"][status];
                let line: CreateImageInfo = serde_json::from_value(serde_json::json!({
                    "id": id.to_string(), "status": status, "progressDetail": {"current": current, "total": total},
                })).expect("Docker's form");
                if let Some(sum) = layers.take(&line) {
                    prop_assert!((0..=sum.total_bytes).contains(&sum.done_bytes));
                }
            }
            prop_assert!(layers.coming.len() <= LAYERS_MAX && layers.named.len() <= LAYERS_MAX);
            if let Ok(line) = serde_json::from_slice::<CreateImageInfo>(&noise) {
                layers.take(&line);
            }
            let told = refusal("busybox", &words).to_string();
            prop_assert!(told.contains("busybox"));
        }
    }
}
