//! Where the coordinator is.
//!
//! # Invariants
//! - Plain http only to this machine itself: a token, a beat or a link never crosses a network unencrypted.
//! - Requests go to the URL given at enrolment; signatures are made over the public URL that the coordinator named, since
//!   a reverse proxy may stand between the two.

use std::net::IpAddr;

use anyhow::Context as _;
use reqwest::Url;
use shared::id::NodeId;

/// A base URL without a trailing slash: `https://market.example` or `https://example/market`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(String);

const URL_CHARS_MAX: usize = 512;

impl BaseUrl {
    /// The URL that requests are sent to: https, or http to a loopback address.
    ///
    /// # Errors
    /// Not such a URL; the text says what to do.
    pub fn to_connect(text: &str) -> anyhow::Result<Self> {
        let (base, url) = Self::parse(text)?;
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&url) => {}
            "http" => anyhow::bail!(
                "{base} is plain http to another machine, where anybody on the way could read the token and pose as \
                 this node; use https:// (plain http is accepted only for 127.0.0.0/8, ::1 and localhost)"
            ),
            other => anyhow::bail!("{base} has the scheme {other}; use https://"),
        }
        Ok(Self(base))
    }

    /// The URL that signatures are made over: any http or https URL.
    ///
    /// # Errors
    /// Not such a URL.
    pub fn to_sign(text: &str) -> anyhow::Result<Self> {
        let (base, url) = Self::parse(text)?;
        anyhow::ensure!(
            matches!(url.scheme(), "http" | "https"),
            "{base} isn't an http or https URL"
        );
        Ok(Self(base))
    }

    fn parse(text: &str) -> anyhow::Result<(String, Url)> {
        anyhow::ensure!(
            text.len() <= URL_CHARS_MAX,
            "a URL has at most {URL_CHARS_MAX} characters"
        );
        let base = text.trim().trim_end_matches('/');
        let url: Url = base
            .parse()
            .with_context(|| format!("{base} isn't a URL such as https://market.example"))?;
        anyhow::ensure!(url.has_host(), "{base} names no host");
        anyhow::ensure!(
            url.query().is_none() && url.fragment().is_none(),
            "{base} has a query or a fragment; give the base URL only"
        );
        anyhow::ensure!(
            url.username().is_empty() && url.password().is_none(),
            "the URL holds a user name or a password; leave them out"
        );
        Ok((base.to_owned(), url))
    }

    /// As text, without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether connections are encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0
            .get(..6)
            .is_some_and(|start| start.eq_ignore_ascii_case("https:"))
    }

    /// Where to enrol.
    #[must_use]
    pub fn enroll(&self) -> String {
        format!("{}/api/v1/nodes/enroll", self.0)
    }

    /// Where a node sends its beats.
    #[must_use]
    pub fn heartbeat(&self, node_id: NodeId) -> String {
        format!("{}/api/v1/nodes/{node_id}/heartbeat", self.0)
    }

    /// Where a node listens for nudges. `beacon` is hex.
    #[must_use]
    pub fn link(&self, node_id: NodeId, beacon: &str) -> String {
        format!("{}/api/v1/nodes/{node_id}/link?beacon={beacon}", self.0)
    }
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for good in [
            "https://market.example",
            "https://market.example/base/",
            "http://127.0.0.1:8080",
            "http://127.3.2.1",
            "http://[::1]:8080/",
            "http://localhost:8080",
        ] {
            assert!(BaseUrl::to_connect(good).is_ok(), "{good}");
        }
        for bad in [
            "http://market.example",
            "http://10.0.0.1",
            "http://localhost.example",
            "http://127.0.0.1.example",
            "http://[::2]",
            "http://0.0.0.0",
            "ftp://127.0.0.1",
            "market.example",
            "https://user:secret@market.example",
            "https://market.example?x=1",
            "",
        ] {
            assert!(BaseUrl::to_connect(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_put_behind_the_base() {
        let base = BaseUrl::to_connect("https://example/market/").expect("url");
        let node: NodeId = shared::id::Ids::counting().mint();
        assert_eq!(
            base.link(node, "ab"),
            format!("https://example/market/api/v1/nodes/{node}/link?beacon=ab")
        );
    }
}
