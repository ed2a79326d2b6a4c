//! Changing values: light and colour, blur, noise, erasing.

use rand::RngCore;
use rand_chacha::ChaCha8Rng;

/// What happens to the colours of one picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct ColorChange {
    pub brightness: f32,
    pub contrast: f32,
    pub saturation: f32,
    /// Radians about the grey axis.
    pub hue: f32,
    pub gamma: f32,
}

/// ITU-R 601.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// Brightness, contrast, saturation and hue as one linear map, clamped once to 0..=1, then gamma.
pub(super) fn adjust(planes: &mut [f32], channels: usize, change: ColorChange) {
    let plane = planes.len() / channels.max(1);
    let mean_of = |values: &[f32]| values.iter().map(|&value| f64::from(value)).sum::<f64>() as f32 / plane.max(1) as f32;
    let factor = change.brightness * change.contrast;
    if channels == 3 {
        let (red, rest) = planes.split_at_mut(plane);
        let (green, blue) = rest.split_at_mut(plane);
        let mean = LUMA[0] * mean_of(red) + LUMA[1] * mean_of(green) + LUMA[2] * mean_of(blue);
        // Saturation and hue leave greys alone, so that the contrast's offset passes through them.
        let offset = change.brightness * mean * (1.0 - change.contrast);
        let matrix = chroma(change).map(|row| row.map(|value| value * factor));
        for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
            let rgb = [*red, *green, *blue];
            let mixed = matrix.map(|row| (row[0] * rgb[0] + row[1] * rgb[1] + row[2] * rgb[2] + offset).clamp(0.0, 1.0));
            [*red, *green, *blue] = mixed;
        }
    } else {
        let offset = change.brightness * mean_of(planes) * (1.0 - change.contrast);
        for value in &mut *planes {
            *value = (*value * factor + offset).clamp(0.0, 1.0);
        }
    }
    if change.gamma != 1.0 {
        raise(planes, change.gamma);
    }
}

/// Saturation (towards luma), then a turn about the grey axis (Rodrigues' formula); rows add up to 1.
fn chroma(change: ColorChange) -> [[f32; 3]; 3] {
    let saturation: [[f32; 3]; 3] = std::array::from_fn(|row| {
        std::array::from_fn(|column| (1.0 - change.saturation) * LUMA[column] + if row == column { change.saturation } else { 0.0 })
    });
    if change.hue == 0.0 {
        return saturation;
    }
    let (sine, cosine) = change.hue.sin_cos();
    let (even, odd) = ((1.0 - cosine) / 3.0, sine / 3.0f32.sqrt());
    let turn = [[cosine + even, even - odd, even + odd], [even + odd, cosine + even, even - odd], [even - odd, even + odd, cosine + even]];
    std::array::from_fn(|row| std::array::from_fn(|column| (0..3).map(|inner| turn[row][inner] * saturation[inner][column]).sum()))
}

/// Values in 0..=1 to a power; by a table with linear interpolation where there are many.
fn raise(values: &mut [f32], gamma: f32) {
    const STEPS: usize = 1024;
    if values.len() <= STEPS {
        values.iter_mut().for_each(|value| *value = value.powf(gamma));
        return;
    }
    let table: Vec<f32> = (0..=STEPS + 1).map(|step| (step as f32 / STEPS as f32).powf(gamma)).collect();
    for value in values {
        let position = value.clamp(0.0, 1.0) * STEPS as f32;
        let step = position as usize;
        *value = table[step] + (table[step + 1] - table[step]) * (position - step as f32);
    }
}

/// Gaussian blur of every plane, separable, cut at three deviations; the border is repeated.
pub(super) fn blur(planes: &mut [f32], [height, width]: [usize; 2], sigma: f32) {
    let radius = (3.0 * sigma).ceil() as usize;
    if radius == 0 || sigma < 0.05 {
        return;
    }
    let weights: Vec<f32> = (0..=2 * radius).map(|at| (-0.5 * ((at as f32 - radius as f32) / sigma).powi(2)).exp()).collect();
    let total: f32 = weights.iter().sum();
    let weights: Vec<f32> = weights.iter().map(|weight| weight / total).collect();
    let mut padded = vec![0.0; width + 2 * radius];
    let mut across = vec![0.0; height * width];
    for plane in planes.chunks_exact_mut(height * width) {
        for (row, out) in plane.chunks_exact(width).zip(across.chunks_exact_mut(width)) {
            padded[..radius].fill(row[0]);
            padded[radius..radius + width].copy_from_slice(row);
            padded[radius + width..].fill(row[width - 1]);
            out.fill(0.0);
            for (at, &weight) in weights.iter().enumerate() {
                accumulate(out, &padded[at..at + width], weight);
            }
        }
        for (y, out) in plane.chunks_exact_mut(width).enumerate() {
            out.fill(0.0);
            for (at, &weight) in weights.iter().enumerate() {
                let row = (y + at).saturating_sub(radius).min(height - 1);
                accumulate(out, &across[row * width..(row + 1) * width], weight);
            }
        }
    }
}

fn accumulate(out: &mut [f32], values: &[f32], weight: f32) {
    for (to, &value) in out.iter_mut().zip(values) {
        *to += value * weight;
    }
}

/// Adds Gaussian noise (Box and Muller's transform) and clamps to 0..=1.
pub(super) fn noise(planes: &mut [f32], std: f32, mut generator: ChaCha8Rng) {
    for pair in planes.chunks_mut(2) {
        let bits = generator.next_u64();
        // 1 − u is above zero, so that its logarithm is finite.
        let radius = std * (-2.0 * (1.0 - unit24((bits >> 40) as u32)).ln()).sqrt();
        let (sine, cosine) = (std::f32::consts::TAU * unit24((bits & 0xff_ffff) as u32)).sin_cos();
        for (value, direction) in pair.iter_mut().zip([cosine, sine]) {
            *value = (*value + radius * direction).clamp(0.0, 1.0);
        }
    }
}

/// 24 bits as 0..1.
fn unit24(bits: u32) -> f32 {
    bits as f32 / 16_777_216.0
}

/// A part of the output, in pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rectangle {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

impl Rectangle {
    /// Sets the part of every plane to zero, which after normalising is the data's mean.
    pub(super) fn clear(self, values: &mut [f32], [height, width]: [usize; 2]) {
        for plane in values.chunks_exact_mut(height * width) {
            for row in plane.chunks_exact_mut(width).skip(self.top).take(self.height) {
                row[self.left..self.left + self.width].fill(0.0);
            }
        }
    }
}
