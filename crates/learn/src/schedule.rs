//! Learning-rate schedules: the rate as a pure function of the update's number.

use serde::{Deserialize, Serialize};

/// The shape of a schedule, as a recipe names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Always the same rate.
    Constant,
    /// Half a cosine down.
    Cosine,
    /// Up and down again by cosines.
    OneCycle,
}

/// How the learning rate moves from the first update to the last. All shapes are factors of the highest rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// Always the same.
    Constant,
    /// Half a cosine from 1 to `final_factor` (Loshchilov and Hutter, 2017).
    Cosine {
        /// Where it ends.
        final_factor: f64,
    },
    /// Up and down again by cosines (Smith, 2018): from `1 / div` up to 1 in the first `pct_start` of the updates, then down to
    /// `1 / div_final`. The defaults of fastai are .25, 25 and 1e5.
    OneCycle {
        /// Share of the updates in which the rate rises.
        pct_start: f64,
        /// The first rate is this many times smaller than the highest.
        div: f64,
        /// The last rate is this many times smaller than the highest.
        div_final: f64,
    },
}

impl Schedule {
    /// Checks the ranges.
    ///
    /// # Errors
    /// `(field, problem)`.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let wrong = |what: String| Err(("fit.schedule", what));
        match *self {
            Self::Constant => Ok(()),
            Self::Cosine { final_factor } if !(0.0..=1.0).contains(&final_factor) => {
                wrong(format!("expected a final_factor in 0..=1, got {final_factor}"))
            }
            Self::OneCycle { pct_start, .. } if !(0.0..1.0).contains(&pct_start) => {
                wrong(format!("expected a pct_start in 0..1, got {pct_start}"))
            }
            Self::OneCycle { div, div_final, .. } if !(div >= 1.0 && div_final >= 1.0) => {
                wrong(format!("expected div and div_final of at least 1, got {div} and {div_final}"))
            }
            Self::Cosine { .. } | Self::OneCycle { .. } => Ok(()),
        }
    }

    /// The factor of update `step` of `steps`, after `warmup` updates of linear rise (`(step + 1) / (warmup + 1)`); the schedule's own
    /// shape stretches over the remaining `steps - warmup` updates.
    pub fn factor(&self, step: usize, steps: usize, warmup: usize) -> f64 {
        if step < warmup {
            return (step + 1) as f64 / (warmup + 1) as f64;
        }
        let (step, steps) = ((step - warmup) as f64, steps.saturating_sub(warmup).max(1) as f64);
        match *self {
            Self::Constant => 1.0,
            Self::Cosine { final_factor } => {
                final_factor + (1.0 - final_factor) * 0.5 * (1.0 + (std::f64::consts::PI * step / steps).cos())
            }
            Self::OneCycle { pct_start, div, div_final } => {
                // As torch.optim.lr_scheduler.OneCycleLR counts: the peak is at `pct_start * steps - 1`, the end at `steps - 1`.
                let peak = pct_start * steps - 1.0;
                let last = (steps - 1.0).max(1.0);
                if step <= peak && peak > 0.0 {
                    cosine(1.0 / div, 1.0, step / peak)
                } else {
                    cosine(1.0, 1.0 / div_final, ((step - peak.max(0.0)) / (last - peak.max(0.0)).max(1e-9)).min(1.0))
                }
            }
        }
    }
}

/// From `start` at 0 to `end` at 1 by half a cosine.
fn cosine(start: f64, end: f64, at: f64) -> f64 {
    end + (start - end) * 0.5 * (1.0 + (std::f64::consts::PI * at).cos())
}
