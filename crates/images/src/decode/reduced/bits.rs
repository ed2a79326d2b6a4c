//! The bits of a scan (ITU-T T.81, F.2.2.5): stuffed zeros removed, markers never passed.

/// Reads bits, most significant first, up to the next marker. A copy is cheap: hot loops work on one.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// The next byte to load.
    at: usize,
    /// The next bits, from the top.
    buffer: u64,
    /// How many of them count.
    count: u32,
    /// Zeros that were appended since a marker or the end was reached.
    padding: u32,
}

impl<'a> Bits<'a> {
    pub fn new(data: &'a [u8], at: usize) -> Self {
        Bits { data, at, buffer: 0, count: 0, padding: 0 }
    }

    /// Makes at least 32 bits available: the longest code and the longest value together.
    #[inline(always)]
    pub fn fill(&mut self) {
        if self.count < 32 {
            self.load();
        }
    }

    #[inline(always)]
    fn load(&mut self) {
        if let Some(Ok(chunk)) = self.data.get(self.at..self.at + 8).map(<[u8; 8]>::try_from) {
            let word = u64::from_be_bytes(chunk);
            // No byte is 0xff: no byte of the complement is zero.
            if (!word).wrapping_sub(0x0101_0101_0101_0101) & word & 0x8080_8080_8080_8080 == 0 {
                // The bits below `count` are the beginning of the next byte; it is or-ed over them once more when it is loaded whole.
                self.buffer |= word >> self.count;
                self.at += (63 - self.count as usize) >> 3;
                self.count |= 56;
                return;
            }
        }
        self.load_bytes();
    }

    #[cold]
    #[inline(never)]
    fn load_bytes(&mut self) {
        while self.count <= 56 {
            let byte = match (self.data.get(self.at), self.data.get(self.at + 1)) {
                (Some(0xff), Some(0)) => {
                    self.at += 2;
                    0xff
                }
                (Some(0xff) | None, _) => {
                    self.padding = self.padding.saturating_add(8);
                    0
                }
                (Some(&byte), _) => {
                    self.at += 1;
                    byte
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// The next `n` bits, 1 to 32, without consuming them; after [`Bits::fill`].
    #[inline(always)]
    pub fn peek(&self, n: u32) -> usize {
        (self.buffer >> (64 - n)) as usize
    }

    /// Consumes `n` bits, at most 31.
    #[inline(always)]
    pub fn skip(&mut self, n: u32) {
        self.buffer <<= n;
        self.count = self.count.wrapping_sub(n);
    }

    /// `n` bits as a number, at most 16; after [`Bits::fill`].
    #[inline(always)]
    pub fn take(&mut self, n: u32) -> i32 {
        if n == 0 {
            return 0;
        }
        let value = self.peek(n) as i32;
        self.skip(n);
        value
    }

    /// One bit, whatever was consumed before.
    #[inline(always)]
    pub fn bit(&mut self) -> bool {
        self.fill();
        self.take(1) == 1
    }

    /// A value of `size` bits as T.81 codes it (table F.1 and EXTEND); after [`Bits::fill`].
    #[inline(always)]
    pub fn value(&mut self, size: u32) -> i32 {
        extend(self.take(size), size)
    }

    /// Whether bits were consumed that the file does not have.
    pub fn overrun(&self) -> bool {
        self.padding > self.count
    }

    /// The position of the marker behind the data, where all of the data but less than a byte of padding was consumed.
    pub fn end(mut self) -> Option<usize> {
        self.load_bytes();
        let left = self.count.checked_sub(self.padding)?;
        (left < 8 && self.data.get(self.at) == Some(&0xff)).then_some(self.at)
    }
}

/// The number that `bits` of the given size stand for.
#[inline(always)]
pub(super) fn extend(bits: i32, size: u32) -> i32 {
    if size > 0 && bits < 1 << (size - 1) { bits - (1 << size) + 1 } else { bits }
}
