//! One file per area; each function is one command.

mod account;
mod blocklists;
mod market;
mod rentals;
mod wallet;

use std::io;

use clap::CommandFactory as _;
use shared::secret::Secret;

use crate::{
    api::{Api, Auth},
    args::{Args, Command},
    failure::Result,
    local::Local,
    output::Form,
};

/// Runs the command.
///
/// # Errors
/// Why it failed, with its exit code.
pub async fn run(args: Args) -> Result<()> {
    let form = match (args.json, args.quiet) {
        (true, _) => Form::Json,
        (_, true) => Form::Ids,
        _ => Form::Text,
    };
    let local = Local::open(args.config_dir, args.url.to_string());
    let key_file = args.api_key_file;
    let api = |local: Local| Api::new(args.url, local, account::given_key(key_file.as_deref())?);
    match args.command {
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Args::command(), "ramarket", &mut io::stdout());
            Ok(())
        }
        Command::Wallet(command) => wallet::run(&local?, form, command),
        Command::Login(login) => account::login(&api(local?)?, &login).await,
        Command::Logout => account::logout(&api(local?)?).await,
        Command::Offers(filter) => market::offers(&api(local?)?, form, &filter).await,
        Command::Quote(quote) => market::quote(&api(local?)?, form, &quote.order).await,
        Command::Rent(rent) => rentals::rent(&api(local?)?, form, &rent).await,
        Command::Rentals => rentals::list(&api(local?)?, form).await,
        Command::Show(which) => rentals::show(&api(local?)?, form, which.rental).await,
        Command::Stop(which) => rentals::stop(&api(local?)?, form, which.rental).await,
        Command::Extend(extend) => rentals::extend(&api(local?)?, form, &extend).await,
        Command::Blocklists(lists) => blocklists::blocklists(&api(local?)?, form, &lists).await,
        Command::Balance => account::balance(&api(local?)?, form).await,
        Command::Resume => rentals::resume(&api(local?)?, form).await,
    }
}

/// Who may act on a rental: the holder of its token if we have it, else the account.
fn auth_for(api: &Api, rental: &str) -> Result<Auth> {
    let token = api.local.rental_token(rental)?;
    Ok(token.map_or(Auth::Account, |token| Auth::Token(Secret::new(token))))
}
