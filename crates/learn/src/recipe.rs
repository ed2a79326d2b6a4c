//! The recipe: everything that decides a training run, as TOML.

use images::{Augment, ChannelMode, Interpolation, Preprocess, Resize};
use serde::{Deserialize, Serialize};
use zoo::Stem;

use crate::{FitOptions, LearnError};

/// How a classifier is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Logistic regression on the features of a frozen, published network.
    #[default]
    Probe,
    /// A published network whose later stages are trained on.
    Finetune,
    /// A network trained from random weights.
    Scratch,
}

impl Method {
    /// Its name in recipes and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Finetune => "finetune",
            Self::Scratch => "scratch",
        }
    }
}

/// Everything that decides a run. A field that is left out has its default; a field that does not exist is an error.
///
/// ```
/// let recipe = learn::Recipe::parse("method = \"scratch\"\nmodel = \"tiny_cnn\"\n[fit]\nepochs = 3\n")?;
/// assert_eq!(recipe.fit.epochs, 3);
/// # Ok::<(), learn::LearnError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Probe, fine-tune or train from scratch.
    pub method: Method,
    /// Architecture; `None` is `efficientnet_lite0`, or `tiny_cnn` from scratch.
    pub model: Option<String>,
    /// Decides splits, initial weights, order, augmentation and intervals.
    pub seed: u64,
    /// What is learned from and what is held back.
    pub data: DataRecipe,
    /// Size and channels of the network's input.
    pub network: NetworkRecipe,
    /// How the training images are varied.
    pub augment: Augment,
    /// `method = "probe"`, and the head that fine-tuning starts from.
    pub probe: ProbeRecipe,
    /// `method = "finetune"` and `"scratch"`.
    pub fit: FitOptions,
    /// What is reported.
    pub evaluate: EvaluateRecipe,
}

/// What is learned from and what is held back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataRecipe {
    /// Share held back for the test where the data set has no test split, in `0..1`.
    pub test: f64,
    /// Share of the rest that chooses epochs and strengths where the data set has no validation split, in `0..1`.
    pub validation: f64,
    /// Folds of a cross-validation; each sample outside a declared test split is predicted once, out of fold.
    pub folds: Option<usize>,
    /// Columns by which splits are stratified besides the class.
    pub stratify: Vec<String>,
    /// Learn from the probabilities that a data set gives (ELPV, `p:class` columns) rather than from the most likely class.
    pub soft_targets: bool,
}

impl Default for DataRecipe {
    fn default() -> Self {
        Self { test: 0.2, validation: 0.15, folds: None, stratify: Vec::new(), soft_targets: false }
    }
}

/// Size and channels of the network's input; whatever is left out follows the model or the data.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkRecipe {
    /// `[height, width]` in pixels.
    pub image_size: Option<[usize; 2]>,
    /// Grey or RGB.
    pub channels: Option<ChannelMode>,
    /// A `.pth` or `.safetensors` file with trained weights for the architecture, instead of the published ones.
    pub weights: Option<String>,
    /// The first layers.
    pub stem: Stem,
    /// Dropout before the classifier.
    pub drop_rate: Option<f32>,
    /// Stochastic depth.
    pub drop_path_rate: Option<f32>,
    /// How an image gets the network's size.
    pub resize: Option<Resize>,
    /// The resizing filter.
    pub interpolation: Option<Interpolation>,
    /// Per channel, subtracted from values in 0..=1. From scratch the default is measured on the training images.
    pub mean: Option<Vec<f32>>,
    /// Per channel, divided by.
    pub std: Option<Vec<f32>>,
    /// RGB colour under transparent pixels.
    pub background: [u8; 3],
    /// What the new head of a fine-tuned network starts from.
    pub head: HeadStart,
}

/// What the new head of a fine-tuned network starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadStart {
    /// Random weights.
    #[default]
    Random,
    /// The probe fitted to the frozen features first: features are distorted less (Kumar et al., 2022).
    Probe,
}

/// How a probe is fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeRecipe {
    /// Inverse regularisation strengths `C` to choose from (scikit-learn's meaning, on standardised features).
    pub strengths: Vec<f64>,
    /// Folds inside the training samples that choose the strength where there is no declared validation split.
    pub inner_folds: usize,
    /// Weigh classes inversely to how often they occur.
    pub balanced: bool,
}

impl Default for ProbeRecipe {
    fn default() -> Self {
        Self { strengths: vec![1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0], inner_folds: 5, balanced: false }
    }
}

/// What is reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateRecipe {
    /// Bootstrap replicates behind the intervals; 0 gives none.
    pub bootstrap: usize,
    /// Columns whose values are judged one by one; empty is every column with few values.
    pub slices: Vec<String>,
    /// Ranks counted as right.
    pub top_k: Vec<usize>,
}

impl Default for EvaluateRecipe {
    fn default() -> Self {
        Self { bootstrap: 1000, slices: Vec::new(), top_k: vec![5] }
    }
}

impl Recipe {
    /// Reads TOML.
    ///
    /// # Errors
    /// Text that is no TOML, an unknown field, a value out of range; the message names line and field.
    pub fn parse(text: &str) -> Result<Self, LearnError> {
        let recipe: Self = toml::from_str(text).map_err(|e| in_text(text, &e))?;
        recipe.check()?;
        Ok(recipe)
    }

    /// Reads TOML, then sets single fields given as `section.field=value` (`fit.epochs=3`, `data.stratify=["type"]`); a value that is no TOML
    /// is text.
    ///
    /// ```
    /// let recipe = learn::Recipe::parse_with("seed = 3\n", &["fit.epochs=4".to_string(), "model=resnet18".to_string()])?;
    /// assert_eq!((recipe.seed, recipe.fit.epochs, recipe.model_name()), (3, 4, "resnet18"));
    /// # Ok::<(), learn::LearnError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Recipe::parse`], or a setting without `=`.
    pub fn parse_with(text: &str, settings: &[String]) -> Result<Self, LearnError> {
        let refuse = |field: &str, problem: String| LearnError::Recipe { field: field.into(), problem };
        // The text by itself first, so that an error says the line in which it stands.
        let mut recipe: Self = toml::from_str(text).map_err(|e| in_text(text, &e))?;
        let mut table: toml::Table = toml::from_str(text).map_err(|e| in_text(text, &e))?;
        for setting in settings {
            let (path, value) =
                setting.split_once('=').ok_or_else(|| refuse(setting, "expected section.field=value, as in fit.epochs=3".into()))?;
            let parsed = toml::from_str::<toml::Table>(&format!("v = {value}")).ok().and_then(|mut t| t.remove("v"));
            let value = parsed.unwrap_or_else(|| toml::Value::String(value.into()));
            let mut at = &mut table;
            let mut parts: Vec<&str> = path.trim().split('.').collect();
            let last = parts.pop().unwrap_or_default();
            for part in parts {
                let next = at.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
                at = next.as_table_mut().ok_or_else(|| refuse(path, format!("{part} is not a table")))?;
            }
            at.insert(last.into(), value);
            recipe = table.clone().try_into().map_err(|e: toml::de::Error| refuse(path, plain(e.message())))?;
        }
        recipe.check()?;
        Ok(recipe)
    }

    /// The recipe as TOML, every field written out.
    ///
    /// # Errors
    /// A number that TOML cannot express (a seed above 2⁶³).
    pub fn to_toml(&self) -> Result<String, LearnError> {
        toml::to_string_pretty(self).map_err(|e| LearnError::Recipe { field: "the recipe".into(), problem: e.to_string() })
    }

    /// The architecture's name.
    pub fn model_name(&self) -> &str {
        self.model.as_deref().unwrap_or(match self.method {
            Method::Probe | Method::Finetune => "efficientnet_lite0",
            Method::Scratch => "tiny_cnn",
        })
    }

    /// Checks every value's range.
    ///
    /// # Errors
    /// The first field out of range.
    pub fn check(&self) -> Result<(), LearnError> {
        let refuse = |field: &str, problem: String| Err(LearnError::Recipe { field: field.into(), problem });
        for (field, share) in [("data.test", self.data.test), ("data.validation", self.data.validation)] {
            if !(0.0..1.0).contains(&share) {
                return refuse(field, format!("expected a share in 0..1, got {share}"));
            }
        }
        if let Some(folds @ 0..=1) = self.data.folds {
            return refuse("data.folds", format!("expected 2 or more, got {folds}"));
        }
        if self.probe.strengths.is_empty() || self.probe.strengths.iter().any(|c| !(*c > 0.0 && c.is_finite())) {
            return refuse("probe.strengths", format!("expected one or more values above 0, got {:?}", self.probe.strengths));
        }
        if self.probe.inner_folds < 2 {
            return refuse("probe.inner_folds", format!("expected 2 or more, got {}", self.probe.inner_folds));
        }
        self.fit.check().or_else(|(field, problem)| refuse(field, problem))?;
        self.augment.check().or_else(|e| refuse("augment", e.to_string()))
    }

    /// `preprocess` with this recipe's wishes.
    pub(crate) fn preprocess(&self, mut preprocess: Preprocess) -> Preprocess {
        let wish = &self.network;
        preprocess.background = wish.background;
        if let Some(resize) = wish.resize {
            preprocess.resize = resize;
        }
        if let Some(interpolation) = wish.interpolation {
            preprocess.interpolation = interpolation;
        }
        if let Some(mean) = &wish.mean {
            preprocess.mean.clone_from(mean);
        }
        if let Some(std) = &wish.std {
            preprocess.std.clone_from(std);
        }
        preprocess
    }
}

/// An error of TOML text with its line, in one line.
fn in_text(text: &str, error: &toml::de::Error) -> LearnError {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let number = text.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count();
    let line = text.lines().nth(number).unwrap_or_default().trim();
    LearnError::Recipe { field: format!("line {} (`{line}`)", number + 1), problem: plain(error.message()) }
}

/// A message of the TOML reader without the names of Rust's types.
pub(crate) fn plain(message: &str) -> String {
    let words =
        [("usize", "a whole number"), ("u64", "a whole number"), ("f64", "a number"), ("f32", "a number"), ("a sequence", "a list")];
    words.iter().fold(message.to_string(), |text, (rust, plain)| text.replace(&format!("expected {rust}"), &format!("expected {plain}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_written_recipe_reads_back_the_same() {
        let mut recipe = Recipe { method: Method::Finetune, seed: 7, ..Default::default() };
        recipe.network.image_size = Some([300, 300]);
        recipe.network.resize = Some(Resize::Squash);
        recipe.data.stratify = vec!["type".into()];
        assert_eq!(Recipe::parse(&recipe.to_toml().unwrap()).unwrap(), recipe);
    }

    #[test]
    fn a_misspelt_field_is_named() {
        let error = Recipe::parse("[fit]\nepoch = 3\n").unwrap_err().to_string();
        assert!(error.starts_with("in the recipe, line 2 (`epoch = 3`): unknown field `epoch`, expected one of `epochs`"), "{error}");
        let error = Recipe::parse_with("seed = 1\n", &["fit.epochs=many".into()]).unwrap_err().to_string();
        assert_eq!(error, "in the recipe, fit.epochs: invalid type: string \"many\", expected a whole number");
    }

    #[test]
    fn values_out_of_range_are_named() {
        let error = Recipe::parse("[data]\ntest = 1.5\n").unwrap_err().to_string();
        assert!(error.contains("data.test") && error.contains("1.5"), "{error}");
        let error = Recipe::parse("[probe]\nstrengths = []\n").unwrap_err().to_string();
        assert!(error.contains("probe.strengths"), "{error}");
    }
}
