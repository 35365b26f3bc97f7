//! [`DatabaseUrl`]: where the database is.
//!
//! # Invariants
//! - A parsed URL never leads over a network without encryption: TLS to PostgreSQL isn't built in, so that only
//!   unix sockets and loopback addresses are accepted.
//! - `Debug` shows no password.

use std::{net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use tokio_postgres::config::{Host, SslMode};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the database is.
///
/// - `sqlite:///var/lib/ramarket/market.db`: an absolute path (three slashes).
/// - `sqlite://./market.db`, `sqlite://../market.db`: relative to the working directory. The path is taken literally.
/// - `postgres://user@/market?host=/run/postgresql`: a unix socket (the folder it lies in).
/// - `postgres://user:password@127.0.0.1:5432/market`: loopback, also the end of a TLS tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A file of SQLite.
    Sqlite(PathBuf),
    /// A PostgreSQL server, or what speaks its protocol.
    Postgres(Box<tokio_postgres::Config>),
}

/// Why a text isn't a usable [`DatabaseUrl`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("invalid database URL: {0}")]
pub struct DatabaseUrlError(String);

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("sqlite://") {
            sqlite_path(path).map(Self::Sqlite)
        } else if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            postgres_config(text).map(|config| Self::Postgres(Box::new(config)))
        } else {
            Err(refuse(
                "it must start with sqlite:// or postgres://, as in sqlite:///var/lib/ramarket/market.db",
            ))
        }
    }
}

fn refuse(why: impl Into<String>) -> DatabaseUrlError {
    DatabaseUrlError(why.into())
}

fn sqlite_path(path: &str) -> Result<PathBuf, DatabaseUrlError> {
    let rooted = ["/", "./", "../"].iter().any(|root| path.starts_with(root));
    if !rooted || path.ends_with('/') {
        return Err(refuse(
            "sqlite:// is followed by the path of a file: sqlite:///absolute/file or sqlite://./relative/file",
        ));
    }
    if path.contains(['?', '#', '\0']) {
        return Err(refuse(
            "a sqlite path takes no parameters: remove everything from `?` or `#` on",
        ));
    }
    Ok(PathBuf::from(path))
}

fn postgres_config(text: &str) -> Result<tokio_postgres::Config, DatabaseUrlError> {
    let mut config = tokio_postgres::Config::from_str(text).map_err(|error| {
        let cause = std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
        refuse(format!("{error}: {cause}"))
    })?;
    if config.get_hosts().is_empty() {
        return Err(refuse(
            "no host is named: add one, as in postgres://user@/market?host=/run/postgresql",
        ));
    }
    let remote = config.get_hosts().iter().any(|host| match host {
        Host::Unix(_) => false,
        Host::Tcp(name) => !is_loopback(name),
    }) || config.get_hostaddrs().iter().any(|it| !it.is_loopback());
    if remote {
        return Err(refuse(
            "PostgreSQL on another machine would be spoken to without encryption: use a unix socket, loopback or a TLS tunnel",
        ));
    }
    if config.get_ssl_mode() == SslMode::Require {
        return Err(refuse(
            "sslmode=require isn't supported: use a unix socket, loopback or a TLS tunnel",
        ));
    }
    config.ssl_mode(SslMode::Disable);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_application_name().is_none() {
        config.application_name("ramarket-coordinator");
    }
    Ok(config)
}

fn is_loopback(name: &str) -> bool {
    name == "localhost" || IpAddr::from_str(name).is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlite(text: &str) -> Option<PathBuf> {
        match text.parse() {
            Ok(DatabaseUrl::Sqlite(path)) => Some(path),
            _ => None,
        }
    }

    #[test]
    fn sqlite_urls_are_absolute_or_openly_relative() {
        assert_eq!(sqlite("sqlite:///var/a.db"), Some("/var/a.db".into()));
        assert_eq!(sqlite("sqlite://./var/a.db"), Some("./var/a.db".into()));
        assert_eq!(sqlite("sqlite://../a.db"), Some("../a.db".into()));
        for wrong in [
            "sqlite://var/a.db",
            "sqlite://",
            "sqlite:///var/",
            "sqlite:///a?mode=ro",
            "/var/a.db",
            "mysql://x",
        ] {
            assert_eq!(sqlite(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn postgres_is_spoken_to_only_over_safe_ways() {
        for good in [
            "postgres://me@/market?host=/run/postgresql",
            "postgres://me@%2Frun%2Fpostgresql/market",
            "postgresql://me:secret@127.0.0.1:5433/market",
            "postgres://me@[::1]/market",
            "postgres://me@localhost/market?sslmode=prefer",
        ] {
            assert!(DatabaseUrl::from_str(good).is_ok(), "{good}");
        }
        for bad in [
            "postgres://me@db.example.com/market",
            "postgres://me@10.0.0.7/market",
            "postgres://me@localhost/market?hostaddr=10.0.0.7",
            "postgres://me@localhost,10.0.0.7/market",
            "postgres://me@localhost/market?sslmode=require",
        ] {
            let error = DatabaseUrl::from_str(bad).unwrap_err().to_string();
            assert!(error.contains("TLS tunnel"), "{bad}: {error}");
        }
        assert!(DatabaseUrl::from_str("postgres://me@/market").is_err());
    }

    #[test]
    fn debug_shows_no_password() {
        let url = DatabaseUrl::from_str("postgres://me:hunter2@127.0.0.1/market").unwrap();
        assert!(!format!("{url:?}").contains("hunter2"));
    }
}
