//! Weight gradients of dense and grouped convolutions: `dW[tap] = Σ dY[pixel]ᵀ X[pixel under the tap]`, read from the maps where they lie.

use std::ops::Range;

use super::convolution::Convolution;
use super::outer::Outer;
use crate::buffer::Buffer;
use crate::conv::ConvShape;
use crate::dispatch::{Kernel, Simd};
use crate::gemm::{Shared, share};
use crate::scratch::{self, Slot};
use crate::threads::{each_chunk, parallel};
use crate::value::{Value, convert};

/// Values of partial sums, at most, where there are several parts.
const PARTIAL: usize = 1 << 19;
/// Tasks that keep many threads busy.
const TASKS: usize = 16;
/// Values of both maps that a thread works on at a time: half of the second cache level.
const BLOCK: usize = 1 << 16;
/// Pixels of a part, at least: each part has sums to write.
const DEPTH: usize = 1024;
/// Input values under a row of taps that are put side by side in vectors' stead: such few channels fill no vector.
const FEW: usize = 32;

/// How the sums are taken; it depends on the sizes alone, so that they do not depend on the number of threads.
struct Plan<'a, T> {
    /// A pointwise convolution reads one line of all pixels.
    shape: ConvShape,
    groups: usize,
    inner: usize,
    each: usize,
    pointwise: bool,
    /// Whether vectors run over the channels of the output.
    over_outputs: bool,
    /// Whether rows of taps are taken at once, from framed lines.
    framed: bool,
    /// Runs of lines that are summed apart.
    parts: usize,
    /// Runs of units (taps of groups) in a part.
    splits: usize,
    /// Runs of rows and of columns in a unit.
    grid: [usize; 2],
    lanes: usize,
    /// Lines worked on at a time.
    block: usize,
    dy: &'a [T],
    x: &'a [T],
}

/// `dw` `[O, I / groups, taps]` from both maps.
pub(super) fn weight_gradient<T: Value>(c: &Convolution, dw: &mut [f32], dy: &[T], x: &[T]) {
    let len = c.weight_len();
    if len == 0 || c.shape.pixels() == 0 {
        return dw.fill(0.0);
    }
    let plan = Plan::new(c, dy, x);
    if plan.parts == 1 && c.taps() == 1 && !plan.over_outputs {
        return plan.run(c, dw);
    }
    scratch::for_use(Slot::Sums, plan.parts * len, |sums| {
        plan.run(c, sums);
        let (sum, others) = sums.split_at_mut(len);
        let chunk = (1 << 14).min(len.div_ceil(TASKS)).max(1);
        if plan.parts > 1 {
            each_chunk(sum, chunk, |index, sum| {
                for other in others.chunks_exact(len) {
                    c.isa.run(Add(sum, &other[index * chunk..][..sum.len()]));
                }
            });
        }
        plan.reorder(dw, sum, c.taps());
    });
}

struct Add<'a>(&'a mut [f32], &'a [f32]);

impl Kernel for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.0.iter_mut().zip(self.1).for_each(|(a, &b)| *a += b);
    }
}

impl<'a, T: Value> Plan<'a, T> {
    fn new(c: &Convolution, dy: &'a [T], x: &'a [T]) -> Self {
        let (inner, each, groups, len) = (c.inner(), c.each(), c.groups, c.weight_len());
        let pointwise = c.is_pointwise();
        let one = [1, 1];
        let shape = if pointwise { ConvShape { batch: c.shape.pixels(), input: one, output: one, ..c.shape } } else { c.shape };
        let framed = groups == 1 && !pointwise && shape.window.dilation[1] == 1 && shape.window.kernel[1] * inner <= FEW;
        let lanes = c.isa.panel().0;
        let waste = |n: usize| (n.next_multiple_of(lanes) * 100) / n;
        let over_outputs = framed || waste(each) < waste(inner);
        let lines = shape.batch * shape.output[0];
        let parts = (PARTIAL / len).clamp(1, TASKS).min(shape.pixels().div_ceil(DEPTH)).min(lines).max(1);
        let units = if framed { shape.window.kernel[0] } else { groups * c.taps() };
        let splits = if parts * 2 > TASKS { 1 } else { units };
        let mut plan =
            Self { shape, groups, inner, each, pointwise, over_outputs, framed, parts, splits, grid: one, lanes, block: 0, dy, x };
        plan.divide();
        plan
    }

    /// Divides units until there are tasks enough, the longer side first: a task reads its rows and columns of each pixel.
    fn divide(&mut self) {
        let sizes = self.sizes();
        let part = |grid: [usize; 2]| [sizes[0] / grid[0], sizes[1] / grid[1]];
        while !self.framed && self.parts * self.splits * self.grid[0] * self.grid[1] < TASKS {
            let [m, n] = part(self.grid);
            match (m >= 64, n >= 6 * self.lanes) {
                (false, false) => break,
                (true, false) => self.grid[0] *= 2,
                (false, true) => self.grid[1] *= 2,
                (true, true) => self.grid[usize::from(n >= m)] *= 2,
            }
        }
        let [m, n] = part(self.grid);
        let [by_output, by_input] = if self.over_outputs { [n, m] } else { [m, n] };
        let line = self.shape.output[1] * (by_output + by_input * self.shape.window.stride.iter().product::<usize>());
        self.block = (BLOCK / line.max(1)).max(1);
    }

    /// Rows and columns of a unit's sums.
    fn sizes(&self) -> [usize; 2] {
        match (self.framed, self.over_outputs) {
            (true, _) => [self.shape.window.kernel[1] * self.inner, self.each],
            (false, true) => [self.inner, self.each],
            (false, false) => [self.each, self.inner],
        }
    }

    fn units(&self) -> usize {
        let [kh, kw] = self.shape.window.kernel;
        if self.framed { kh } else { self.groups * kh * kw }
    }

    /// Writes the sums of each part, one after the other, `[units, rows, columns]`.
    fn run(&self, c: &Convolution, sums: &mut [f32]) {
        let (shared, len, lines) = (Shared(sums.as_mut_ptr()), c.weight_len(), self.shape.batch * self.shape.output[0]);
        let [[m, n], [down, across]] = [self.sizes(), self.grid];
        parallel(self.parts * self.splits * down * across, |task| {
            let (part, split, cell) = (task / (self.splits * down * across), task / (down * across) % self.splits, task % (down * across));
            let columns = share(n.div_ceil(self.lanes), across, cell % across);
            let task = Task {
                plan: self,
                lines: share(lines, self.parts, part),
                units: share(self.units(), self.splits, split),
                rows: share(m, down, cell / across),
                columns: columns.start * self.lanes..n.min(columns.end * self.lanes),
                sums: Shared(shared.get().wrapping_add(part * len)),
            };
            c.isa.run(task);
        });
    }

    /// From the order of the sums to the weight's.
    fn reorder(&self, dw: &mut [f32], sums: &[f32], taps: usize) {
        let (inner, each, groups) = (self.inner, self.each, self.groups);
        // Outputs whose sums lie side by side are taken together.
        let together = if self.over_outputs { 16.min(each) } else { 1 };
        let chunks = each.div_ceil(together);
        let out = Shared(dw.as_mut_ptr());
        let len = dw.len();
        parallel(groups * chunks, |part| {
            let (group, outputs) = (part / chunks, (part % chunks) * together..each.min((part % chunks + 1) * together));
            let from = (group * each + outputs.start) * inner * taps;
            assert!(from + outputs.len() * inner * taps <= len);
            // SAFETY: each part has the weights of its own outputs, which were checked to lie inside.
            let dw = unsafe { std::slice::from_raw_parts_mut(out.get().add(from), outputs.len() * inner * taps) };
            for t in 0..taps {
                let unit = &sums[(group * taps + t) * inner * each..][..inner * each];
                for i in 0..inner {
                    for (index, o) in outputs.clone().enumerate() {
                        let at = if self.over_outputs { i * each + o } else { o * inner + i };
                        dw[(index * inner + i) * taps + t] = unit[at];
                    }
                }
            }
        });
    }
}

/// Some lines, some units, some of their rows and columns.
struct Task<'a, 'b, T> {
    plan: &'a Plan<'b, T>,
    lines: Range<usize>,
    units: Range<usize>,
    rows: Range<usize>,
    columns: Range<usize>,
    sums: Shared,
}

/// Maps as the sums read them: f32, with the channels that they need.
#[derive(Clone, Copy)]
struct Maps<'a> {
    dy: &'a [f32],
    x: &'a [f32],
    /// Values from pixel to pixel of the gradient and of the input.
    steps: [usize; 2],
    /// The first channel held of each.
    channels: [usize; 2],
    /// The first line of the gradient and the first row of the input.
    first: [usize; 2],
}

impl<T: Value> Kernel for Task<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let plan = self.plan;
        let mut runs = Vec::with_capacity(plan.block.min(self.lines.len()) + 1);
        for from in self.lines.clone().step_by(plan.block) {
            let lines = from..self.lines.end.min(from + plan.block);
            self.with_maps(s, lines.clone(), |maps| {
                if plan.framed {
                    scratch::for_part(|frame| self.framed(s, lines, maps, frame, &mut runs));
                } else {
                    self.units.clone().for_each(|unit| self.unit(s, lines.clone(), maps, unit, &mut runs));
                }
            });
        }
    }
}

impl<T: Value> Task<'_, '_, T> {
    /// Gives `f` the maps under some lines: where they lie, or widened.
    #[inline(always)]
    fn with_maps<S: Simd>(&self, s: S, lines: Range<usize>, f: impl FnOnce(Maps<'_>)) {
        let plan = self.plan;
        let ConvShape { input: [h, w], output: [oh, ow], channels, window, .. } = plan.shape;
        let outputs = plan.groups * plan.each;
        if let (Some(dy), Some(x)) = (T::as_f32(plan.dy), T::as_f32(plan.x)) {
            return f(Maps { dy, x, steps: [outputs, channels], channels: [0; 2], first: [0; 2] });
        }
        // The channels of this task; of several groups, all.
        let (rows, columns) = if plan.over_outputs { (&self.columns, &self.rows) } else { (&self.rows, &self.columns) };
        let (by_output, by_input) =
            if plan.groups == 1 && !plan.framed { (rows.clone(), columns.clone()) } else { (0..outputs, 0..channels) };
        let (pad, reach) = (window.padding[0], (window.kernel[0] - 1) * window.dilation[0] + 1);
        let row = |line: usize, beyond: usize| line / oh * h + (line % oh * window.stride[0] + beyond).saturating_sub(pad).min(h);
        let (first, last) = (row(lines.start, 0), row(lines.end - 1, reach).max(row(lines.start, 0)));
        // Framed lines are widened when they are framed.
        let x_pixels = if plan.framed { 0 } else { (last - first) * w };
        let dy_pixels = lines.len() * ow;
        scratch::for_use(Slot::Wide, x_pixels * by_input.len(), |x| {
            scratch::for_use(Slot::Wider, dy_pixels * by_output.len(), |dy| {
                widen(s, x, &plan.x[first * w * channels..], channels, by_input.clone());
                widen(s, dy, &plan.dy[lines.start * ow * outputs..], outputs, by_output.clone());
                let steps = [by_output.len(), by_input.len()];
                f(Maps { dy, x, steps, channels: [by_output.start, by_input.start], first: [lines.start, first] });
            });
        });
    }

    /// The products of one tap of one group.
    #[inline(always)]
    fn unit<S: Simd>(&self, s: S, lines: Range<usize>, maps: Maps<'_>, unit: usize, runs: &mut Vec<(usize, usize)>) {
        let plan = self.plan;
        let ConvShape { input: [h, w], output: [oh, ow], window, .. } = plan.shape;
        let taps = window.kernel[0] * window.kernel[1];
        let (group, ky, kx) = (unit / taps, unit % taps / window.kernel[1], unit % window.kernel[1]);
        let [outputs, channels] = maps.steps;
        // Columns whose source lies in the map.
        let (shift, stride, pad) = (kx * window.dilation[1], window.stride[1], window.padding[1]);
        let first = pad.saturating_sub(shift).div_ceil(stride).min(ow);
        let last = (w + pad).saturating_sub(shift).div_ceil(stride).clamp(first, ow);
        runs.clear();
        let mut run = last - first;
        if plan.pointwise {
            run = lines.len();
            runs.push(((lines.start - maps.first[0]) * outputs, (lines.start - maps.first[1]) * channels));
        } else if run > 0 {
            for line in lines.clone() {
                let Some(sy) = window.source(0, line % oh, ky, h) else { continue };
                let from = ((line / oh * h + sy - maps.first[1]) * w + first * stride + shift - pad) * channels;
                runs.push((((line - maps.first[0]) * ow + first) * outputs, from));
            }
        }
        let [m, n] = plan.sizes();
        let c = self.sums.get().wrapping_add((unit * m + self.rows.start) * n + self.columns.start);
        let dy = maps.dy.as_ptr().wrapping_add(group * plan.each).wrapping_sub(maps.channels[0]);
        let x = maps.x.as_ptr().wrapping_add(group * plan.inner).wrapping_sub(maps.channels[1]);
        let (dy_step, x_step) = (outputs, if plan.pointwise { channels } else { stride * channels });
        let (mut u, mut u_step, mut v, mut v_step) = (dy, dy_step, x, x_step);
        if plan.over_outputs {
            (u, u_step, v, v_step) = (x, x_step, dy, dy_step);
            runs.iter_mut().for_each(|run| *run = (run.1, run.0));
        }
        let outer = Outer {
            m: self.rows.len(),
            n: self.columns.len(),
            u: u.wrapping_add(self.rows.start),
            u_step,
            v: v.wrapping_add(self.columns.start),
            v_step,
            runs,
            run,
            c,
            c_stride: n,
            first: lines.start == self.lines.start,
            ahead: self.ahead(&lines, unit),
        };
        // SAFETY: runs hold pixels of both maps, whose sizes were checked; rows and columns are channels of a group; each task has rows
        // of sums of its own.
        unsafe { outer.run(s) };
    }

    /// What the next block reads of both maps, to be fetched while the last unit of `lines` is computed.
    fn ahead(&self, lines: &Range<usize>, unit: usize) -> [(*const f32, usize); 2] {
        let plan = self.plan;
        let (Some(dy), Some(x)) = (T::as_f32(plan.dy), T::as_f32(plan.x)) else {
            return [(self.sums.get().cast_const(), 0); 2];
        };
        if unit + 1 < self.units.end || plan.grid != [1, 1] {
            return [(dy.as_ptr(), 0); 2];
        }
        let (from, to) = (lines.end, self.lines.end.min(lines.end + plan.block));
        [(dy, plan.shape.batch * plan.shape.output[0]), (x, plan.shape.batch * plan.shape.output[0])].map(|(map, all)| {
            let (start, end) = (map.len() / all * from, map.len() / all * to);
            (map.as_ptr().wrapping_add(start), end - start)
        })
    }

    /// The products of all rows of taps, from lines framed in zeros.
    #[inline(always)]
    fn framed<S: Simd>(&self, s: S, lines: Range<usize>, maps: Maps<'_>, frame: &mut Buffer, runs: &mut Vec<(usize, usize)>) {
        let plan = self.plan;
        let ConvShape { input: [h, w], output: [oh, ow], channels, window, .. } = plan.shape;
        let width = ((ow - 1) * window.stride[1] + window.kernel[1]) * channels;
        let left = (window.padding[1] * channels).min(width);
        let inside = (w * channels).min(width - left);
        frame.resize(lines.len() * width);
        let [m, n] = plan.sizes();
        for ky in self.units.clone() {
            runs.clear();
            for (i, line) in lines.clone().enumerate() {
                let target = &mut frame[i * width..][..width];
                let Some(sy) = window.source(0, line % oh, ky, h) else { continue };
                target[..left].fill(0.0);
                convert(s, &mut target[left..left + inside], &plan.x[(line / oh * h + sy) * w * channels..][..inside]);
                target[left + inside..].fill(0.0);
                runs.push((i * width, (line - maps.first[0]) * ow * plan.each));
            }
            let outer = Outer {
                m,
                n,
                u: frame.as_ptr(),
                u_step: window.stride[1] * channels,
                v: maps.dy.as_ptr(),
                v_step: plan.each,
                runs,
                run: ow,
                c: self.sums.get().wrapping_add(ky * m * n),
                c_stride: n,
                first: lines.start == self.lines.start,
                ahead: self.ahead(&lines, ky),
            };
            // SAFETY: the frame holds a line's patches, the runs lines of the output; each task has sums of its own.
            unsafe { outer.run(s) };
        }
    }
}

/// Widens some channels of each pixel, as many pixels as `to` holds.
#[inline(always)]
fn widen<S: Simd, T: Value>(s: S, to: &mut [f32], from: &[T], channels: usize, some: Range<usize>) {
    if some.len() == channels {
        return convert(s, to, &from[..to.len()]);
    }
    for (to, from) in to.chunks_exact_mut(some.len().max(1)).zip(from.chunks_exact(channels)) {
        convert(s, to, &from[some.clone()]);
    }
}
