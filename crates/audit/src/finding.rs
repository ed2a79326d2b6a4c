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
