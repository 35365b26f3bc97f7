//! The words of the market: `offers`, `quote`, `rent`, `extend`, `blocklists`, and how to pay.

use std::path::PathBuf;

use clap::{ArgGroup, Args as ClapArgs, ValueEnum};
use shared::{
    id::{NodeId, OfferId, RentalId},
    money::{Amount, Asset},
};

use crate::units;

/// `offers`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  ramarket offers --ram 256MiB
  ramarket offers --gpus 1 --gpu-model H100 --sort ram --descending
  ramarket --json offers --region eu-west --price-max 0.01 | jq .[0]")]
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
#[command(after_help = "Examples:
  ramarket quote --ram 256MiB --cpu 0.25 --duration 10m
  ramarket quote --ram 64GiB --gpus 1 --gpu-model H100 --duration 1h
  ramarket quote --offer ofr_… --ram 1GiB --duration 1h")]
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
    /// A file (mode 0600) with the wallet's passphrase in its first line; `-` reads it from standard input. Else the systemd credential
    /// wallet-passphrase, else it is asked for.
    #[arg(long, env = "RAMARKET_PASSPHRASE_FILE", value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Pay at most this much, in the currency that is paid, whatever the wallet's limit for one payment is; that for a day holds all
    /// the same [default: the limit of `ramarket wallet limit`].
    #[arg(long, value_name = "AMOUNT", conflicts_with = "balance")]
    pub max_price: Option<Amount>,
    /// Pay in this currency, as USDC or EURC, at the market's rate if the price is in another [default: by x402 USDC, from the
    /// balance the price's, to extend the one that the rental was bought with].
    #[arg(long, value_name = "CODE")]
    pub currency: Option<Asset>,
}

/// `rent`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  ramarket rent --ram 256MiB --cpu 0.25 --duration 10m busybox:latest -- sleep 600
  ramarket rent --ram 1GiB --disk 10GiB --duration 1h -e MODE=test busybox:latest -- sleep 3600
  ramarket rent --ram 64GiB --gpus 1 --gpu-model H100 --duration 1h --max-price 5 pytorch/pytorch
  ramarket rent --ram 1GiB --duration 1h --balance --auto-extend --max-spend 20 nginx")]
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

/// `extend`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  ramarket extend rnt_… --duration 1h
  ramarket extend rnt_… --duration 30m --balance")]
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
#[command(after_help = "Examples:
  ramarket blocklists nod_…                             # shows what is blocked
  ramarket blocklists nod_… --consumer usr_… --registry '*.example.org'
  ramarket blocklists nod_… --clear")]
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

/// A variable as people write it.
pub(super) fn env_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".into()),
    }
}
