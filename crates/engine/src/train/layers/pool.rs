//! Pooling.

use kernels::train::{self, average_pool_gradient, global_average_gradient, max_pool_gradient};
use kernels::{ConvShape, PoolShape};

use super::into;
use crate::train::layer::{Back, Keeps, Layer, There};

/// Maxima of windows.
#[derive(Debug)]
pub(in crate::train) struct MaxPool {
    /// Of a batch of 0.
    pub shape: PoolShape,
}

impl MaxPool {
    fn values(&self) -> usize {
        self.shape.output[0] * self.shape.output[1] * self.shape.channels
    }
}

impl Layer for MaxPool {
    fn name(&self) -> &'static str {
        "max pool"
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    /// Where each maximum was.
    fn state(&self) -> usize {
        self.values()
    }

    fn takes_bf16(&self) -> bool {
        true
    }

    fn forward(&mut self, there: There<'_>) {
        let shape = ConvShape { batch: there.batch, ..self.shape };
        let places = there.state.numbers_mut::<u32>(self.values() * there.batch);
        train::max_pool(there.out, places, there.inputs[0], &shape);
    }

    fn backward(&mut self, back: Back<'_>) {
        let shape = ConvShape { batch: back.batch, ..self.shape };
        let (dy, places) = (back.dy.as_ref(), back.state.numbers::<u32>(self.values() * back.batch));
        into(back.sinks, 0, |dx| max_pool_gradient(dx, dy, places, &shape));
    }
}

/// Means of windows.
#[derive(Debug)]
pub(in crate::train) struct AveragePool {
    /// Of a batch of 0.
    pub shape: PoolShape,
    pub padding_end: [usize; 2],
    pub count_padding: bool,
}

impl Layer for AveragePool {
    fn name(&self) -> &'static str {
        "average pool"
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn takes_bf16(&self) -> bool {
        true
    }

    fn forward(&mut self, there: There<'_>) {
        let shape = ConvShape { batch: there.batch, ..self.shape };
        train::average_pool(there.out, there.inputs[0], &shape, self.padding_end, self.count_padding);
    }

    fn backward(&mut self, back: Back<'_>) {
        let shape = ConvShape { batch: back.batch, ..self.shape };
        let dy = back.dy.as_ref();
        into(back.sinks, 0, |dx| average_pool_gradient(dx, dy, &shape, self.padding_end, self.count_padding));
    }
}

/// Means of whole maps.
#[derive(Debug)]
pub(in crate::train) struct GlobalAverage {
    pub pixels: usize,
    pub channels: usize,
}

impl Layer for GlobalAverage {
    fn name(&self) -> &'static str {
        "global average"
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn takes_bf16(&self) -> bool {
        true
    }

    fn forward(&mut self, there: There<'_>) {
        train::global_average(there.out, there.inputs[0], self.pixels, self.channels);
    }

    fn backward(&mut self, back: Back<'_>) {
        let dy = back.dy.as_ref();
        into(back.sinks, 0, |dx| global_average_gradient(dx, dy, self.pixels, self.channels));
    }
}
