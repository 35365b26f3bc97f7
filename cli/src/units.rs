//! Sizes, processor shares and durations as people write them: `256MiB`, `0.5`, `1h30m`.
//!
//! # Invariants
//! - Integers only: what can't be represented exactly is refused, not rounded.

/// Bytes: a number and B, KiB, MiB, GiB, TiB (powers of 1024) or KB, MB, GB, TB (powers of 1000).
///
/// # Errors
/// Anything else; a unit must be given.
pub fn bytes(text: &str) -> Result<i64, String> {
    let (number, unit) = split(text);
    let unit: i64 = match unit.to_ascii_lowercase().as_str() {
        "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err("write a size with its unit: 256MiB, 1.5GiB".into()),
    };
    positive(scaled(number, unit), "a size such as 256MiB or 1.5GiB")
}

/// Thousandths of a processor: `2`, `0.5` or `500m`.
///
/// # Errors
/// Anything else, or finer than a thousandth.
pub fn cpu_millis(text: &str) -> Result<i64, String> {
    let (number, unit) = split(text);
    let unit = match unit {
        "" => 1_000,
        "m" => 1,
        _ => return Err("write processors as 2, 0.5 or 500m".into()),
    };
    positive(scaled(number, unit), "processors such as 2, 0.5 or 500m")
}

/// Whole seconds: `90s`, `10m`, `1h30m`, `2d`.
///
/// # Errors
/// Anything else; a unit must be given.
pub fn seconds(text: &str) -> Result<i64, String> {
    const FORM: &str = "a duration such as 90s, 10m, 1h30m or 2d";
    let mut rest = text;
    let mut total: Option<i64> = (!text.is_empty()).then_some(0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let unit = match tail.chars().next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            _ => return Err(format!("write {FORM}")),
        };
        total = total
            .zip(scaled(number, unit))
            .and_then(|(sum, part)| sum.checked_add(part));
        rest = &tail[1..];
    }
    positive(total, FORM)
}

/// Bytes in the largest unit that shows them exactly to a hundredth.
pub fn show_bytes(bytes: i64) -> String {
    for (unit, name) in [
        (1_i64 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ] {
        if bytes >= unit {
            let hundredths = i128::from(bytes) * 100 / i128::from(unit);
            let (whole, part) = (hundredths / 100, hundredths % 100);
            return match part {
                0 => format!("{whole} {name}"),
                _ => format!("{whole}.{part:02} {name}"),
            };
        }
    }
    format!("{bytes} B")
}

/// Thousandths of a processor as a decimal number.
pub fn show_cpu(millis: i64) -> String {
    let text = format!("{}.{:03}", millis / 1_000, (millis % 1_000).abs());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Milliseconds as hours, minutes and seconds: `1h02m03s`.
pub fn show_ms(ms: i64) -> String {
    let seconds = ms / 1_000;
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds:02}s"),
        _ => format!("{hours}h{minutes:02}m{seconds:02}s"),
    }
}

/// Bytes as decimal GiB, exactly: what the market's filters take.
pub fn gib_text(bytes: i64) -> String {
    // 2^30 divides 10^30, so thirty decimals are always exact; ten cover whole bytes
    let ten_billionths = i128::from(bytes) * 10_000_000_000 / (1 << 30);
    let text = format!(
        "{}.{:010}",
        ten_billionths / 10_000_000_000,
        ten_billionths % 10_000_000_000
    );
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn split(text: &str) -> (&str, &str) {
    let at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    (number, unit.trim_start())
}

/// `number` (with decimals) times `unit`, if that is whole and fits.
fn scaled(number: &str, unit: i64) -> Option<i64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let plain = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(part) || number.ends_with('.') || part.len() > 9
    {
        return None;
    }
    let digits: i128 = format!("{whole}{part}").parse().ok()?;
    let parts = 10_i128.pow(u32::try_from(part.len()).ok()?);
    let product = digits.checked_mul(i128::from(unit))?;
    (product % parts == 0).then(|| i64::try_from(product / parts).ok())?
}

fn positive(value: Option<i64>, form: &str) -> Result<i64, String> {
    match value {
        Some(value) if value > 0 => Ok(value),
        _ => Err(format!("write {form}, more than nothing")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact() {
        for (text, value) in [
            ("256MiB", 256 << 20),
            ("1GiB", 1 << 30),
            ("1.5 GiB", 3 << 29),
            ("0.25gib", 1 << 28),
            ("2GB", 2_000_000_000),
            ("17B", 17),
        ] {
            assert_eq!(bytes(text), Ok(value), "{text}");
        }
        for bad in [
            "",
            "1",
            "GiB",
            "-1GiB",
            "1.GiB",
            ".5GiB",
            "0MiB",
            "0.3B",
            "1e3MiB",
            "9999999TiB",
            "1GiBs",
        ] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn processors_are_thousandths() {
        for (text, value) in [("2", 2_000), ("0.5", 500), ("250m", 250), ("0.001", 1)] {
            assert_eq!(cpu_millis(text), Ok(value), "{text}");
        }
        for bad in ["", "0", "0.0001", "1.5m", "2x", "-1"] {
            assert!(cpu_millis(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_add_up() {
        for (text, value) in [("90s", 90), ("10m", 600), ("1h30m", 5_400), ("2d", 172_800)] {
            assert_eq!(seconds(text), Ok(value), "{text}");
        }
        for bad in [
            "",
            "10",
            "m",
            "1h30",
            "0s",
            "-1h",
            "1.5h",
            "1w",
            "99999999999999999999s",
            "9223372036854775807d",
        ] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_shown_reads_well() {
        assert_eq!(show_bytes(256 << 20), "256 MiB");
        assert_eq!(show_bytes(3 << 29), "1.50 GiB");
        assert_eq!(show_bytes(0), "0 B");
        assert_eq!(show_ms(3_723_999), "1h02m03s");
        assert_eq!(
            (show_ms(61_000), show_ms(999)),
            ("1m01s".into(), "0s".into())
        );
        assert_eq!((show_cpu(500), show_cpu(2_000)), ("0.5".into(), "2".into()));
        assert_eq!(
            (gib_text(256 << 20), gib_text(2 << 30)),
            ("0.25".into(), "2".into())
        );
    }
}
