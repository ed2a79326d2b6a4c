//! How an audit is done.

use std::path::PathBuf;

use audit::labels::{LabelScore, Rule};
use audit::outliers::OutlierOptions;
use audit::{DuplicateOptions, Thresholds, balance};
use serde::de::DeserializeOwned;

use crate::recipe::plain;
use crate::{Folding, GrowthOptions, LearnError, Recipe};

/// How an audit is done.
#[derive(Debug, Clone)]
pub struct AuditOptions {
    /// The network whose features are used, and how its probe is fitted.
    pub recipe: Recipe,
    /// Folds and repeats of what judges labels.
    pub folding: Folding,
    /// Train the networks that judge labels, instead of a probe: with several recipes, the mean of their probabilities, each counting alike.
    pub judges: Vec<Recipe>,
    /// How many images are enough; `None` asks nothing.
    pub growth: Option<GrowthOptions>,
    /// Images on the map of the features, at most; 0 draws none.
    pub mapped: usize,
    /// Thresholds of the pixel checks.
    pub thresholds: Thresholds,
    /// How near duplicates are told.
    pub duplicates: DuplicateOptions,
    /// Which rule calls a label wrong.
    pub rule: Rule,
    /// Which score orders them; `None`, the default: the probability that the label is wrong ([`audit::labels::estimate`]), which knows which classes
    /// are taken for which.
    pub score: Option<LabelScore>,
    /// How far out an outlier is.
    pub outliers: OutlierOptions,
    /// The share of an even share below which a class is rare.
    pub rarest: f64,
    /// Folder of the caches; `None` keeps nothing.
    pub cache: Option<PathBuf>,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self {
            recipe: Recipe::default(),
            folding: Folding::default(),
            judges: Vec::new(),
            growth: Some(GrowthOptions::default()),
            mapped: 10_000,
            thresholds: Thresholds::default(),
            duplicates: DuplicateOptions::default(),
            rule: Rule::default(),
            score: None,
            outliers: OutlierOptions::default(),
            rarest: balance::RAREST,
            cache: None,
        }
    }
}

impl AuditOptions {
    /// Sets thresholds given as `name=value`: `radius`, `cosine` and `likeness` of near duplicates, `rule` and `score` of labels,
    /// `outlier_iqr`, `rarest`, and those of the pixel checks.
    ///
    /// ```
    /// let mut options = learn::AuditOptions::default();
    /// options.set(&["dark=0.2".into(), "radius=6".into(), "rule=prune_by_class".into()])?;
    /// assert_eq!((options.thresholds.dark, options.duplicates.radius), (0.2, 6));
    /// assert_eq!(options.rule, audit::labels::Rule::PruneByClass);
    /// let error = options.set(&["drak=0.2".into()]).unwrap_err().to_string();
    /// assert!(error.starts_with("drak=0.2: there is no threshold \"drak\"; expected one of radius, cosine"), "{error}");
    /// let error = options.set(&["dark=low".into()]).unwrap_err().to_string();
    /// assert_eq!(error, "dark=low: invalid type: string \"low\", expected a number");
    /// # Ok::<(), learn::LearnError>(())
    /// ```
    ///
    /// # Errors
    /// No `=`, a name that is none, a value that does not fit.
    pub fn set(&mut self, settings: &[String]) -> Result<(), LearnError> {
        let mut pixels = toml::Table::new();
        for setting in settings {
            let refuse = |problem: String| LearnError::Setting { setting: setting.clone(), problem };
            let (name, text) = setting.split_once('=').ok_or_else(|| refuse("expected name=value, as in dark=0.2".into()))?;
            let parsed = toml::from_str::<toml::Table>(&format!("v = {text}")).ok().and_then(|mut t| t.remove("v"));
            let value = parsed.unwrap_or_else(|| toml::Value::String(text.trim().into()));
            match name.trim() {
                "radius" => self.duplicates.radius = read(value, setting)?,
                "cosine" => self.duplicates.cosine = read(value, setting)?,
                "likeness" => self.duplicates.likeness = read(value, setting)?,
                "rule" => self.rule = read(value, setting)?,
                "score" if value.as_str() == Some("error_probability") => self.score = None,
                "score" => self.score = Some(read(value, setting)?),
                "outlier_iqr" => self.outliers.iqr_factor = read(value, setting)?,
                "rarest" => self.rarest = read(value, setting)?,
                name if of_pixels().contains_key(name) => {
                    pixels.insert(name.into(), value);
                    self.thresholds = read(toml::Value::Table(pixels.clone()), setting)?;
                }
                name => {
                    let known: Vec<String> =
                        OTHERS.iter().map(ToString::to_string).chain(of_pixels().into_iter().map(|(k, _)| k)).collect();
                    return Err(refuse(format!("there is no threshold {name:?}; expected one of {}", known.join(", "))));
                }
            }
        }
        Ok(())
    }
}

/// Settings that are no threshold of the pixel checks.
const OTHERS: [&str; 7] = ["radius", "cosine", "likeness", "rule", "score", "outlier_iqr", "rarest"];

/// The thresholds of the pixel checks by name.
fn of_pixels() -> toml::Table {
    toml::Table::try_from(Thresholds::default()).unwrap_or_default()
}

fn read<T: DeserializeOwned>(value: toml::Value, setting: &str) -> Result<T, LearnError> {
    value.try_into().map_err(|error: toml::de::Error| LearnError::Setting { setting: setting.into(), problem: plain(error.message()) })
}
