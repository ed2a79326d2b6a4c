//! Linear layers forward and back.

use super::convolution::Convolution;
use crate::conv::{ConvShape, Window};
use crate::dispatch::Isa;
use crate::gemm::{Epilogue, multiply};
use crate::pack::{Matrix, PackedB};
use crate::scratch;
use crate::value::{Value, Values, ValuesMut, alike};

/// A linear layer: `x` `[rows, inputs]`, `y` `[rows, outputs]`, weight `[outputs, inputs]`.
#[derive(Debug, Clone, Copy)]
pub struct Linear {
    /// Rows: images, or tokens of all images.
    pub rows: usize,
    /// Values read a row.
    pub inputs: usize,
    /// Values written a row.
    pub outputs: usize,
}

impl Linear {
    /// `y = x · Wᵀ`, with what comes after it in the same pass.
    ///
    /// # Panics
    /// Where sizes disagree.
    pub fn forward<'a, 'b>(&self, y: impl Into<ValuesMut<'a>>, x: impl Into<Values<'b>>, weight: &[f32], epilogue: &Epilogue) {
        alike!((y; x) => self.forward_of(y, x, weight, epilogue));
    }

    fn forward_of<T: Value>(&self, y: &mut [T], x: &[T], weight: &[f32], epilogue: &Epilogue) {
        self.check(x.len(), y.len(), weight.len());
        let weight = Matrix::new(weight, self.outputs, self.inputs).t();
        with_packed(weight, |packed| {
            multiply(y, self.outputs, self.rows, &Matrix::new(x, self.rows, self.inputs), packed, false, epilogue)
        });
    }

    /// `dx = dy · W`, or (`accumulate`) `dx += dy · W`.
    ///
    /// # Panics
    /// Where sizes disagree.
    pub fn input_gradient<'a, 'b>(&self, dx: impl Into<ValuesMut<'a>>, dy: impl Into<Values<'b>>, weight: &[f32], accumulate: bool) {
        alike!((dx; dy) => self.input_gradient_of(dx, dy, weight, accumulate));
    }

    fn input_gradient_of<T: Value>(&self, dx: &mut [T], dy: &[T], weight: &[f32], accumulate: bool) {
        self.check(dx.len(), dy.len(), weight.len());
        let (weight, rows) = (Matrix::new(weight, self.outputs, self.inputs), Matrix::new(dy, self.rows, self.outputs));
        with_packed(weight, |packed| multiply(dx, self.inputs, self.rows, &rows, packed, accumulate, &Epilogue::default()));
    }

    /// `dw = dyᵀ · x`.
    ///
    /// # Panics
    /// Where sizes disagree.
    pub fn weight_gradient<'a, 'b>(&self, dw: &mut [f32], dy: impl Into<Values<'a>>, x: impl Into<Values<'b>>) {
        let (dy, x) = (dy.into(), x.into());
        self.check(x.len(), dy.len(), dw.len());
        let (window, one) = (Window { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], padding: [0; 2] }, [1, 1]);
        let shape = ConvShape { batch: self.rows, input: one, channels: self.inputs, output: one, window };
        Convolution::new(shape, self.outputs, 1).weight_gradient(dw, dy, x);
    }

    fn check(&self, input: usize, output: usize, weight: usize) {
        assert_eq!(input, self.rows * self.inputs, "input");
        assert_eq!(output, self.rows * self.outputs, "output");
        assert_eq!(weight, self.inputs * self.outputs, "weight");
    }
}

/// Gives `f` the matrix packed, in memory that is kept.
fn with_packed<R>(b: Matrix, f: impl FnOnce(&PackedB) -> R) -> R {
    let isa = Isa::best();
    scratch::for_packed(|kept| {
        kept.retain(|p| p.isa == isa);
        if kept.is_empty() {
            kept.push(PackedB::for_isa(isa, Matrix::new(&[], 0, 0)));
        }
        kept[0].repack(b);
        f(&kept[0])
    })
}
