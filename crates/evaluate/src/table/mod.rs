use std::path::Path;

use crate::{EvaluateError, Predictions};

pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with("p:") || ["id", "truth", "predicted", "probability", "fold"].contains(&name)
}
pub(crate) fn write_csv(_: &Predictions, _: &Path) -> Result<(), EvaluateError> {
    unimplemented!()
}
pub(crate) fn read_csv(_: &Path) -> Result<Predictions, EvaluateError> {
    unimplemented!()
}
pub(crate) fn write_parquet(_: &Predictions, _: &Path) -> Result<(), EvaluateError> {
    unimplemented!()
}
pub(crate) fn read_parquet(_: &Path) -> Result<Predictions, EvaluateError> {
    unimplemented!()
}
