//! From measures to findings: the thresholds and what is said about a picture that misses one.

use std::collections::BTreeSet;

use data::{Dataset, Target};
use serde::{Deserialize, Serialize};

use super::focus;
use super::scores::SizeRange;
use super::{Measured, PixelTable, PrivateKind, QualityScores, quality_scores};
use crate::{Check, Finding};

/// When a picture is flagged. The defaults are the published ones; where nothing is published it is said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// Dark below this 99th percentile of the brightness. CleanVision 0.3.7: 0.32.
    pub dark: f64,
    /// Light where 1 − the 5th percentile of the brightness is below this. CleanVision: 0.05.
    pub light: f64,
    /// Odd aspect where the shorter over the longer side is below this. CleanVision: 0.35.
    pub odd_aspect: f64,
    /// Low information below this tenth of the entropy. CleanVision: 0.3.
    pub low_information: f64,
    /// Blurry below this score. CleanVision: 0.29.
    pub blurry: f64,
    /// Blurry, too, where the energy of fine detail beside coarser structure is this many modified z-scores below what is usual in the class.
    /// Iglewicz and Hoaglin 1993: 3.5.
    pub blurry_z: f64,
    /// Odd size beyond this many interquartile ranges from the quartiles. CleanVision: 3.
    pub odd_size_iqr: f64,
    /// Noisy above this standard deviation of the noise in `0..=1` (Immerkær 1996). Nothing is published; 0.08 is 20 grey levels, where
    /// noise hides detail that a person would use. Fine texture (cloth, gravel) counts as noise.
    pub noise: f64,
    /// JPEG damage above this ratio of the steps across block borders to those inside (after Wang, Sheikh and Bovik 2002). Nothing is
    /// published; of 30 pictures each of ELPV and textile all pass 1.85 when saved at a quality of 10, none at 50, and the files as they are
    /// have 0.93 to 1.07.
    pub blockiness: f64,
    /// Low resolution where the shorter side has fewer pixels than this: the input of the network. 0 checks nothing.
    pub input_side: usize,
    /// A pixel check that flags this share of the pictures or more describes the data set, not pictures: one finding for all. Above 1 every
    /// picture is listed. CleanVision's `report_max_prevalence`: 0.5.
    pub max_prevalence: f64,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds {
            dark: 0.32,
            light: 0.05,
            odd_aspect: 0.35,
            low_information: 0.3,
            blurry: 0.29,
            blurry_z: 3.5,
            odd_size_iqr: 3.0,
            noise: 0.08,
            blockiness: 1.85,
            input_side: 0,
            max_prevalence: 0.5,
        }
    }
}

/// What the pixel checks found: unreadable files, quality, low resolution and private data, by check, then by sample.
///
/// A score is 1/2 at the threshold and goes to 1 with the distance from it; unreadable files, grey among colour and private data have 1.
pub fn pixel_findings(dataset: &Dataset, table: &PixelTable, thresholds: &Thresholds) -> Vec<Finding> {
    let scores = quality_scores(table, thresholds);
    let range = SizeRange::of(table, thresholds);
    let seen = Seen { dataset, table, scores: &scores, thresholds };
    let mut findings = seen.unreadable();
    let t = thresholds;
    let below = |value: f64, threshold: f64| (value < threshold).then(|| 1.0 - 0.5 * (value / threshold).max(0.0));
    let above = |value: f64, threshold: f64| (value > threshold).then(|| 1.0 - 0.5 * threshold / value);
    findings.extend(
        seen.flag(Check::Dark, |_, s| Some((below(s.dark, t.dark)?, format!("99 % of the pixels are darker than {:.2} of white", s.dark)))),
    );
    findings.extend(seen.flag(Check::Light, |_, s| {
        Some((below(s.light, t.light)?, format!("95 % of the pixels are lighter than {:.2} of white", 1.0 - s.light)))
    }));
    let blurry = seen.flag(Check::Blurry, |_, s| {
        Some((below(s.blurry, t.blurry)?, format!("sharpness {:.2}, expected {} or more", s.blurry, t.blurry)))
    });
    let out_of_focus = seen.out_of_focus(&blurry);
    findings.extend(blurry.into_iter().chain(out_of_focus));
    findings.extend(seen.flag(Check::LowInformation, |_, s| {
        Some((below(s.low_information, t.low_information)?, format!("entropy {:.1} bits", s.low_information * 10.0)))
    }));
    findings.extend(seen.flag(Check::OddSize, |m, s| {
        let range = range?;
        let score = below(s.odd_size, range.threshold())?;
        let p = &m.properties;
        Some((score, format!("{}×{} pixels, where {:.0} to {:.0} a side is usual", p.width, p.height, range.low.max(0.0), range.high)))
    }));
    findings.extend(seen.flag(Check::OddAspect, |m, s| {
        Some((below(s.odd_aspect, t.odd_aspect)?, format!("{}×{} pixels", m.properties.width, m.properties.height)))
    }));
    findings.extend(seen.greyscale());
    findings.extend(seen.flag(Check::Noisy, |m, _| {
        let sigma = m.properties.noise;
        Some((above(sigma, t.noise)?, format!("noise of about {:.0} grey levels", sigma * 255.0)))
    }));
    findings.extend(seen.flag(Check::JpegDamage, |m, _| {
        let p = &m.properties;
        if p.width.min(p.height) < BLOCKS_SIDE {
            return None;
        }
        let quality = p.jpeg_quality.map_or(String::new(), |q| format!("; saved at a quality of about {q}"));
        Some((
            above(p.blockiness, t.blockiness)?,
            format!("steps at the borders of 8×8 blocks are {:.1} times those inside{quality}", p.blockiness),
        ))
    }));
    findings.extend(seen.flag(Check::LowResolution, |m, _| {
        let p = &m.properties;
        let score = below(p.width.min(p.height) as f64, t.input_side as f64)?;
        Some((score, format!("{}×{} pixels, where the network reads {side}×{side}", p.width, p.height, side = t.input_side)))
    }));
    findings.extend(seen.private());
    findings
}

/// Shorter side from which steps at the borders of blocks say something: 28 pixels have three borders each way, and of MNIST's digits, which were
/// never JPEG, a tenth would be called damaged.
const BLOCKS_SIDE: usize = 64;

struct Seen<'a> {
    dataset: &'a Dataset,
    table: &'a PixelTable,
    scores: &'a [Option<QualityScores>],
    thresholds: &'a Thresholds,
}

impl Seen<'_> {
    /// Findings of one check over all pictures that could be read; one for the set where it holds for too many of them.
    fn flag(&self, check: Check, judge: impl Fn(&Measured, &QualityScores) -> Option<(f64, String)>) -> Vec<Finding> {
        let one = |i: usize| {
            let (score, detail) = judge(self.table.get(i)?, self.scores[i].as_ref()?)?;
            Some(self.finding(i, check, score, detail))
        };
        let found: Vec<Finding> = (0..self.scores.len()).filter_map(one).collect();
        let readable = self.scores.iter().flatten().count();
        let share = found.len() as f64 / readable.max(1) as f64;
        if found.is_empty() || share < self.thresholds.max_prevalence || readable == 1 {
            return found;
        }
        let score = found.iter().map(|f| f.score).sum::<f64>() / found.len() as f64;
        let detail = format!("holds for {} of {readable} pictures: so is this data set", found.len());
        vec![Finding { sample: None, given: None, ..self.finding(0, check, score, detail) }]
    }

    fn finding(&self, i: usize, check: Check, score: f64, detail: String) -> Finding {
        let given = self.dataset.samples.get(i).and_then(|s| s.target.as_ref()).and_then(Target::argmax);
        Finding { sample: Some(i), check, score, given, suggested: None, group: None, detail }
    }

    /// Pictures with far less fine detail than others of their class; those that `known` names are left out.
    fn out_of_focus(&self, known: &[Finding]) -> Vec<Finding> {
        let known: BTreeSet<usize> = known.iter().filter_map(|f| f.sample).collect();
        let limit = self.thresholds.blurry_z;
        let one = |(i, z): (usize, Option<f64>)| {
            let below = -z?;
            let detail = format!("fine detail {below:.1} deviations below what is usual in the class, expected {limit} or less");
            (below > limit && !known.contains(&i)).then(|| self.finding(i, Check::Blurry, 1.0 - 0.5 * limit / below, detail))
        };
        focus::z_scores(self.dataset, self.table).into_iter().enumerate().filter_map(one).collect()
    }

    fn unreadable(&self) -> Vec<Finding> {
        let one = |(i, row): (usize, &Result<Measured, String>)| Some(self.finding(i, Check::Unreadable, 1.0, row.as_ref().err()?.clone()));
        self.table.rows.iter().enumerate().filter_map(one).collect()
    }

    /// Grey among colour, or colour among grey: whichever is rarer. By content, so that a grey picture saved with three channels counts.
    fn greyscale(&self) -> Vec<Finding> {
        let grey = |m: &Measured| m.properties.gray;
        let (all, greys) =
            (0..self.scores.len()).filter_map(|i| self.table.get(i)).fold((0, 0), |(n, g), m| (n + 1, g + usize::from(grey(m))));
        let rare = greys * 2 < all;
        let detail = if rare { "grey among colour" } else { "colour among grey" };
        self.flag(Check::Greyscale, |m, _| (grey(m) == rare).then(|| (1.0, detail.to_string())))
    }

    /// Never hidden for being common: it is no less private then.
    fn private(&self) -> Vec<Finding> {
        let one = |i: usize| {
            let private = &self.table.get(i)?.private;
            let names: Vec<&str> = private.iter().map(|p| p.field.as_str()).collect();
            let worst = private.iter().map(|p| p.kind).min()?;
            let kind = match worst {
                PrivateKind::Position => "a position",
                PrivateKind::Person => "a name",
                PrivateKind::Device => "a device's number",
            };
            Some(self.finding(i, Check::PrivateData, 1.0, format!("the metadata hold {kind}: {} (faces: not checked)", names.join(", "))))
        };
        (0..self.scores.len()).filter_map(one).collect()
    }
}
