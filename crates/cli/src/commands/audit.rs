//! `fieldmark audit`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use audit::{Check, Finding, Gate, PixelTable, Plan};
use data::{Dataset, OpenOptions, Source};
use learn::{AuditOptions, Audited, Folding, GrowthOptions, LearnError, Recipe};
use serde::Serialize;

use crate::args;
use crate::audit_page;
use crate::failure::Usage;
use crate::open;
use crate::output;
use crate::terminal::{STOP, Talk, stop_on_interrupt};

pub fn run(args: &args::Audit) -> Result<()> {
    let gate = args.fail_on.as_deref().map(str::parse::<Gate>).transpose().map_err(|error| Usage(format!("--fail-on: {error}")))?;
    let dataset = open::training_data(&args.data, &args.data_args, false)?;
    let options = options(args)?;
    stop_on_interrupt();
    if args.self_test {
        return self_test(args, &dataset, &options);
    }
    if let Some(file) = &args.apply {
        let plan = Plan::read(file)?;
        let pixels = audited(args.json, |talk| learn::audit_pixels(&dataset, &options, talk, &STOP))?;
        return apply(args, &dataset, &pixels, &options, &plan);
    }
    let mut audited = audited(args.json, |talk| learn::audit(&dataset, &options, talk, &STOP))?;
    if let Some(file) = &args.plan {
        audited.findings = Plan::read(file)?.open_findings(std::mem::take(&mut audited.findings), &audited.pixels);
    }
    if let Some(file) = &args.propose {
        let plan = Plan::proposed(&audited.findings, &dataset, &audited.pixels);
        plan.write(file)?;
        eprintln!("note: {} proposes {} decisions, which nobody has reviewed", file.display(), plan.len());
    }
    audited.notes.iter().for_each(|note| eprintln!("note: {note}"));
    let out = args.out.clone().unwrap_or_else(|| open::fresh_folder(&format!("runs/{}-audit", open::short_name(&args.data))));
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    let lines = lines(&dataset, &audited)?;
    output::file(&out.join("findings.jsonl"), &lines)?;
    output::file(&out.join("report.html"), audit_page::page(&dataset, &audited, &options, &out))?;
    evaluate::write_columns(&audited.score_columns(&dataset, &options.thresholds), &out.join("scores.parquet"))?;
    if let Some(judged) = &audited.out_of_fold {
        judged.table(&dataset).write_csv(&out.join("predictions.csv"))?;
    }
    if args.json {
        output::line(lines.trim_end())?
    } else {
        print_summary(args, &dataset, &audited, &out)?
    }
    match gate.and_then(|gate| gate.broken(&audited.findings, dataset.len())) {
        Some(reason) => bail!("{reason}"),
        None => Ok(()),
    }
}

/// Runs a long piece of work with progress on stderr.
fn audited<T>(quiet: bool, work: impl FnOnce(&Talk) -> Result<T, LearnError>) -> Result<T> {
    let talk = Talk::new(quiet);
    let result = work(&talk);
    talk.done();
    match result {
        Err(LearnError::Interrupted) => bail!("interrupted; what was measured is kept, and the same command goes on from there"),
        other => Ok(other?),
    }
}

fn options(args: &args::Audit) -> Result<AuditOptions> {
    let mut recipe = Recipe { seed: args.seed, model: open::backbone_name(args.model.as_deref()), ..Recipe::default() };
    recipe.fit.seed = args.seed;
    let judges = args.judge.iter().map(|file| read_recipe("--judge", file, args.seed)).collect::<Result<_>>()?;
    let growth = GrowthOptions { target: args.target, seed: args.seed, ..GrowthOptions::default() };
    let mut options = AuditOptions {
        recipe,
        folding: Folding { folds: args.folds, repeats: args.repeats, seed: args.seed },
        judges,
        growth: (args.target > 0.0).then_some(growth),
        mapped: args.map,
        cache: Some(data::feature_cache::default_dir()),
        ..AuditOptions::default()
    };
    options.set(&args.set).map_err(|error| Usage(format!("--set: {error}")))?;
    Ok(options)
}

fn read_recipe(flag: &str, file: &Path, seed: u64) -> Result<Recipe> {
    let text = std::fs::read_to_string(file).map_err(|error| Usage(format!("{flag}: cannot read {}: {error}", file.display())))?;
    Ok(Recipe { seed, ..Recipe::parse(&text).with_context(|| format!("{flag} {}", file.display()))? })
}

/// A finding as programs read it.
#[derive(Serialize)]
struct Line<'a> {
    id: Option<&'a str>,
    path: Option<String>,
    check: Check,
    score: f64,
    given: Option<&'a str>,
    suggested: Option<&'a str>,
    group: Option<usize>,
    detail: &'a str,
}

/// One JSON object a line, clearest findings of each check first.
fn lines(dataset: &Dataset, audited: &Audited) -> Result<String> {
    let class = |k: Option<usize>| k.and_then(|k| dataset.classes.names().get(k)).map(String::as_str);
    let mut text = String::new();
    for finding in ordered(&audited.findings) {
        let sample = finding.sample.map(|i| &dataset.samples[i]);
        let path = sample.and_then(|s| match &s.source {
            Source::File(path) => Some(path.display().to_string()),
            Source::Idx { .. } | Source::Memory(_) => None,
        });
        let Finding { check, score, group, .. } = *finding;
        let (given, suggested) = (class(finding.given), class(finding.suggested));
        let line = Line { id: sample.map(|s| s.id.as_str()), path, check, score, given, suggested, group, detail: &finding.detail };
        text.push_str(&serde_json::to_string(&line)?);
        text.push('\n');
    }
    Ok(text)
}

fn ordered(findings: &[Finding]) -> Vec<&Finding> {
    let place = |check: Check| Check::ALL.iter().position(|c| *c == check);
    let mut list: Vec<&Finding> = findings.iter().collect();
    list.sort_by(|a, b| place(a.check).cmp(&place(b.check)).then(b.score.total_cmp(&a.score)).then(a.sample.cmp(&b.sample)));
    list
}

fn print_summary(args: &args::Audit, dataset: &Dataset, audited: &Audited, out: &Path) -> Result<()> {
    output::line(&format!("{}: {} images, {} classes, seed {}\n", dataset.name, dataset.len(), dataset.classes.len(), args.seed))?;
    let mut of_check: BTreeMap<Check, Vec<&Finding>> = BTreeMap::new();
    audited.findings.iter().for_each(|f| of_check.entry(f.check).or_default().push(f));
    let row = |check: Check| {
        let found = of_check.get(&check)?;
        let best = ordered(&found.iter().map(|f| (*f).clone()).collect::<Vec<_>>()).first().map(|f| {
            let id = f.sample.map_or(String::new(), |i| format!("{}: ", dataset.samples[i].id));
            format!("{id}{}", f.detail)
        });
        Some(vec![check.title().to_string(), found.len().to_string(), best.unwrap_or_default()])
    };
    let rows: Vec<Vec<String>> = Check::ALL.into_iter().filter_map(row).collect();
    if rows.is_empty() {
        output::line("nothing found")?;
    } else {
        output::line(&output::table(&["check", "findings", "clearest"], &rows))?;
    }
    if let Some(errors) = &audited.label_errors {
        let [low, high] = errors.expected_ci95;
        let budget = errors.budget(50.min(dataset.len()));
        let precision =
            budget.map_or(String::new(), |b| format!("; of the {} most suspect, {:.0} % should be wrong", b.samples, 100.0 * b.precision));
        output::line(&format!("\nabout {:.0} labels are wrong (95 %: {low:.0} to {high:.0}){precision}", errors.expected))?;
    }
    if let Some(growth) = &audited.growth {
        output::line(&growth.sentence(dataset.classes.names()))?;
    }
    output::line(&format!("\nreport    {}\nfindings  {}", out.join("report.html").display(), out.join("findings.jsonl").display()))
}

/// Writes the manifest that a plan makes, and says what the change is worth where asked to.
fn apply(args: &args::Audit, dataset: &Arc<Dataset>, pixels: &PixelTable, options: &AuditOptions, plan: &Plan) -> Result<()> {
    let compared = args.recipe.as_ref().map(|file| read_recipe("--recipe", file, args.seed)).transpose()?;
    let applied = plan.apply(dataset, pixels)?;
    let manifest = args.manifest.clone().unwrap_or_else(|| dataset.root.join("reviewed.csv"));
    let folder = |path: &Path| path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).canonicalize().ok();
    if folder(&manifest) != dataset.root.canonicalize().ok() {
        let root = dataset.root.display();
        return Err(Usage(format!("--manifest {}: the manifest's paths are below {root}, so it belongs there", manifest.display())).into());
    }
    if manifest.exists() {
        return Err(Usage(format!("{} is there already; give another name with --manifest", manifest.display())).into());
    }
    output::file(&manifest, &applied.manifest)?;
    let (dropped, relabelled) = (applied.dropped.len(), applied.relabelled.len());
    let mut value = serde_json::json!({ "manifest": manifest, "dropped": dropped, "relabelled": relabelled });
    if !args.json {
        output::line(&format!("{}: {dropped} dropped, {relabelled} relabelled; no image was touched", manifest.display()))?;
    }
    if args.compare {
        let cleaned = Arc::new(Dataset::open_with(&manifest.display().to_string(), &OpenOptions::default())?);
        let recipe = compared.as_ref().unwrap_or(&options.recipe);
        let gain = audited(args.json, |talk| learn::gain(dataset, &cleaned, recipe, options.cache.as_deref(), talk, &STOP))?;
        if !args.json {
            let [low, high] = gain.ci95;
            output::line(&format!(
                "{} on {} test images, judged by the reviewed labels: accuracy {:.4} before, {:.4} after; gain {:+.4} (95 %: {low:+.4} to {high:+.4})",
                gain.trained, gain.n, gain.before, gain.after, gain.gain
            ))?;
        }
        value["comparison"] = serde_json::to_value(&gain)?;
    }
    if args.json { output::json(&value) } else { Ok(()) }
}

/// Injects faults into a copy of the data set in memory and says how many each check finds.
fn self_test(args: &args::Audit, dataset: &Arc<Dataset>, options: &AuditOptions) -> Result<()> {
    let rows = audited(args.json, |talk| learn::audit_self_test(dataset, options, talk, &STOP))?;
    if args.json {
        return rows.iter().try_for_each(output::json);
    }
    let number = |value: Option<f64>| value.map_or("–".to_string(), |v| format!("{v:.3}"));
    let cells = |r: &learn::SelfTest| {
        vec![
            r.fault.clone(),
            r.check.name().to_string(),
            r.injected.to_string(),
            r.found.to_string(),
            number(r.recall),
            number(r.precision),
        ]
    };
    let table: Vec<Vec<String>> = rows.iter().map(cells).collect();
    output::line(&format!("{}: faults injected into a copy in memory, seed {}\n", dataset.name, args.seed))?;
    output::line(&output::table(&["injected fault", "check", "injected", "found", "recall", "precision"], &table))?;
    output::line("\nprecision counts what the check newly found and nobody injected as wrong")
}
