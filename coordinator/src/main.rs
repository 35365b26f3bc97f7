//! The program `ramarket-coordinator`: reads its arguments and does what they say.

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    match coordinator::cli::Cli::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            coordinator::cli::complain(&error);
            ExitCode::FAILURE
        }
    }
}
