//! Fresh weights from a seed.

use crate::ir::Graph;
use crate::tensor::Weights;

impl Graph {
    /// Fresh weights: each parameter from its own generator, derived from `seed` and its name, so that neither the order of the
    /// nodes nor the rest of the graph matters.
    pub fn init_weights(&self, seed: u64) -> Weights {
        let _ = seed;
        unimplemented!()
    }
}
