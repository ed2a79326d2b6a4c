//! What a check found.

use serde::{Deserialize, Serialize};

/// What was checked. Each check's module names the source of its definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The file cannot be decoded.
    Unreadable,
    /// The same pixels and shape as another image.
    ExactDuplicate,
    /// Another image that differs by resizing, compression, light or a flip.
    NearDuplicate,
    /// Duplicates with different labels.
    LabelConflict,
    /// Duplicates in different splits or groups.
    Leak,
    /// The given label is probably wrong.
    Label,
    /// A class with too few images.
    Imbalance,
    /// A class without images.
    EmptyClass,
    /// Unlike all others: perhaps off topic.
    Outlier,
    /// Too dark.
    Dark,
    /// Too light.
    Light,
    /// Out of focus or moved.
    Blurry,
    /// Hardly any content.
    LowInformation,
    /// Far smaller or larger than the others.
    OddSize,
    /// Far from square.
    OddAspect,
    /// Grey among colour, or the other way round.
    Greyscale,
    /// Noisy sensor.
    Noisy,
    /// Blocks of strong JPEG compression.
    JpegDamage,
    /// Fewer pixels than the network reads.
    LowResolution,
    /// Neighbours in the list are neighbours in content: the order is not random.
    NonIid,
    /// A property other than the content gives the label away.
    Spurious,
    /// A group of alike images on which a model does poorly.
    Underperforming,
    /// Position, names or devices in the metadata.
    PrivateData,
}

/// One thing that a check found about one image, or about the whole set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Position of the sample in the data set; none for a finding about the whole set.
    pub sample: Option<usize>,
    /// What was checked.
    pub check: Check,
    /// In `0..=1`; 1 is the clearest case.
    pub score: f64,
    /// The label as given: a class index.
    pub given: Option<usize>,
    /// The label that fits better: a class index.
    pub suggested: Option<usize>,
    /// Number of the group of images that belong together (duplicates, a cluster).
    pub group: Option<usize>,
    /// What was measured, in words for the reviewer.
    pub detail: String,
}

impl Check {
    /// Every check, in the order in which a reviewer meets them.
    pub const ALL: [Check; 23] = [
        Check::Unreadable,
        Check::Leak,
        Check::LabelConflict,
        Check::Label,
        Check::ExactDuplicate,
        Check::NearDuplicate,
        Check::Outlier,
        Check::EmptyClass,
        Check::Imbalance,
        Check::Spurious,
        Check::Underperforming,
        Check::NonIid,
        Check::Dark,
        Check::Light,
        Check::Blurry,
        Check::LowInformation,
        Check::OddSize,
        Check::OddAspect,
        Check::Greyscale,
        Check::Noisy,
        Check::JpegDamage,
        Check::LowResolution,
        Check::PrivateData,
    ];

    /// The name in files and flags: `near_duplicate`.
    pub fn name(self) -> &'static str {
        self.texts().0
    }

    /// The name for people.
    pub fn title(self) -> &'static str {
        self.texts().1
    }

    /// How it is checked, and by whose definition.
    pub fn method(self) -> &'static str {
        self.texts().2
    }

    /// The check of a name.
    pub fn named(name: &str) -> Option<Check> {
        Self::ALL.into_iter().find(|check| check.name() == name)
    }

    /// All names.
    pub fn names() -> Vec<&'static str> {
        Self::ALL.map(Check::name).to_vec()
    }

    /// Name, title, method.
    fn texts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Check::Unreadable => ("unreadable", "Unreadable", "The file was decoded in full; it is broken, cut off or no picture."),
            Check::ExactDuplicate => ("exact_duplicate", "Exact duplicates", "The same decoded pixels and shape (BLAKE3)."),
            Check::NearDuplicate => (
                "near_duplicate",
                "Near duplicates",
                "64-bit perceptual hashes within a Hamming distance, mirrored and turned ones too, confirmed by the cosine similarity of features.",
            ),
            Check::LabelConflict => ("label_conflict", "Conflicting labels", "Duplicates that carry different labels."),
            Check::Leak => ("leak", "Leaks", "Duplicates on both sides of a border between splits or groups."),
            Check::Label => (
                "label",
                "Label errors",
                "Confident learning (Northcutt et al. 2021) on out-of-fold probabilities; score: the probability that the label is wrong, unless another was set.",
            ),
            Check::Imbalance => ("imbalance", "Rare classes", "A class with less than a tenth of an even share (cleanlab)."),
            Check::EmptyClass => ("empty_class", "Empty classes", "A class without images."),
            Check::Outlier => ("outlier", "Outliers", "Mean distance to ten neighbours above Q3 + 1.7 IQR (cleanlab)."),
            Check::Dark => ("dark", "Dark", "99th percentile of the brightness (CleanVision)."),
            Check::Light => ("light", "Light", "One minus the 5th percentile of the brightness (CleanVision)."),
            Check::Blurry => ("blurry", "Blurry", "Deviation of edges and histogram (CleanVision)."),
            Check::LowInformation => ("low_information", "Low information", "A tenth of the entropy (CleanVision)."),
            Check::OddSize => ("odd_size", "Odd size", "√(width · height) far outside the quartiles (CleanVision)."),
            Check::OddAspect => ("odd_aspect", "Odd aspect", "Shorter over longer side (CleanVision)."),
            Check::Greyscale => ("greyscale", "Greyscale", "One channel among colour pictures (CleanVision)."),
            Check::Noisy => ("noisy", "Noisy", "Deviation of the noise (Immerkær 1996)."),
            Check::JpegDamage => {
                ("jpeg_damage", "JPEG damage", "Steps across the borders of blocks against those inside (after Wang et al. 2002).")
            }
            Check::LowResolution => ("low_resolution", "Low resolution", "Fewer pixels than the network reads."),
            Check::NonIid => ("non_iid", "Order not random", "Neighbours in content are neighbours in the list (cleanlab's test)."),
            Check::Spurious => {
                ("spurious", "Give-aways", "A property other than the content predicts the class, cross-validated against permutations.")
            }
            Check::Underperforming => {
                ("underperforming", "Weak groups", "Groups of alike images on which the probe is worse than over all.")
            }
            Check::PrivateData => ("private_data", "Private data", "Position, names and devices in the metadata; faces are not checked."),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_those_in_files() {
        for check in Check::ALL {
            assert_eq!(serde_json::to_string(&check).unwrap(), format!("\"{}\"", check.name()));
            assert_eq!(Check::named(check.name()), Some(check));
        }
    }
}
