//! `ramarket`: parses the command line, runs, and turns the outcome into an exit code.

use std::process::ExitCode;

use clap::Parser as _;
use client::{args::Args, commands, output::complain};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::tls::init();
    // wrong usage ends here, with exit code 2
    let args = Args::parse();
    match commands::run(args).await {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            complain(&failure.to_string());
            failure.exit_code()
        }
    }
}
