//! A calibration: ranges from images, biases corrected, the layers that int8 hurts kept wider.

use std::collections::BTreeMap;

use graph::{Graph, NodeId, Op, RunError, Tensor, Weights};
use kernels::int8::{Quant, quantize_channels};

use crate::plan::{LayerOutline, groups_of_maps, outline, reads_tokens};
use crate::precision::Precision;
use crate::quantize::ranges::Observed;
use crate::quantize::rounding::Inputs;
use crate::quantize::{Activations, Agreement, Bounds, Kept, Method, Quantization, ValueScale};
use crate::run::{Engine, EngineOptions};

/// How [`calibrate`] works.
#[derive(Debug, Clone, PartialEq)]
pub struct CalibrationOptions {
    /// How ranges are chosen; none tries all and keeps the one whose logits are closest.
    pub method: Option<Method>,
    /// How wide maps between layers are; none takes bytes where the logits are then within the bounds, else 16 bits.
    pub activations: Option<Activations>,
    /// Whether biases are corrected.
    pub correct_biases: bool,
    /// Whether channels of maps between layers get factors that even out their ranges.
    pub even_channels: bool,
    /// Whether weights are rounded for the least change of what layers make of the images, not each to its nearest byte.
    pub fit_weights: bool,
    /// The layer that reads the image stays wider.
    pub keep_first: bool,
    /// The layer that makes the logits stays wider.
    pub keep_last: bool,
    /// What wider means.
    pub kept: Kept,
    /// Layers are kept wider, worst first, until the logits are within these.
    pub bounds: Bounds,
    /// Layers that may be kept wider for that.
    pub most_kept: usize,
    /// Threads; 0 means one for each core.
    pub threads: usize,
}

impl Default for CalibrationOptions {
    fn default() -> Self {
        Self {
            method: None,
            activations: None,
            correct_biases: true,
            even_channels: true,
            fit_weights: true,
            keep_first: false,
            keep_last: false,
            kept: Kept::F32,
            bounds: Bounds::default(),
            most_kept: 8,
            threads: 0,
        }
    }
}

/// The parts of a calibration.
struct Calibration<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    /// Whole images `[C, H, W]`.
    images: &'a [f32],
    /// Images that choose between what the others made, and their logits in f32.
    judges: &'a [f32],
    reference: Vec<f32>,
    options: &'a CalibrationOptions,
}

/// [`calibrate_judged`] with the same images for both: bounds then flatter, since weights were fitted to these very images.
///
/// # Errors
/// As [`calibrate_judged`].
pub fn calibrate(graph: &Graph, weights: &Weights, images: &[f32], options: &CalibrationOptions) -> Result<Quantization, RunError> {
    calibrate_judged(graph, weights, images, images, options)
}

/// Calibrates int8 on `images`, the values of preprocessed images `[C, H, W]` one after the other: some dozens that look like those to come.
/// What is chosen (the method, the width, the layers kept wider) is chosen by `judges`, other images in the same form: some hundreds, so that
/// the share of them that agrees means something.
///
/// Ranges of activations are chosen as [`Method`] says; weights are symmetric with a scale for each output channel, and rounded so that the
/// outputs of their layer on the images change least; the mean error that this makes in each output channel is taken off the bias (Nagel et
/// al., "Data-free quantization through weight equalization and bias correction", 2019, with measured means), and biases of layers without
/// an activation once more by what their outputs miss in the mean of these images. Where the logits are then outside the bounds, integers of
/// 16 bits are tried, and after that the layers that hurt the logits most alone stay wider.
///
/// # Errors
/// No image, images of the wrong size, or what the engine says.
pub fn calibrate_judged(
    graph: &Graph,
    weights: &Weights,
    images: &[f32],
    judges: &[f32],
    options: &CalibrationOptions,
) -> Result<Quantization, RunError> {
    let size: usize = graph.input_shape().iter().product();
    if let Some(part) = [images, judges].iter().find(|part| part.is_empty() || !part.len().is_multiple_of(size.max(1))) {
        return Err(RunError::Input { expected: graph.input_shape().to_vec(), found: vec![part.len()] });
    }
    let mut engine = Engine::new(graph, weights, EngineOptions { threads: options.threads, precision: Precision::F32 })?;
    let reference = logits(&mut engine, judges)?;
    let calibration = Calibration { graph, weights, images, judges, reference, options };
    let (mut quantization, mut agreement) = calibration.best(options.activations.unwrap_or_default(), &mut engine)?;
    if options.activations.is_none() && !options.bounds.hold(&agreement) {
        let wider = calibration.best(Activations::I16, &mut engine)?;
        if wider.1.logit_error < agreement.logit_error {
            (quantization, agreement) = wider;
        }
    }
    calibration.keep_worst(quantization, agreement)
}

/// Values by the nodes that make them, and what layers read by their heads.
type Seen = (BTreeMap<usize, Observed>, BTreeMap<usize, Inputs>);

/// The logits of images, some at a time.
pub(crate) fn logits(engine: &mut Engine, images: &[f32]) -> Result<Vec<f32>, RunError> {
    let size: usize = engine.graph().input_shape().iter().product();
    let output = engine.graph().output;
    let (mut all, mut part) = (Vec::new(), Vec::new());
    for chunk in images.chunks(size * 8) {
        engine.run_into(chunk, output, &mut part)?;
        all.extend_from_slice(&part);
    }
    Ok(all)
}

impl Calibration<'_> {
    /// Every value of the plan over all images, one image at a time, and what layers (by their heads) read.
    fn observe(&self, engine: &mut Engine, fine: bool) -> Result<Seen, RunError> {
        let (layers, values) = outline(self.graph);
        let fitted = || layers.iter().filter(|_| self.options.fit_weights && !fine);
        let mut inputs: BTreeMap<usize, Inputs> = fitted().map(|l| (l.head, Inputs::new(self.graph, l.head))).collect();
        let channels = |node: usize| match self.graph.nodes[node].shape[..] {
            [c, _, _] => c,
            [.., last] => last,
            [] => 1,
        };
        // Tokens have their channels innermost.
        let new = |node: usize| Observed::new(channels(node), self.graph.nodes[node].shape.len() == 2);
        let mut observed: BTreeMap<usize, Observed> = values.iter().map(|&v| (v, new(v))).collect();
        let size: usize = self.graph.input_shape().iter().product();
        let outputs: Vec<NodeId> = values.iter().map(|&v| NodeId(v)).collect();
        for pass in 0..2 {
            if pass == 1 && self.options.even_channels && !fine {
                for (node, factors) in evened(self.graph, &observed) {
                    observed.entry(node).and_modify(|seen| seen.divide(&factors));
                }
            }
            for (number, image) in self.images.chunks_exact(size).enumerate() {
                let input = Tensor { shape: [&[1], self.graph.input_shape()].concat(), data: image.to_vec() };
                let tensors = engine.run(&input, &outputs)?;
                for (tensor, value) in tensors.iter().zip(&values) {
                    let Some(seen) = observed.get_mut(value) else { continue };
                    if pass == 0 { seen.bound(&tensor.data) } else { seen.fill(&tensor.data) }
                }
                for layer in fitted().filter(|_| pass == 1) {
                    let tensor = values.iter().position(|&v| v == layer.input).map(|at| &tensors[at]);
                    if let (Some(tensor), Some(inputs)) = (tensor, inputs.get_mut(&layer.head)) {
                        let factors = observed.get(&layer.input).and_then(Observed::factors);
                        inputs.add(tensor, &self.graph.nodes[layer.head].shape, number, factors);
                    }
                }
            }
        }
        Ok((observed, inputs))
    }

    /// A layer's weights with its norm and the factors of what it reads in them (those of what it writes change no rounding): what becomes
    /// bytes, and the number of output channels and groups.
    fn weights_of(&self, layer: &LayerOutline, seen: &Observed, engine: &Engine) -> (Vec<f32>, usize, usize) {
        let (mut weight, _) = engine.folded(layer.head, layer.norm);
        let (out, groups) = match &self.graph.nodes[layer.head].op {
            Op::Conv2d(c) => (c.out_channels, c.groups),
            _ => (self.graph.nodes[layer.head].shape.last().copied().unwrap_or(0), 1),
        };
        if let Some(factors) = seen.factors() {
            let (row, count) = (weight.len() / out.max(1), factors.len() / groups.max(1));
            let taps = (row / count.max(1)).max(1);
            for (i, w) in weight.iter_mut().enumerate() {
                *w *= factors[i / row * groups / out * count + i % row / taps];
            }
        }
        (weight, out, groups)
    }

    /// The bytes of layers' weights, fitted to what they read.
    fn rounded(&self, inputs: BTreeMap<usize, Inputs>, observed: &BTreeMap<usize, Observed>, engine: &Engine) -> BTreeMap<String, Vec<i8>> {
        let (layers, _) = outline(self.graph);
        let round = |(head, inputs): (usize, Inputs)| {
            let layer = layers.iter().find(|layer| layer.head == head)?;
            let (weight, out, _) = self.weights_of(layer, observed.get(&layer.input)?, engine);
            Some((self.name(head), inputs.round(&weight, out)))
        };
        inputs.into_iter().filter_map(round).collect()
    }

    fn name(&self, node: usize) -> String {
        self.graph.nodes[node].name.clone()
    }

    /// The method whose logits come closest, refined where that helps.
    fn best(&self, activations: Activations, engine: &mut Engine) -> Result<(Quantization, Agreement), RunError> {
        let fine = activations == Activations::I16;
        let (observed, inputs) = self.observe(engine, fine)?;
        if fine {
            // Steps are so small that what a range cuts off is all that is lost; nothing is left to even out, to fit or to correct.
            let method = self.options.method.unwrap_or(Method::MinMax);
            let quantization = Quantization { activations, ..self.ranges(method, &observed) };
            let agreement = self.agreement(&quantization)?;
            return Ok((quantization, agreement));
        }
        let rounded = self.rounded(inputs, &observed, engine);
        let mut best: Option<(Quantization, Agreement)> = None;
        for method in self.options.method.map_or(vec![Method::MinMax, Method::Percentile, Method::Entropy], |method| vec![method]) {
            let mut quantization = self.corrected(self.ranges(method, &observed), &observed, engine, &rounded);
            let mut agreement = self.agreement(&quantization)?;
            if self.options.correct_biases {
                let refined = self.refined(quantization.clone(), &observed)?;
                let found = self.agreement(&refined)?;
                if found.logit_error < agreement.logit_error {
                    (quantization, agreement) = (refined, found);
                }
            }
            if best.as_ref().is_none_or(|(_, least)| agreement.logit_error < least.logit_error) {
                best = Some((quantization, agreement));
            }
        }
        best.ok_or_else(|| RunError::Interpreter("no method to calibrate by".into()))
    }

    /// What integers of values mean.
    fn ranges(&self, method: Method, observed: &BTreeMap<usize, Observed>) -> Quantization {
        let mut made = Quantization { method, ..Quantization::default() };
        for (&node, seen) in observed {
            let (low, high) = seen.range(method);
            let quant = Quant::covering(low, high);
            made.values.insert(self.name(node), ValueScale { scale: quant.scale, zero_point: quant.zero });
            if let Some(factors) = seen.factors() {
                made.factors.insert(self.name(node), factors.to_vec());
            }
        }
        let (layers, _) = outline(self.graph);
        let ends = [(self.options.keep_first, layers.first()), (self.options.keep_last, layers.last())];
        for (_, layer) in ends.into_iter().filter(|(keep, _)| *keep) {
            made.kept.extend(layer.map(|layer| (self.name(layer.head), self.options.kept)));
        }
        made
    }

    /// Bytes of weights and, unless they are to stay, biases without what these lose.
    fn corrected(
        &self,
        mut made: Quantization,
        observed: &BTreeMap<usize, Observed>,
        engine: &Engine,
        rounded: &BTreeMap<String, Vec<i8>>,
    ) -> Quantization {
        made.rounded = rounded.clone();
        if self.options.correct_biases {
            for layer in outline(self.graph).0 {
                let Some(seen) = observed.get(&layer.input) else { continue };
                let (weight, out, groups) = self.weights_of(&layer, seen, engine);
                let mut means = seen.means();
                if let Some(factors) = seen.factors() {
                    means.iter_mut().zip(factors).for_each(|(m, &f)| *m /= f64::from(f));
                }
                let (nearest, scales) = quantize_channels(&weight, out);
                let bytes = rounded.get(&self.name(layer.head)).unwrap_or(&nearest);
                let tokens = reads_tokens(self.graph, layer.head);
                made.corrections.insert(self.name(layer.head), correction(&weight, bytes, &scales, groups, &means, tokens));
            }
        }
        made
    }

    /// Biases of layers without an activation moved by what their outputs still miss in the mean, layer after layer: what bytes of maps
    /// lose, not weights alone.
    fn refined(&self, mut quantization: Quantization, observed: &BTreeMap<usize, Observed>) -> Result<Quantization, RunError> {
        let size: usize = self.graph.input_shape().iter().product();
        for layer in outline(self.graph).0.iter().filter(|layer| layer.is_linear && self.graph.nodes[layer.last].shape.len() != 2) {
            let Some(seen) = observed.get(&layer.last) else { continue };
            let (want, mut engine) = (seen.means(), self.engine(&quantization)?);
            let (mut sums, mut part, mut images) = (vec![0.0; want.len()], Vec::new(), 0);
            for chunk in self.images.chunks(size * 8) {
                engine.run_into(chunk, NodeId(layer.last), &mut part)?;
                images += chunk.len() / size;
                let each = part.len() / (chunk.len() / size) / want.len();
                for (i, plane) in part.chunks_exact(each.max(1)).enumerate() {
                    sums[i % want.len()] += plane.iter().map(|&v| f64::from(v)).sum::<f64>() / each as f64;
                }
            }
            let correction = quantization.corrections.entry(self.name(layer.head)).or_insert_with(|| vec![0.0; want.len()]);
            for ((c, want), sum) in correction.iter_mut().zip(&want).zip(&sums) {
                *c += (want - sum / images as f64) as f32;
            }
        }
        Ok(quantization)
    }

    fn engine(&self, quantization: &Quantization) -> Result<Engine, RunError> {
        let options = EngineOptions { threads: self.options.threads, precision: Precision::Int8 };
        Engine::quantized(self.graph, self.weights, Some(quantization), options)
    }

    fn agreement(&self, quantization: &Quantization) -> Result<Agreement, RunError> {
        let found = logits(&mut self.engine(quantization)?, self.judges)?;
        Ok(Agreement::of(&self.reference, &found, self.graph.num_classes()))
    }

    /// Keeps layers wider, those first whose int8 form alone moves the logits most, until the bounds hold or no more may be kept.
    fn keep_worst(&self, mut quantization: Quantization, mut agreement: Agreement) -> Result<Quantization, RunError> {
        if !self.options.bounds.hold(&agreement) && self.options.most_kept > 0 {
            let order = self.sensitivity(&quantization)?;
            for name in order.into_iter().take(self.options.most_kept) {
                quantization.kept.insert(name, self.options.kept);
                agreement = self.agreement(&quantization)?;
                if self.options.bounds.hold(&agreement) {
                    break;
                }
            }
        }
        quantization.agreement = Some(agreement);
        Ok(quantization)
    }

    /// Layers in int8, the worst first: by the error of the logits where that layer alone is in int8, on the first judges.
    fn sensitivity(&self, quantization: &Quantization) -> Result<Vec<String>, RunError> {
        let (layers, _) = outline(self.graph);
        let size: usize = self.graph.input_shape().iter().product();
        let count = (self.judges.len() / size).min(16);
        let (images, reference) = (&self.judges[..count * size], &self.reference[..count * self.graph.num_classes()]);
        let names: Vec<String> = layers.iter().map(|l| self.name(l.head)).filter(|n| !quantization.kept.contains_key(n)).collect();
        let mut errors = Vec::with_capacity(names.len());
        for name in &names {
            let kept = layers.iter().map(|l| self.name(l.head)).filter(|n| n != name).map(|n| (n, Kept::F32)).collect();
            let alone = Quantization { kept, ..quantization.clone() };
            let found = logits(&mut self.engine(&alone)?, images)?;
            errors.push((Agreement::of(reference, &found, self.graph.num_classes()).logit_error, name.clone()));
        }
        errors.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        Ok(errors.into_iter().map(|(_, name)| name).collect())
    }
}

/// Factors that give the channels of a map one range, for maps that only layers make and read (cross-layer equalisation, Nagel et al.,
/// 2019, with measured ranges). Maps that are added to one another have the same factors.
fn evened(graph: &Graph, observed: &BTreeMap<usize, Observed>) -> Vec<(usize, Vec<f32>)> {
    let mut result = Vec::new();
    for group in groups_of_maps(graph) {
        let channels = graph.nodes[group[0]].shape[0];
        let mut magnitudes = vec![0.0f32; channels];
        for seen in group.iter().filter_map(|node| observed.get(node)) {
            magnitudes.iter_mut().zip(seen.magnitudes()).for_each(|(m, &v)| *m = m.max(v));
        }
        let largest = magnitudes.iter().fold(0.0f32, |m, &v| m.max(v));
        if largest > 0.0 {
            let factors: Vec<f32> = magnitudes.iter().map(|m| (m / largest).max(LEAST_FACTOR)).collect();
            result.extend(group.into_iter().map(|node| (node, factors.clone())));
        }
    }
    result
}

/// A channel that is silent in calibration keeps some room.
const LEAST_FACTOR: f32 = 0.02;

/// What rounding the weights `[out, in / groups, ..]` takes from the mean of each output channel, its inputs having these means; in `tokens`
/// channels are innermost, also where a layer reads all tokens at once.
fn correction(weight: &[f32], bytes: &[i8], scales: &[f32], groups: usize, means: &[f64], tokens: bool) -> Vec<f32> {
    let out = scales.len();
    let (row, count) = (weight.len() / out.max(1), means.len() / groups.max(1));
    if row == 0 || count == 0 {
        return vec![0.0; out];
    }
    let taps = row / count;
    let lost = |o: usize| -> f64 {
        let first = o * groups / out * count;
        let error = |k: usize| f64::from(weight[o * row + k]) - f64::from(bytes[o * row + k]) * f64::from(scales[o]);
        (0..row).map(|k| error(k) * means[first + if tokens { k % count } else { k / taps }]).sum()
    };
    (0..out).map(|o| lost(o) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_correction_is_what_rounding_loses() {
        // One scale of 1 / 127 a row: 0.004 becomes 0 or .00787.
        let weight = [1.0, 0.003, 1.0, 0.005];
        let (bytes, scales) = quantize_channels(&weight, 2);
        let lost = correction(&weight, &bytes, &scales, 1, &[0.0, 10.0], false);
        assert!((lost[0] - 0.03).abs() < 1e-5 && (lost[1] - (0.05 - 10.0 / 127.0)).abs() < 1e-5, "{lost:?}");
        // Depthwise: each row reads a channel of its own.
        let lost = correction(&weight, &bytes, &scales, 2, &[0.0, 10.0], false);
        assert!(lost[0] == 0.0 && (lost[1] - (0.05 - 10.0 / 127.0)).abs() < 1e-5, "{lost:?}");
        // Two tokens of two channels in one row: those of the second channel are at odd places.
        let (bytes, scales) = quantize_channels(&[1.0, 0.003, 0.5, 0.005], 1);
        let lost = correction(&[1.0, 0.003, 0.5, 0.005], &bytes, &scales, 1, &[0.0, 10.0], true);
        assert!((lost[0] - (0.08 - 10.0 / 127.0)).abs() < 1e-5, "{lost:?}");
    }
}
