//! Metrics, intervals and slices computed from tables of predictions.
