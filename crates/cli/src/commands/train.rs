//! `fieldmark train`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use data::Dataset;
use learn::{DeviceKind, LeakPolicy, LearnError, Method, Recipe, TrainOptions, Trained};

use crate::args;
use crate::failure::Usage;
use crate::open;
use crate::output;
use crate::page;
use crate::terminal::{STOP, Talk, stop_on_interrupt};

pub fn run(args: &args::Train) -> Result<()> {
    let recipe = recipe(args)?;
    let dataset = open::training_data(&args.data, &args.data_args, recipe.data.soft_targets)?;
    let leaks = match args.leaks {
        args::Leaks::Stop => LeakPolicy::Stop,
        args::Leaks::Allow => LeakPolicy::Allow,
        args::Leaks::Unchecked => LeakPolicy::Unchecked,
    };
    let options = TrainOptions { device: device(args.device)?, cache: Some(data::feature_cache::default_dir()), leaks };
    stop_on_interrupt();
    if args.find_lr {
        return find_lr(&dataset, &recipe, &options, args.json);
    }
    let out =
        args.out.clone().unwrap_or_else(|| open::fresh_folder(&format!("runs/{}-{}", open::short_name(&args.data), recipe.method.name())));
    carry_out(&dataset, &recipe, &out, &options, args.json)
}

/// Trains into `out`, prints the result and writes the report.
pub fn carry_out(dataset: &Arc<Dataset>, recipe: &Recipe, out: &Path, options: &TrainOptions, json: bool) -> Result<()> {
    let start = Instant::now();
    let talk = Talk::new(false);
    let result = learn::train(dataset, recipe, out, options, &talk, &STOP);
    talk.done();
    let trained = match result {
        Err(LearnError::Interrupted) => bail!("interrupted; the same command with --out {} goes on from where it stopped", out.display()),
        other => other?,
    };
    let report = out.join("report.html");
    let html = page::training(dataset, &trained, start.elapsed());
    output::file(&report, html)?;
    if json { print_json(&trained, out) } else { print_text(dataset, &trained, out, start) }
}

fn print_json(trained: &Trained, out: &Path) -> Result<()> {
    let mut value = serde_json::to_value(&trained.evaluation)?;
    if let Some(object) = value.as_object_mut() {
        let account = &trained.account;
        object.insert("run".into(), out.display().to_string().into());
        object.insert("model".into(), out.join("model.safetensors").display().to_string().into());
        object.insert("report".into(), out.join("report.html").display().to_string().into());
        object.insert("data".into(), account.data.clone().into());
        object.insert("judged_on".into(), account.judged_on.clone().into());
        object.insert("seed".into(), account.recipe.seed.into());
        object.insert("leaks".into(), serde_json::to_value(&account.leaks)?);
        object.insert("set_aside".into(), account.set_aside.len().into());
        object.insert("seconds".into(), serde_json::to_value(&account.seconds)?);
    }
    output::json(&value)
}

fn print_text(dataset: &Dataset, trained: &Trained, out: &Path, start: Instant) -> Result<()> {
    let account = &trained.account;
    let method = format!("{} on {}", account.recipe.method.name(), account.recipe.model_name());
    output::line(&format!(
        "{method}, {} ({} images), judged on {}, seed {}\n",
        account.data,
        dataset.len(),
        account.judged_on,
        account.recipe.seed
    ))?;
    output::line(&output::evaluation(&trained.evaluation))?;
    if !account.set_aside.is_empty() {
        output::line(&format!(
            "\nset aside, as they could not be read: {} of {} images; the report lists them",
            account.set_aside.len(),
            dataset.len()
        ))?;
    }
    let across = account.leaks.across.len();
    if across > 0 {
        output::line(&format!(
            "\ntoo good by copies: {across} of the images that judge or choose are copies of training images (allowed)"
        ))?;
    }
    output::line(&format!(
        "\nmodel   {}\nreport  {}\ntime    {:.0} s",
        out.join("model.safetensors").display(),
        out.join("report.html").display(),
        start.elapsed().as_secs_f64()
    ))
}

fn find_lr(dataset: &Arc<Dataset>, recipe: &Recipe, options: &TrainOptions, json: bool) -> Result<()> {
    let talk = Talk::new(false);
    let found = learn::find_learning_rate(dataset, recipe, options, &talk, &STOP);
    talk.done();
    let found = match found {
        Err(LearnError::Interrupted) => bail!("interrupted; nothing was changed"),
        other => other?,
    };
    if json {
        return output::json(&found);
    }
    let rows: Vec<Vec<String>> =
        found.rates.iter().zip(&found.losses).step_by(5).map(|(rate, loss)| vec![format!("{rate:.2e}"), format!("{loss:.4}")]).collect();
    output::line(&output::table(&["learning rate", "loss"], &rows))?;
    match found.suggestion {
        Some(rate) => output::line(&format!("\nsuggestion: --set fit.lr={rate:.1e}   (valley of the curve; nothing was changed)")),
        None => output::line("\nno suggestion: the loss never fell; look at the data and at fit.batch_size"),
    }
}

/// The recipe file with the flags on top.
fn recipe(args: &args::Train) -> Result<Recipe> {
    let mut settings = args.recipe_args.set.clone();
    let mut set = |name: &str, value: Option<String>| settings.extend(value.map(|v| format!("{name}={v}")));
    let method = args.method.map(|method| match method {
        args::Method::Probe => "\"probe\"",
        args::Method::Finetune => "\"finetune\"",
        args::Method::Scratch => "\"scratch\"",
    });
    set("method", method.map(String::from));
    set("model", args.model.as_ref().map(|m| format!("{m:?}")));
    set("seed", args.seed.map(|s| s.to_string()));
    set("data.folds", args.folds.map(|k| k.to_string()));
    let precision = args.precision.map(|precision| match precision {
        args::TrainingPrecision::F32 => "\"f32\"",
        args::TrainingPrecision::Bf16 => "\"bf16\"",
    });
    set("fit.precision", precision.map(String::from));
    let recipe = read_recipe(args.recipe_args.recipe.as_ref(), &settings)?;
    if args.precision == Some(args::TrainingPrecision::Bf16) && recipe.method == Method::Probe {
        return Err(
            Usage("--precision bf16 is for networks in training: a probe trains none; add --method finetune or scratch".into()).into()
        );
    }
    Ok(recipe)
}

/// A recipe file, or the defaults, with single fields set.
pub fn read_recipe(file: Option<&PathBuf>, settings: &[String]) -> Result<Recipe> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path).map_err(|e| Usage(format!("cannot read the recipe {}: {e}", path.display())))?,
        None => String::new(),
    };
    let recipe = Recipe::parse_with(&text, settings);
    match file {
        Some(path) => recipe.with_context(|| path.display().to_string()),
        None => Ok(recipe?),
    }
}

fn device(device: args::Device) -> Result<DeviceKind> {
    let (kind, feature, built) = match device {
        args::Device::Cpu => return Ok(DeviceKind::Cpu),
        args::Device::Cuda => (DeviceKind::Cuda, "cuda", cfg!(feature = "cuda")),
        args::Device::Wgpu => (DeviceKind::Wgpu, "wgpu", cfg!(feature = "wgpu")),
    };
    if !built {
        return Err(
            Usage(format!("this build cannot train on {feature}: build it with --features {feature}, or leave --device out")).into()
        );
    }
    Ok(kind)
}
