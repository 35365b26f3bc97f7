//! `config.toml` in the configuration folder: what is the same for every command. A flag goes before the environment, that before
//! this file, that before the default.
//!
//! # Invariants
//! - An unknown name is an error: a misspelt limit must not be none.
//! - A file that others may write isn't believed: it could send payments elsewhere.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use reqwest::Url;
use serde::Deserialize;
use shared::money::{Amount, Asset};

use crate::{
    api,
    args::{Args, MarketName},
    failure::{Failure, Result},
    output::Form,
};

const FILE_BYTES_MAX: u64 = 1024 * 1024;
const URL_DEFAULT: &str = "http://127.0.0.1:8080";

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The market, by its URL or by a name of `markets`.
    pub market: Option<String>,
    /// Prints JSON, as `--json` does.
    pub json: bool,
    /// Markets by the names that `--url` takes.
    pub markets: BTreeMap<String, Market>,
    /// The key that pays.
    pub wallet: Wallet,
    /// JSON-RPC endpoints by network, as `base-sepolia = "https://…"`: where `wallet balance` asks.
    pub rpc: BTreeMap<String, String>,
    /// What `ramarket mcp` may spend.
    pub mcp: Mcp,
}

/// A market.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Market {
    /// Its URL.
    pub url: String,
    /// A file with the API key for it.
    #[serde(default)]
    pub api_key_file: Option<PathBuf>,
}

/// The wallet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wallet {
    /// The key's file.
    pub key_file: Option<PathBuf>,
    /// A file with its passphrase.
    pub passphrase_file: Option<PathBuf>,
    /// What one payment may cost without being asked about.
    pub limit: Option<Amount>,
    /// What all payments of a day may.
    pub limit_per_day: Option<Amount>,
    /// The currency that is paid in.
    pub currency: Option<Asset>,
}

/// `ramarket mcp`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mcp {
    /// What one call may spend.
    pub limit: Option<Amount>,
    /// What all calls of one run may.
    pub limit_in_all: Option<Amount>,
}

/// What holds for a command after flags, environment, file and defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The market.
    pub url: Url,
    /// Where keys and tokens are kept.
    pub folder: PathBuf,
    /// How results are printed.
    pub form: Form,
    /// A file with an API key.
    pub api_key_file: Option<PathBuf>,
    /// The file itself.
    pub config: Config,
}

impl Settings {
    /// Puts them together.
    ///
    /// # Errors
    /// There is no folder for them, the file is damaged or writable by others, or it names no such market.
    pub fn of(args: &Args) -> Result<Self> {
        let folder = args
            .config_dir
            .clone()
            .or_else(usual_folder)
            .ok_or_else(|| {
                Failure::usage(
                    "neither XDG_CONFIG_HOME nor HOME is set: name a folder with --config-dir",
                )
            })?;
        let config = read(&folder.join("config.toml"))?;
        let named = match &args.url {
            Some(named) => named.clone(),
            None => MarketName::parse(config.market.as_deref().unwrap_or(URL_DEFAULT))
                .map_err(|why| Failure::usage(format!("config.toml: market: {why}")))?,
        };
        let (url, its_key_file) = find(&config, &named)?;
        let form = match (args.json, args.quiet) {
            (true, _) => Form::Json,
            (_, true) => Form::Ids,
            _ if config.json => Form::Json,
            _ => Form::Text,
        };
        Ok(Self {
            url,
            folder,
            form,
            api_key_file: args.api_key_file.clone().or(its_key_file),
            config,
        })
    }
}

fn find(config: &Config, named: &MarketName) -> Result<(Url, Option<PathBuf>)> {
    let name = match named {
        MarketName::Url(url) => {
            let known = config
                .markets
                .values()
                .find(|market| api::parse_base(&market.url).is_ok_and(|market| market == *url));
            return Ok((
                url.clone(),
                known.and_then(|market| market.api_key_file.clone()),
            ));
        }
        MarketName::Named(name) => name,
    };
    let market = config.markets.get(name).ok_or_else(|| {
        Failure::usage(format!(
            "there is no market {name} in config.toml: add [markets.{name}] with its url, or give --url a whole URL"
        ))
    })?;
    let url = api::parse_base(&market.url)
        .map_err(|why| Failure::usage(format!("config.toml: markets.{name}.url: {why}")))?;
    Ok((url, market.api_key_file.clone()))
}

/// The file at `path`; the defaults if there is none.
///
/// # Errors
/// It is damaged, too large, or others may write it.
pub fn read(path: &Path) -> Result<Config> {
    let shown = path.display();
    let wrong = |why: String| Failure::usage(format!("{shown}: {why}"));
    let facts = match fs::metadata(path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Config::default()),
        Err(error) => return Err(wrong(format!("can't be examined: {error}"))),
    };
    let mode = facts.permissions().mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(wrong(format!(
            "others may write it (mode {mode:03o}): run chmod 600 on it and look at what it says"
        )));
    }
    if facts.len() > FILE_BYTES_MAX {
        return Err(wrong("is larger than 1 MiB".to_owned()));
    }
    let text =
        fs::read_to_string(path).map_err(|error| wrong(format!("can't be read: {error}")))?;
    toml::from_str(&text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))
}

fn usual_folder() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let base = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(base.join("ramarket"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::private_file::{self, tests::Folder};

    fn settings(folder: &Folder, line: &str) -> Result<Settings> {
        let folder = folder.0.to_str().unwrap();
        let words = ["ramarket", "--config-dir", folder];
        let args = Args::try_parse_from(words.into_iter().chain(line.split(' '))).unwrap();
        Settings::of(&args)
    }

    #[test]
    fn a_flag_goes_before_the_file_and_that_before_the_default() {
        let folder = Folder::default();
        let nothing = settings(&folder, "rentals").unwrap();
        assert_eq!(nothing.url.as_str(), "http://127.0.0.1:8080/");
        let text = "market = \"work\"\njson = true\n[markets.work]\nurl = \"https://work.example\"\napi_key_file = \"/k\"\n\
            [wallet]\nlimit = \"2.5\"\n[mcp]\nlimit_in_all = \"3\"\n";
        private_file::create_new(&folder.0.join("config.toml"), text).unwrap();
        let of_file = settings(&folder, "rentals").unwrap();
        assert_eq!(of_file.url.as_str(), "https://work.example/");
        assert_eq!(of_file.form, Form::Json);
        assert_eq!(of_file.api_key_file.as_deref(), Some(Path::new("/k")));
        assert_eq!(of_file.config.wallet.limit.unwrap().atomic(), 2_500_000);
        let by_flag = settings(&folder, "--url http://127.0.0.1:1 -q rentals").unwrap();
        assert_eq!(by_flag.url.as_str(), "http://127.0.0.1:1/");
        assert_eq!((by_flag.form, by_flag.api_key_file), (Form::Ids, None));
        let unknown = settings(&folder, "--url home rentals").unwrap_err();
        assert!(unknown.to_string().contains("markets.home"), "{unknown}");
    }

    #[test]
    fn what_is_misspelt_or_writable_by_others_is_refused() {
        let folder = Folder::default();
        let path = folder.0.join("config.toml");
        private_file::create_new(&path, "[wallet]\nlimt = \"5\"\n").unwrap();
        let misspelt = read(&path).unwrap_err().to_string();
        assert!(misspelt.contains("limt"), "{misspelt}");
        fs::write(&path, "").unwrap();
        assert_eq!(read(&path).unwrap(), Config::default());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o662)).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("chmod 600"));
    }
}
