//! Sizes and times as people write them.
//!
//! # Invariants
//! - Whole numbers only, and nothing is guessed: a size has a unit, a time too.

use shared::time::Timestamp;

/// A size in bytes: `8GiB`, `512 MiB`, `1TiB`; powers of 1024.
///
/// # Errors
/// It isn't one.
pub fn bytes(text: &str) -> Result<i64, String> {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
    let found = units
        .iter()
        .find_map(|(unit, shift)| text.trim().strip_suffix(unit).map(|rest| (rest, *shift)));
    let (number, shift) = found.ok_or("write a size such as 8GiB or 512MiB")?;
    let number: i64 = number
        .trim()
        .parse()
        .ok()
        .filter(|number| *number >= 0)
        .ok_or("write a whole number before the unit, such as 8GiB")?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "that is more than any machine has".to_owned())
}

/// A time in milliseconds: `90s`, `30m`, `2h`, `7d`.
///
/// # Errors
/// It isn't one.
pub fn span_ms(text: &str) -> Result<i64, String> {
    let wrong = || "write a time such as 90s, 30m, 2h or 7d".to_owned();
    let text = text.trim();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let unit_ms: i64 = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 24 * 3_600_000,
        _ => return Err(wrong()),
    };
    let number: i64 = text
        .strip_suffix(unit)
        .and_then(|number| number.parse().ok())
        .filter(|number| *number >= 0)
        .ok_or_else(wrong)?;
    number.checked_mul(unit_ms).ok_or_else(wrong)
}

/// A moment: RFC 3339, such as `2027-01-10T02:00:00Z`.
///
/// # Errors
/// It isn't one.
pub fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text)
        .map_err(|_| "write a moment such as 2027-01-10T02:00:00Z".to_owned())
}

/// Thousandths of a CPU: `4`, `0.5`, `2.25`.
///
/// # Errors
/// It isn't one.
pub fn cpu_millis(text: &str) -> Result<i64, String> {
    let wrong = || "write a number of processors such as 4 or 0.5".to_owned();
    let (whole, part) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    if part.len() > 3 || !part.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(wrong());
    }
    let thousandths: i64 = format!("{part:0<3}").parse().map_err(|_| wrong())?;
    let whole: i64 = whole
        .parse()
        .ok()
        .filter(|number| *number >= 0)
        .ok_or_else(wrong)?;
    whole
        .checked_mul(1_000)
        .and_then(|millis| millis.checked_add(thousandths))
        .ok_or_else(wrong)
}

/// A size for people: `7.5 GiB`.
#[must_use]
pub fn shown_bytes(bytes: i64) -> String {
    const MIB: i64 = 1 << 20;
    const GIB: i64 = 1 << 30;
    if bytes < GIB {
        return format!("{} MiB", bytes / MIB);
    }
    format!("{}.{} GiB", bytes / GIB, bytes % GIB * 10 / GIB)
}

/// Thousandths of a CPU for people: `2.5`.
#[must_use]
pub fn shown_millis(millis: i64) -> String {
    format!("{}.{}", millis / 1_000, millis % 1_000 / 100)
}

/// A time for people: `2d 3h`, `4m 10s`.
#[must_use]
pub fn shown_span(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_sizes_and_times_in_these_ways_and_no_others() {
        assert_eq!(bytes("8GiB"), Ok(8 << 30));
        assert_eq!(bytes(" 512 MiB "), Ok(512 << 20));
        assert_eq!(bytes("0B"), Ok(0));
        for wrong in ["8", "8GB", "-1GiB", "GiB", "1.5GiB", "9999999999TiB", ""] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(span_ms("2h"), Ok(7_200_000));
        assert_eq!(span_ms("90s"), Ok(90_000));
        assert_eq!(span_ms("7d"), Ok(7 * 86_400_000));
        for wrong in ["2", "h", "-1h", "2 hours", "", "9999999999999999d", "1ä"] {
            assert!(span_ms(wrong).is_err(), "{wrong}");
        }
        assert_eq!(cpu_millis("4"), Ok(4_000));
        assert_eq!(cpu_millis("0.25"), Ok(250));
        for wrong in ["", "-1", ".5", "1.2345", "4 cores", "1.-2"] {
            assert!(cpu_millis(wrong).is_err(), "{wrong}");
        }
        assert!(moment("2027-01-10T02:00:00Z").is_ok() && moment("tomorrow").is_err());
    }

    #[test]
    fn people_read_them_in_these() {
        assert_eq!(shown_bytes(8 << 30), "8.0 GiB");
        assert_eq!(shown_bytes((3 << 30) / 2), "1.5 GiB");
        assert_eq!(shown_bytes(256 << 20), "256 MiB");
        assert_eq!(shown_millis(2_550), "2.5");
        for (ms, shown) in [
            (500, "0s"),
            (59_000, "59s"),
            (61_000, "1m 1s"),
            (7_260_000, "2h 1m"),
            (90_000_000, "1d 1h"),
        ] {
            assert_eq!(shown_span(ms), shown);
        }
    }
}
