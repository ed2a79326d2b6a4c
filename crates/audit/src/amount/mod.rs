//! How many images are enough, and which to label next.

mod active;
mod curve;
mod plan;
mod power_law;
mod priority;

pub use active::{ActiveLearning, ActiveOptions, ActivePoint, FitProbabilities, simulate};
pub use curve::{CurveOptions, CurvePoint, FitClasses, LearningCurve, learning_curve};
pub use plan::{ClassNeed, Need, NeedOptions, Needed, needed};
pub use power_law::{FitPoint, PowerLaw};
pub use priority::{Candidates, Strategy, prioritise};

/// What a fitting closure may fail with.
pub type FitError = Box<dyn std::error::Error + Send + Sync>;
