//! Whatever changes weights: fitting, probes, fine-tuning, recipes and run folders.
