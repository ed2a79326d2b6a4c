//! Whether weights fit a graph.

use crate::ir::Graph;
use crate::tensor::Weights;
use crate::weights::WeightsError;

impl Graph {
    /// Checks that `weights` holds exactly the graph's parameters; `*.num_batches_tracked` is ignored.
    ///
    /// # Errors
    /// Everything that is missing, extra or wrongly shaped, in one error.
    pub fn check_weights(&self, weights: &Weights) -> Result<(), WeightsError> {
        let _ = weights;
        unimplemented!()
    }
}
