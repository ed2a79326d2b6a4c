//! Activations of a frozen network over a data set, kept on disk by content.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use data::{Dataset, FeatureCache, content_hash};
use engine::{Engine, EngineOptions, Load, PipelineOptions, Timings};
use graph::NodeId;
use images::{DecodeOptions, Preprocess, Reader};
use rayon::prelude::*;

use crate::progress::{Event, Meter, Progress};
use crate::{Backbone, LearnError};

/// One row of values for each sample that could be read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// Sample indices, ascending as asked for.
    pub indices: Vec<usize>,
    /// `[indices.len(), columns]`, row-major.
    pub data: Vec<f32>,
    /// Length of a row.
    pub columns: usize,
    /// Samples that could not be read, with the reason.
    pub failed: Vec<(usize, String)>,
    /// Rows that came out of the cache.
    pub cached: usize,
    /// Where the time of the others went.
    pub timings: Timings,
}

impl Rows {
    /// The row at a position.
    pub fn row(&self, position: usize) -> &[f32] {
        &self.data[position * self.columns..(position + 1) * self.columns]
    }
}

/// The pooled `features` of a backbone for `indices`; what the cache in `cache` knows is not computed again.
///
/// The key of a row is the content of the image file together with a fingerprint of weights and preprocessing: a file that was renamed is
/// found, a file that changed is not.
///
/// # Errors
/// The graph has no `features`, the cache cannot be written, or `stop` was raised (what was computed is kept).
pub fn extract(
    dataset: &Arc<Dataset>,
    indices: &[usize],
    backbone: &Backbone,
    cache: Option<&Path>,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Rows, LearnError> {
    let node = *backbone
        .graph
        .taps
        .get("features")
        .ok_or_else(|| LearnError::Probe(format!("the graph {:?} has no activation named \"features\"", backbone.graph.name)))?;
    let columns: usize = backbone.graph.node(node).shape.iter().product();
    let cache = cache.map(|folder| FeatureCache::open(folder, &fingerprint(backbone, node))).transpose()?;
    let key = |&i: &usize| cache.as_ref().and_then(|_| content_hash(&dataset.samples[i]).ok());
    let keys: Vec<Option<[u8; 32]>> = indices.par_iter().map(key).collect();
    let mut found: Vec<Option<Vec<f32>>> = keys
        .iter()
        .map(|key| cache.as_ref().zip(key.as_ref()).and_then(|(cache, key)| cache.get(key)).filter(|row| row.len() == columns))
        .collect();
    let missing: Vec<usize> = (0..indices.len()).filter(|&p| found[p].is_none()).collect();
    let mut rows = Rows { columns, cached: indices.len() - missing.len(), ..Rows::default() };
    if !missing.is_empty() {
        let wanted: Vec<usize> = missing.iter().map(|&p| indices[p]).collect();
        let engine = Engine::new(&backbone.graph, &backbone.weights, EngineOptions::default())?;
        let position: std::collections::BTreeMap<usize, usize> = missing.iter().map(|&p| (indices[p], p)).collect();
        let mut problem = None;
        let mut keep = |index: usize, row: &[f32]| {
            let p = position[&index];
            if let (Some(cache), Some(key)) = (&cache, &keys[p])
                && let Err(error) = cache.put(key, row)
            {
                problem.get_or_insert(error);
            }
            found[p] = Some(row.to_vec());
        };
        (rows.failed, rows.timings) = each_row(dataset, &wanted, &engine, node, &backbone.preprocess, progress, stop, &mut keep)?;
        if let Some(error) = problem {
            return Err(error.into());
        }
    }
    for (&index, row) in indices.iter().zip(found) {
        if let Some(row) = row {
            rows.indices.push(index);
            rows.data.extend(row);
        }
    }
    Ok(rows)
}

/// The logits of a network for `indices`.
///
/// # Errors
/// As [`extract`].
pub fn logits(
    dataset: &Arc<Dataset>,
    indices: &[usize],
    engine: &Engine,
    preprocess: &Preprocess,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Rows, LearnError> {
    let graph = engine.graph();
    let mut rows = Rows { columns: graph.num_classes(), ..Rows::default() };
    let mut keep = |index: usize, row: &[f32]| {
        rows.indices.push(index);
        rows.data.extend(row);
    };
    (rows.failed, rows.timings) = each_row(dataset, indices, engine, graph.output, preprocess, progress, stop, &mut keep)?;
    Ok(rows)
}

/// Runs the network over samples in order and hands out one row each; returns what could not be read, and where the time went.
#[allow(clippy::too_many_arguments, reason = "one call each from two functions that name every argument")]
fn each_row(
    dataset: &Dataset,
    indices: &[usize],
    engine: &Engine,
    node: NodeId,
    preprocess: &Preprocess,
    progress: &dyn Progress,
    stop: &AtomicBool,
    keep: &mut dyn FnMut(usize, &[f32]),
) -> Result<(Vec<(usize, String)>, Timings), LearnError> {
    preprocess.check().map_err(|error| LearnError::Recipe { field: "preprocess".into(), problem: error.to_string() })?;
    let (meter, mut failed, mut last) = (Meter::start(indices.len()), Vec::new(), Instant::now());
    let inputs = Inputs { dataset, indices, preprocess };
    let pass = engine.run_many(node, indices.len(), PipelineOptions::default(), &inputs, |position, row| {
        match row {
            Ok(row) => keep(indices[position], row),
            Err(reason) => failed.push((indices[position], reason)),
        }
        let done = position + 1;
        if done == indices.len() || last.elapsed() >= BETWEEN_EVENTS {
            last = Instant::now();
            progress.event(&Event::Step(meter.step(done, "")));
        }
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if stop.load(Ordering::Relaxed) {
        return Err(LearnError::Interrupted);
    }
    let read: Vec<_> = pass.states.iter().map(Reader::times).collect();
    Ok((failed, Timings::of(&pass, &read, indices.len())))
}

/// Progress is told no more often than this.
const BETWEEN_EVENTS: Duration = Duration::from_millis(100);

/// Samples as the engine's pipeline takes them.
struct Inputs<'a> {
    dataset: &'a Dataset,
    indices: &'a [usize],
    preprocess: &'a Preprocess,
}

impl Load for Inputs<'_> {
    type State = Reader;
    type Error = String;

    fn state(&self) -> Reader {
        Reader::new(self.preprocess.clone(), DecodeOptions::default())
    }

    fn load(&self, reader: &mut Reader, index: usize, out: &mut [f32]) -> Result<(), String> {
        self.dataset.input(self.indices[index], reader, out).map_err(|error| error.reason())
    }
}

/// What decides a feature beside the image: graph, weights, preprocessing and the version of this computation.
fn fingerprint(backbone: &Backbone, node: NodeId) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"fieldmark features 1\n");
    hasher.update(backbone.preprocess.fingerprint().as_bytes());
    hasher.update(&(node.0 as u64).to_le_bytes());
    for graph_node in &backbone.graph.nodes[..=node.0] {
        hasher.update(format!("{:?} {:?}\n", graph_node.op, graph_node.inputs).as_bytes());
        for parameter in &graph_node.parameters {
            hasher.update(parameter.name.as_bytes());
            for value in backbone.weights.get(&parameter.name).into_iter().flat_map(|w| &w.data) {
                hasher.update(&value.to_le_bytes());
            }
        }
    }
    hasher.finalize().to_hex().to_string()
}
