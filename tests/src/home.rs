//! A market in front of which nginx speaks TLS, and a node at home behind a router: how most of both are met.

use std::path::PathBuf;

use coordinator::store::testing::TempDir;

use crate::{
    api::http_client,
    authority::{self, Authority},
    market::{Market, Store},
    nat::Nat,
    node::Node,
    people,
    proxy::{Face, Proxy},
    stage::Stage,
    wait,
};

/// The domain below which rentals have host names.
pub const TENANTS: &str = "apps.example";

/// The market, the node and what is between them.
#[derive(Debug)]
pub struct Home {
    // dropped first
    /// The market and its node, on whose offer one rents.
    pub stage: Stage,
    /// The router.
    pub nat: Nat,
    /// Where the proxy is reached.
    pub face: Face,
    _proxy: Proxy,
    folder: TempDir,
}

impl Home {
    /// With SSH and host names of rentals, and `settings` on top.
    ///
    /// # Panics
    /// If a part doesn't start.
    pub async fn set(settings: &[(&str, &str)]) -> Self {
        let (nat, folder) = (Nat::lay(), TempDir::new());
        let address = nat.outside();
        let authority = Authority::new(folder.path());
        let names = format!("DNS:localhost,DNS:*.{TENANTS},IP:{address}");
        authority.certify_for("leaf", &names);
        let face = Face::at(address, &format!("{address} *.{TENANTS}"));
        let url = format!("https://{address}:{}", face.tls);
        let own = [
            ("http.public_url", url.as_str()),
            ("gateway.tenant_domain", TENANTS),
            ("ssh.listen", "127.0.0.1:0"),
            ("ssh.public_host", "127.0.0.1"),
            // tests try until it works
            ("ssh.connections_per_minute_ip", "60000"),
            ("ssh.refusals_per_minute_ip", "60000"),
        ];
        let market = Market::with(Store::Sqlite, &[&own[..], settings].concat()).await;
        let proxy = Proxy::start(folder.path(), &face, market.port());
        let http = authority::trusting(&authority.pem())
            .build()
            .expect("a client");
        wait::until("nginx answers", || async {
            http.get(format!("{url}/healthz")).send().await.ok()
        })
        .await;
        let provider = people::provider(&market).await;
        let mut node = Node::enrol_behind(&url, &authority.pem(), &provider).await;
        let command = nat.inside(&node.command(&["run"]));
        node.launch_by(command);
        node.until_online().await;
        let offer = node.offer("3.60", "0.36").await;
        let offer_id = offer["id"].as_str().expect("an id").to_owned();
        let stage = Stage {
            node,
            provider,
            offer_id,
            market,
        };
        Self {
            stage,
            nat,
            face,
            _proxy: proxy,
            folder,
        }
    }

    /// The certificate of the authority that the proxy's own is of.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// `SIGKILL` to the agent, and a new one at home.
    pub fn kill9_and_launch(&mut self) {
        self.stage.node.kill9();
        let command = self.stage.node.command(&["run"]);
        self.stage.node.launch_by(self.nat.inside(&command));
    }

    /// How many links the market has, and how many streams are open.
    ///
    /// # Panics
    /// If it doesn't say.
    pub async fn gauge(&self, name: &str) -> f64 {
        let url = format!("{}/metrics", self.stage.market.url());
        let answer = http_client().get(url).send().await.expect("an answer");
        let text = answer.text().await.expect("text");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().expect("a number"))
    }
}
