//! The fieldmark command and library.
