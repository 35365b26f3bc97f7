//! Host names of rentals: `rnt-<hex>.<domain>`, and `<port>-rnt-<hex>.<domain>` for one port of several.

use shared::id::RentalId;

/// What a host name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Host {
    /// None of the domain's: the console and the API.
    Ours,
    /// A rental's, and one port of it.
    Rental(RentalId, Option<u16>),
    /// One of the domain's that nobody has.
    Nobody,
}

impl Host {
    /// Of a host as a request names it, with or without a port, below `domain`.
    pub(super) fn of(host: &str, domain: &str) -> Self {
        let host = host.to_ascii_lowercase();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host.as_str(),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        let Some(label) = name.strip_suffix(domain) else {
            return Self::Ours;
        };
        if label.is_empty() {
            return Self::Nobody;
        }
        let Some(label) = label.strip_suffix('.') else {
            // another domain that ends like it
            return Self::Ours;
        };
        rental(label).map_or(Self::Nobody, |(rental, port)| Self::Rental(rental, port))
    }

    /// The name of a port of a rental.
    pub(super) fn name(rental: RentalId, port: u16, domain: &str) -> String {
        format!("{port}-{}.{domain}", rental.to_string().replace('_', "-"))
    }
}

fn rental(label: &str) -> Option<(RentalId, Option<u16>)> {
    let (port, name) = match label.strip_prefix("rnt-") {
        Some(_) => (None, label),
        None => {
            let (port, name) = label.split_once('-')?;
            let is_plain = port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
            (Some(port.parse().ok().filter(|_| is_plain)?), name)
        }
    };
    let hex = name.strip_prefix("rnt-")?;
    Some((format!("rnt_{hex}").parse().ok()?, port))
}

#[cfg(test)]
mod tests {
    use shared::id::Ids;

    use super::*;

    #[test]
    fn a_name_means_a_rental_or_nobody_and_others_are_ours() {
        let id: RentalId = Ids::counting().mint();
        let domain = "apps.example";
        let name = Host::name(id, 8080, domain);
        assert_eq!(Host::of(&name, domain), Host::Rental(id, Some(8080)));
        assert_eq!(
            Host::of(&format!("{name}:443"), domain),
            Host::Rental(id, Some(8080))
        );
        let all = name.strip_prefix("8080-").expect("a port");
        assert_eq!(
            Host::of(&all.to_uppercase(), domain),
            Host::Rental(id, None)
        );
        for nobody in [
            "apps.example",
            "www.apps.example",
            "a.b.apps.example",
            &format!("0-{all}"),
            &format!("080-{all}"),
            &format!("70000-{all}"),
            &format!("-{all}"),
            &format!("x.{all}"),
        ] {
            assert_eq!(Host::of(nobody, domain), Host::Nobody, "{nobody}");
        }
        for ours in [
            "market.example",
            "xapps.example",
            "localhost:8080",
            "[::1]:8080",
            "",
        ] {
            assert_eq!(Host::of(ours, domain), Host::Ours, "{ours}");
        }
    }
}
