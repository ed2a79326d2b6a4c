//! CPU microkernels of Fieldmark: slices in, slices out.
