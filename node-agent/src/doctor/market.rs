//! Checks of the way to the coordinator.

use shared::resources::Finding;

use super::{
    facts::{Answered, Enrolled, Facts},
    failed, ok, warning,
};

/// A signature further off is refused, milliseconds.
const SKEW_MS_MAX: i64 = shared::wire::CREATED_SKEW_S_MAX * 1_000;
/// From here on something is wrong with the clock, milliseconds.
const SKEW_MS_ODD: i64 = 5_000;

/// Whether this machine is a node of a market.
pub(super) fn enrolment(name: &'static str, facts: &Facts) -> Finding {
    match &facts.enrolled {
        Enrolled::Yes { node_id, url } => ok(name, &format!("this is {node_id} of {url}")),
        Enrolled::No => warning(
            name,
            "this machine isn't enrolled",
            "get a token from the market, then: sudo -u ramarket-agent ramarket-agent enroll --url https://… --token-file …",
        ),
        Enrolled::Damaged(why) => failed(
            name,
            why,
            "restore the agent's folder, or enrol anew with --force; run as root or as the agent's user if it can't be read",
        ),
    }
}

/// Whether the coordinator's name can be looked up.
pub(super) fn dns(name: &'static str, facts: &Facts) -> Finding {
    let Some(market) = &facts.market else {
        return unknown(name);
    };
    match &market.addresses {
        Ok(addresses) if !addresses.is_empty() => {
            let shown: Vec<String> = addresses.iter().take(3).map(ToString::to_string).collect();
            ok(name, &format!("{} is {}", market.host, shown.join(", ")))
        }
        Ok(_) => failed(
            name,
            &format!("{} has no address", market.host),
            "check the coordinator's URL",
        ),
        Err(why) => failed(
            name,
            &format!("{} can't be looked up: {why}", market.host),
            "check /etc/resolv.conf and this machine's network",
        ),
    }
}

fn unknown(name: &str) -> Finding {
    warning(
        name,
        "no coordinator is known: this machine isn't enrolled",
        "give one to look for: ramarket-agent doctor --url https://…",
    )
}

/// Whether the coordinator answers, and believes what this node says.
pub(super) fn coordinator(name: &'static str, facts: &Facts) -> Finding {
    let Some(market) = &facts.market else {
        return unknown(name);
    };
    let answer = match &market.answered {
        Err(why) => {
            return failed(
                name,
                &format!("{} can't be reached: {why}", market.url),
                "check the network, a firewall that keeps https from going out, and the coordinator's certificate",
            );
        }
        Ok(answer) => answer,
    };
    if !answer.is_market {
        return failed(
            name,
            &format!(
                "what answers at {} isn't a coordinator (status {})",
                market.url, answer.status
            ),
            "check the URL; a proxy or a login page of the network may answer instead",
        );
    }
    let status = facts.status.as_ref();
    match status.filter(|status| status.contact == "lost") {
        Some(status) => failed(
            name,
            &format!(
                "{} answers, and doesn't take this node's beats: {}",
                market.url,
                status.reason.as_deref().unwrap_or("no reason is known")
            ),
            "do what the reason says; agent and coordinator of different versions: upgrade the older one",
        ),
        None => ok(
            name,
            &format!("{} answers within {} ms", market.url, answer.took_ms),
        ),
    }
}

/// Whether this machine's clock is that of the coordinator.
pub(super) fn clock(name: &'static str, facts: &Facts) -> Finding {
    let answered = facts.market.as_ref().and_then(|m| m.answered.as_ref().ok());
    let Some(Answered {
        ahead_ms: Some(ahead_ms),
        ..
    }) = answered
    else {
        return warning(
            name,
            "the coordinator's time isn't known",
            "mend coordinator first",
        );
    };
    let off_ms = ahead_ms.abs();
    let way = if *ahead_ms > 0 { "ahead of" } else { "behind" };
    let text = format!("the clock is {} s {way} the coordinator's", off_ms / 1_000);
    if off_ms < SKEW_MS_ODD {
        ok(name, "the clock is that of the coordinator")
    } else if off_ms < SKEW_MS_MAX {
        warning(name, &text, "set it: systemctl restart systemd-timesyncd")
    } else {
        failed(
            name,
            &format!("{text}: an enrolment is refused, and times in the journal are wrong"),
            "set it: timedatectl set-ntp true, then systemctl restart systemd-timesyncd",
        )
    }
}
