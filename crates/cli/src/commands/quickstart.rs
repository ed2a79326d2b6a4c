//! `fieldmark quickstart`.

use anyhow::Result;
use learn::{Method, Recipe, TrainOptions};

use super::{fetch, train};
use crate::args::{self, DataArgs};
use crate::open;
use crate::output;
use crate::terminal::stop_on_interrupt;

pub fn run(args: &args::Quickstart) -> Result<()> {
    let data = fetch::bring("elpv")?;
    eprintln!("  licence: {}", data.licence);
    let weights = fetch::bring("efficientnet_lite0")?;
    eprintln!("  licence: {}", weights.licence);
    let mut recipe = Recipe { method: Method::Probe, seed: args.seed, ..Recipe::default() };
    recipe.data.test = 0.25;
    recipe.data.stratify = vec!["type".into()];
    recipe.evaluate.slices = vec!["type".into()];
    let dataset = open::training_data("elpv", &DataArgs::default(), false)?;
    let out = args.out.clone().unwrap_or_else(|| open::fresh_folder("runs/quickstart"));
    stop_on_interrupt();
    let options = TrainOptions { cache: Some(data::feature_cache::default_dir()), ..TrainOptions::default() };
    train::carry_out(&dataset, &recipe, &out, &options, args.json)?;
    if !args.json {
        let model = out.join("model.safetensors");
        output::line(&format!(
            "\nnext: open the report, or ask the model about a picture:\n  fieldmark predict {} PICTURE",
            model.display()
        ))?;
    }
    Ok(())
}
