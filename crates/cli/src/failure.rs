//! How an error ends the program: its message and its exit code.

use std::process::ExitCode;

use data::DataError;
use data::fetch::FetchError;
use learn::LearnError;
use zoo::ZooError;

/// An error of the command line itself: wrong flags or values. Exit code 2.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The chain of causes in one line; a cause that its parent already tells is left out.
pub fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text
}

/// 2 for wrong usage, 1 for everything else.
pub fn code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(if error.chain().any(is_usage) { 2 } else { 1 })
}

/// Flags, recipe fields and names that do not exist; a run folder that is taken.
fn is_usage(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<Usage>()
        || matches!(
            cause.downcast_ref(),
            Some(LearnError::Recipe { .. } | LearnError::RunFolder { .. } | LearnError::Zoo(ZooError::Unknown { .. }))
        )
        || matches!(cause.downcast_ref(), Some(DataError::NotFound { .. } | DataError::NotADataset { .. }))
        || matches!(cause.downcast_ref(), Some(FetchError::Unknown { .. }))
}

/// Whether the reader of our output went away (`fieldmark … | head`), which is no failure.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe))
}
