//! The `fieldmark` command.

mod args;
mod audit_page;
mod commands;
mod failure;
mod open;
mod output;
mod page;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    terminal::start_diagnostics();
    match commands::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if failure::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", failure::message(&error));
            failure::code(&error)
        }
    }
}
