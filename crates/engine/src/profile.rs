//! Where the time of a network goes.

use std::time::Instant;

use graph::RunError;

use crate::run::Engine;

/// One step of a plan and the time it took.
#[derive(Debug, Clone, PartialEq)]
pub struct StepProfile {
    /// The node whose value the step writes; nodes before it may be fused into the step.
    pub name: String,
    /// What the step does, for instance `conv` or `bottleneck`.
    pub op: &'static str,
    /// The shape of what it writes, of one image.
    pub shape: Vec<usize>,
    /// Milliseconds, the median over the runs.
    pub milliseconds: f64,
    /// Multiply-adds of the batch, by the plain sums: a faster method (Winograd's) shows as a higher rate.
    pub multiply_adds: u64,
}

impl StepProfile {
    /// Billions of floating-point operations a second; a multiply-add is two.
    pub fn gflops(&self) -> f64 {
        2e-6 * self.multiply_adds as f64 / self.milliseconds.max(1e-9)
    }
}

impl Engine {
    /// Runs the plan for the logits `runs` times (after one that does not count) on `input`, whole images `[C, H, W]`, and reports its
    /// steps in order.
    ///
    /// # Errors
    /// As [`Engine::run_into`].
    pub fn profile(&mut self, input: &[f32], runs: usize) -> Result<Vec<StepProfile>, RunError> {
        let outputs = [self.graph().output];
        let batch = input.len() / self.graph().input_shape().iter().product::<usize>().max(1);
        let mut steps = Vec::new();
        let mut times: Vec<Vec<f64>> = Vec::new();
        self.execute_and(input, &outputs, |index, step| {
            if index == steps.len() {
                steps.push((step.node, step.work.name(), step.multiply_adds * batch as u64));
            }
        })?;
        times.resize(steps.len(), Vec::with_capacity(runs));
        for _ in 0..runs.max(1) {
            let (mut spent, mut last) = (vec![0.0; steps.len()], Instant::now());
            self.execute_and(input, &outputs, |index, _| {
                let now = Instant::now();
                spent[index] += (now - last).as_secs_f64() * 1e3;
                last = now;
            })?;
            times.iter_mut().zip(spent).for_each(|(times, spent)| times.push(spent));
        }
        let profile = steps.into_iter().zip(times).map(|((node, op, multiply_adds), mut times)| {
            times.sort_by(f64::total_cmp);
            let node = &self.graph().nodes[node];
            StepProfile { name: node.name.clone(), op, shape: node.shape.clone(), milliseconds: times[times.len() / 2], multiply_adds }
        });
        Ok(profile.collect())
    }
}
