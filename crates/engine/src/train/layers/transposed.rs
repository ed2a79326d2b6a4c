//! Rare ops over a dimension that is not last here.

use kernels::{Buffer, nchw_to_nhwc};

use crate::train::layer::{Back, Keeps, Layer, Sink, There};

/// A layer between transposes: of each image's values `[a, b]` it sees `[b, a]`, and what it writes is turned back.
#[derive(Debug)]
pub(in crate::train) struct Transposed {
    inner: Box<dyn Layer>,
    /// Of the input as it lies.
    input: [usize; 2],
    /// Of the output as it lies.
    output: [usize; 2],
}

impl Transposed {
    pub fn new(inner: Box<dyn Layer>, input: [usize; 2], output: [usize; 2]) -> Self {
        Self { inner, input, output }
    }
}

/// `[N, a, b] -> [N, b, a]`; nothing where there is nothing.
fn turn(values: &[f32], [a, b]: [usize; 2]) -> Vec<f32> {
    let mut turned = vec![0.0; values.len()];
    nchw_to_nhwc(&mut turned, values, a, b);
    turned
}

fn back_to(out: &mut [f32], turned: &[f32], [a, b]: [usize; 2]) {
    nchw_to_nhwc(out, turned, b, a);
}

impl Layer for Transposed {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn keeps(&self) -> Keeps {
        self.inner.keeps()
    }

    fn forward(&mut self, there: There<'_>) {
        let input = turn(there.inputs[0], self.input);
        let mut out = vec![0.0; there.out.len()];
        self.inner.forward(There { inputs: &[&input], out: &mut out, state: &mut Buffer::new(), ..there });
        back_to(there.out, &out, self.output);
    }

    fn backward(&mut self, back: Back<'_>) {
        let inputs: Vec<Vec<f32>> = back.inputs.iter().map(|x| turn(x, self.input)).collect();
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let (output, mut dy) = (turn(back.output, self.output), turn(back.dy, self.output));
        let sizes = back.sinks.first().and_then(|s| s.as_ref()).map_or(0, |s| s.values.len());
        let mut dx = vec![0.0; sizes];
        let passes = self.inner.passes(0);
        let mut sinks = [(!passes && sizes > 0).then_some(Sink { values: &mut dx, add: false })];
        let mut gradients: Vec<&mut [f32]> = back.gradients.iter_mut().map(|g| &mut **g).collect();
        let Back { batch, state, parameters, .. } = back;
        let (output, gradients) = (&output, &mut gradients);
        self.inner.backward(Back { batch, inputs: &inputs, output, dy: &mut dy, state, parameters, sinks: &mut sinks, gradients });
        if let Some(Some(sink)) = back.sinks.first_mut() {
            back_to(sink.values, if passes { &dy } else { &dx }, self.input);
        }
    }

    fn statistics(&self) -> Option<(&[f32], &[f32], usize)> {
        self.inner.statistics()
    }
}
