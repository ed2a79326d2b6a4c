//! The one table of tolerances, and the errors found beside it.
//!
//! An error is a share of the largest value of its tensor, which counts as at least [`Row::least_scale`]: the worst value and the mean over
//! the tensor are both held.

use std::collections::BTreeMap;
use std::fmt;

/// What a case is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One op between two layers.
    Op,
    /// A block, or a random graph of a dozen nodes.
    Network,
    /// An architecture of the zoo.
    Zoo,
}

/// Who computes a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// The reference with every value in f64.
    Wide,
    EngineF32,
    EngineBf16,
    /// Maps and weights in bytes.
    EngineInt8,
    /// Maps in 16-bit integers.
    EngineInt16,
    /// A training plan, in inference mode.
    Plan,
    Burn,
    /// Exported, imported, and run by the reference.
    Onnx,
    /// The same with batch norms folded when exported.
    OnnxFolded,
    /// Exported, imported, and run by the engine in f32.
    OnnxEngine,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// Activations beside the reference's.
    Output(Way, Kind),
    /// Errors of logits of the zoo by the engine in bf16, in those of exact sums of rounded values.
    BesideFormat,
    /// Gradients of a plan beside Burn's, one step.
    BesideBurn(Kind),
    /// Running statistics after a step, plan beside Burn.
    Statistics,
    /// Gradients of a plan beside central differences in f64.
    PlanDifferences,
    /// Gradients of Burn beside them.
    BurnDifferences,
    /// The slope of the loss along all gradients of a network, signs drawn by tensor.
    Slopes,
    /// Weights after ten steps, plan beside Burn.
    TenSteps,
}

/// A row with its bounds.
pub struct Line {
    row: Row,
    worst: f64,
    mean: f64,
    why: &'static str,
}

const fn line(row: Row, worst: f64, mean: f64, why: &'static str) -> Line {
    Line { row, worst, mean, why }
}

use Kind::{Network, Op, Zoo};
use Row::{BesideBurn, BesideFormat, BurnDifferences, Output, PlanDifferences, Slopes, Statistics, TenSteps};
use Way::{Burn, EngineBf16, EngineF32, EngineInt8, EngineInt16, Onnx, OnnxEngine, OnnxFolded, Plan, Wide};

const ROUNDED: &str = "the reference rounds each value once, to the 24 bits of f32";
const SUMS: &str = "sums of up to some hundred terms in another order, in f32 (6e-8)";
const DEEP: &str = "the same through dozens of layers; norms folded, Winograd's transforms";
const HALVES: &str = "weights and maps have 8 bits: up to 2e-3 (2^-9) for each of some three layers";
const HALVES_DEEP: &str = "the same for some dozens of layers and sums";
const BYTES: &str =
    "half a step of 1/255 of a map's range, which has two signs, and of 1/127 of a row of weights: 4e-3 each, in some three layers";
const BYTES_DEEP: &str = "the same in a dozen layers; with random weights and few channels they add up";
const BYTES_ZOO: &str = "the same in some dozens of layers";
const WIDE: &str = "12 bits and a sign for maps, some 11 for weights: steps sixteen times finer than those of bytes";
const WIDE_DEEP: &str = "the same in some dozens of layers";
const SAME: &str = "the same graph comes back, with the same weights";
const FOLDED: &str = "a norm becomes a factor of weights, rounded once more";
const BACK: &str = "sums in another order, there and back";

/// The table. A bound follows from its reason, and is some times what was found (processors round and sum in their own ways); it is never raised
/// to pass.
#[rustfmt::skip]
pub const TABLE: &[Line] = &[
    line(Output(Wide, Op), 1e-6, 1e-6, ROUNDED),
    line(Output(Wide, Network), 1e-5, 1e-5, ROUNDED),
    line(Output(Wide, Zoo), 1e-5, 1e-5, ROUNDED),
    line(Output(EngineF32, Op), 1e-5, 1e-5, SUMS),
    line(Output(EngineF32, Network), 1e-4, 1e-4, DEEP),
    line(Output(EngineF32, Zoo), 1e-4, 1e-4, DEEP),
    line(Output(EngineBf16, Op), 3e-2, 1e-2, HALVES),
    line(Output(EngineBf16, Network), 3e-2, 1e-2, HALVES_DEEP),
    line(Output(EngineBf16, Zoo), 3e-2, 1e-2, HALVES_DEEP),
    line(BesideFormat, 2.0, 2.0, "both err by chance: of some twenty logits the largest error, and the mean"),
    line(Output(EngineInt8, Op), 2.5e-1, 5e-2, BYTES),
    line(Output(EngineInt8, Network), 2.5e-1, 5e-2, BYTES_DEEP),
    line(Output(EngineInt8, Zoo), 2.5e-1, 5e-2, BYTES_ZOO),
    line(Output(EngineInt16, Op), 1e-2, 5e-3, WIDE),
    line(Output(EngineInt16, Network), 1e-2, 5e-3, WIDE),
    line(Output(EngineInt16, Zoo), 3e-2, 1e-2, WIDE_DEEP),
    line(Output(Plan, Op), 1e-5, 1e-5, SUMS),
    line(Output(Plan, Network), 1e-4, 1e-4, DEEP),
    line(Output(Plan, Zoo), 1e-4, 1e-4, DEEP),
    line(Output(Burn, Op), 1e-5, 1e-5, SUMS),
    line(Output(Burn, Network), 1e-4, 1e-4, DEEP),
    line(Output(Burn, Zoo), 1e-4, 1e-4, DEEP),
    line(Output(Onnx, Op), 1e-6, 1e-6, SAME),
    line(Output(Onnx, Network), 1e-6, 1e-6, SAME),
    line(Output(Onnx, Zoo), 1e-6, 1e-6, SAME),
    line(Output(OnnxFolded, Op), 1e-4, 1e-4, FOLDED),
    line(Output(OnnxFolded, Network), 1e-4, 1e-4, FOLDED),
    line(Output(OnnxFolded, Zoo), 1e-4, 1e-4, FOLDED),
    line(Output(OnnxEngine, Op), 1e-4, 1e-4, SUMS),
    line(Output(OnnxEngine, Network), 1e-4, 1e-4, DEEP),
    line(Output(OnnxEngine, Zoo), 1e-4, 1e-4, DEEP),
    line(BesideBurn(Op), 1e-4, 1e-4, BACK),
    line(BesideBurn(Network), 1e-3, 1e-3, "the same through a dozen layers; clamps replaced by SiLU"),
    line(BesideBurn(Zoo), 1e-3, 1e-3, "the same through dozens of layers, Winograd's transforms; clamps replaced by SiLU"),
    line(Statistics, 1e-5, 1e-5, "one sum in another order, mixed with what was"),
    line(PlanDifferences, 1e-4, 1e-4, "f32 there and back; the differences are within 1e-8"),
    line(BurnDifferences, 1e-4, 1e-4, "f32 there and back; the differences are within 1e-8"),
    line(Slopes, 1e-3, 1e-3, "f32 there and back through dozens of layers; clamps replaced by SiLU"),
    line(TenSteps, 1e-4, 1e-4, "the bound that training promises: of the length of all weights; Lite0 from its published weights, or with SiLU for its clamps"),
];

impl Line {
    /// The first columns of the row in the document.
    fn bounds(&self) -> String {
        format!("| {} | {} | {} |", self.row, share(self.worst), share(self.mean))
    }
}

impl Row {
    fn line(self) -> &'static Line {
        TABLE.iter().find(|line| line.row == self).unwrap_or_else(|| panic!("{self} has no line in the table"))
    }

    /// The largest value of a tensor counts as at least this: what cancels to zero (a bias before a norm) leaves rounding errors.
    fn least_scale(self) -> f64 {
        match self {
            Self::Output(..) => 1e-3,
            Self::BesideBurn(_) | Self::Statistics | Self::PlanDifferences | Self::BurnDifferences => 0.05,
            Self::BesideFormat | Self::Slopes | Self::TenSteps => 1e-3,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = |kind: Kind| match kind {
            Kind::Op => "ops",
            Kind::Network => "blocks and random graphs",
            Kind::Zoo => "zoo",
        };
        let way = |way: Way| match way {
            Way::Wide => "reference in f64",
            Way::EngineF32 => "engine, f32",
            Way::EngineBf16 => "engine, bf16",
            Way::EngineInt8 => "engine, bytes",
            Way::EngineInt16 => "engine, 16-bit integers",
            Way::Plan => "training plan",
            Way::Burn => "Burn",
            Way::Onnx => "ONNX and back, reference",
            Way::OnnxFolded => "ONNX with norms folded and back, reference",
            Way::OnnxEngine => "ONNX and back, engine in f32",
        };
        match *self {
            Self::Output(w, k) => write!(f, "{}: {}", way(w), kind(k)),
            Self::BesideFormat => write!(f, "errors of the engine in bf16, in those of the format: zoo"),
            Self::BesideBurn(k) => write!(f, "gradients, plan beside Burn: {}", kind(k)),
            Self::Statistics => write!(f, "running statistics, plan beside Burn"),
            Self::PlanDifferences => write!(f, "gradients of the plan beside central differences in f64: ops"),
            Self::BurnDifferences => write!(f, "gradients of Burn beside central differences in f64: ops"),
            Self::Slopes => write!(f, "slopes along the gradients of the plan beside central differences in f64: zoo"),
            Self::TenSteps => write!(f, "weights after ten steps of SGD, plan beside Burn: zoo"),
        }
    }
}

/// What was found of a row.
#[derive(Default)]
struct Found {
    worst: f64,
    mean: f64,
    /// Where the worst was.
    place: String,
    compared: usize,
}

/// Collects errors by row.
#[derive(Default)]
pub struct Ledger {
    found: BTreeMap<Row, Found>,
    beyond: Vec<String>,
}

/// Runs a comparison, prints the rows that it touched as `docs/conformance.md` has them, and fails where errors were beyond their bounds.
pub fn judge(compare: impl FnOnce(&mut Ledger)) {
    let mut ledger = Ledger::default();
    compare(&mut ledger);
    assert!(!ledger.found.is_empty(), "nothing was compared");
    for (row, found) in &ledger.found {
        let line = row.line();
        println!("{} {} | {} | {} |", line.bounds(), share(found.worst), share(found.mean), line.why);
        println!("    {} tensors, the worst: {}", found.compared, found.place);
    }
    let beyond = &ledger.beyond;
    assert!(beyond.is_empty(), "{} tensors beyond their bounds:\n{}", beyond.len(), beyond[..beyond.len().min(40)].join("\n"));
}

/// The worst error and the mean, as shares of `scale`.
pub fn errors<A: Copy + Into<f64>, B: Copy + Into<f64>>(got: &[A], want: &[B], scale: f64) -> (f64, f64) {
    let (mut worst, mut sum) = (0.0f64, 0.0);
    for (&g, &w) in got.iter().zip(want) {
        let error = (g.into() - w.into()).abs();
        // A NaN is infinitely far.
        worst = if error <= worst { worst } else { error.max(if error.is_nan() { f64::INFINITY } else { 0.0 }) };
        sum += error;
    }
    (worst / scale, sum / scale / want.len().max(1) as f64)
}

fn share(value: f64) -> String {
    format!("{value:.1e}")
}

impl Ledger {
    /// Compares `got` with `want`, values of one tensor at `place`.
    pub fn compare<A: Copy + Into<f64>, B: Copy + Into<f64>>(&mut self, row: Row, place: impl fmt::Display, got: &[A], want: &[B]) {
        self.compare_beside(row, place, (got, want), 0.0);
    }

    /// [`Ledger::compare`] of values that are sums of terms up to `terms`, which may cancel: the largest value counts as at least that.
    pub fn compare_beside<A: Copy + Into<f64>, B: Copy + Into<f64>>(
        &mut self,
        row: Row,
        place: impl fmt::Display,
        (got, want): (&[A], &[B]),
        terms: f64,
    ) {
        assert_eq!(got.len(), want.len(), "{row}: {place}");
        let scale = want.iter().fold(row.least_scale().max(terms), |m, &w| m.max(w.into().abs()));
        let (worst, mean) = errors(got, want, scale);
        self.note(row, place, worst, mean);
    }

    /// Notes errors that are shares already.
    pub fn note(&mut self, row: Row, place: impl fmt::Display, worst: f64, mean: f64) {
        let line = row.line();
        let entry = self.found.entry(row).or_default();
        entry.compared += 1;
        if worst > entry.worst {
            (entry.worst, entry.place) = (worst, place.to_string());
        }
        entry.mean = entry.mean.max(mean);
        if !(worst <= line.worst && mean <= line.mean) {
            self.beyond.push(format!("{row}: {place}: worst {worst:.2e}, mean {mean:.2e}"));
        }
    }
}

#[test]
fn the_document_has_this_table() {
    let document = include_str!("../../../../docs/conformance.md");
    for line in TABLE {
        let (start, end) = (line.bounds(), format!("| {} |", line.why));
        let has = document.lines().any(|written| written.starts_with(&start) && written.ends_with(&end));
        assert!(has, "docs/conformance.md lacks a row {start} … {end}");
    }
    let rows = document.lines().filter(|written| written.starts_with("| ") && (written.contains("e-") || written.contains("e0"))).count();
    assert_eq!(rows, TABLE.len(), "rows of docs/conformance.md that are not in the table");
}
