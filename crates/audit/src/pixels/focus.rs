//! Blur beside the rest of the set.
//!
//! A picture is blurred when its finest detail is weak beside its coarser structure: the variance of the Laplacian (J. L. Pech-Pacheco et al.,
//! "Diatom autofocusing in brightfield microscopy", ICPR 2000) of the picture at half its size, over the energy of the gradient at a quarter;
//! contrast cancels. What is usual depends on what is pictured, so a picture is compared with those of its class by the modified z-score
//! (B. Iglewicz and D. Hoaglin, "How to Detect and Handle Outliers", 1993), which a few blurred ones do not move.

use std::collections::BTreeMap;

use data::{Dataset, Target};

use super::PixelTable;

/// Variance that rounding to 8 bits adds to the Laplacian of a picture of half the size: 20 / 12 of the full one, over 4.
const ROUNDING: f64 = 20.0 / 12.0 / 4.0;
/// What is added to both energies (grey levels squared), so that even pictures have a value.
const FLOORS: [f64; 2] = [0.02, 0.1];
/// Members that a class needs to be compared within itself.
const CLASS: usize = 30;
/// Pictures that a set needs to say what is usual.
const SET: usize = 20;
/// Least median absolute deviation: e^0.05, five per cent, is nothing to speak of.
const SPREAD: f64 = 0.05;

/// The logarithm of fine over coarse energy; falls with blur. 0 under 16 pixels a side.
pub(crate) fn focus(gray: &[u8], height: usize, width: usize) -> f64 {
    if height < 16 || width < 16 {
        return 0.0;
    }
    let wide: Vec<f32> = gray.iter().map(|&v| f32::from(v)).collect();
    let (half, h, w) = halved(&wide, height, width);
    let fine = (laplacian_variance(&half, h, w) - ROUNDING).max(0.0);
    let (quarter, h, w) = halved(&half, h, w);
    (fine + FLOORS[0]).ln() - (gradient_energy(&quarter, h, w) + FLOORS[1]).ln()
}

/// Means of 2×2 pixels; an odd last row or column is left out.
fn halved(values: &[f32], height: usize, width: usize) -> (Vec<f32>, usize, usize) {
    let (h, w) = (height / 2, width / 2);
    let mut out = Vec::with_capacity(h * w);
    for rows in values.chunks_exact(2 * width).take(h) {
        let (above, below) = rows.split_at(width);
        out.extend(above.chunks_exact(2).zip(below.chunks_exact(2)).map(|(a, b)| (a[0] + a[1] + b[0] + b[1]) * 0.25));
    }
    (out, h, w)
}

/// Variance of the four-neighbour Laplacian inside the border.
fn laplacian_variance(values: &[f32], height: usize, width: usize) -> f64 {
    let (mut sum, mut squares) = (0.0, 0.0);
    for y in 1..height - 1 {
        let row = |y: usize| &values[y * width..(y + 1) * width];
        let (above, here, below) = (row(y - 1), row(y), row(y + 1));
        let (mut of_row, mut squares_of_row) = (0f32, 0f32);
        for x in 1..width - 1 {
            let value = above[x] + below[x] + here[x - 1] + here[x + 1] - 4.0 * here[x];
            of_row += value;
            squares_of_row += value * value;
        }
        sum += f64::from(of_row);
        squares += f64::from(squares_of_row);
    }
    let n = ((height - 2) * (width - 2)) as f64;
    (squares / n - (sum / n).powi(2)).max(0.0)
}

/// Mean of the squared steps to the right and down.
fn gradient_energy(values: &[f32], height: usize, width: usize) -> f64 {
    let mut sum = 0.0;
    for y in 0..height - 1 {
        let (here, below) = (&values[y * width..(y + 1) * width], &values[(y + 1) * width..(y + 2) * width]);
        let of_row: f32 = (0..width - 1).map(|x| (here[x + 1] - here[x]).powi(2) + (below[x] - here[x]).powi(2)).sum();
        sum += f64::from(of_row);
    }
    sum / ((height - 1) * (width - 1)) as f64
}

/// Modified z-score of each picture's focus within its class, or within the set where the class is small; `None` for pictures that could not be
/// read, and for all in sets of fewer than 20.
pub(crate) fn z_scores(dataset: &Dataset, table: &PixelTable) -> Vec<Option<f64>> {
    let class = |i: usize| dataset.samples.get(i).and_then(|s| s.target.as_ref()).and_then(Target::argmax);
    let value = |i: usize| table.get(i).map(|m| m.properties.focus);
    let mut classes: BTreeMap<Option<usize>, Vec<f64>> = BTreeMap::new();
    let mut all = Vec::new();
    for i in 0..table.rows.len() {
        if let Some(focus) = value(i) {
            classes.entry(class(i)).or_default().push(focus);
            all.push(focus);
        }
    }
    if all.len() < SET {
        return vec![None; table.rows.len()];
    }
    let whole = usual(all);
    let usual: BTreeMap<Option<usize>, (f64, f64)> =
        classes.into_iter().map(|(class, values)| (class, if values.len() < CLASS { whole } else { usual(values) })).collect();
    let score = |i: usize| {
        let (middle, spread) = usual.get(&class(i)).copied().unwrap_or(whole);
        Some(0.6745 * (value(i)? - middle) / spread)
    };
    (0..table.rows.len()).map(score).collect()
}

/// Median and median absolute deviation.
fn usual(mut values: Vec<f64>) -> (f64, f64) {
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let n = values.len();
        (values[(n - 1) / 2] + values[n / 2]) / 2.0
    };
    let middle = median(&mut values);
    values.iter_mut().for_each(|v| *v = (*v - middle).abs());
    (middle, median(&mut values).max(SPREAD))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pixels::measure_image;
    use data::{Classes, Sample, Source};
    use images::{Image, Interpolation};
    use rand::{Rng, SeedableRng};
    use std::path::PathBuf;

    /// Blocks of random shades under grain: detail at every scale.
    fn picture(seed: u64, contrast: f64) -> Image {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let blocks: Vec<f64> = (0..100).map(|_| rng.random_range(-60.0..60.0)).collect();
        let value = |i: usize| 128.0 + contrast * blocks[i / 960 * 10 + i % 96 / 10];
        let pixels = (0..96 * 96).map(|i| (value(i) + rng.random_range(-4.0..4.0)).clamp(0.0, 255.0) as u8).collect();
        Image::from_gray8(96, 96, pixels).unwrap()
    }

    #[test]
    fn the_blurred_one_stands_out_whatever_its_contrast() {
        let mut images: Vec<Image> = (0..40).map(|seed| picture(seed, 0.3 + seed as f64 / 50.0)).collect();
        images.push(picture(50, 1.0).resize([12, 12], Interpolation::Bilinear).resize([96, 96], Interpolation::Bilinear));
        let sample = |i: usize| Sample::new(format!("{i}"), Source::File(PathBuf::new()));
        let dataset = Dataset {
            name: "t".into(),
            root: PathBuf::new(),
            classes: Classes::in_order(vec!["a".into()]).unwrap(),
            samples: (0..41).map(sample).collect(),
            warnings: Vec::new(),
        };
        let table =
            |images: &[Image]| PixelTable { rows: images.iter().map(|i| Ok(measure_image(i, None))).collect(), decoded: images.len() };
        let scores = z_scores(&dataset, &table(&images));
        assert!(scores[40].unwrap() < -3.5, "{:?}", scores[40]);
        assert!(scores[..40].iter().all(|z| z.unwrap() > -3.5), "{scores:?}");
        assert!(z_scores(&dataset, &table(&images[..19])).iter().all(Option::is_none));
        assert_eq!(focus(&[0; 15 * 20], 15, 20), 0.0);
    }

    #[test]
    fn blur_lowers_focus_and_contrast_does_not() {
        let sharp = picture(1, 1.0);
        let of = |image: &Image| measure_image(image, None).properties.focus;
        let blurred = sharp.resize([24, 24], Interpolation::Bilinear).resize([96, 96], Interpolation::Bilinear);
        assert!(of(&blurred) < of(&sharp) - 1.0, "{} {}", of(&blurred), of(&sharp));
        let gray = super::super::pillow::bytes(&sharp).iter().map(|&v| v / 2 + 40).collect();
        let faint = Image::from_gray8(96, 96, gray).unwrap();
        assert!((of(&faint) - of(&sharp)).abs() < 0.1, "{} {}", of(&faint), of(&sharp));
    }
}
