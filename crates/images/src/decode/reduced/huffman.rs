//! Huffman codes (ITU-T T.81, C and F.2.2.3) as tables that give a whole coefficient, or several to pass over, in one step.

use super::bits::{Bits, extend};

/// Bits that the table of values looks at.
const LOOK: u32 = 10;
/// Bits that the table for passing over coefficients looks at.
const SKIP: u32 = 12;

/// One code: lengths, symbols and tables made of them.
pub(super) struct Huffman {
    symbols: Vec<u8>,
    /// For each length `1..=16` the first code that is longer, aligned to 16 bits, and what to add to a code to find its symbol.
    limits: [(u32, i32); 17],
    /// For the next `LOOK` bits: see [`Step`]. Zero where the code is longer.
    values: Vec<u32>,
    /// For the next `SKIP` bits: see [`Leap`]. Zero where the code is longer.
    leaps: Vec<u16>,
}

/// A coefficient, or a symbol whose value has more bits than the table looks at.
#[derive(Clone, Copy)]
pub(super) struct Step {
    /// Zeros before the coefficient, 0..=15.
    pub run: usize,
    /// Bits of the coefficient; 0 means that there is none.
    pub size: u32,
    /// Its value.
    pub value: i32,
}

impl Huffman {
    /// From the counts of codes by length and the symbols in order; `None` when they are no code.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut limits = [(0u32, 0i32); 17];
        let (mut code, mut used) = (0u32, 0usize);
        for length in 1..=16u32 {
            let count = usize::from(counts[length as usize - 1]);
            let add = used as i32 - code as i32;
            code += count as u32;
            used += count;
            if code > 1 << length {
                return None;
            }
            limits[length as usize] = (code << (16 - length), add);
            code <<= 1;
        }
        if used != symbols.len() {
            return None;
        }
        let mut table = Huffman { symbols: symbols.to_vec(), limits, values: Vec::new(), leaps: Vec::new() };
        table.values = (0..1u32 << LOOK).map(|bits| table.value_entry(bits)).collect();
        Some(table)
    }

    /// Makes the table for [`Huffman::leap`], once.
    pub fn prepare_leaps(&mut self) {
        if self.leaps.is_empty() {
            self.leaps = (0..1u32 << SKIP).map(|bits| self.leap_entry(bits)).collect();
        }
    }

    /// Symbol and length of the code that 16 bits begin with.
    fn find(&self, bits: u32) -> Option<(u8, u32)> {
        (1..=16).find_map(|length| {
            let (limit, add) = self.limits[length as usize];
            let index = (bits >> (16 - length)) as i32 + add;
            (bits < limit).then(|| self.symbols.get(usize::try_from(index).ok()?).map(|&symbol| (symbol, length)))?
        })
    }

    /// Bits 0..5 the length of code and value, bit 7 whether the value is missing, bits 8..15 the symbol, from 16 the value.
    fn value_entry(&self, bits: u32) -> u32 {
        let Some((symbol, length)) = self.find(bits << (16 - LOOK)).filter(|&(_, length)| length <= LOOK) else { return 0 };
        let size = u32::from(symbol & 15);
        let base = u32::from(symbol) << 8;
        if length + size > LOOK {
            return base | 0x80 | length;
        }
        let value = extend((bits >> (LOOK - length - size) & ((1 << size) - 1)) as i32, size);
        (value as i16 as u16 as u32) << 16 | base | (length + size)
    }

    /// Bits 0..4 how many bits to consume, 5..11 how many coefficients that passes, bit 12 whether the block ends with them.
    fn leap_entry(&self, bits: u32) -> u16 {
        let (mut used, mut passed) = (0, 0);
        while used < SKIP {
            let rest = bits << used & ((1 << SKIP) - 1);
            let Some((symbol, length)) = self.find(rest << (16 - SKIP)).filter(|&(_, length)| used + length <= SKIP) else { break };
            let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 && run < 15 {
                return (1 << 12 | passed << 5 | (used + length)) as u16;
            }
            if passed + run + 1 > 63 || (used > 0 && used + length + size > SKIP) {
                break;
            }
            (used, passed) = (used + length + size, passed + run + 1);
        }
        (passed << 5 | used) as u16
    }

    /// The symbol of a code that is longer than a table looks.
    #[cold]
    fn long(&self, bits: &mut Bits) -> Option<u8> {
        let (symbol, length) = self.find(bits.peek(16) as u32)?;
        bits.skip(length);
        Some(symbol)
    }

    /// The next symbol alone; after [`Bits::fill`].
    #[inline(always)]
    pub fn symbol(&self, bits: &mut Bits) -> Option<u8> {
        let entry = self.values.get(bits.peek(LOOK)).copied()?;
        if entry == 0 {
            return self.long(bits);
        }
        let symbol = (entry >> 8) as u8;
        // The length of the code alone: the value's bits belong to the caller.
        let size = if entry & 0x80 == 0 { u32::from(symbol & 15) } else { 0 };
        bits.skip((entry & 0x3f) - size);
        Some(symbol)
    }

    /// The next symbol and the value behind it; after [`Bits::fill`].
    #[inline(always)]
    pub fn step(&self, bits: &mut Bits) -> Option<Step> {
        let entry = self.values.get(bits.peek(LOOK)).copied()?;
        let symbol = (entry >> 8) as u8;
        if entry & 0x80 == 0 && entry != 0 {
            bits.skip(entry & 0x3f);
            return Some(Step { run: usize::from(symbol >> 4), size: u32::from(symbol & 15), value: entry as i32 >> 16 });
        }
        let symbol = match entry {
            0 => self.long(bits)?,
            _ => {
                bits.skip(entry & 0x3f);
                symbol
            }
        };
        let size = u32::from(symbol & 15);
        Some(Step { run: usize::from(symbol >> 4), size, value: bits.value(size) })
    }

    /// Passes over the coefficients of a block behind position `k`, without looking at their values.
    #[inline(always)]
    pub fn leap(&self, bits: &mut Bits, mut k: usize) -> Option<()> {
        while k < 63 {
            bits.fill();
            let entry = usize::from(self.leaps.get(bits.peek(SKIP)).copied()?);
            let (passed, ends) = (entry >> 5 & 0x7f, entry >> 12);
            // A leap must not reach into the next block; and a block that is full has no end symbol.
            if entry == 0 || k + passed + ends > 63 {
                let step = self.step(bits)?;
                if step.size == 0 && step.run < 15 {
                    return Some(());
                }
                k += step.run + 1;
                if k > 63 {
                    return None;
                }
                continue;
            }
            bits.skip((entry & 0x1f) as u32);
            if ends == 1 {
                return Some(());
            }
            k += passed;
        }
        Some(())
    }
}
