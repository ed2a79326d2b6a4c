//! Seeded variation of training pictures.

mod color;
mod draw;
mod settings;
mod warp;

use draw::Plan;
pub use settings::{Augment, Fill};

use crate::decode::View;
use crate::image::Image;
use crate::preprocess::{Preprocess, spread};

impl Augment {
    /// The values `[C, H, W]` of one variation of a picture, normalised; equal to [`Preprocess::apply`] when nothing is switched on.
    ///
    /// The same `(seed, sample, epoch)` gives the same values, whatever the number of threads.
    pub fn apply(&self, image: &Image, preprocess: &Preprocess, seed: u64, sample: u64, epoch: u64) -> Vec<f32> {
        let mut out = vec![0.0; preprocess.shape().iter().product()];
        self.apply_into(image, preprocess, seed, sample, epoch, &mut out);
        out
    }

    /// [`Augment::apply`] into a slice of `C * H * W` values.
    ///
    /// # Panics
    /// When the slice has another length.
    pub fn apply_into(&self, image: &Image, preprocess: &Preprocess, seed: u64, sample: u64, epoch: u64, out: &mut [f32]) {
        if self.is_none() {
            return preprocess.apply_into(image, out);
        }
        let [channels, height, width] = preprocess.shape();
        assert_eq!(out.len(), channels * height * width, "the slice must hold {:?} values", preprocess.shape());
        let plan = Plan::draw(self, image, preprocess, seed, sample, epoch);
        let source = preprocess.convert(image);
        // A quarter turn swaps the sides back.
        let canvas = if plan.turns % 2 == 1 { [width, height] } else { [height, width] };
        let frame = match plan.crop {
            Some(region) => preprocess.fit(&source, region, canvas),
            None => preprocess.frame(&source, View::of(image), canvas),
        };
        // A grey picture stays one plane until the end.
        let kept = frame.channels();
        let plane = height * width;
        let planes = &mut out[..kept * plane];
        if plan.is_upright() {
            spread(&frame, planes, |_, unit| unit);
        } else if let Some(affine) = plan.affine {
            warp::warp(&frame, plan.unmap(affine), self.fill, [height, width], planes);
        } else {
            warp::permute(&frame, plan.unturn(), [height, width], planes);
        }
        if let Some(change) = plan.color {
            color::adjust(planes, kept, change);
        }
        if let Some(sigma) = plan.blur {
            color::blur(planes, [height, width], sigma);
        }
        if let Some((std, generator)) = plan.noise {
            color::noise(planes, std, generator);
        }
        normalise(preprocess, out, plane, kept);
        if let Some(rectangle) = plan.erase {
            rectangle.clear(out, [height, width]);
        }
    }
}

/// Values in 0..=1 of the first `kept` planes to normalised values of all planes.
fn normalise(preprocess: &Preprocess, out: &mut [f32], plane: usize, kept: usize) {
    let (first, rest) = out.split_at_mut(kept * plane);
    for (index, target) in rest.chunks_exact_mut(plane).enumerate() {
        let (mean, std) = (preprocess.mean_of(kept + index), preprocess.std_of(kept + index));
        for (to, &unit) in target.iter_mut().zip(&first[..plane]) {
            *to = (unit - mean) / std;
        }
    }
    for (channel, target) in first.chunks_exact_mut(plane).enumerate() {
        let (mean, std) = (preprocess.mean_of(channel), preprocess.std_of(channel));
        for value in target {
            *value = (*value - mean) / std;
        }
    }
}
