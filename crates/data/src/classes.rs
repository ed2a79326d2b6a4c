//! The list of class names: the one place that says which number means which class.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::DataError;

/// Class names in label order: label `i` means `names()[i]`. Read from data they are sorted and unique; a given list
/// (of a trained model, say) keeps its own order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes(Vec<String>);

impl Classes {
    /// Sorted, unique class names from any names seen in the data.
    pub fn sorted<I: IntoIterator<Item = S>, S: Into<String>>(names: I) -> Classes {
        Classes(names.into_iter().map(Into::into).collect::<BTreeSet<String>>().into_iter().collect())
    }

    /// The given names in the given order.
    ///
    /// # Errors
    /// When a name is empty or appears twice.
    pub fn in_order(names: Vec<String>) -> Result<Classes, DataError> {
        let mut seen = BTreeSet::new();
        for name in &names {
            if name.trim().is_empty() {
                return Err(DataError::ClassList { message: "it holds an empty name".into() });
            }
            if !seen.insert(name) {
                return Err(DataError::ClassList { message: format!("it holds `{name}` twice") });
            }
        }
        Ok(Classes(names))
    }

    /// Class names in label order.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// The label of a class name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|n| n == name)
    }

    /// The class name of a label.
    pub fn name(&self, label: usize) -> Option<&str> {
        self.0.get(label).map(String::as_str)
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no class.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For each label of `self`, the label of the same name in `to`; `None` where `to` lacks the name.
    pub fn remap(&self, to: &Classes) -> Vec<Option<usize>> {
        self.0.iter().map(|name| to.index_of(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sorted_and_unique() {
        let classes = Classes::sorted(["dog", "cat", "dog"]);
        assert_eq!(classes.names(), ["cat", "dog"]);
        assert_eq!(classes.index_of("dog"), Some(1));
        assert_eq!(classes.index_of("cow"), None);
    }

    #[test]
    fn a_list_with_a_name_twice_is_refused() {
        let error = Classes::in_order(vec!["a".into(), "b".into(), "a".into()]).unwrap_err();
        assert_eq!(error.to_string(), "the class list cannot be used: it holds `a` twice");
    }

    #[test]
    fn remap_goes_by_name() {
        let from = Classes::sorted(["a", "b", "c"]);
        let to = Classes::in_order(vec!["c".into(), "a".into()]).unwrap();
        assert_eq!(from.remap(&to), [Some(1), None, Some(0)]);
    }
}
