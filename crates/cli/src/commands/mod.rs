//! One file a subcommand.

mod annotators;
mod audit;
mod augment_preview;
mod benchmark;
mod copies;
mod evaluate;
mod export;
mod fetch;
mod import;
mod info;
mod label_next;
mod predict;
mod quantize;
mod quickstart;
mod train;

use anyhow::Result;
use clap::CommandFactory;

use crate::args::{Args, Command};
use crate::output;

pub fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Fetch(args) => fetch::run(&args),
        Command::Train(args) => train::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Predict(args) => predict::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::LabelNext(args) => label_next::run(&args),
        Command::Annotators(args) => annotators::run(&args),
        Command::StripMetadata(args) => copies::strip_metadata(&args),
        Command::Anonymise(args) => copies::anonymise(&args),
        Command::AugmentPreview(args) => augment_preview::run(&args),
        Command::Benchmark(args) => benchmark::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Quickstart(args) => quickstart::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "fieldmark", &mut script);
            output::line(String::from_utf8_lossy(&script).trim_end())
        }
    }
}
