//! How many more images a target accuracy needs.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::curve::LearningCurve;
use super::power_law::{FitPoint, PowerLaw};
use crate::{InputError, quantile};

/// Settings of [`needed`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NeedOptions {
    /// The accuracy wanted, in `0..1`.
    pub target: f64,
    /// Images there are; 0 for those of the largest fit.
    pub images: usize,
    /// How many times the largest fit may be extrapolated.
    pub furthest: f64,
    /// The least share of the variance between sizes that the curve must explain.
    pub least_r_squared: f64,
    /// Replicates of the interval, which draw whole repeats with replacement.
    pub replicates: usize,
    /// Seed of the replicates.
    pub seed: u64,
}

impl Default for NeedOptions {
    fn default() -> Self {
        Self { target: 0.95, images: 0, furthest: 10.0, least_r_squared: 0.7, replicates: 500, seed: 0 }
    }
}

/// An answer to "how many?".
#[derive(Debug, Clone, PartialEq)]
pub enum Needed {
    /// The target is reached with what there is.
    Reached {
        /// The accuracy expected of what there is.
        accuracy: f64,
    },
    /// This many in all.
    About {
        /// Images in all.
        images: f64,
        /// Interval, 95 %; the upper end is infinite where more than 2.5 % of the replicates never reach the target.
        interval: [f64; 2],
    },
    /// More than may be extrapolated to.
    Beyond {
        /// The most that was looked at.
        images: f64,
        /// The accuracy expected of it.
        accuracy: f64,
    },
    /// No number suffices if the curve goes on as it does.
    OutOfReach {
        /// What it approaches.
        ceiling: f64,
        /// Interval, 95 %.
        interval: [f64; 2],
    },
    /// No answer: the curve cannot be trusted.
    Refused {
        /// Why.
        reason: String,
    },
}

/// What one class needs for its own accuracy.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassNeed {
    /// The class.
    pub class: usize,
    /// Images of it that there are.
    pub images: usize,
    /// Its curve over its own images.
    pub law: Option<PowerLaw>,
    /// Images of it that are needed.
    pub needed: Needed,
    /// Its share of the images to add; 0 where it needs none or nothing can be said.
    pub share: f64,
}

/// What the whole set and each class need.
#[derive(Debug, Clone, PartialEq)]
pub struct Need {
    /// Images that there are.
    pub images: usize,
    /// The curve over all images.
    pub law: Option<PowerLaw>,
    /// The same curve of repeats drawn with replacement: how sure it is.
    pub replicates: Vec<PowerLaw>,
    /// Images that are needed.
    pub needed: Needed,
    /// Each class.
    pub classes: Vec<ClassNeed>,
}

impl Need {
    /// The accuracy that the curve expects of `images` in all, and its interval (95 %).
    pub fn expected(&self, images: f64) -> Option<(f64, [f64; 2])> {
        let of: Vec<f64> = self.replicates.iter().map(|law| law.accuracy(images)).collect();
        let value = self.law?.accuracy(images);
        Some((value, if of.is_empty() { [value; 2] } else { [quantile::of(&of, 0.025), quantile::of(&of, 0.975)] }))
    }
}

/// Extrapolates a learning curve, in all and for each class.
///
/// # Errors
/// A target outside `0..1`, or no points.
pub fn needed(curve: &LearningCurve, options: &NeedOptions) -> Result<Need, InputError> {
    if !(options.target > 0.0 && options.target < 1.0) {
        return Err(InputError::Option { option: "target", found: options.target.to_string(), expected: "an accuracy between 0 and 1" });
    }
    let Some(largest) = curve.points.iter().max_by_key(|p| p.samples) else {
        return Err(InputError::TooFew { what: "points of the learning curve", least: 1, found: 0 });
    };
    let images = if options.images == 0 { largest.samples } else { options.images };
    let grown = images as f64 / largest.samples.max(1) as f64;
    let all: Vec<Measured> =
        curve.points.iter().map(|p| Measured { n: p.samples as f64, accuracy: p.accuracy, repeat: p.repeat }).collect();
    let (law, answer) = extrapolate(&all, images as f64, options);
    let mut classes: Vec<ClassNeed> = (0..curve.classes)
        .map(|class| {
            let points: Vec<Measured> = curve
                .points
                .iter()
                .filter_map(|p| Some(Measured { n: p.class_samples[class] as f64, accuracy: p.class_accuracy[class]?, repeat: p.repeat }))
                .filter(|p| p.n > 0.0)
                .collect();
            let images = (largest.class_samples[class] as f64 * grown).round();
            let (law, needed) = extrapolate(&points, images, options);
            ClassNeed { class, images: images as usize, law, needed, share: 0.0 }
        })
        .collect();
    let more = |c: &ClassNeed| match &c.needed {
        Needed::About { images, .. } | Needed::Beyond { images, .. } => (images - c.images as f64).max(0.0),
        Needed::Reached { .. } | Needed::OutOfReach { .. } | Needed::Refused { .. } => 0.0,
    };
    let total: f64 = classes.iter().map(more).sum();
    if total > 0.0 {
        classes.iter_mut().for_each(|c| c.share = more(c) / total);
    }
    Ok(Need { images, law, replicates: replicated(&all, options), needed: answer, classes })
}

/// One fit of the curve.
#[derive(Debug, Clone, Copy)]
struct Measured {
    n: f64,
    accuracy: f64,
    repeat: usize,
}

fn extrapolate(points: &[Measured], images: f64, options: &NeedOptions) -> (Option<PowerLaw>, Needed) {
    let refused = |reason: String| Needed::Refused { reason };
    let Some(law) = PowerLaw::fit(&weighted(points)) else {
        return (None, refused(format!("{} sizes were measured, at least 3 are needed", sizes(points).len())));
    };
    let largest = points.iter().map(|p| p.n).fold(0.0, f64::max);
    let at_largest: Vec<f64> = points.iter().filter(|p| p.n == largest).map(|p| p.accuracy).collect();
    let reached = at_largest.iter().sum::<f64>() / at_largest.len().max(1) as f64;
    if reached >= options.target || law.accuracy(images) >= options.target {
        return (Some(law), Needed::Reached { accuracy: law.accuracy(images) });
    }
    if let Some(reason) = distrust(points, &law, options) {
        return (Some(law), refused(reason));
    }
    let laws = replicated(points, options);
    let furthest = options.furthest * largest;
    let answer = match law.samples_for(options.target) {
        None => {
            let ceilings: Vec<f64> = laws.iter().map(|l| l.ceiling).collect();
            Needed::OutOfReach { ceiling: law.ceiling, interval: [quantile::of(&ceilings, 0.025), quantile::of(&ceilings, 0.975)] }
        }
        Some(n) if n > furthest => Needed::Beyond { images: furthest, accuracy: law.accuracy(furthest) },
        Some(n) => Needed::About { images: n, interval: interval(&laws, options.target) },
    };
    (Some(law), answer)
}

fn sizes(points: &[Measured]) -> Vec<f64> {
    let mut sizes: Vec<f64> = points.iter().map(|p| p.n).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    sizes
}

/// Figueroa's weights: by the rank of the size.
fn weighted(points: &[Measured]) -> Vec<FitPoint> {
    let sizes = sizes(points);
    let weight = |n: f64| (sizes.partition_point(|s| *s < n) + 1) as f64 / sizes.len() as f64;
    points.iter().map(|p| FitPoint { n: p.n, accuracy: p.accuracy, weight: weight(p.n) }).collect()
}

/// Why the curve cannot be extrapolated, if so: too few sizes, or a curve that does not follow the means of the sizes.
fn distrust(points: &[Measured], law: &PowerLaw, options: &NeedOptions) -> Option<String> {
    let sizes = sizes(points);
    if sizes.len() < 4 {
        return Some(format!("{} sizes were measured, at least 4 are needed", sizes.len()));
    }
    if law.scale <= 0.0 {
        return Some("accuracy does not rise with the number of images".into());
    }
    // Whole repeats differ by their held-out part; the curve is asked to follow the means.
    let means: Vec<(f64, f64)> = sizes
        .iter()
        .map(|&n| {
            let of: Vec<f64> = points.iter().filter(|p| p.n == n).map(|p| p.accuracy).collect();
            (n, of.iter().sum::<f64>() / of.len() as f64)
        })
        .collect();
    let middle = means.iter().map(|m| m.1).sum::<f64>() / means.len() as f64;
    let spread: f64 = means.iter().map(|m| (m.1 - middle).powi(2)).sum();
    let error: f64 = means.iter().map(|m| (m.1 - law.accuracy(m.0)).powi(2)).sum();
    let explained = if spread > 0.0 { 1.0 - error / spread } else { 0.0 };
    (explained < options.least_r_squared).then(|| {
        format!(
            "the curve explains {:.0} % of the differences between sizes, at least {:.0} % are needed",
            100.0 * explained.max(0.0),
            100.0 * options.least_r_squared
        )
    })
}

/// Fits to repeats drawn with replacement.
fn replicated(points: &[Measured], options: &NeedOptions) -> Vec<PowerLaw> {
    let repeats = points.iter().map(|p| p.repeat + 1).max().unwrap_or(0);
    let replicate = |number: usize| {
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
        rng.set_stream(number as u64);
        let drawn: Vec<Measured> = (0..repeats)
            .flat_map(|_| {
                let chosen = rng.random_range(0..repeats);
                points.iter().filter(move |p| p.repeat == chosen).copied()
            })
            .collect();
        PowerLaw::fit(&weighted(&drawn))
    };
    (0..options.replicates).into_par_iter().filter_map(replicate).collect()
}

fn interval(laws: &[PowerLaw], target: f64) -> [f64; 2] {
    let mut needed: Vec<f64> = laws.iter().map(|l| l.samples_for(target).unwrap_or(f64::INFINITY)).collect();
    needed.sort_by(f64::total_cmp);
    let at = |q: f64| needed.get(((needed.len().max(1) - 1) as f64 * q).round() as usize).copied().unwrap_or(f64::INFINITY);
    [at(0.025), at(0.975)]
}

impl Need {
    /// The answer in a sentence: "for 95 % you need about 400 more images (interval 250 to 900), most of them of class crack".
    pub fn sentence(&self, target: f64, names: &[String]) -> String {
        let goal = format!("{:.1} %", 100.0 * target);
        let have = self.images as f64;
        let most = self.classes.iter().max_by(|a, b| a.share.total_cmp(&b.share)).filter(|c| c.share > 0.0);
        let class = most.map_or(String::new(), |c| {
            let name = names.get(c.class).map_or_else(|| c.class.to_string(), Clone::clone);
            let how = if c.share > 0.5 { "most of them" } else { "the largest part" };
            format!(", {how} of class {name} ({:.0} %)", 100.0 * c.share)
        });
        match &self.needed {
            Needed::Reached { accuracy } => format!("{goal} is reached: the {have} images there are give about {:.1} %", 100.0 * accuracy),
            Needed::About { images, interval } => {
                let more = |n: f64| if n.is_finite() { format!("{:.0}", (n - have).max(0.0)) } else { "any number".into() };
                format!(
                    "for {goal} you need about {} more images (interval {} to {}){class}",
                    more(*images),
                    more(interval[0]),
                    more(interval[1])
                )
            }
            Needed::Beyond { images, accuracy } => {
                format!("for {goal} you need more than {:.0} images; that many give about {:.1} %{class}", images, 100.0 * accuracy)
            }
            Needed::OutOfReach { ceiling, interval } => format!(
                "{goal} is out of reach for more images of this kind: the curve ends at {:.1} % (interval {:.1} to {:.1} %); look at labels and model",
                100.0 * ceiling,
                100.0 * interval[0],
                100.0 * interval[1]
            ),
            Needed::Refused { reason } => format!("how many images {goal} needs cannot be said: {reason}"),
        }
    }
}
