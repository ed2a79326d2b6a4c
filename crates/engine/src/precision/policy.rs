//! Which layer runs in which precision.

use std::collections::BTreeMap;
use std::sync::Arc;

use graph::{Graph, Op, RunError};
use kernels::int8::{LIMIT, Quant, Width};

use crate::plan::{is_chain_head, outline};
use crate::precision::Precision;
use crate::quantize::{Kept, Quantization};

/// How a value is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    F32,
    Bf16,
    U8(Quant),
    /// 16-bit integers of a scale.
    I16(f32),
}

impl Kind {
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
            Self::I16(_) => 2,
            Self::U8(_) => 1,
        }
    }

    /// Scale and zero point of integers.
    pub fn quant(self) -> Option<Quant> {
        match self {
            Self::F32 | Self::Bf16 => None,
            Self::U8(quant) => Some(quant),
            Self::I16(scale) => Some(Quant { scale, zero: 0 }),
        }
    }
}

/// How a convolution or linear layer computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    F32,
    Bf16,
    Int8,
}

/// Layers by node, and of quantised values what their bytes mean.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    layers: BTreeMap<usize, Layer>,
    quants: BTreeMap<usize, Quant>,
    /// Of the integers of maps.
    pub width: Width,
    factors: BTreeMap<usize, Arc<[f32]>>,
    /// With the norm that was folded into the layer when it was calibrated.
    corrections: BTreeMap<usize, (Option<usize>, Vec<f32>)>,
    rounded: BTreeMap<usize, (Option<usize>, Vec<i8>)>,
}

impl Policy {
    /// # Errors
    /// Int8 without a quantization, or with one of another graph.
    pub fn new(graph: &Graph, precision: Precision, quantization: Option<&Quantization>) -> Result<Self, RunError> {
        let chosen = match (precision, quantization) {
            (Precision::Auto, Some(quantization)) => quantization.chosen.as_ref().map_or(Precision::F32, |c| c.precision),
            (Precision::Auto, None) => Precision::F32,
            (other, _) => other,
        };
        let heads = || (0..graph.nodes.len()).filter(|&index| is_chain_head(graph, index));
        match chosen {
            Precision::F32 | Precision::Auto => Ok(Self::default()),
            Precision::Bf16 => Ok(Self { layers: heads().map(|index| (index, Layer::Bf16)).collect(), ..Self::default() }),
            Precision::Int8 => {
                let missing = "int8 needs a calibration: make one with `engine::quantize::calibrate`, or use bf16 or f32";
                let quantization = quantization.ok_or_else(|| RunError::Interpreter(missing.into()))?;
                Self::int8(graph, quantization)
            }
        }
    }

    fn int8(graph: &Graph, quantization: &Quantization) -> Result<Self, RunError> {
        let names: BTreeMap<&str, usize> = graph.nodes.iter().enumerate().map(|(i, node)| (node.name.as_str(), i)).collect();
        let find = |name: &String| {
            let cure = || format!("the quantization names a node {name:?} that the network lacks; calibrate again");
            names.get(name.as_str()).copied().ok_or_else(|| RunError::Interpreter(cure()))
        };
        let norms: BTreeMap<usize, Option<usize>> = outline(graph).0.iter().map(|layer| (layer.head, layer.norm)).collect();
        let mut policy = Self { width: quantization.activations.width(), ..Self::default() };
        for index in (0..graph.nodes.len()).filter(|&index| is_chain_head(graph, index)) {
            // Few channels and many pixels: 16 bits gain nothing on f32 there.
            let reads_image = matches!(graph.node(graph.nodes[index].inputs[0]).op, Op::Input { .. });
            policy.layers.insert(index, if reads_image && policy.width == Width::Halves { Layer::F32 } else { Layer::Int8 });
        }
        for (name, kept) in &quantization.kept {
            policy.layers.insert(find(name)?, if *kept == Kept::Bf16 { Layer::Bf16 } else { Layer::F32 });
        }
        for (name, value) in &quantization.values {
            policy.quants.insert(find(name)?, Quant { scale: value.scale, zero: value.zero_point });
        }
        for (name, factors) in &quantization.factors {
            let node = find(name)?;
            if graph.nodes[node].shape.first() != Some(&factors.len()) || factors.iter().any(|f| !(*f > 0.0 && f.is_finite())) {
                let problem =
                    format!("the quantization has {} factors for {name:?}, not one above 0 a channel; calibrate again", factors.len());
                return Err(RunError::Interpreter(problem));
            }
            policy.factors.insert(node, factors.as_slice().into());
        }
        for (name, correction) in &quantization.corrections {
            let node = find(name)?;
            let channels = graph.nodes[node].parameters.first().and_then(|p| p.shape.first());
            if channels != Some(&correction.len()) {
                let problem = format!("the quantization corrects {} channels of {name:?}; calibrate again", correction.len());
                return Err(RunError::Interpreter(problem));
            }
            policy.corrections.insert(node, (norms.get(&node).copied().flatten(), correction.clone()));
        }
        for (name, bytes) in &quantization.rounded {
            let node = find(name)?;
            let count = graph.nodes[node].parameters.first().map(|p| p.shape.iter().product());
            if count != Some(bytes.len()) {
                let problem =
                    format!("the quantization has {} weights of {name:?}, not {}; calibrate again", bytes.len(), count.unwrap_or(0));
                return Err(RunError::Interpreter(problem));
            }
            policy.rounded.insert(node, (norms.get(&node).copied().flatten(), bytes.clone()));
        }
        Ok(policy)
    }

    /// How the layer at node `head` computes.
    pub fn layer(&self, head: usize) -> Layer {
        self.layers.get(&head).copied().unwrap_or(Layer::F32)
    }

    /// The integers of a node's value, where it is calibrated.
    pub fn integers(&self, node: usize) -> Option<Kind> {
        let quant = self.quants.get(&node).copied()?;
        Some(match self.width {
            Width::Bytes => Kind::U8(quant),
            // The same range, the wider side of 0 deciding.
            Width::Halves => Kind::I16(f32::from(quant.zero.max(255 - quant.zero)) * quant.scale / f32::from(LIMIT)),
        })
    }

    /// What the bytes of each channel of a node's value are multiplied by beside the scale.
    pub fn factors(&self, node: usize) -> Option<Arc<[f32]>> {
        self.factors.get(&node).cloned()
    }

    /// What calibration adds to the bias of the layer at node `head` with `norm` folded in: nothing where another one was (a plan for taps
    /// between the two).
    pub fn correction(&self, head: usize, norm: Option<usize>) -> Option<&[f32]> {
        self.corrections.get(&head).filter(|(folded, _)| *folded == norm).map(|(_, correction)| correction.as_slice())
    }

    /// The weights of the layer at node `head` with `norm` folded in, as bytes: as calibrated, where that norm was folded in then.
    pub fn rounded(&self, head: usize, norm: Option<usize>) -> Option<&[i8]> {
        self.rounded.get(&head).filter(|(folded, _)| *folded == norm).map(|(_, bytes)| bytes.as_slice())
    }
}
