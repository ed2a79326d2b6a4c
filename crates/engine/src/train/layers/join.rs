//! What moves values: layouts, parts, and parts put together.

use kernels::{nchw_to_nhwc, nhwc_to_nchw};

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

    fn forward(&mut self, there: There<'_>) {
        if self.channels == 1 {
            there.out.copy_from_slice(there.image);
        } else {
            nchw_to_nhwc(there.out, there.image, self.channels, self.pixels);
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

    fn forward(&mut self, there: There<'_>) {
        nhwc_to_nchw(there.out, there.inputs[0], self.channels, self.pixels);
    }

    fn backward(&mut self, back: Back<'_>) {
        let dy = &*back.dy;
        into(back.sinks, 0, |dx| nchw_to_nhwc(dx, dy, self.channels, self.pixels));
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

    fn forward(&mut self, there: There<'_>) {
        for (out, row) in there.out.chunks_exact_mut(self.width).zip(there.inputs[0].chunks_exact(self.row)) {
            out.copy_from_slice(&row[self.from..self.from + self.width]);
        }
    }

    fn backward(&mut self, back: Back<'_>) {
        let dy = &*back.dy;
        into(back.sinks, 0, |dx| {
            dx.fill(0.0);
            for (row, dy) in dx.chunks_exact_mut(self.row).zip(dy.chunks_exact(self.width)) {
                row[self.from..self.from + self.width].copy_from_slice(dy);
            }
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

    fn forward(&mut self, there: There<'_>) {
        let total: usize = self.widths.iter().sum();
        for (input, (width, at)) in there.inputs.iter().zip(self.parts()) {
            for (out, row) in there.out.chunks_exact_mut(total).zip(input.chunks_exact(width)) {
                out[at..at + width].copy_from_slice(row);
            }
        }
    }

    fn backward(&mut self, back: Back<'_>) {
        let total: usize = self.widths.iter().sum();
        let dy = &*back.dy;
        for (input, (width, at)) in self.parts().enumerate() {
            into(back.sinks, input, |dx| {
                for (dx, dy) in dx.chunks_exact_mut(width).zip(dy.chunks_exact(total)) {
                    dx.copy_from_slice(&dy[at..at + width]);
                }
            });
        }
    }
}
