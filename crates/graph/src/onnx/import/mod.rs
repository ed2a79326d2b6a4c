//! From an ONNX file to a graph that infers and trains.

mod arrange;
mod attention;
mod constant;
mod cures;
mod draft;
mod elementwise;
mod finish;
mod fold;
mod fuse;
mod layers;
mod names;
mod places;
mod pools;
mod source;
mod translate;
mod view;

use std::collections::BTreeMap;
use std::path::Path;

use super::STAGES_KEY;
use super::error::OnnxError;
use crate::infer::infer_shape;
use crate::ir::Graph;
use crate::op::Op;
use crate::tensor::Weights;
use source::{InputDim, Source, ValueId};
use translate::{Translator, Value};

/// What the importer cannot know from the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportOptions {
    /// The graph's name; the file's own where there is none.
    pub name: Option<String>,
    /// `[height, width]` of the images, for files that leave them open.
    pub image_size: Option<[usize; 2]>,
    /// Which output is the classifier's, for files with several; the one called `logits` or the first where there is none.
    pub output: Option<String>,
}

/// What the file's output was; the imported graph always ends in logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportedOutput {
    /// Logits, or features of a backbone.
    Logits,
    /// Probabilities by softmax (or their logarithms): the softmax was left off.
    Softmax,
    /// A probability for each class by itself: the sigmoid was left off.
    Sigmoid,
}

/// What else a file says.
#[derive(Debug, Clone, PartialEq)]
pub struct FileInfo {
    /// Version of the ONNX operators.
    pub opset: i64,
    /// Who wrote the file, with version.
    pub producer: String,
    /// `metadata_props`.
    pub metadata: BTreeMap<String, String>,
    /// The input is `[N, H, W, C]` in the file; the graph's is `[N, C, H, W]` all the same.
    pub channels_last: bool,
    /// The batch size that the file states; the graph's is symbolic all the same.
    pub batch: Option<usize>,
    /// What the output was.
    pub output: ImportedOutput,
    /// Normalisation that stood in front of the network and was taken off: the graph's input is the file's times the first number plus the
    /// second, channel by channel.
    pub input_affine: Option<Vec<(f32, f32)>>,
    /// What was left out or added, one sentence each.
    pub notes: Vec<String>,
}

/// A file as a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The network, made of the ordinary ops: every interpreter runs it, and it trains.
    pub graph: Graph,
    /// Its weights, named as in the file where the file's names say something.
    pub weights: Weights,
    /// Everything else.
    pub info: FileInfo,
}

/// Reads an ONNX file; see [`import`].
///
/// # Errors
/// A file that cannot be read, or what [`import`] says.
pub fn read(path: &Path, options: &ImportOptions) -> Result<Imported, OnnxError> {
    let bytes = std::fs::read(path).map_err(|source| OnnxError::Io { path: path.to_owned(), source })?;
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned());
    let options = ImportOptions { name: options.name.clone().or(stem), ..options.clone() };
    import(&bytes, &options)
}

/// Reads the bytes of an ONNX model: a classifier or backbone with one image input. Reshapes, transpositions and shape arithmetic are
/// resolved, functions that were taken apart are put together, matrix products become linear layers and attentions; a softmax at the end and
/// a normalisation at the beginning are taken off and told in [`FileInfo`]. The operators that are covered are listed in `docs/onnx.md`.
///
/// Any bytes may be given: broken ones are an error, and memory stays within a small multiple of their number.
///
/// # Errors
/// Bytes that are no model, weights outside of the file, an operator or a use of one that is not covered (with node, opset and cure), a
/// model that has more than one image input.
pub fn import(bytes: &[u8], options: &ImportOptions) -> Result<Imported, OnnxError> {
    let mut source = Source::decode(bytes)?;
    fuse::fuse(&mut source);
    let (output, kind) = classifier_output(&source, options)?;
    let input = image_input(&source, options)?;
    infer_shape(&Op::Input { shape: input.shape.to_vec() }, &[]).map_err(|problem| OnnxError::Interface {
        problem: format!("the input: {problem}"),
        cure: "expected an image batch [N, C, H, W] or [N, H, W, C]",
    })?;
    let (live, uses) = liveness(&source, output);
    let mut translator = Translator::new(&source, input.shape, input.channels_last, input.batch, uses);
    for (operator, _) in source.operators.iter().zip(&live).filter(|(_, live)| **live) {
        translator.operator(operator)?;
    }
    let end = end_of(&mut translator, output)?;
    let Translator { drafts, mut notes, .. } = translator;
    if kind != ImportedOutput::Logits {
        notes.push("the output is probabilities in the file; the graph ends in the logits before".into());
    }
    let affine = drafts.input_affine.iter().map(|&(scale, shift)| (scale as f32, shift as f32)).collect::<Vec<_>>();
    let name = options.name.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| source.graph_name.clone());
    let (graph, weights) = finish::finish(&name, drafts, end, &stated_stages(&source))?;
    let info = FileInfo {
        opset: source.opset,
        producer: source.producer,
        metadata: source.metadata,
        channels_last: input.channels_last,
        batch: input.batch,
        output: kind,
        input_affine: affine.iter().any(|&pair| pair != (1.0, 0.0)).then_some(affine),
        notes,
    };
    Ok(Imported { graph, weights, info })
}

struct Input {
    shape: [usize; 3],
    channels_last: bool,
    batch: Option<usize>,
}

fn image_input(source: &Source, options: &ImportOptions) -> Result<Input, OnnxError> {
    let name = &source.names[source.input];
    let [batch, a, b, c] = source.input_dims.as_slice() else {
        return Err(OnnxError::Interface {
            problem: format!("the input {name:?} has {} dimensions", source.input_dims.len()),
            cure: "expected an image batch [N, C, H, W] or [N, H, W, C]",
        });
    };
    let is_channels = |d: &InputDim| matches!(d, InputDim::Known(1 | 3));
    let channels_last = is_channels(c) && !is_channels(a);
    let (channels, size) = if channels_last { (c, [a, b]) } else { (a, [b, c]) };
    let known = |d: &InputDim| match d {
        InputDim::Known(size) if *size <= 1 << 24 => Some(*size),
        InputDim::Known(_) | InputDim::Named(_) => None,
    };
    let open =
        |problem: String| OnnxError::Interface { problem, cure: "give the size of the images (--image-size), or export with a fixed one" };
    let channels = known(channels).ok_or_else(|| open(format!("the input {name:?} leaves its number of channels open")))?;
    let side = |i: usize| known(size[i]).or(options.image_size.map(|s| s[i]));
    let (Some(h), Some(w)) = (side(0), side(1)) else {
        return Err(open(format!("the input {name:?} leaves its height and width open")));
    };
    Ok(Input { shape: [channels, h, w], channels_last, batch: known(batch) })
}

/// The value that holds the logits.
fn classifier_output(source: &Source, options: &ImportOptions) -> Result<(ValueId, ImportedOutput), OnnxError> {
    let names = || source.outputs.iter().map(|&o| source.names[o].as_str()).collect::<Vec<_>>().join(", ");
    let wanted = match &options.output {
        Some(name) => source.outputs.iter().find(|&&o| source.names[o] == *name),
        None => source.outputs.iter().find(|&&o| source.names[o] == "logits").or(source.outputs.first()),
    };
    let mut value = *wanted.ok_or_else(|| OnnxError::Interface {
        problem: format!("the model has no output {:?}; it has {}", options.output.as_deref().unwrap_or_default(), names()),
        cure: "name one of these",
    })?;
    let mut kind = ImportedOutput::Logits;
    while let Some(operator) = source.made_by(value) {
        kind = match operator.op.as_str() {
            "Identity" | "Cast" => kind,
            "Softmax" | "LogSoftmax" if kind == ImportedOutput::Logits => ImportedOutput::Softmax,
            "Sigmoid" if kind == ImportedOutput::Logits => ImportedOutput::Sigmoid,
            _ => break,
        };
        let Some(input) = operator.input(0) else { break };
        value = input;
    }
    Ok((value, kind))
}

/// Which operators `output` depends on, and how often each value is read by them.
fn liveness(source: &Source, output: ValueId) -> (Vec<bool>, Vec<usize>) {
    let (mut live, mut uses) = (vec![false; source.operators.len()], vec![0; source.names.len()]);
    uses[output] += 1;
    for (index, operator) in source.operators.iter().enumerate().rev() {
        if operator.outputs.iter().flatten().any(|&o| uses[o] > 0) {
            live[index] = true;
            operator.inputs.iter().flatten().for_each(|&input| uses[input] += 1);
        }
    }
    (live, uses)
}

/// The draft of the logits: a vector. A map or tokens, which a backbone ends in, are averaged.
fn end_of(translator: &mut Translator, output: ValueId) -> Result<usize, OnnxError> {
    let name = translator.source.names[output].clone();
    let wrong = |problem: String| OnnxError::Interface {
        problem: format!("the output {name:?}: {problem}"),
        cure: "expected logits or features computed from the image",
    };
    let Some(Value::Active(view)) = translator.values[output].clone() else {
        return Err(wrong("it is not computed from the image, or is an attention's scores".into()));
    };
    let view = translator.drafts.settle(&view).map_err(wrong)?;
    let mut node = view.node;
    let shape = translator.drafts.shape(node).to_vec();
    let made = |what: &str| (format!("pooled.{what}"), draft::NameRank::Made);
    if shape.len() == 2 && shape[0] > 1 {
        let map = translator.drafts.tokens_to_map(&view, [shape[0], 1]).map_err(wrong)?;
        node = map.node;
    }
    if shape.len() > 1 && translator.drafts.shape(node).len() == 3 {
        translator.notes.push("the output is no vector; its mean over the places is taken as features".into());
        return translator.drafts.add(made("mean"), Op::GlobalAvgPool, vec![node], Vec::new()).map_err(wrong);
    }
    Ok(translator.drafts.as_vector(&view).map_err(wrong)?.node)
}

/// The stages that our own export states.
fn stated_stages(source: &Source) -> Vec<(String, Vec<String>)> {
    let list = source.metadata.get(STAGES_KEY).and_then(|text| serde_json::from_str::<Vec<Vec<String>>>(text).ok()).unwrap_or_default();
    // More than that is nothing that we wrote.
    list.into_iter().take(1000).filter(|entry| !entry.is_empty()).map(|mut entry| (entry.remove(0), entry)).collect()
}
