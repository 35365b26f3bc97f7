//! The command line.

use std::path::PathBuf;

use clap::{ArgGroup, Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use reqwest::Url;
use shared::{
    id::{NodeId, OfferId, RentalId},
    money::{Amount, Asset},
};

use crate::{api, units};

/// Rent RAM and CPU by the hour, pay by x402 or from a balance.
#[derive(Debug, Parser)]
#[command(name = "ramarket", version, max_term_width = 100, after_help = EXIT_CODES,
          after_long_help = LONG_HELP)]
pub struct Args {
    /// The market's address.
    #[arg(long, env = "RAMARKET_URL", global = true, value_name = "URL",
          default_value = "http://127.0.0.1:8080", value_parser = api::parse_base)]
    pub url: Url,

    /// Where keys and tokens are kept [default: $XDG_CONFIG_HOME/ramarket].
    #[arg(long, env = "RAMARKET_CONFIG_DIR", global = true, value_name = "DIR")]
    pub config_dir: Option<PathBuf>,

    /// Act by the API key in this file (mode 0600, first line), whoever is signed in. The variable RAMARKET_API_KEY holds the
    /// key itself.
    #[arg(
        long,
        env = "RAMARKET_API_KEY_FILE",
        global = true,
        value_name = "FILE"
    )]
    pub api_key_file: Option<PathBuf>,

    /// Print the market's JSON.
    #[arg(long, global = true)]
    pub json: bool,

    /// Print ids only.
    #[arg(long, short, global = true, conflicts_with = "json")]
    pub quiet: bool,

    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 sign-in or permission, \
5 not found, 6 payment required";

const LONG_HELP: &str = "Examples:
  ramarket wallet new && ramarket rent --ram 256MiB --duration 10m busybox:latest -- sleep 600
  ramarket login --email you@example.org --password-file -
  ramarket login --api-key-file ci.key      # keeps the key for this market, until `ramarket logout`
  RAMARKET_API_KEY_FILE=ci.key ramarket --json rent --balance --ram 1GiB --duration 1h busybox:latest

A program that rents needs a key with the scopes rentals:read and rentals:write, from POST /api/v1/api-keys.

Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 sign-in or permission, 5 not found, 6 payment required";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sign in, by password or by API key; needed to pay from a balance and to list rentals made with an account.
    Login(Login),
    /// Sign out.
    Logout,
    /// Find offers.
    Offers(Offers),
    /// What a rental would cost.
    Quote(Quote),
    /// Rent, pay and wait until it runs.
    Rent(Box<Rent>),
    /// List your rentals, with and without an account.
    Rentals,
    /// Show one rental.
    Show(Which),
    /// Stop a rental; what isn't used is refunded.
    Stop(Which),
    /// Pay for more time.
    Extend(Extend),
    /// Finish payments whose outcome isn't known, after a crash or a lost connection.
    Resume,
    /// What your account holds, by currency.
    Balance,
    /// Show whom and what your node doesn't serve, or replace that whole.
    Blocklists(Blocklists),
    /// The key that pays.
    #[command(subcommand)]
    Wallet(Wallet),
    /// Print a completion script for a shell.
    Completions {
        /// For which one.
        shell: Shell,
    },
}

/// `login`: with an e-mail address and a password, or with `--api-key-file`.
#[derive(Debug, ClapArgs)]
pub struct Login {
    /// The account's e-mail address.
    #[arg(long, requires = "password_file")]
    pub email: Option<String>,
    /// A file (mode 0600) with the password in its first line; `-` reads it from standard input.
    #[arg(long, value_name = "FILE", requires = "email")]
    pub password_file: Option<PathBuf>,
}

/// `offers`.
#[derive(Debug, ClapArgs)]
pub struct Offers {
    /// At least this much RAM in one piece.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    pub ram: Option<i64>,
    /// At least this many processors.
    #[arg(long, value_name = "CPUS", value_parser = units::cpu_millis)]
    pub cpu: Option<i64>,
    /// At least this many free GPUs.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i64).range(0..=64))]
    pub gpus: Option<i64>,
    /// A GPU whose model has this in its name, as H100.
    #[arg(long, value_name = "NAME")]
    pub gpu_model: Option<String>,
    /// At least this much free disk space.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    pub disk: Option<i64>,
    /// Only in this region.
    #[arg(long)]
    pub region: Option<String>,
    /// At most this price for a GiB of RAM for an hour.
    #[arg(long, value_name = "AMOUNT")]
    pub price_max: Option<Amount>,
    /// In which order.
    #[arg(long, value_enum, default_value_t = Sort::Price)]
    pub sort: Sort,
    /// Largest first.
    #[arg(long)]
    pub descending: bool,
    /// At most this many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// The order of offers.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Sort {
    /// Price of RAM.
    Price,
    /// Free RAM.
    Ram,
    /// Age.
    Created,
}

/// What is rented.
#[derive(Debug, ClapArgs)]
pub struct Order {
    /// RAM, as 256MiB or 1.5GiB.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    pub ram: i64,
    /// Processors, as 2, 0.5 or 500m.
    #[arg(long, value_name = "CPUS", default_value = "0.5", value_parser = units::cpu_millis)]
    pub cpu: i64,
    /// Whole GPUs.
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..=64))]
    pub gpus: i64,
    /// Without --offer: a GPU whose model has this in its name, as H100.
    #[arg(long, value_name = "NAME", conflicts_with = "offer")]
    pub gpu_model: Option<String>,
    /// Disk space, at least 64MiB; none unless given.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes)]
    pub disk: Option<i64>,
    /// For how long, as 10m or 1h30m.
    #[arg(long, value_name = "TIME", value_parser = units::seconds)]
    pub duration: i64,
    /// Of this offer; without it, of the cheapest that has room.
    #[arg(long, value_name = "OFFER")]
    pub offer: Option<OfferId>,
    /// Without --offer: only in this region.
    #[arg(long, conflicts_with = "offer")]
    pub region: Option<String>,
    /// Without --offer: at most this price for a GiB of RAM for an hour.
    #[arg(long, value_name = "AMOUNT", conflicts_with = "offer")]
    pub price_max: Option<Amount>,
}

/// `quote`.
#[derive(Debug, ClapArgs)]
pub struct Quote {
    #[command(flatten)]
    pub order: Order,
}

/// How to pay.
#[derive(Debug, Clone, ClapArgs)]
#[command(group = ArgGroup::new("how").multiple(false))]
pub struct Payment {
    /// Pay by x402 with the key in this file (mode 0600) [default: wallet.key in the configuration folder].
    #[arg(long, value_name = "FILE", group = "how")]
    pub key_file: Option<PathBuf>,
    /// Pay from the account's balance instead.
    #[arg(long, group = "how")]
    pub balance: bool,
    /// Pay at most this much, in the currency that is paid.
    #[arg(
        long,
        value_name = "AMOUNT",
        default_value = "1",
        conflicts_with = "balance"
    )]
    pub max_price: Amount,
    /// Pay in this currency, as USDC or EURC, at the market's rate if the price is in another [default: by x402 USDC, from the
    /// balance the price's, to extend the one that the rental was bought with].
    #[arg(long, value_name = "CODE")]
    pub currency: Option<Asset>,
}

/// `rent`.
#[derive(Debug, ClapArgs)]
pub struct Rent {
    /// The container image, as busybox:latest.
    pub image: String,
    #[command(flatten)]
    pub order: Order,
    #[command(flatten)]
    pub payment: Payment,
    /// An environment variable; may be repeated.
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = env_pair)]
    pub env: Vec<(String, String)>,
    /// The most that the rental may cost with all its extensions, in USDC, whatever it is paid in.
    #[arg(long, value_name = "AMOUNT")]
    pub max_spend: Option<Amount>,
    /// Of a private image: the name at its registry.
    #[arg(long, value_name = "NAME", requires = "registry_password_file")]
    pub registry_user: Option<String>,
    /// A file (mode 0600) with the password, or a token that may only pull, in its first line; `-` reads it from standard input. The node
    /// can read it.
    #[arg(long, value_name = "FILE", requires = "registry_user")]
    pub registry_password_file: Option<PathBuf>,
    /// Extend from the balance when the time is nearly over.
    #[arg(long, requires = "balance")]
    pub auto_extend: bool,
    /// Return as soon as it is paid.
    #[arg(long)]
    pub no_wait: bool,
    /// Wait at most this long for it to run.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = units::seconds)]
    pub wait_timeout: i64,
    /// Replaces the image's command, after `--`.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// A rental.
#[derive(Debug, ClapArgs)]
pub struct Which {
    /// Its id.
    pub rental: RentalId,
}

/// `extend`.
#[derive(Debug, ClapArgs)]
pub struct Extend {
    /// Its id.
    pub rental: RentalId,
    /// By how much, as 10m or 1h.
    #[arg(long, value_name = "TIME", value_parser = units::seconds)]
    pub duration: i64,
    #[command(flatten)]
    pub payment: Payment,
}

/// `blocklists`: without anything to block it shows what is.
#[derive(Debug, ClapArgs)]
pub struct Blocklists {
    /// The node's id.
    pub node: NodeId,
    /// An account (usr_…) or a wallet (0x…) that isn't served; may be repeated. What isn't named is served again.
    #[arg(long, value_name = "WHO")]
    pub consumer: Vec<String>,
    /// A repository's whole name, as docker.io/owner/*, or a digest; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub image: Vec<String>,
    /// A registry, as *.example.org; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub registry: Vec<String>,
    /// Block nothing any more.
    #[arg(long, conflicts_with_all = ["consumer", "image", "registry"])]
    pub clear: bool,
}

/// `wallet`.
#[derive(Debug, Subcommand)]
pub enum Wallet {
    /// Make a new key.
    New(KeyFile),
    /// Show the key's address.
    Address(KeyFile),
}

/// Which key.
#[derive(Debug, ClapArgs)]
pub struct KeyFile {
    /// The key's file [default: wallet.key in the configuration folder].
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

fn env_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_rental_is_read_with_its_units() {
        let args = parse("ramarket rent busybox:latest --ram 256MiB --cpu 0.25 --duration 10m -e A=b=c -- sleep 60")
            .expect("valid");
        let Command::Rent(rent) = args.command else {
            panic!("not rent")
        };
        assert_eq!(
            (rent.order.ram, rent.order.cpu, rent.order.duration),
            (256 << 20, 250, 600)
        );
        assert_eq!(rent.env, [("A".to_owned(), "b=c".to_owned())]);
        assert_eq!(rent.command, ["sleep", "60"]);
        assert_eq!(rent.payment.max_price.atomic(), 1_000_000);
        assert_eq!(rent.payment.currency, None);
        let args = parse("ramarket rent x --ram 1GiB --duration 10m --balance --currency EURC");
        let Command::Rent(rent) = args.expect("valid").command else {
            panic!("not rent")
        };
        assert_eq!(rent.payment.currency, Some(Asset::EURC));
    }

    #[test]
    fn contradictions_are_wrong_usage() {
        for bad in [
            "ramarket rent x --ram 256MiB --duration 10m --balance --key-file k",
            "ramarket rent x --ram 256MiB --duration 10m --balance --max-price 1",
            "ramarket rent x --ram 256MiB --duration 10m --auto-extend",
            "ramarket rent x --ram 256 --duration 10m",
            "ramarket rent x --duration 10m",
            "ramarket rent x --ram 256MiB --duration 10m --currency euros",
            "ramarket show nod_00000000000000000000000000000001",
            "ramarket offers --json --quiet",
            "ramarket --url http://market.example offers",
            "ramarket offers --price-max -1",
        ] {
            let error = parse(bad).expect_err(bad);
            assert_eq!(error.exit_code(), 2, "{bad}");
        }
    }
}
