//! What a registry wants before it answers: `WWW-Authenticate`, read into what we can do about it.
//!
//! # Invariants
//! - It comes from whoever answered: bounded, and nothing of it is believed but where to ask for a token.

/// Longest header that is read.
const HEADER_BYTES_MAX: usize = 4_096;
/// Parameters that are looked at.
const PARAMETERS_MAX: usize = 16;

/// What a registry wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password.
    Basic,
    /// A token.
    Bearer {
        /// Where to get one.
        realm: String,
        /// For whom.
        service: Option<String>,
    },
}

/// The challenge of one header; `None` if it is of no kind that we know.
pub(super) fn read(header: &str) -> Option<Challenge> {
    if header.len() > HEADER_BYTES_MAX {
        return None;
    }
    let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service) = (None, None);
    let mut rest = rest;
    for _ in 0..PARAMETERS_MAX {
        let Some((name, value, after)) = parameter(rest) else {
            break;
        };
        if name.eq_ignore_ascii_case("realm") && realm.is_none() {
            realm = Some(value.to_owned());
        } else if name.eq_ignore_ascii_case("service") && service.is_none() {
            service = Some(value.to_owned());
        }
        rest = after;
    }
    Some(Challenge::Bearer {
        realm: realm?,
        service,
    })
}

/// `name="value"` or `name=value`, and what follows its comma.
fn parameter(text: &str) -> Option<(&str, &str, &str)> {
    let text = text.trim_start_matches([' ', ',']);
    let (name, rest) = text.split_once('=')?;
    if let Some(quoted) = rest.strip_prefix('"') {
        // a quote within a value would be escaped; no realm has one
        let (value, after) = quoted.split_once('"')?;
        return Some((name.trim(), value, after));
    }
    let (value, after) = rest.split_once(',').unwrap_or((rest, ""));
    Some((name.trim(), value.trim(), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_say_what_they_want() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        for (header, challenge) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a,b:pull""#,
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (
                r#"bearer service=x, realm="https://y/""#,
                bearer("https://y/", Some("x")),
            ),
            (
                r#"Bearer realm="https://y",realm="https://z""#,
                bearer("https://y", None),
            ),
            (r#"Basic realm="Registry""#, Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            ("Bearer", None),
            (r#"Bearer realm="https://y"#, None),
            ("Negotiate abc", None),
            ("", None),
        ] {
            assert_eq!(read(header), challenge, "{header}");
        }
        assert_eq!(read(&format!("Basic {}", "x".repeat(5_000))), None);
    }
}
