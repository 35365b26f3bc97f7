//! The words of accounts and wallets: `login`, `wallet`, `topup`, `receipts`, `invoices`, `events`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};
use shared::{
    id::RentalId,
    money::{Amount, Asset},
};

use super::market::Payment;
use crate::units;

/// `login`: by browser, with an e-mail address and a password, or with `--api-key-file`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  ramarket login                                        # shows an address and a code: confirm there
  ramarket login --scope rentals:read --days 1
  ramarket login --email you@example.org --password-file -
  ramarket login --api-key-file ci.key                  # keeps the key for this market")]
pub struct Login {
    /// The account's e-mail address.
    #[arg(long, requires = "password_file")]
    pub email: Option<String>,
    /// A file (mode 0600) with the password in its first line; `-` reads it from standard input.
    #[arg(long, value_name = "FILE", requires = "email")]
    pub password_file: Option<PathBuf>,
    /// By browser: what the key that is made may do; may be repeated.
    #[arg(long, value_name = "SCOPE", default_values = ["account:read", "balance:write", "events:read", "rentals:read", "rentals:reach", "rentals:write"],
          conflicts_with = "email")]
    pub scope: Vec<String>,
    /// By browser: for how many days the key holds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=90), conflicts_with = "email")]
    pub days: u16,
    /// By browser: what the key is called in your account [default: ramarket on this machine's name].
    #[arg(long, conflicts_with = "email")]
    pub name: Option<String>,
}

/// `wallet`.
#[derive(Debug, Subcommand)]
pub enum Wallet {
    /// Make a new key, sealed by a passphrase.
    #[command(after_help = "Examples:
  ramarket wallet new
  ramarket wallet new --passphrase-file /run/credentials/job/wallet-passphrase
  ramarket wallet new --plain          # whoever reads the file has the money")]
    New(NewKey),
    /// Take over a key that another wallet exported.
    #[command(after_help = "Examples:
  ramarket wallet import exported.hex
  pass show wallet | ramarket wallet import - --plain")]
    Import {
        /// A file (mode 0600) with 64 hexadecimal digits in its first line; `-` reads it from standard input.
        from: PathBuf,
        #[command(flatten)]
        key: NewKey,
    },
    /// Write the key as 64 hexadecimal digits, for another wallet.
    #[command(after_help = "Examples:
  ramarket wallet export exported.hex
  ramarket wallet export - --passphrase-file /run/credentials/job/wallet-passphrase")]
    Export {
        /// A new file, made with mode 0600; `-` shows it.
        to: PathBuf,
        #[command(flatten)]
        key: KeyFile,
    },
    /// Show the key's address.
    #[command(after_help = "Examples:
  ramarket wallet address
  ramarket wallet address --key-file other.key")]
    Address(KeyFile),
    /// What the wallet holds on the networks whose JSON-RPC endpoint is known, and what was paid from it today.
    #[command(after_help = "Examples:
  ramarket wallet balance
  ramarket wallet balance --rpc base=https://node.example     # or in config.toml: [rpc] base = \"https://…\"")]
    Balance {
        #[command(flatten)]
        key: KeyFile,
        /// A network's JSON-RPC endpoint; may be repeated.
        #[arg(long, value_name = "NETWORK=URL", value_parser = rpc)]
        rpc: Vec<(String, String)>,
    },
    /// Show or set what is paid without asking: one payment, and all of a day.
    #[command(after_help = "Examples:
  ramarket wallet limit
  ramarket wallet limit 5 --per-day 20")]
    Limit {
        /// For one payment.
        each: Option<Amount>,
        /// For all payments of the last 24 hours [default: as it was].
        #[arg(long, value_name = "AMOUNT", requires = "each")]
        per_day: Option<Amount>,
    },
}

/// Which key.
#[derive(Debug, ClapArgs)]
pub struct KeyFile {
    /// The key's file [default: wallet.key in the configuration folder].
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// A file (mode 0600) with the passphrase in its first line; `-` reads it from standard input.
    #[arg(long, env = "RAMARKET_PASSPHRASE_FILE", value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// A key to be written.
#[derive(Debug, ClapArgs)]
pub struct NewKey {
    #[command(flatten)]
    pub file: KeyFile,
    /// Without a passphrase: whoever reads the file has the money.
    #[arg(long)]
    pub plain: bool,
}

/// `topup`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  ramarket topup 5                     # from the wallet, by x402
  ramarket topup 5 --sandbox           # play money, where the market has any")]
pub struct TopUp {
    /// How much.
    pub amount: Amount,
    /// Take play money.
    #[arg(long, conflicts_with_all = ["how", "max_price"])]
    pub sandbox: bool,
    #[command(flatten)]
    pub payment: Payment,
}

/// `receipts`.
#[derive(Debug, ClapArgs)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  ramarket receipts rnt_…                               # the node's signed records
  ramarket receipts rnt_… --output bundle.json
  ramarket receipts verify bundle.json                  # needs no network
  ramarket receipts verify rnt_… --node-key KEY"
)]
pub struct Receipts {
    #[command(subcommand)]
    pub command: Option<ReceiptsCommand>,
    /// The rental.
    #[arg(required = true)]
    pub rental: Option<RentalId>,
    /// Write everything that `receipts verify` needs to a new file.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `receipts verify`.
#[derive(Debug, Subcommand)]
pub enum ReceiptsCommand {
    /// Check a rental's bill against the node's signed records; exit code 1 if anything doesn't hold.
    #[command(after_help = "Examples:
  ramarket receipts verify bundle.json                  # needs no network
  ramarket receipts verify rnt_… --node-key KEY")]
    Verify {
        /// A rental, or a file that `receipts --output` wrote.
        what: String,
        /// The node's public key, base64, as you know it from elsewhere; else the one in the bundle is believed.
        #[arg(long, value_name = "KEY")]
        node_key: Option<String>,
    },
}

/// `invoices`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  ramarket invoices
  ramarket --json invoices --limit 100 | jq .[].number")]
pub struct Invoices {
    /// At most this many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// `events`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  ramarket events --follow
  ramarket --json events rnt_… --follow | jq .type")]
pub struct Events {
    /// Of this rental only.
    pub rental: Option<RentalId>,
    /// Go on as things happen, until Ctrl-C.
    #[arg(long, short)]
    pub follow: bool,
}

/// `show`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  ramarket show rnt_…
  ramarket show rnt_… --watch --every 10s
  ramarket --json show rnt_… | jq .state")]
pub struct Show {
    /// Its id.
    pub rental: RentalId,
    /// Show it again and again until it has ended.
    #[arg(long, short)]
    pub watch: bool,
    /// So often.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = units::seconds, requires = "watch")]
    pub every: i64,
}

/// `mcp`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "A client's configuration:
  {\"mcpServers\": {\"ramarket\": {\"command\": \"ramarket\", \"args\": [\"mcp\", \"--limit\", \"0.5\", \"--limit-in-all\", \"2\"]}}}")]
pub struct Mcp {
    /// What one call may spend, never more than the wallet's limit [default: the wallet's limit].
    #[arg(long, value_name = "AMOUNT")]
    pub limit: Option<Amount>,
    /// What all calls may spend until this program ends [default: the wallet's limit per day].
    #[arg(long, value_name = "AMOUNT")]
    pub limit_in_all: Option<Amount>,
    /// Pay from the account's balance instead of the wallet.
    #[arg(long, conflicts_with = "key_file")]
    pub balance: bool,
    /// The currency that is paid in.
    #[arg(long, value_name = "CODE")]
    pub currency: Option<Asset>,
    #[command(flatten)]
    pub key: KeyFile,
}

fn rpc(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((network, url)) if !network.is_empty() && url.contains("://") => {
            Ok((network.to_owned(), url.to_owned()))
        }
        _ => Err("write NETWORK=URL, as base=https://node.example".into()),
    }
}
