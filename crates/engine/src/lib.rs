//! Inference plans, the model file and the classifier, Fieldmark's front door.
