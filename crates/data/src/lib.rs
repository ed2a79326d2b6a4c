//! Labelled image sets: formats, class lists, splits, samplers, loaders, feature cache and fetching.
