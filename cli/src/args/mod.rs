//! The command line.

pub mod account;
pub mod market;
pub mod reach;

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use clap_complete::Shell;
use reqwest::Url;
use shared::id::RentalId;

use self::{
    account::{Events, Invoices, Login, Mcp, Receipts, Show, TopUp, Wallet},
    market::{Blocklists, Extend, Offers, Quote, Rent},
    reach::{Cp, Exec, Logs, PortForward, PostMortem, Ssh},
};
use crate::api;

/// Rent RAM, CPU and GPUs by the hour, pay by x402 or from a balance, reach what runs.
#[derive(Debug, Parser)]
#[command(name = "ramarket", version, max_term_width = 100, after_help = EXIT_CODES,
          after_long_help = LONG_HELP)]
pub struct Args {
    /// The market's address, or its name in config.toml [default: `market` of config.toml, else http://127.0.0.1:8080].
    #[arg(long, env = "RAMARKET_URL", global = true, value_name = "URL", value_parser = MarketName::parse)]
    pub url: Option<MarketName>,

    /// Where config.toml, keys and tokens are kept [default: $XDG_CONFIG_HOME/ramarket].
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

/// A market as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarketName {
    /// By its address.
    Url(Url),
    /// By its name in config.toml.
    Named(String),
}

impl MarketName {
    /// A URL has `://`; a name has letters, digits, `-` and `_`.
    ///
    /// # Errors
    /// Neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if !text.is_empty() && text.chars().all(is_name) {
            return Ok(Self::Named(text.to_owned()));
        }
        api::parse_base(text).map(Self::Url)
    }
}

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 sign-in or permission, \
5 not found, 6 payment required";

const LONG_HELP: &str = "Examples:
  ramarket wallet new && ramarket rent --ram 256MiB --duration 10m busybox:latest -- sleep 600
  ramarket exec -it rnt_…                   # a shell in it; also logs -f, cp, port-forward, ssh
  ramarket wallet limit 5 --per-day 20      # what is paid without asking
  ramarket login                            # by browser; or with --email, or with --api-key-file
  RAMARKET_API_KEY_FILE=ci.key ramarket --json rent --balance --ram 1GiB --duration 1h busybox:latest

Settings are in config.toml of the configuration folder; a flag goes before the environment, that before the file:
  market = \"work\"                         # or a URL
  [markets.work]
  url = \"https://market.example\"
  [wallet]
  limit = \"5\"
  limit_per_day = \"20\"

A program that rents needs a key with the scopes rentals:read, rentals:write and, to reach what runs, rentals:reach: `ramarket login`,
or POST /api/v1/api-keys.

Exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 sign-in or permission, 5 not found, 6 payment required";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sign in: by browser, by password or by API key; needed to pay from a balance and to list rentals made with an account.
    Login(Login),
    /// Sign out.
    #[command(after_help = "Examples:
  ramarket logout
  ramarket --url work logout")]
    Logout,
    /// Find offers.
    Offers(Offers),
    /// What a rental would cost.
    Quote(Quote),
    /// Rent, pay and wait until it runs.
    Rent(Box<Rent>),
    /// List your rentals, with and without an account.
    #[command(after_help = "Examples:
  ramarket rentals
  ramarket -q rentals | xargs -n 1 ramarket stop")]
    Rentals,
    /// Show one rental: its state, cost and usage.
    #[command(visible_alias = "status")]
    Show(Show),
    /// What a rental wrote.
    Logs(Logs),
    /// Run a command in a rental.
    Exec(Exec),
    /// Lead ports of this machine to ports of a rental.
    PortForward(PortForward),
    /// Run ssh to a rental.
    Ssh(Ssh),
    /// Copy files from and to a rental.
    Cp(Cp),
    /// What is kept of a rental that has ended, as one archive: logs, metrics, events, exit code, receipts.
    PostMortem(PostMortem),
    /// Stop a rental; what isn't used is refunded.
    Stop(Which),
    /// Pay for more time.
    Extend(Extend),
    /// Finish payments whose outcome isn't known, after a crash or a lost connection.
    #[command(after_help = "Examples:
  ramarket resume
  ramarket --json resume | jq .[].id")]
    Resume,
    /// The node's signed records behind a bill, and whether they bear it out.
    Receipts(Receipts),
    /// Your invoices and credit notes.
    Invoices(Invoices),
    /// What happens to your rentals.
    Events(Events),
    /// What your account holds, by currency.
    #[command(after_help = "Examples:
  ramarket balance
  ramarket --json balance | jq .[0].available")]
    Balance,
    /// Fill your account's balance.
    #[command(visible_alias = "pay")]
    Topup(Box<TopUp>),
    /// Show whom and what your node doesn't serve, or replace that whole.
    Blocklists(Blocklists),
    /// The key that pays.
    #[command(subcommand)]
    Wallet(Wallet),
    /// Serve the market's tools to a program over standard input and output (Model Context Protocol).
    Mcp(Box<Mcp>),
    /// Print a completion script for a shell.
    #[command(after_help = "Examples:
  ramarket completions bash > ~/.local/share/bash-completion/completions/ramarket
  ramarket completions fish > ~/.config/fish/completions/ramarket.fish")]
    Completions {
        /// For which one.
        shell: Shell,
    },
    /// Write the manual pages to a folder.
    #[command(hide = true)]
    Man {
        /// An existing folder.
        folder: PathBuf,
    },
}

/// `stop`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  ramarket stop rnt_…
  ramarket --json stop rnt_… | jq .state")]
pub struct Which {
    /// Its id.
    pub rental: RentalId,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use shared::money::Asset;

    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command) {
            let shown: Vec<_> = command.get_subcommands().collect();
            shown.iter().copied().for_each(check);
            let help = command.get_after_help().map(ToString::to_string);
            let has_one = help
                .is_some_and(|help| help.contains("  ramarket ") || help.contains("\"ramarket\""));
            assert!(
                has_one || !shown.is_empty() || command.is_hide_set(),
                "{command}"
            );
        }
        check(&Args::command());
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
        assert_eq!(rent.payment.max_price, None);
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
            "ramarket logs rnt_00000000000000000000000000000001 --tail 10001",
            "ramarket logs rnt_00000000000000000000000000000001 --since yesterday",
        ] {
            let error = parse(bad).expect_err(bad);
            assert_eq!(error.exit_code(), 2, "{bad}");
        }
    }
}
