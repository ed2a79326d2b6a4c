//! The entropy-coded data of a scan: sequential (ITU-T T.81, F.2) and progressive (G.2).

use super::bits::Bits;
use super::frame::{Component, Frame};
use super::huffman::Huffman;
use super::inverse::Basis;

/// The parameters of a scan header (T.81, B.2.3).
pub(super) struct Scan<'a> {
    pub parts: Vec<Part<'a>>,
    /// First and last coefficient.
    pub band: [usize; 2],
    /// Bit position of the scan before this one (0: none) and of this one.
    pub approximation: [u32; 2],
    /// Units between restart markers; 0: none.
    pub restart: usize,
}

/// A component of a scan.
pub(super) struct Part<'a> {
    /// Which of the frame's.
    pub component: usize,
    pub dc: Option<&'a Huffman>,
    pub ac: Option<&'a Huffman>,
    /// Multipliers in zigzag order.
    pub quantisation: &'a [f32; 64],
}

/// What is carried from block to block.
#[derive(Clone, Copy, Default)]
struct Memory {
    /// The last direct-current value of each part.
    dc: [i32; 4],
    /// Blocks that are still to be passed over.
    empty: u32,
}

impl Scan<'_> {
    /// Decodes the scan behind its header and returns the position of the marker that ends it.
    pub fn decode(&self, frame: &mut Frame, basis: &Basis, bytes: &[u8], at: usize) -> Option<usize> {
        let [first, last] = self.band;
        match (frame.progressive, first, self.approximation) {
            (false, 0, [0, 0]) if last == 63 => {
                let mut coefficients = [0f32; 64];
                self.walk(frame, bytes, at, |component, part, number, memory, bits, row, column| {
                    sequential(bits, part, &mut memory.dc[number], component.last, &mut coefficients)?;
                    component.draw(basis, &coefficients, row, column);
                    Some(())
                })
            }
            (true, 0, [0, low]) if last == 0 => self.walk(frame, bytes, at, |component, part, number, memory, bits, row, column| {
                bits.fill();
                memory.dc[number] = memory.dc[number].wrapping_add(part.dc?.step(bits)?.value);
                component.block(row, column)[0] = memory.dc[number].wrapping_shl(low) as i16;
                Some(())
            }),
            (true, 0, [_, low]) if last == 0 => self.walk(frame, bytes, at, |component, _, _, _, bits, row, column| {
                component.block(row, column)[0] |= i16::from(bits.bit()) << low;
                Some(())
            }),
            (true, 1.., [0, low]) => self.walk(frame, bytes, at, |component, part, _, memory, bits, row, column| {
                band(bits, part.ac?, &mut memory.empty, [first, last, low as usize], component.block(row, column))
            }),
            (true, 1.., [_, low]) => self.walk(frame, bytes, at, |component, part, _, memory, bits, row, column| {
                refine(bits, part.ac?, &mut memory.empty, [first, last, low as usize], component.block(row, column))
            }),
            _ => None,
        }
    }

    /// Visits the blocks in the order of the file, and the restart markers between them.
    #[inline(always)]
    fn walk(
        &self,
        frame: &mut Frame,
        bytes: &[u8],
        at: usize,
        mut each: impl FnMut(&mut Component, &Part, usize, &mut Memory, &mut Bits, usize, usize) -> Option<()>,
    ) -> Option<usize> {
        // A scan of one component has one block a unit, and none in the padding (T.81, A.2).
        let alone = self.parts.len() == 1;
        let [rows, columns] = if alone { frame.components[self.parts[0].component].blocks } else { frame.units };
        let (mut bits, mut memory, mut unit) = (Bits::new(bytes, at), Memory::default(), 0usize);
        for row in 0..rows {
            for column in 0..columns {
                if self.restart > 0 && unit > 0 && unit.is_multiple_of(self.restart) {
                    let marker = bits.end()?;
                    if bytes.get(marker + 1) != Some(&(0xd0 + ((unit / self.restart - 1) % 8) as u8)) {
                        return None;
                    }
                    (bits, memory) = (Bits::new(bytes, marker + 2), Memory::default());
                }
                for (number, part) in self.parts.iter().enumerate() {
                    let component = &mut frame.components[part.component];
                    let [down, across] = if alone { [1, 1] } else { component.sampling };
                    for block in 0..down * across {
                        let (row, column) = (row * down + block / across, column * across + block % across);
                        each(component, part, number, &mut memory, &mut bits, row, column)?;
                    }
                }
                unit += 1;
            }
            if bits.overrun() {
                return None;
            }
        }
        bits.end()
    }
}

/// A block of a sequential scan: the coefficients up to `last`, dequantised; the others are passed over.
#[inline(always)]
fn sequential(bits: &mut Bits, part: &Part, dc: &mut i32, last: usize, out: &mut [f32; 64]) -> Option<()> {
    let (codes, ac, mut local) = (part.dc?, part.ac?, *bits);
    local.fill();
    *dc = dc.wrapping_add(codes.step(&mut local)?.value);
    out[..=last].fill(0.0);
    out[0] = *dc as f32 * part.quantisation[0];
    let mut k = 0;
    while k < last {
        local.fill();
        let step = ac.step(&mut local)?;
        if step.size == 0 && step.run < 15 {
            *bits = local;
            return Some(());
        }
        k += step.run + 1;
        // Beyond `last` nothing is read; beyond 63 the file is damaged.
        let (slot, factor) = (out.get_mut(k)?, part.quantisation.get(k)?);
        *slot = step.value as f32 * factor;
    }
    ac.leap(&mut local, k)?;
    *bits = local;
    Some(())
}

/// A block of the first scan of a band (T.81, G.1.2.2).
fn band(bits: &mut Bits, ac: &Huffman, empty: &mut u32, [first, last, low]: [usize; 3], out: &mut [i16]) -> Option<()> {
    if *empty > 0 {
        *empty -= 1;
        return Some(());
    }
    let mut k = first;
    while k <= last {
        bits.fill();
        let symbol = ac.symbol(bits)?;
        let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        match (size, run) {
            (0, 15) => k += 16,
            (0, _) => {
                *empty = (1 << run) - 1 + bits.take(run as u32) as u32;
                return Some(());
            }
            _ => {
                k += run;
                *out.get_mut(k)? = bits.value(size).wrapping_shl(low as u32) as i16;
                k += 1;
            }
        }
    }
    Some(())
}

/// A block of a later scan of a band: one more bit for what is not zero, and new coefficients (T.81, G.1.2.3).
fn refine(bits: &mut Bits, ac: &Huffman, empty: &mut u32, [first, last, low]: [usize; 3], out: &mut [i16]) -> Option<()> {
    let one = 1i16 << low;
    let mut k = first;
    while *empty == 0 && k <= last {
        bits.fill();
        let symbol = ac.symbol(bits)?;
        let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 && run < 15 {
            *empty = (1 << run) + bits.take(run as u32) as u32;
            break;
        }
        let new = match size {
            0 => 0,
            _ if bits.bit() => one,
            _ => -one,
        };
        k = pass(bits, one, run, k, last, out)?;
        if new != 0 {
            *out.get_mut(k).filter(|_| k <= last)? = new;
        }
        k += 1;
    }
    if *empty > 0 {
        pass(bits, one, usize::MAX, k, last, out)?;
        *empty -= 1;
    }
    Some(())
}

/// Refines what is not zero from `k` on, and stops at the zero behind `run` other zeros.
fn pass(bits: &mut Bits, one: i16, mut run: usize, mut k: usize, last: usize, out: &mut [i16]) -> Option<usize> {
    while k <= last {
        let value = out.get_mut(k)?;
        if *value != 0 {
            if bits.bit() && *value & one == 0 {
                *value = value.wrapping_add(if *value > 0 { one } else { -one });
            }
        } else if run == 0 {
            break;
        } else {
            run -= 1;
        }
        k += 1;
    }
    Some(k)
}
