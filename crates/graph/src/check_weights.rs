//! Whether weights fit a graph.

use std::collections::BTreeSet;

use crate::ir::Graph;
use crate::tensor::Weights;
use crate::weights::WeightsError;

impl Graph {
    /// Checks that `weights` holds exactly the graph's parameters; `*.num_batches_tracked` is ignored.
    ///
    /// # Errors
    /// Everything that is missing, extra or wrongly shaped, in one error.
    pub fn check_weights(&self, weights: &Weights) -> Result<(), WeightsError> {
        let mut problems = Vec::new();
        let mut known = BTreeSet::new();
        for parameter in self.parameters() {
            let (name, shape) = (&parameter.name, &parameter.shape);
            known.insert(name);
            match weights.get(name) {
                None => problems.push(format!("missing {name:?} {shape:?}")),
                Some(tensor) if tensor.shape != *shape => {
                    problems.push(format!("{name:?}: expected shape {shape:?}, got {:?}", tensor.shape));
                }
                Some(tensor) if tensor.data.len() != shape.iter().product::<usize>() => {
                    problems.push(format!("{name:?}: shape {shape:?} but {} values", tensor.data.len()));
                }
                Some(_) => {}
            }
        }
        let extra = weights.iter().filter(|(name, _)| !known.contains(name) && !name.ends_with("num_batches_tracked"));
        problems.extend(extra.map(|(name, tensor)| format!("extra {name:?} {:?}", tensor.shape)));
        if problems.is_empty() { Ok(()) } else { Err(WeightsError::Mismatch { graph: self.name.clone(), problems }) }
    }
}
