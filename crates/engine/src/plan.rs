//! A graph compiled for a set of outputs.
