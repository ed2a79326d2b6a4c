//! What happens in which order: steps forward, again and backward, over pieces of memory that each have one life.

use super::compile::Step;

/// Numbers a piece of memory: its life in a script, its slot once memory is planned.
pub(super) type Piece = usize;

/// One thing to do.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Forward {
        step: usize,
        inputs: Vec<Piece>,
        output: Piece,
        state: Piece,
        again: bool,
    },
    /// The way there is over: the caller reads the outputs.
    Outputs {
        pieces: Vec<Piece>,
    },
    /// The way back begins: the caller's gradient by the output.
    Seed {
        gradient: Piece,
    },
    Backward {
        step: usize,
        /// Those that are kept.
        inputs: Vec<Option<Piece>>,
        output: Option<Piece>,
        state: Piece,
        /// The gradient by the output.
        dy: Piece,
        sinks: Vec<Option<Target>>,
        /// Afterwards: gradients that were written aside are added.
        merges: Vec<(Piece, Piece)>,
        /// Afterwards: what is left in `dy` is copied or added.
        copies: Vec<Target>,
        /// Afterwards: what is left in `dy` counts twice.
        doubled: bool,
    },
    /// The gradient by the input, where there is one.
    Done {
        input_gradient: Option<Piece>,
    },
}

/// Where a gradient goes, and whether it is added to what is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub piece: Piece,
    pub add: bool,
}

impl Action {
    /// Every piece it touches.
    pub fn pieces_mut(&mut self) -> Vec<&mut Piece> {
        match self {
            Self::Forward { inputs, output, state, .. } => inputs.iter_mut().chain([output, state]).collect(),
            Self::Outputs { pieces } => pieces.iter_mut().collect(),
            Self::Seed { gradient } => vec![gradient],
            Self::Backward { inputs, output, state, dy, sinks, merges, copies, .. } => {
                let mut all: Vec<&mut Piece> = inputs.iter_mut().flatten().chain(output.iter_mut()).chain([state, dy]).collect();
                all.extend(sinks.iter_mut().flatten().map(|sink| &mut sink.piece));
                all.extend(merges.iter_mut().flat_map(|(from, to)| [from, to]));
                all.extend(copies.iter_mut().map(|copy| &mut copy.piece));
                all
            }
            Self::Done { input_gradient } => input_gradient.iter_mut().collect(),
        }
    }
}

/// Actions in order, and the words for one image of every piece.
#[derive(Debug)]
pub(super) struct Script {
    pub actions: Vec<Action>,
    pub sizes: Vec<usize>,
}

/// What is written into a script.
pub(super) struct Wanted<'a> {
    /// Nodes whose values the caller reads.
    pub outputs: &'a [usize],
    /// The node whose gradient the caller gives.
    pub logits: usize,
    /// Whether the gradient by the input is wanted.
    pub by_input: bool,
    /// Parts whose activations are computed again.
    pub segments: usize,
}

/// Writes the script of `steps`.
pub(super) fn write(steps: &[Step], nodes: usize, wanted: &Wanted<'_>) -> Script {
    let mut writer = Writer {
        steps,
        script: Script { actions: Vec::new(), sizes: Vec::new() },
        values: vec![None; nodes],
        states: vec![0; steps.len()],
        gradients: vec![None; nodes],
    };
    (0..steps.len()).for_each(|step| writer.forward(step, false));
    let pieces = wanted.outputs.iter().filter_map(|&node| writer.values[node]).collect();
    writer.script.actions.push(Action::Outputs { pieces });
    writer.back(wanted);
    let input_gradient = if wanted.by_input { writer.gradients[0] } else { None };
    writer.script.actions.push(Action::Done { input_gradient });
    writer.script
}

struct Writer<'a> {
    steps: &'a [Step],
    script: Script,
    /// The piece that holds each node's value now.
    values: Vec<Option<Piece>>,
    states: Vec<Piece>,
    /// The piece that holds the gradient by each node's value.
    gradients: Vec<Option<Piece>>,
}

impl Writer<'_> {
    fn piece(&mut self, words: usize) -> Piece {
        self.script.sizes.push(words);
        self.script.sizes.len() - 1
    }

    fn forward(&mut self, index: usize, again: bool) {
        let step = &self.steps[index];
        let inputs = step.inputs.iter().filter_map(|&node| self.values[node]).collect();
        let output = self.piece(step.kind.words(step.size));
        let state = self.piece(step.layer.state());
        (self.values[step.node], self.states[index]) = (Some(output), state);
        self.script.actions.push(Action::Forward { step: index, inputs, output, state, again });
    }

    fn back(&mut self, wanted: &Wanted<'_>) {
        let Some(last) = self.steps.iter().rposition(|s| s.node == wanted.logits).filter(|&i| self.steps[i].goes_back()) else { return };
        let gradient = self.piece(self.words_of(wanted.logits));
        self.gradients[wanted.logits] = Some(gradient);
        self.script.actions.push(Action::Seed { gradient });
        let segments = self.segments(last + 1, wanted.segments);
        for (number, segment) in segments.iter().enumerate().rev() {
            if number + 1 < segments.len() {
                self.repeat(segment.clone());
            }
            for index in segment.clone().rev() {
                // No gradient arrives where the logits do not depend on the value.
                if let Some(dy) = self.gradients[self.steps[index].node].filter(|_| self.steps[index].goes_back()) {
                    self.backward(index, dy);
                }
            }
        }
    }

    /// Runs of steps of about equal memory.
    fn segments(&self, count: usize, parts: usize) -> Vec<std::ops::Range<usize>> {
        let total: usize = self.steps[..count].iter().map(|s| s.size).sum();
        let parts = parts.clamp(1, count.max(1));
        let (mut segments, mut start, mut sum) = (Vec::new(), 0, 0);
        for (index, step) in self.steps[..count].iter().enumerate() {
            sum += step.size;
            if sum * parts >= total * (segments.len() + 1) || index + 1 == count {
                segments.push(start..index + 1);
                start = index + 1;
            }
        }
        segments.retain(|s| !s.is_empty());
        segments
    }

    /// Computes again what the way back through a segment reads.
    fn repeat(&mut self, segment: std::ops::Range<usize>) {
        let mut read = vec![false; self.values.len()];
        let mut repeated = Vec::new();
        for index in segment.clone().filter(|&i| self.steps[i].goes_back()) {
            let (step, keeps) = (&self.steps[index], self.steps[index].layer.keeps());
            read[step.node] |= keeps.output || step.layer.state() > 0;
            step.inputs.iter().for_each(|&input| read[input] |= keeps.inputs);
        }
        for index in segment.rev() {
            if read[self.steps[index].node] {
                self.steps[index].inputs.iter().for_each(|&input| read[input] = true);
                repeated.push(index);
            }
        }
        repeated.into_iter().rev().for_each(|index| self.forward(index, true));
    }

    fn backward(&mut self, index: usize, dy: Piece) {
        let step = &self.steps[index];
        let keeps = step.layer.keeps();
        let value = |node: usize| self.values[node];
        let inputs = step.inputs.iter().map(|&node| value(node).filter(|_| keeps.inputs)).collect();
        let output = value(step.node).filter(|_| keeps.output);
        let state = self.states[index];
        let (mut sinks, mut merges, mut copies) = (Vec::new(), Vec::new(), Vec::new());
        let (mut doubled, mut passed) = (false, None);
        for (input, (&node, &wants)) in step.inputs.iter().zip(&step.wants).enumerate() {
            if !wants || step.layer.passes(input) {
                sinks.push(None);
                continue;
            }
            let old = self.gradients[node];
            let twice = step.inputs[..input].contains(&node);
            sinks.push(Some(match old {
                None => {
                    let piece = self.piece(self.words_of(node));
                    self.gradients[node] = Some(piece);
                    Target { piece, add: false }
                }
                Some(piece) if step.layer.adds() && !twice => Target { piece, add: true },
                Some(piece) => {
                    let aside = self.piece(self.words_of(node));
                    merges.push((aside, piece));
                    Target { piece: aside, add: false }
                }
            }));
        }
        for (input, &node) in step.inputs.iter().enumerate().filter(|&(i, _)| step.wants[i] && step.layer.passes(i)) {
            match self.gradients[node] {
                None if passed.is_none() => (self.gradients[node], passed) = (Some(dy), Some(input)),
                None => {
                    let piece = self.piece(self.words_of(node));
                    self.gradients[node] = Some(piece);
                    copies.push(Target { piece, add: false });
                }
                Some(piece) if piece == dy => doubled = true,
                Some(piece) => copies.push(Target { piece, add: true }),
            }
        }
        self.script.actions.push(Action::Backward { step: index, inputs, output, state, dy, sinks, merges, copies, doubled });
    }

    /// Words of a node's value, and of the gradient by it.
    fn words_of(&self, node: usize) -> usize {
        self.steps.iter().find(|s| s.node == node).map_or(0, |s| s.kind.words(s.size))
    }
}
