//! To and from f32.

use crate::bf16::isa::{Bf16, Loops, looped};
use crate::threads::each_chunk;

/// Values a task.
const CHUNK: usize = 16_384;

/// The bf16 nearest to `x`, ties to even; NaN stays NaN.
#[inline(always)]
pub fn round(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = ((bits.wrapping_add(0x7fff + (bits >> 16 & 1))) >> 16) as u16;
    if x.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded }
}

/// The value of a bf16.
#[inline(always)]
pub fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Rounds each value.
///
/// # Panics
/// Where lengths differ.
pub fn from_f32(output: &mut [u16], input: &[f32]) {
    struct Each<'a>(&'a mut [u16], &'a [f32]);
    impl Loops for Each<'_> {
        #[inline(always)]
        fn run(self) {
            self.0.iter_mut().zip(self.1).for_each(|(o, &x)| *o = round(x));
        }
    }
    assert_eq!(output.len(), input.len(), "equal lengths");
    let isa = Bf16::best();
    each_chunk(output, CHUNK, |i, o| looped(isa, Each(o, &input[i * CHUNK..i * CHUNK + o.len()])));
}

/// Widens each value.
///
/// # Panics
/// Where lengths differ.
pub fn to_f32(output: &mut [f32], input: &[u16]) {
    struct Each<'a>(&'a mut [f32], &'a [u16]);
    impl Loops for Each<'_> {
        #[inline(always)]
        fn run(self) {
            self.0.iter_mut().zip(self.1).for_each(|(o, &x)| *o = widen(x));
        }
    }
    assert_eq!(output.len(), input.len(), "equal lengths");
    let isa = Bf16::best();
    each_chunk(output, CHUNK, |i, o| looped(isa, Each(o, &input[i * CHUNK..i * CHUNK + o.len()])));
}

/// `[N, C, H, W]` in f32 to `[N, H, W, stored]` in bf16, `stored >= channels`; further channels are zero.
///
/// # Panics
/// Where sizes disagree.
pub fn load_nchw(output: &mut [u16], input: &[f32], channels: usize, pixels: usize, stored: usize) {
    struct Part<'a> {
        out: &'a mut [u16],
        image: &'a [f32],
        from: usize,
        pixels: usize,
        channels: usize,
        stored: usize,
    }
    impl Loops for Part<'_> {
        #[inline(always)]
        fn run(self) {
            let count = self.out.len() / self.stored;
            if (self.channels, self.stored) == (3, 4) {
                let plane = |c: usize| &self.image[c * self.pixels + self.from..][..count];
                let (r, g, b) = (plane(0), plane(1), plane(2));
                for (i, out) in self.out.chunks_exact_mut(4).enumerate() {
                    out.copy_from_slice(&[round(r[i]), round(g[i]), round(b[i]), 0]);
                }
                return;
            }
            for (i, out) in self.out.chunks_exact_mut(self.stored).enumerate() {
                for (c, o) in out.iter_mut().enumerate() {
                    *o = if c < self.channels { round(self.image[c * self.pixels + self.from + i]) } else { 0 };
                }
            }
        }
    }
    assert!(stored >= channels && output.len() * channels == input.len() * stored, "output and input");
    if channels * pixels == 0 {
        return;
    }
    let isa = Bf16::best();
    // As many pixels a part as divide the image, where that is not too few: a part lies in one image.
    let parts = (1..=pixels).find(|parts| pixels.is_multiple_of(*parts) && pixels / parts <= CHUNK).unwrap_or(1);
    let each = pixels / parts;
    each_chunk(output, each * stored, |index, out| {
        let (n, part) = (index / parts, index % parts);
        let image = &input[n * pixels * channels..(n + 1) * pixels * channels];
        looped(isa, Part { out, image, from: part * each, pixels, channels, stored });
    });
}
