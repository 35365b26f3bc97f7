//! The way to the coordinator: its name, its answer, its time.

use shared::clock::Clock;
use tokio::time::timeout;

use super::{ANSWER_BYTES_MAX, Answered, Market, WITHIN};
use crate::{endpoint::BaseUrl, http};

pub(super) async fn market(url: &BaseUrl, clock: &dyn Clock) -> Market {
    let parsed = url.as_str().parse::<reqwest::Url>().ok();
    let host = parsed.as_ref().and_then(|url| url.host_str());
    let host = host.unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = parsed
        .as_ref()
        .and_then(reqwest::Url::port_or_known_default);
    let looked_up = timeout(
        WITHIN,
        tokio::net::lookup_host((host.clone(), port.unwrap_or(443))),
    );
    let addresses = match looked_up.await {
        Ok(Ok(found)) => Ok(found.map(|address| address.ip()).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", WITHIN.as_secs())),
    };
    Market {
        url: url.as_str().to_owned(),
        answered: answered(url, clock).await,
        host,
        addresses,
    }
}

/// Asks for what everybody may ask for.
async fn answered(url: &BaseUrl, clock: &dyn Clock) -> Result<Answered, String> {
    let client = http::client(url).map_err(|error| format!("{error:#}"))?;
    let (wall, asked) = (clock.now(), clock.boot_ms());
    let target = format!("{}/api/v1/market/summary", url.as_str());
    let response = client.get(target).send().await;
    let response = response.map_err(|error| http::unreachable(&error).to_string())?;
    let took_ms = clock.boot_ms() - asked;
    let status = response.status().as_u16();
    let theirs = response
        .headers()
        .get(reqwest::header::DATE)
        .and_then(|value| date_s(value.to_str().ok()?));
    let body = http::answer(response, ANSWER_BYTES_MAX).await;
    let is_market = body.is_ok_and(|body| {
        let value: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
        value.is_some_and(|value| value.get("nodes").is_some())
    });
    // the header has whole seconds, of some moment while we waited
    let ours = wall.plus_ms(took_ms / 2).as_secs();
    Ok(Answered {
        status,
        is_market,
        took_ms,
        ahead_ms: theirs.map(|theirs| ours.saturating_sub(theirs).saturating_mul(1_000)),
    })
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` as seconds since 1970.
fn date_s(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_, rest) = text.split_once(", ")?;
    let parts: Vec<&str> = rest.split(' ').collect();
    let [day, month, year, time, "GMT"] = parts.as_slice() else {
        return None;
    };
    let month = MONTHS.iter().position(|known| known == month)? + 1;
    let moment = format!("{year}-{month:02}-{day}T{time}Z");
    let moment = shared::time::Timestamp::parse_rfc3339(&moment).ok()?;
    Some(moment.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_of_http_is_read() {
        assert_eq!(date_s("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        for wrong in [
            "",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nev 1994 08:49:37 GMT",
        ] {
            assert_eq!(date_s(wrong), None, "{wrong}");
        }
    }
}
