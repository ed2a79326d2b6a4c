//! Which samples train, choose and judge.

use data::{Dataset, split};
use serde::{Deserialize, Serialize};

use crate::{LearnError, Method, Recipe};

/// Sample indices by purpose; no index is in two lists.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Learned from.
    pub train: Vec<usize>,
    /// Chooses epochs or strengths.
    pub validation: Vec<usize>,
    /// Judges, once, at the end.
    pub test: Vec<usize>,
    /// Whether `validation` was declared by the data set (else it was drawn here).
    pub declared_validation: bool,
    /// Out-of-fold cross-validation: the fold of each sample of `train`, in its order.
    pub folds: Option<Vec<usize>>,
}

impl Plan {
    /// Divides `usable` samples as the recipe says. Declared splits are kept; what is missing is drawn, stratified by class and the recipe's
    /// columns, groups kept together.
    ///
    /// # Errors
    /// Fewer than two classes, an unknown column to stratify by, or too few samples for the folds.
    pub fn draw(dataset: &Dataset, usable: &[usize], recipe: &Recipe) -> Result<Self, LearnError> {
        check_classes(dataset, usable)?;
        for column in &recipe.data.stratify {
            if !dataset.column_names().contains(column) {
                let there = dataset.column_names();
                let there = if there.is_empty() { "none".to_string() } else { there.join(", ") };
                let problem = format!("the data set has no column {column:?}; its columns: {there}");
                return Err(LearnError::Recipe { field: "data.stratify".into(), problem });
            }
        }
        let declared =
            |name: &str| -> Vec<usize> { usable.iter().copied().filter(|&i| dataset.samples[i].split.as_deref() == Some(name)).collect() };
        let (test, validation) = (declared("test"), declared("val"));
        let rest: Vec<usize> =
            usable.iter().copied().filter(|&i| matches!(dataset.samples[i].split.as_deref(), None | Some("train"))).collect();
        if rest.is_empty() {
            return Err(LearnError::Data(
                "no sample is left to train on; expected samples of the split `train`, or without a split".into(),
            ));
        }
        let mut plan = Self { declared_validation: !validation.is_empty(), validation, test, train: rest, folds: None };
        if let Some(k) = recipe.data.folds {
            let (strata, groups) = strata(dataset, &plan.train, recipe);
            let folds = split::k_folds(&strata, groups.as_deref(), k, recipe.seed);
            plan.folds = Some(folds.map_err(|e| LearnError::Recipe { field: "data.folds".into(), problem: e.to_string() })?);
        } else if plan.test.is_empty() {
            plan.test = draw_share(dataset, &mut plan.train, recipe.data.test, recipe, 0);
        }
        if plan.validation.is_empty() && recipe.method != Method::Probe && plan.folds.is_none() {
            plan.validation = draw_share(dataset, &mut plan.train, recipe.data.validation, recipe, 1);
        }
        Ok(plan)
    }

    /// The plan of one fold: it is the test, the others train, and for fitting part of them validates.
    pub fn fold(&self, dataset: &Dataset, fold: usize, recipe: &Recipe) -> Self {
        let folds = self.folds.as_deref().unwrap_or_default();
        let part = |inside: bool| -> Vec<usize> {
            self.train.iter().zip(folds).filter(|(_, f)| (**f == fold) == inside).map(|(&i, _)| i).collect()
        };
        let mut plan = Self { train: part(false), test: part(true), validation: self.validation.clone(), folds: None, ..*self };
        plan.reserve_validation(dataset, recipe);
        plan
    }

    /// Draws validation samples out of `train` where fitting needs them and there are none.
    pub fn reserve_validation(&mut self, dataset: &Dataset, recipe: &Recipe) {
        if self.validation.is_empty() && recipe.method != Method::Probe {
            self.validation = draw_share(dataset, &mut self.train, recipe.data.validation, recipe, 1);
        }
    }

    /// The purpose of every planned sample, for `split.csv`.
    pub fn purposes(&self) -> Vec<(usize, String)> {
        let mut list: Vec<(usize, String)> = match &self.folds {
            Some(folds) => self.train.iter().zip(folds).map(|(&i, f)| (i, format!("fold {}", f + 1))).collect(),
            None => self.train.iter().map(|&i| (i, "train".to_string())).collect(),
        };
        list.extend(self.validation.iter().map(|&i| (i, "val".to_string())));
        list.extend(self.test.iter().map(|&i| (i, "test".to_string())));
        list.sort_unstable();
        list
    }
}

/// Takes a share out of `from`, in the order of the indices.
fn draw_share(dataset: &Dataset, from: &mut Vec<usize>, share: f64, recipe: &Recipe, salt: u64) -> Vec<usize> {
    if share == 0.0 {
        return Vec::new();
    }
    let (strata, groups) = strata(dataset, from, recipe);
    let parts = split::stratified(&strata, groups.as_deref(), &[1.0 - share, share], recipe.seed.wrapping_add(salt));
    let pick = |part: Option<&Vec<usize>>| -> Vec<usize> {
        let mut list: Vec<usize> = part.into_iter().flatten().map(|&position| from[position]).collect();
        list.sort_unstable();
        list
    };
    let (kept, drawn) = (pick(parts.first()), pick(parts.get(1)));
    *from = kept;
    drawn
}

fn strata(dataset: &Dataset, indices: &[usize], recipe: &Recipe) -> (Vec<usize>, Option<Vec<String>>) {
    let columns: Vec<&str> = recipe.data.stratify.iter().map(String::as_str).collect();
    let (strata, groups) = (dataset.strata(&columns), dataset.groups());
    (indices.iter().map(|&i| strata[i]).collect(), groups.map(|g| indices.iter().map(|&i| g[i].clone()).collect()))
}

/// The class of a sample: its label or the most likely one.
pub(crate) fn label(dataset: &Dataset, index: usize) -> Option<usize> {
    dataset.samples[index].target.as_ref().and_then(|target| target.argmax())
}

fn check_classes(dataset: &Dataset, usable: &[usize]) -> Result<(), LearnError> {
    let counts = dataset.class_counts(usable);
    let present: Vec<&str> = dataset.classes.names().iter().zip(&counts).filter(|(_, n)| **n > 0).map(|(c, _)| c.as_str()).collect();
    match present.as_slice() {
        [] if usable.is_empty() && !dataset.is_empty() => {
            Err(LearnError::Data(format!("{}: no image with a label could be read; the reasons stand above", dataset.name)))
        }
        [] => Err(LearnError::Data(format!("{}: no image has a label", dataset.name))),
        [only] => Err(LearnError::Data(format!(
            "{}: all {} usable images are of the class {only:?}; a classifier needs at least 2 classes",
            dataset.name,
            usable.len()
        ))),
        _ => Ok(()),
    }
}
