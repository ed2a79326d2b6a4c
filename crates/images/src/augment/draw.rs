//! The random decisions about one picture.

use std::f32::consts::{PI, TAU};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Augment;
use super::color::{ColorChange, Rectangle};
use crate::image::Image;
use crate::preprocess::Preprocess;
use crate::resize::Region;

/// A 2×2 matrix, row by row.
pub(super) type Matrix = [[f32; 2]; 2];

/// From the output's centred coordinates back to the turned picture's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine {
    inverse: Matrix,
    /// In output pixels.
    shift: [f32; 2],
}

/// Everything that is decided by chance, before any pixel is touched.
pub(super) struct Plan {
    pub crop: Option<Region>,
    pub mirror: bool,
    pub upside_down: bool,
    /// Quarter turns clockwise, 0..=3, after the mirroring.
    pub turns: u8,
    pub affine: Option<Affine>,
    pub color: Option<ColorChange>,
    pub blur: Option<f32>,
    pub noise: Option<(f32, ChaCha8Rng)>,
    pub erase: Option<Rectangle>,
}

/// Each group of decisions has its own stream, so that switching one group on leaves the others' decisions as they were.
enum Group {
    Turn,
    Crop,
    Affine,
    Color,
    Blur,
    Noise,
    Erase,
}

impl Plan {
    pub(super) fn draw(augment: &Augment, image: &Image, preprocess: &Preprocess, seed: u64, sample: u64, epoch: u64) -> Plan {
        let mut key = *b"........................augment1";
        for (slot, value) in key.chunks_exact_mut(8).zip([seed, sample, epoch]) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        let stream = |group: Group| {
            let mut generator = ChaCha8Rng::from_seed(key);
            generator.set_stream(group as u64);
            generator
        };
        let size = preprocess.size;
        let (mirror, upside_down, turns) = draw_turn(augment, stream);
        let shape = if turns % 2 == 1 { [size[1], size[0]] } else { size };
        Plan {
            crop: augment.crops().then(|| draw_crop(augment, image, shape, &mut stream(Group::Crop))),
            mirror,
            upside_down,
            turns,
            affine: augment.warps().then(|| stream(Group::Affine)).and_then(|mut generator| draw_affine(augment, size, &mut generator)),
            color: augment.colors().then(|| stream(Group::Color)).and_then(|mut generator| draw_color(augment, &mut generator)),
            blur: draw_blur(augment, stream),
            noise: draw_noise(augment, stream),
            erase: draw_erase(augment, size, stream),
        }
    }

    /// Whether pixels stay in their places.
    pub(super) fn is_upright(&self) -> bool {
        !self.mirror && !self.upside_down && self.turns == 0 && self.affine.is_none()
    }

    /// From the turned and mirrored picture's centred coordinates back to the frame's: a signed permutation.
    pub(super) fn unturn(&self) -> Matrix {
        // With y downwards a clockwise quarter takes (x, y) to (−y, x).
        let [mut across, mut down] = match self.turns {
            0 => [[1.0, 0.0], [0.0, 1.0]],
            1 => [[0.0, 1.0], [-1.0, 0.0]],
            2 => [[-1.0, 0.0], [0.0, -1.0]],
            _ => [[0.0, -1.0], [1.0, 0.0]],
        };
        if self.mirror {
            across = across.map(|value: f32| -value);
        }
        if self.upside_down {
            down = down.map(|value: f32| -value);
        }
        [across, down]
    }

    /// The whole way back: a matrix and the shift that is taken off before it.
    pub(super) fn unmap(&self, affine: Affine) -> (Matrix, [f32; 2]) {
        (multiply(self.unturn(), affine.inverse), affine.shift)
    }
}

fn multiply(a: Matrix, b: Matrix) -> Matrix {
    [0, 1].map(|row| [0, 1].map(|column| a[row][0] * b[0][column] + a[row][1] * b[1][column]))
}

fn between(generator: &mut ChaCha8Rng, [low, high]: [f32; 2]) -> f32 {
    low + (high - low) * generator.random::<f32>()
}

fn either_way(generator: &mut ChaCha8Rng, most: f32) -> f32 {
    between(generator, [-most, most])
}

fn chance(generator: &mut ChaCha8Rng, probability: f32) -> bool {
    generator.random::<f32>() < probability
}

fn draw_turn(augment: &Augment, stream: impl Fn(Group) -> ChaCha8Rng) -> (bool, bool, u8) {
    if [augment.horizontal_flip, augment.vertical_flip, augment.rotate90] == [0.0; 3] {
        return (false, false, 0);
    }
    let generator = &mut stream(Group::Turn);
    let mirror = chance(generator, augment.horizontal_flip);
    let upside_down = chance(generator, augment.vertical_flip);
    let turned = chance(generator, augment.rotate90);
    let quarters = generator.random_range(1..=3);
    (mirror, upside_down, if turned { quarters } else { 0 })
}

/// torchvision's `RandomResizedCrop`: ten tries, then the largest centred crop whose ratio is allowed. `crop_ratio` is relative to the
/// model's own width / height.
fn draw_crop(augment: &Augment, image: &Image, size: [usize; 2], generator: &mut ChaCha8Rng) -> Region {
    let (width, height) = (image.width() as f64, image.height() as f64);
    let aspect = size[1].max(1) as f64 / size[0].max(1) as f64;
    let logs = augment.crop_ratio.map(f32::ln);
    for _ in 0..10 {
        let area = width * height * f64::from(between(generator, augment.crop_scale));
        let ratio = f64::from(between(generator, logs).exp()) * aspect;
        let (crop_width, crop_height) = ((area * ratio).sqrt().round(), (area / ratio).sqrt().round());
        if (1.0..=width).contains(&crop_width) && (1.0..=height).contains(&crop_height) {
            let left = (f64::from(generator.random::<f32>()) * (width - crop_width + 1.0)).floor().min(width - crop_width);
            let top = (f64::from(generator.random::<f32>()) * (height - crop_height + 1.0)).floor().min(height - crop_height);
            return Region { left, top, width: crop_width, height: crop_height };
        }
    }
    let [low, high] = augment.crop_ratio.map(|ratio| f64::from(ratio) * aspect);
    let ratio = (width / height).clamp(low, high.max(low));
    let (crop_width, crop_height) =
        if width / height > ratio { ((height * ratio).round(), height) } else { (width, (width / ratio).round()) };
    let (crop_width, crop_height) = (crop_width.clamp(1.0, width), crop_height.clamp(1.0, height));
    Region {
        left: ((width - crop_width) / 2.0).floor(),
        top: ((height - crop_height) / 2.0).floor(),
        width: crop_width,
        height: crop_height,
    }
}

fn draw_affine(augment: &Augment, size: [usize; 2], generator: &mut ChaCha8Rng) -> Option<Affine> {
    let acts = chance(generator, augment.affine_probability);
    let (sine, cosine) = (either_way(generator, augment.rotate) * PI / 180.0).sin_cos();
    let slant = (either_way(generator, augment.shear) * PI / 180.0).tan();
    let scale = between(generator, augment.scale);
    let shift = [size[1], size[0]].map(|side| either_way(generator, augment.translate) * side as f32);
    // Forwards: scale, slant, turn, shift.
    let unturn = [[cosine, sine], [-sine, cosine]];
    let unslant = [[1.0 / scale, -slant / scale], [0.0, 1.0 / scale]];
    acts.then_some(Affine { inverse: multiply(unslant, unturn), shift })
}

fn draw_color(augment: &Augment, generator: &mut ChaCha8Rng) -> Option<ColorChange> {
    let acts = chance(generator, augment.color_probability);
    let mut around_one = |range: f32| (1.0 + either_way(generator, range)).max(0.0);
    let (brightness, contrast, saturation) = (around_one(augment.brightness), around_one(augment.contrast), around_one(augment.saturation));
    let hue = either_way(generator, augment.hue) * TAU;
    let gamma = either_way(generator, augment.gamma.ln_1p()).exp();
    acts.then_some(ColorChange { brightness, contrast, saturation, hue, gamma })
}

fn draw_blur(augment: &Augment, stream: impl Fn(Group) -> ChaCha8Rng) -> Option<f32> {
    if augment.blur_probability == 0.0 {
        return None;
    }
    let generator = &mut stream(Group::Blur);
    let acts = chance(generator, augment.blur_probability);
    let sigma = between(generator, augment.blur_sigma);
    acts.then_some(sigma)
}

fn draw_noise(augment: &Augment, stream: impl Fn(Group) -> ChaCha8Rng) -> Option<(f32, ChaCha8Rng)> {
    if augment.noise_probability == 0.0 || augment.noise_std == 0.0 {
        return None;
    }
    let mut generator = stream(Group::Noise);
    let acts = chance(&mut generator, augment.noise_probability);
    acts.then_some((augment.noise_std, generator))
}

fn draw_erase(augment: &Augment, [height, width]: [usize; 2], stream: impl Fn(Group) -> ChaCha8Rng) -> Option<Rectangle> {
    if augment.erase_probability == 0.0 {
        return None;
    }
    let generator = &mut stream(Group::Erase);
    let acts = chance(generator, augment.erase_probability);
    let area = between(generator, augment.erase_area) * (width * height) as f32;
    let ratio = between(generator, augment.erase_ratio.map(f32::ln)).exp();
    let (erased_width, erased_height) =
        (((area * ratio).sqrt().round() as usize).min(width), ((area / ratio).sqrt().round() as usize).min(height));
    let left = generator.random_range(0..=(width - erased_width) as u32) as usize;
    let top = generator.random_range(0..=(height - erased_height) as u32) as usize;
    acts.then_some(Rectangle { left, top, width: erased_width, height: erased_height })
}
