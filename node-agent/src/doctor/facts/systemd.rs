//! What systemd's programs say, where they are.

use std::{path::Path, process::Stdio};

use tokio::{process::Command, time::timeout};

use super::{Unit, WITHIN};

/// What a program says, if it is there and ends well in time.
async fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(WITHIN, child).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

pub(super) async fn clock_synced() -> Option<bool> {
    let text = said("timedatectl", &["show", "-p", "NTPSynchronized", "--value"]).await?;
    match text.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

pub(super) async fn unit() -> Option<Unit> {
    // the folder is there exactly when systemd is the first process
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    let properties = "LoadState,ActiveState,UnitFileState,WatchdogUSec";
    let text = said("systemctl", &["show", "ramarket-agent", "-p", properties]).await?;
    Some(parsed_unit(&text))
}

fn parsed_unit(text: &str) -> Unit {
    let of = |name: &str| {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().to_owned()
    };
    Unit {
        load: of("LoadState"),
        active: of("ActiveState"),
        enabled: of("UnitFileState"),
        watchdog_us: span_us(&of("WatchdogUSec")),
    }
}

/// As systemd shows a time: `30s`, `1min 30s`, `500ms`; 0 for none.
fn span_us(text: &str) -> u64 {
    let units = [
        ("min", 60_000_000),
        ("ms", 1_000),
        ("us", 1),
        ("s", 1_000_000),
        ("h", 3_600_000_000),
    ];
    let parts = text.split_ascii_whitespace().map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = part.split_at_checked(digits)?;
        let (_, scale) = units.iter().find(|(known, _)| *known == unit)?;
        number.parse::<u64>().ok()?.checked_mul(*scale)
    });
    parts.map(Option::unwrap_or_default).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_properties_are_read() {
        assert_eq!(span_us("30s"), 30_000_000);
        assert_eq!(span_us("1min 30s"), 90_000_000);
        assert_eq!(span_us("0"), 0);
        assert_eq!(span_us("infinity"), 0);
        let unit = parsed_unit(
            "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nWatchdogUSec=30s\n",
        );
        assert_eq!(
            (
                unit.load.as_str(),
                unit.active.as_str(),
                unit.enabled.as_str(),
                unit.watchdog_us
            ),
            ("loaded", "active", "enabled", 30_000_000)
        );
    }
}
