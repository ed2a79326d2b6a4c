use serde::{Deserialize, Serialize};

/// One measured number: its value with an interval, or the reason why it has none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The number, or `None` where it is undefined.
    pub value: Option<f64>,
    /// 95 % percentile bootstrap interval, `[low, high]`; `None` without a bootstrap or where too few replicates define it.
    pub ci95: Option<[f64; 2]>,
    /// Why there is no value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undefined: Option<String>,
}

impl Metric {
    /// A number without an interval.
    pub fn of(value: f64) -> Self {
        Self { value: Some(value), ci95: None, undefined: None }
    }

    /// A number that does not exist, and why.
    pub fn undefined(reason: impl Into<String>) -> Self {
        Self { value: None, ci95: None, undefined: Some(reason.into()) }
    }
}
