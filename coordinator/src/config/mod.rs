//! Settings: flag > environment > file > default; one section per file, each with its bounds.
//!
//! # Invariants
//! - An unknown key is refused, whatever it came from; a refused value names its key and what would be right.
//! - Nothing but loopback is served without TLS.
//! - Secrets can't be printed: they are [`SecretText`].

mod agents;
mod audit;
mod auth;
mod gateway;
mod http;
mod images;
mod kyc;
mod limits;
mod log;
mod mail;
mod market;
mod oidc;
mod outbound;
mod payments;
mod payouts;
mod rates;
mod retention;
mod source;
mod ssh;
mod tasks;
#[cfg(test)]
mod tests;
mod webhooks;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use shared::secret::Secret;

pub use self::{
    agents::AgentsConfig,
    audit::AuditConfig,
    auth::{AuthConfig, SecondFactor},
    gateway::GatewayConfig,
    http::HttpConfig,
    images::{ImagesConfig, Resolve, registry_of},
    kyc::{KycConfig, KycGate},
    limits::LimitsConfig,
    log::{LogConfig, LogFormat},
    mail::MailConfig,
    market::MarketConfig,
    oidc::{OidcConfig, OidcProviderConfig},
    outbound::OutboundConfig,
    payments::{AssetConfig, FacilitatorConfig, NetworkConfig, PaymentsConfig, PaymentsMode},
    payouts::PayoutsConfig,
    rates::RatesConfig,
    retention::RetentionConfig,
    source::Sources,
    ssh::SshConfig,
    tasks::TasksConfig,
    webhooks::WebhooksConfig,
};

/// A setting that was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It can't be read: unknown key, wrong type, no such file.
    #[error("settings: {0}")]
    Unreadable(String),
    /// It was understood, but is out of bounds.
    #[error("setting {key}: {problem}")]
    Invalid {
        /// `section.key`.
        key: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl ConfigError {
    fn invalid(key: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid {
            key,
            problem: problem.into(),
        }
    }
}

/// All settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where keys and, unless `database.url` says otherwise, the database are kept.
    pub data_dir: PathBuf,
    /// The token that may call `POST /cron/metering` and read `/metrics`; at least 32 characters.
    pub cron_token: Option<SecretText>,
    /// The address and the public face.
    pub http: HttpConfig,
    /// Which database.
    pub database: DatabaseConfig,
    /// Accounts and sessions.
    pub auth: AuthConfig,
    /// Mail to people.
    pub mail: MailConfig,
    /// Who else may say who somebody is, by name.
    pub oidc: OidcConfig,
    /// How rentals are paid.
    pub payments: PaymentsConfig,
    /// Money out.
    pub payouts: PayoutsConfig,
    /// What one currency costs in another.
    pub rates: RatesConfig,
    /// The rules of the market.
    pub market: MarketConfig,
    /// How often nodes speak and when they are missed.
    pub agents: AgentsConfig,
    /// Streams into rentals.
    pub gateway: GatewayConfig,
    /// Proof of identity.
    pub kyc: KycConfig,
    /// The audit log.
    pub audit: AuditConfig,
    /// Which images are sold, and how their registries are asked.
    pub images: ImagesConfig,
    /// What the coordinator may call on behalf of others.
    pub outbound: OutboundConfig,
    /// The gateway by which rentals are reached with a stock SSH client.
    pub ssh: SshConfig,
    /// How often callers may do what, and how much at once.
    pub limits: LimitsConfig,
    /// How often the built-in timers run.
    pub tasks: TasksConfig,
    /// How long things are kept.
    pub retention: RetentionConfig,
    /// Webhooks.
    pub webhooks: WebhooksConfig,
    /// The log.
    pub log: LogConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("var/coordinator"),
            cron_token: None,
            http: HttpConfig::default(),
            database: DatabaseConfig::default(),
            auth: AuthConfig::default(),
            mail: MailConfig::default(),
            oidc: OidcConfig::default(),
            payments: PaymentsConfig::default(),
            payouts: PayoutsConfig::default(),
            rates: RatesConfig::default(),
            market: MarketConfig::default(),
            agents: AgentsConfig::default(),
            gateway: GatewayConfig::default(),
            kyc: KycConfig::default(),
            audit: AuditConfig::default(),
            images: ImagesConfig::default(),
            outbound: OutboundConfig::default(),
            ssh: SshConfig::default(),
            limits: LimitsConfig::default(),
            tasks: TasksConfig::default(),
            retention: RetentionConfig::default(),
            webhooks: WebhooksConfig::default(),
            log: LogConfig::default(),
        }
    }
}

/// Which database.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `sqlite:///path` or `postgres://user:password@host/name`; without it SQLite in `data_dir`.
    pub url: Option<SecretText>,
}

impl Config {
    /// Reads the sources and checks every bound.
    ///
    /// # Errors
    /// The first setting that can't be read or is out of bounds.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut config = source::read(sources)?;
        let secrets = [
            &mut config.cron_token,
            &mut config.database.url,
            &mut config.mail.smtp_url,
            &mut config.kyc.webhook_secret,
        ];
        let secrets = secrets.into_iter().flatten();
        for secret in secrets.chain(config.payments.secrets()) {
            secret.read_file()?;
        }
        config.validate()?;
        Ok(config)
    }

    /// Checks the bounds of every section.
    ///
    /// # Errors
    /// The first setting that is out of bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let too_short = |token: &SecretText| token.expose().len() < 32;
        if self.cron_token.as_ref().is_some_and(too_short) {
            return Err(ConfigError::invalid(
                "cron_token",
                "use at least 32 characters, such as the output of `openssl rand -hex 32`",
            ));
        }
        self.http.validate()?;
        self.auth.validate()?;
        self.mail.validate()?;
        oidc::validate(&self.oidc)?;
        self.payments.validate()?;
        self.payouts.validate()?;
        let no_address = self.payments.pay_to.is_none() && self.payouts.key_file.is_none();
        let accepted = self.payments.accepted();
        let lost = no_address && accepted.iter().any(|asset| asset.pay_to.is_none());
        if lost && self.payments.mode == PaymentsMode::Facilitator {
            return Err(ConfigError::invalid(
                "payments.pay_to",
                "set the address that is to be paid, or payouts.key_file: its wallet is paid then",
            ));
        }
        self.rates.validate()?;
        self.market.validate()?;
        self.agents.validate()?;
        self.gateway.validate(&self.http)?;
        self.kyc.validate()?;
        self.audit.validate()?;
        self.images.validate()?;
        self.outbound.validate()?;
        self.ssh.validate()?;
        self.limits.validate()?;
        self.tasks.validate()?;
        self.retention.validate()?;
        self.webhooks.validate()?;
        self.log.validate()
    }

    /// The name or address under which SSH clients reach us.
    #[must_use]
    pub fn ssh_host(&self) -> String {
        self.ssh.public_host.clone().unwrap_or_else(|| {
            let url = self.http.public_url().parse::<::http::Uri>();
            let host = url.ok().and_then(|url| url.host().map(str::to_owned));
            let host = host.unwrap_or_else(|| "localhost".to_owned());
            host.trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned()
        })
    }

    /// The database's URL; it may hold a password.
    #[must_use]
    pub fn database_url(&self) -> Secret<String> {
        self.database.url.as_ref().map_or_else(
            || Secret::new(sqlite_url(&self.data_dir.join("market.db"))),
            |url| Secret::new(url.expose().to_owned()),
        )
    }
}

fn sqlite_url(path: &Path) -> String {
    let root = if path.is_absolute() { "" } else { "./" };
    format!("sqlite://{root}{}", path.display())
}

/// A setting that must never be printed. Written as `@/path`, it is the first line of that file, or the whole of a PEM file.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Secret<String>);

impl SecretText {
    /// Wraps.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Secret::new(text.into()))
    }

    /// The text, at the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    fn read_file(&mut self) -> Result<(), ConfigError> {
        let Some(path) = self.expose().strip_prefix('@') else {
            return Ok(());
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Unreadable(format!("secret file {path}: {error}")))?;
        let whole = text.starts_with("-----BEGIN ");
        let line = text.lines().next().unwrap_or_default();
        *self = Self::new(if whole { &text } else { line });
        Ok(())
    }
}

impl std::fmt::Debug for SecretText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// Whether `host` (of a URL, IPv6 in brackets) is this machine.
fn is_loopback_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a URL of the settings may be called: https, or plain http to this machine; without user, query and fragment.
fn is_callable(url: &str) -> bool {
    let Ok(uri) = url.parse::<::http::Uri>() else {
        return false;
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return false;
    };
    let reached = scheme == "https" || (scheme == "http" && is_loopback_host(authority.host()));
    reached && !url.contains(['?', '#', '@'])
}

/// Refuses `value` outside `low..=high`.
fn within(key: &'static str, value: u32, low: u32, high: u32) -> Result<(), ConfigError> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(ConfigError::invalid(
            key,
            format!("{value} is out of bounds: use {low} to {high}"),
        ))
    }
}
