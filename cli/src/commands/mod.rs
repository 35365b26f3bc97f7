//! One file per area; each function is one command.

mod account;
mod blocklists;
mod buy;
mod login;
mod market;
mod mcp;
mod post_mortem;
mod reach;
mod receipts;
mod rentals;
mod ssh;
mod usage;
mod wallet;

use std::{io, path::Path};

use clap::CommandFactory as _;
use shared::secret::Secret;

use crate::{
    api::{Api, Auth},
    args::{Args, Command},
    config::Settings,
    failure::{Failure, Result},
    local::Local,
    output::Form,
    spending::Spending,
};

/// What every command works with.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The market.
    pub api: Api,
    /// How results are printed.
    pub form: Form,
    /// What was set.
    pub settings: Settings,
    /// What may be spent, and was.
    pub spending: Spending,
}

impl Desk {
    /// Everything for commands against a market.
    ///
    /// # Errors
    /// Settings or an API key's file are unusable.
    pub fn of(settings: Settings) -> Result<Self> {
        let local = Local::open(settings.folder.clone(), settings.url.to_string());
        let key = account::given_key(settings.api_key_file.as_deref())?;
        Ok(Self {
            api: Api::new(settings.url.clone(), local, key)?,
            form: settings.form,
            spending: Spending::open(&settings.folder, settings.config.wallet.clone()),
            settings,
        })
    }

    /// Who may act on a rental: the holder of its token if we have it, else the account.
    ///
    /// # Errors
    /// The client's own files are unusable.
    pub fn auth_for(&self, rental: &str) -> Result<Auth> {
        let token = self.api.local.rental_token(rental)?;
        Ok(token.map_or(Auth::Account, |token| Auth::Token(Secret::new(token))))
    }
}

/// Runs the command; its exit code if it succeeds.
///
/// # Errors
/// Why it failed, with its exit code.
pub async fn run(args: Args) -> Result<u8> {
    match &args.command {
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Args::command(), "ramarket", &mut io::stdout());
            return Ok(0);
        }
        Command::Man { folder } => return manual(folder).map(|()| 0),
        _ => {}
    }
    let desk = Desk::of(Settings::of(&args)?)?;
    let done = match args.command {
        Command::Wallet(command) => wallet::run(&desk, command).await,
        Command::Login(login) => login::login(&desk, &login).await,
        Command::Logout => login::logout(&desk).await,
        Command::Offers(filter) => market::offers(&desk.api, desk.form, &filter).await,
        Command::Quote(quote) => market::quote(&desk.api, desk.form, &quote.order).await,
        Command::Rent(rent) => rentals::rent(&desk, &rent).await,
        Command::Rentals => rentals::list(&desk).await,
        Command::Show(show) => rentals::show(&desk, &show).await,
        Command::Stop(which) => rentals::stop(&desk, which.rental).await,
        Command::Extend(extend) => rentals::extend(&desk, &extend).await,
        Command::Resume => rentals::resume(&desk).await,
        Command::Logs(logs) => reach::logs(&desk, &logs).await,
        Command::Exec(exec) => return reach::exec(&desk, &exec).await,
        Command::PortForward(ports) => reach::port_forward(&desk, &ports).await,
        Command::Ssh(ssh) => ssh::ssh(&desk, &ssh).await,
        Command::Cp(cp) => reach::cp(&desk, &cp).await,
        Command::PostMortem(wanted) => post_mortem::run(&desk, &wanted).await,
        Command::Mcp(mcp) => mcp::serve(desk, *mcp).await,
        Command::Receipts(receipts) => receipts::run(&desk, receipts).await,
        Command::Invoices(invoices) => account::invoices(&desk, &invoices).await,
        Command::Events(events) => account::events(&desk, &events).await,
        Command::Balance => account::balance(&desk.api, desk.form).await,
        Command::Topup(topup) => account::top_up(&desk, &topup).await,
        Command::Blocklists(lists) => blocklists::blocklists(&desk.api, desk.form, &lists).await,
        Command::Completions { .. } | Command::Man { .. } => Ok(()),
    };
    done.map(|()| 0)
}

/// Writes a page for the program and one for each of its commands.
fn manual(folder: &Path) -> Result<()> {
    clap_mangen::generate_to(Args::command(), folder).map_err(|error| {
        let shown = folder.display();
        Failure::usage(format!("the pages can't be written to {shown}: {error}"))
    })
}
