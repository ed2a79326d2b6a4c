//! A gate for continuous integration: which findings make an audit fail.

use thiserror::Error;

use crate::{Check, Finding};

/// A condition that cannot be read.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("cannot read the condition `{text}`: {problem}")]
pub struct GateError {
    /// The condition.
    pub text: String,
    /// What is wrong, and what is expected.
    pub problem: String,
}

/// Conditions of the form `CHECK` (any finding fails) or `CHECK>SHARE` (more than that share of the samples fails).
///
/// ```
/// use audit::{Check, Finding, Gate};
///
/// let gate: Gate = "leak,label>0.02".parse()?;
/// let label = |sample| Finding { sample: Some(sample), check: Check::Label, score: 0.9, given: None, suggested: None, group: None, detail: String::new() };
/// assert_eq!(gate.broken(&[label(0), label(1)], 100), None);
/// assert_eq!(gate.broken(&[label(0), label(1), label(2)], 100).as_deref(), Some("label: 3 findings on 100 samples, more than the .02 allowed"));
/// # Ok::<(), audit::GateError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Gate(Vec<(Check, f64)>);

impl std::str::FromStr for Gate {
    type Err = GateError;

    fn from_str(text: &str) -> Result<Self, GateError> {
        let condition = |part: &str| {
            let bad = |problem: String| GateError { text: part.to_string(), problem };
            let (name, share) = part.split_once('>').map_or((part, None), |(name, share)| (name.trim(), Some(share.trim())));
            let check =
                Check::named(name).ok_or_else(|| bad(format!("there is no check {name:?}; checks are {}", Check::names().join(", "))))?;
            let share = match share {
                None => 0.0,
                Some(text) => text
                    .parse()
                    .ok()
                    .filter(|s| (0.0..=1.0).contains(s))
                    .ok_or_else(|| bad("expected a share from 0 to 1 after `>`".into()))?,
            };
            Ok((check, share))
        };
        text.split(',').map(|part| condition(part.trim())).collect::<Result<_, _>>().map(Self)
    }
}

impl Gate {
    /// The first condition that the findings break, in words. Findings are counted by sample: two about one image are one.
    pub fn broken(&self, findings: &[Finding], samples: usize) -> Option<String> {
        self.0.iter().find_map(|&(check, share)| {
            let of_check = findings.iter().filter(|f| f.check == check);
            let (whole, each): (Vec<&Finding>, Vec<&Finding>) = of_check.partition(|f| f.sample.is_none());
            let distinct: std::collections::BTreeSet<_> = each.iter().filter_map(|f| f.sample).collect();
            let count = distinct.len() + whole.len();
            let allowed = share.to_string().trim_start_matches('0').to_string();
            let text = match (count, share > 0.0) {
                (0, _) => return None,
                (_, true) if count as f64 <= share * samples as f64 => return None,
                (_, true) => format!("more than the {allowed} allowed"),
                (_, false) => "none is allowed".to_string(),
            };
            let noun = if count == 1 { "finding" } else { "findings" };
            Some(format!("{}: {count} {noun} on {samples} samples, {text}", check.name()))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn finding(check: Check, sample: Option<usize>) -> Finding {
        Finding { sample, check, score: 1.0, given: None, suggested: None, group: None, detail: String::new() }
    }

    #[test]
    fn conditions_count_samples_once() {
        let gate: Gate = "leak, near_duplicate>0.5".parse().unwrap();
        assert_eq!(gate.broken(&[], 4), None);
        let twice = vec![finding(Check::NearDuplicate, Some(1)); 9];
        assert_eq!(gate.broken(&twice, 4), None);
        assert_eq!(gate.broken(&[finding(Check::Leak, Some(0))], 4).unwrap(), "leak: 1 finding on 4 samples, none is allowed");
        assert!("non_iid".parse::<Gate>().unwrap().broken(&[finding(Check::NonIid, None)], 4).is_some());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, part) in [("leek", "\"leek\""), ("leak,label>2", "label>2"), ("", "\"\""), ("label>", "label>")] {
            let error = text.parse::<Gate>().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
