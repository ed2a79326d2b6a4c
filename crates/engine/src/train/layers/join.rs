//! What moves values: layouts, parts, and parts put together.

use kernels::Number;
use kernels::train::channels_last;
use kernels::{Values, ValuesMut};

use super::into;
use crate::train::layer::{Back, Keeps, Layer, There};

/// The batch of images, channels last.
#[derive(Debug)]
pub(in crate::train) struct Load {
    pub channels: usize,
    pub pixels: usize,
}

impl Layer for Load {
    fn name(&self) -> &'static str {
        "load"
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn takes_bf16(&self) -> bool {
        true
    }

    fn forward(&mut self, there: There<'_>) {
        if self.channels == 1 {
            kernels::copy(there.out, there.image);
        } else {
            channels_last(there.out, there.image, self.channels, self.pixels);
        }
    }

    fn backward(&mut self, _: Back<'_>) {}
}

/// A map as a vector in the graph's order.
#[derive(Debug)]
pub(in crate::train) struct Flatten {
    pub channels: usize,
    pub pixels: usize,
}

impl Layer for Flatten {
    fn name(&self) -> &'static str {
        "flatten"
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn takes_bf16(&self) -> bool {
        true
    }

    fn forward(&mut self, there: There<'_>) {
        channels_last(there.out, there.inputs[0], self.pixels, self.channels);
    }

    fn backward(&mut self, back: Back<'_>) {
        let dy = back.dy.as_ref();
        into(back.sinks, 0, |dx| channels_last(dx, dy, self.channels, self.pixels));
    }
}

/// Copies `width` values of each row of `row` values from `from[1]` on to those of `to[1]` on.
fn columns(to: (ValuesMut<'_>, [usize; 2]), from: (Values<'_>, [usize; 2]), width: usize) {
    fn each<T: Number>((to, [to_row, at]): (&mut [T], [usize; 2]), (from, [from_row, start]): (&[T], [usize; 2]), width: usize) {
        for (to, from) in to.chunks_exact_mut(to_row.max(1)).zip(from.chunks_exact(from_row.max(1))) {
            to[at..at + width].copy_from_slice(&from[start..start + width]);
        }
    }
    match (to.0, from.0) {
        (ValuesMut::F32(values), Values::F32(source)) => each((values, to.1), (source, from.1), width),
        (ValuesMut::Bf16(values), Values::Bf16(source)) => each((values, to.1), (source, from.1), width),
        (ValuesMut::F32(_), Values::Bf16(_)) | (ValuesMut::Bf16(_), Values::F32(_)) => {}
    }
}

/// Some columns of each row.
#[derive(Debug)]
pub(in crate::train) struct Rows {
    pub from: usize,
    pub width: usize,
    pub row: usize,
}

impl Layer for Rows {
    fn name(&self) -> &'static str {
        "columns"
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn takes_bf16(&self) -> bool {
        true
    }

    fn forward(&mut self, there: There<'_>) {
        columns((there.out, [self.width, 0]), (there.inputs[0], [self.row, self.from]), self.width);
    }

    fn backward(&mut self, back: Back<'_>) {
        let dy = back.dy.as_ref();
        into(back.sinks, 0, |mut dx| {
            dx.clear();
            columns((dx, [self.row, self.from]), (dy, [self.width, 0]), self.width);
        });
    }
}

/// Rows of each input side by side.
#[derive(Debug)]
pub(in crate::train) struct Concat {
    pub widths: Vec<usize>,
}

impl Concat {
    /// Each input's width and where it begins in a joined row.
    fn parts(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.widths.iter().scan(0, |at, &width| {
            *at += width;
            Some((width, *at - width))
        })
    }
}

impl Layer for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn keeps(&self) -> Keeps {
        Keeps::NOTHING
    }

    fn takes_bf16(&self) -> bool {
        true
    }

    fn forward(&mut self, mut there: There<'_>) {
        let total: usize = self.widths.iter().sum();
        for (&input, (width, at)) in there.inputs.iter().zip(self.parts()) {
            columns((there.out.reborrow(), [total, at]), (input, [width, 0]), width);
        }
    }

    fn backward(&mut self, back: Back<'_>) {
        let total: usize = self.widths.iter().sum();
        let dy = back.dy.as_ref();
        for (input, (width, at)) in self.parts().enumerate() {
            into(back.sinks, input, |dx| columns((dx, [width, 0]), (dy, [total, at]), width));
        }
    }
}
