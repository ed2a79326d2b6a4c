//! `fieldmark label-next`.

use std::sync::Arc;

use anyhow::{Result, bail};
use audit::amount::{ActiveLearning, ActiveOptions, Strategy};
use data::{Dataset, Sample, Source};
use learn::features::{self, Rows};
use learn::{Backbone, LearnError, ProbeData, Recipe, Wanted};

use super::predict::expand;
use crate::args::{self, Choice};
use crate::failure::Usage;
use crate::open;
use crate::output;
use crate::terminal::{STOP, Talk, stop_on_interrupt};

/// Share of the labelled images that judges a replay.
const HELD_OUT: f64 = 0.3;
/// Random orders that a replay is compared with.
const RANDOM_REPEATS: usize = 5;

pub fn run(args: &args::LabelNext) -> Result<()> {
    let mut dataset = open::dataset(&args.data, &args.data_args, false)?;
    if !args.pool.is_empty() {
        for path in expand(&args.pool)? {
            dataset.samples.push(Sample::new(path.display().to_string(), Source::File(path)));
        }
    }
    let dataset = Arc::new(dataset);
    let recipe = Recipe { seed: args.seed, model: open::backbone_name(args.model.as_deref()), ..Recipe::default() };
    stop_on_interrupt();
    let talk = Talk::new(args.json || args.csv);
    let result = work(args, &dataset, &recipe, &talk);
    talk.done();
    match result {
        Err(error) if matches!(error.downcast_ref(), Some(LearnError::Interrupted)) => {
            bail!("interrupted; features that were computed are kept")
        }
        other => other,
    }
}

fn work(args: &args::LabelNext, dataset: &Arc<Dataset>, recipe: &Recipe, talk: &Talk) -> Result<()> {
    let has_label = |i: usize| dataset.samples[i].target.as_ref().is_some_and(|t| t.argmax().is_some());
    let (labelled, candidates): (Vec<usize>, Vec<usize>) = (0..dataset.len()).partition(|&i| has_label(i));
    if labelled.is_empty() {
        return Err(Usage(format!("{}: no image has a label; label a few of each class first", args.data)).into());
    }
    if candidates.is_empty() && !args.simulate {
        let cure = "give folders or files with --pool, leave labels empty in a manifest, or replay with --simulate";
        return Err(Usage(format!("{}: every image has a label; {cure}", args.data)).into());
    }
    let backbone = Backbone::pretrained(recipe)?;
    let wanted: Vec<usize> = if args.simulate { labelled } else { (0..dataset.len()).collect() };
    let cache = data::feature_cache::default_dir();
    let rows = features::extract(dataset, &wanted, &backbone, Some(cache.as_path()), talk, &STOP)?;
    for (index, reason) in rows.failed.iter().take(10) {
        eprintln!("warning: set aside: {}: {reason}", dataset.samples[*index].id);
    }
    let probe = ProbeData { dataset, features: &rows, recipe };
    let (known, unknown): (Vec<usize>, Vec<usize>) = (0..rows.indices.len()).partition(|&p| has_label(rows.indices[p]));
    if args.simulate {
        let options = ActiveOptions {
            strategy: strategy(args.by),
            start: args.start,
            batch: args.count,
            rounds: args.rounds,
            random_repeats: RANDOM_REPEATS,
            seed: args.seed,
        };
        let curve = learn::active_learning(&probe, &known, HELD_OUT, &options, talk, &STOP)?;
        return replayed(args, dataset, &curve);
    }
    let chosen = learn::label_next(&probe, &known, &unknown, strategy(args.by), args.count, args.seed)?;
    list(args, dataset, &rows, &chosen, unknown.len())
}

fn strategy(choice: Choice) -> Strategy {
    match choice {
        Choice::Uncertainty => Strategy::Entropy,
        Choice::Margin => Strategy::Margin,
        Choice::Coreset => Strategy::Coreset,
        Choice::Mixed => Strategy::Mixed,
    }
}

fn list(args: &args::LabelNext, dataset: &Dataset, rows: &Rows, chosen: &[Wanted], candidates: usize) -> Result<()> {
    let id = |w: &Wanted| dataset.samples[rows.indices[w.position]].id.clone();
    let class = |w: &Wanted| dataset.classes.names()[w.guess].clone();
    if args.json {
        return chosen.iter().enumerate().try_for_each(|(rank, w)| {
            let value = serde_json::json!({ "rank": rank + 1, "id": id(w), "guess": class(w), "probability": w.probability });
            output::json(&value)
        });
    }
    if args.csv {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(["path", "label", "guess", "probability"])?;
        for w in chosen {
            writer.write_record([id(w), String::new(), class(w), format!("{:.4}", w.probability)])?;
        }
        return output::line(String::from_utf8_lossy(&writer.into_inner()?).trim_end());
    }
    output::line(&format!("{}: {} of {candidates} images to label next, seed {}\n", dataset.name, chosen.len(), args.seed))?;
    let row = |(rank, w): (usize, &Wanted)| vec![(rank + 1).to_string(), id(w), class(w), format!("{:.3}", w.probability)];
    let table: Vec<Vec<String>> = chosen.iter().enumerate().map(row).collect();
    output::line(&output::table(&["rank", "image", "guess", "probability"], &table))
}

fn replayed(args: &args::LabelNext, dataset: &Dataset, curve: &ActiveLearning) -> Result<()> {
    if args.json {
        return curve.points.iter().try_for_each(|p| {
            let value =
                serde_json::json!({ "labelled": p.labelled, "chosen": p.chosen, "random": p.random, "random_range": p.random_range });
            output::json(&value)
        });
    }
    let how = format!("{:?}", args.by).to_lowercase();
    let judged = format!("judged on {:.0} % of its labelled images, seed {}", 100.0 * HELD_OUT, args.seed);
    output::line(&format!("{}: active learning replayed, chosen by {how}, {judged}\n", dataset.name))?;
    let row = |p: &audit::amount::ActivePoint| {
        let [low, high] = p.random_range;
        vec![p.labelled.to_string(), format!("{:.4}", p.chosen), format!("{:.4}", p.random), format!("{low:.4} – {high:.4}")]
    };
    let table: Vec<Vec<String>> = curve.points.iter().map(row).collect();
    let range = format!("range of {RANDOM_REPEATS}");
    output::line(&output::table(&["labelled", "chosen", "random", &range], &table))
}
