//! Rare ops over a dimension that is not last here.

use kernels::{Buffer, Values, ValuesMut, nchw_to_nhwc};

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
        let (input, to) = (turn(there.inputs[0].f32(), self.input), there.out.f32());
        let mut out = vec![0.0; to.len()];
        let inputs = [Values::F32(&input)];
        self.inner.forward(There { inputs: &inputs, out: ValuesMut::F32(&mut out), state: &mut Buffer::new(), ..there });
        back_to(to, &out, self.output);
    }

    fn backward(&mut self, back: Back<'_>) {
        let inputs: Vec<Vec<f32>> = back.inputs.iter().map(|x| turn(x.f32(), self.input)).collect();
        let inputs: Vec<Values<'_>> = inputs.iter().map(Values::from).collect();
        let (output, mut dy) = (turn(back.output.f32(), self.output), turn(back.dy.f32(), self.output));
        let sizes = back.sinks.first().and_then(|s| s.as_ref()).map_or(0, |s| s.values.len());
        let mut dx = vec![0.0; sizes];
        let passes = self.inner.passes(0);
        let mut sinks = [(!passes && sizes > 0).then_some(Sink { values: ValuesMut::F32(&mut dx), add: false })];
        let mut gradients: Vec<&mut [f32]> = back.gradients.iter_mut().map(|g| &mut **g).collect();
        let Back { batch, state, parameters, .. } = back;
        let (output, gradients) = (Values::F32(&output), &mut gradients);
        self.inner.backward(Back {
            batch,
            inputs: &inputs,
            output,
            dy: ValuesMut::F32(&mut dy),
            state,
            parameters,
            sinks: &mut sinks,
            gradients,
        });
        if let Some(Some(sink)) = back.sinks.first_mut() {
            back_to(sink.values.reborrow().f32(), if passes { &dy } else { &dx }, self.input);
        }
    }

    fn statistics(&self) -> Option<(&[f32], &[f32], usize)> {
        self.inner.statistics()
    }
}
