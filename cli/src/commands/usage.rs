//! What a rental uses at this moment, out of its node's last samples.

use serde_json::{Value, json};
use shared::time::Timestamp;

use super::Desk;
use crate::api::Request;

/// Adds `usage_now` to a rental that runs: thousandths of processors, bytes of memory and disk, bytes received and sent. Nothing is added
/// where the node can't be asked at this moment: the rental is shown all the same.
pub(super) async fn add(desk: &Desk, id: &str, rental: &mut Value) {
    if rental["state"] != "running" {
        return;
    }
    let Ok(auth) = desk.auth_for(id) else { return };
    let request = Request::get(format!("/api/v1/rentals/{id}/metrics")).auth(auth);
    let Ok(answer) = desk.api.send(&request).await else {
        return;
    };
    let samples = answer.body["items"].as_array();
    if let Some(usage) = samples.and_then(|samples| now(samples)) {
        rental["usage_now"] = usage;
    }
}

/// The last sample, with the processors used since the one before.
fn now(samples: &[Value]) -> Option<Value> {
    let last = samples.last()?;
    let before = samples.iter().rev().nth(1);
    let cpu_millis = before.and_then(|before| {
        let at = |sample: &Value| Timestamp::parse_rfc3339(sample["at"].as_str()?).ok();
        let ms = at(last)?.ms_since(at(before)?);
        let ns = last["cpu_ns"]
            .as_i64()?
            .checked_sub(before["cpu_ns"].as_i64()?)?;
        // nanoseconds in a millisecond are millionths of a processor
        (ms > 0 && ns >= 0).then(|| ns / ms / 1_000)
    });
    Some(json!({
        "cpu_millis": cpu_millis, "ram_bytes": last["ram_bytes"], "disk_bytes": last["disk_bytes"],
        "rx_bytes": last["rx_bytes"], "tx_bytes": last["tx_bytes"],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_of_the_last_interval() {
        let sample = |second: i64, cpu_ns: i64| json!({"at": Timestamp::from_secs(second).to_string(), "cpu_ns": cpu_ns, "ram_bytes": 7});
        let samples = [
            sample(10, 0),
            sample(20, 4_000_000_000),
            sample(30, 9_000_000_000),
        ];
        let usage = now(&samples).expect("usage");
        assert_eq!(
            (&usage["cpu_millis"], &usage["ram_bytes"]),
            (&json!(500), &json!(7))
        );
        assert_eq!(
            now(&samples[..1]).expect("usage")["cpu_millis"],
            Value::Null
        );
        assert_eq!(now(&[]), None);
    }
}
