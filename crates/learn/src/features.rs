//! Activations of a frozen network over a data set, kept on disk by content.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use data::{Batch, Dataset, FeatureCache, Loader, LoaderOptions, content_hash};
use engine::{Engine, EngineOptions};
use graph::{Graph, NodeId, Weights};
use images::{DecodeOptions, Preprocess};
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
    let keys: Vec<Option<[u8; 32]>> = indices.par_iter().map(|&i| content_hash(&dataset.samples[i]).ok()).collect();
    let mut found: Vec<Option<Vec<f32>>> = keys
        .iter()
        .map(|key| cache.as_ref().zip(key.as_ref()).and_then(|(cache, key)| cache.get(key)).filter(|row| row.len() == columns))
        .collect();
    let missing: Vec<usize> = (0..indices.len()).filter(|&p| found[p].is_none()).collect();
    let mut rows = Rows { columns, cached: indices.len() - missing.len(), ..Rows::default() };
    if !missing.is_empty() {
        let wanted: Vec<usize> = missing.iter().map(|&p| indices[p]).collect();
        let mut engine = Engine::new(&backbone.graph, &backbone.weights, EngineOptions::default())?;
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
        rows.failed = each_row(dataset, &wanted, &mut engine, node, &backbone.preprocess, progress, stop, &mut keep)?;
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
    graph: &Graph,
    weights: &Weights,
    preprocess: &Preprocess,
    progress: &dyn Progress,
    stop: &AtomicBool,
) -> Result<Rows, LearnError> {
    let mut engine = Engine::new(graph, weights, EngineOptions::default())?;
    let mut rows = Rows { columns: graph.num_classes(), ..Rows::default() };
    let mut keep = |index: usize, row: &[f32]| {
        rows.indices.push(index);
        rows.data.extend(row);
    };
    let failed = each_row(dataset, indices, &mut engine, graph.output, preprocess, progress, stop, &mut keep)?;
    rows.failed = failed;
    Ok(rows)
}

/// Runs the network over samples in order and hands out one row each; returns what could not be read.
#[allow(clippy::too_many_arguments, reason = "one call each from two functions that name every argument")]
fn each_row(
    dataset: &Arc<Dataset>,
    indices: &[usize],
    engine: &mut Engine,
    node: NodeId,
    preprocess: &Preprocess,
    progress: &dyn Progress,
    stop: &AtomicBool,
    keep: &mut dyn FnMut(usize, &[f32]),
) -> Result<Vec<(usize, String)>, LearnError> {
    let decode = DecodeOptions { background: preprocess.background, ..DecodeOptions::default() };
    let options = LoaderOptions { batch_size: 16, cache_bytes: 0, decode, ..LoaderOptions::new(preprocess.clone()) };
    let loader = Loader::new(dataset.clone(), options)?;
    let (meter, mut done, mut failed, mut out) = (Meter::start(indices.len()), 0, Vec::new(), Vec::new());
    for Batch { indices: read, images, failed: broken, .. } in loader.epoch(indices, 0) {
        if stop.load(Ordering::Relaxed) {
            return Err(LearnError::Interrupted);
        }
        done += read.len() + broken.len();
        failed.extend(broken);
        if !read.is_empty() {
            engine.run_into(&images, node, &mut out)?;
            let columns = out.len() / read.len();
            read.iter().zip(out.chunks_exact(columns)).for_each(|(&index, row)| keep(index, row));
        }
        progress.event(&Event::Step(meter.step(done, "")));
    }
    Ok(failed)
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
