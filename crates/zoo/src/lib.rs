//! Architectures as builder functions that return graphs, and the names of their published weights.
