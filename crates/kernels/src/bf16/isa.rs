//! Instruction sets of bf16.

use std::sync::OnceLock;

use crate::bf16::product::Finish;
use crate::bf16::{round, widen};
use crate::dispatch::Isa;
use crate::dot::{Dot, DotKernel, Family};

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// How bf16 products are computed. All but `Avx512Pairs` widen both operands to f32: exact, and then an f32 product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bf16 {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// `vdpbf16ps`, two products a lane.
    #[cfg(target_arch = "x86_64")]
    Avx512Pairs,
}

/// How this processor does bf16 products: `pairs` (`vdpbf16ps`), `widened` (as f32, with vectors) or `portable` (slow).
pub fn method() -> &'static str {
    match Bf16::best() {
        Bf16::Portable => "portable",
        #[cfg(target_arch = "x86_64")]
        Bf16::Avx2 | Bf16::Avx512 => "widened",
        #[cfg(target_arch = "x86_64")]
        Bf16::Avx512Pairs => "pairs",
    }
}

impl Bf16 {
    /// Those of this machine.
    #[cfg_attr(not(test), allow(dead_code))]
    pub fn available() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
        let mut list = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            let isas: Vec<&str> = Isa::available().iter().map(|isa| isa.name()).collect();
            if isas.contains(&"avx2") {
                list.push(Self::Avx2);
            }
            if isas.contains(&"avx512") && is_x86_feature_detected!("avx512bw") {
                list.push(Self::Avx512);
                if is_x86_feature_detected!("avx512bf16") {
                    list.push(Self::Avx512Pairs);
                }
            }
        }
        list
    }

    /// The fastest that [`Isa::best`] permits: some processors run `vdpbf16ps` at a quarter of the rate of an FMA, where widening wins.
    pub fn best() -> Self {
        static BEST: OnceLock<Bf16> = OnceLock::new();
        *BEST.get_or_init(|| {
            #[cfg(target_arch = "x86_64")]
            let list = Self::available();
            match Isa::best().name() {
                #[cfg(target_arch = "x86_64")]
                "avx512" if list.contains(&Self::Avx512Pairs) && pairs_pay() => Self::Avx512Pairs,
                #[cfg(target_arch = "x86_64")]
                "avx512" if list.contains(&Self::Avx512) => Self::Avx512,
                #[cfg(target_arch = "x86_64")]
                "avx512" | "avx2" => Self::Avx2,
                _ => Self::Portable,
            }
        })
    }
}

impl Bf16 {
    /// A number as words hold it: where it is widened, in the upper half.
    pub fn bits(self, number: u16) -> u32 {
        u32::from(number) << (8 * (self.word_bytes() - self.bytes()))
    }
}

impl Family for Bf16 {
    type Finish = Finish;

    fn bytes(self) -> usize {
        2
    }

    fn word_bytes(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Pairs => 2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 | Self::Avx512 => 4,
            Self::Portable => 4,
        }
    }

    fn lanes(self) -> usize {
        match self {
            Self::Portable => Portable::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Avx512Pairs => Avx512::LANES,
        }
    }

    #[inline]
    fn run<K: DotKernel<Finish>>(self, kernel: K) -> K::Output {
        match self {
            Self::Portable => Portable.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2(()).vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512(()).vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Pairs => Avx512Pairs(Avx512(())).vectorize(kernel),
        }
    }
}

/// Whether `vdpbf16ps` does more products a second than FMA: both are timed, some microseconds each. Where it runs at full rate it does
/// twice as many, elsewhere half as many, so that noise does not turn the answer.
#[cfg(target_arch = "x86_64")]
fn pairs_pay() -> bool {
    struct Chains;
    impl DotKernel<Finish> for Chains {
        type Output = std::time::Duration;
        #[inline(always)]
        fn run<D: Dot<Finish = Finish>>(self, d: D) -> Self::Output {
            let words = [0x3f80_3f80u32; 16];
            // SAFETY: sixteen words are there, and room for as many sums.
            let (a, b) = unsafe { (d.splat(words.as_ptr().cast()), d.load(words.as_ptr())) };
            let mut sums = [d.zero(); 12];
            let start = std::time::Instant::now();
            for _ in 0..2000 {
                for sum in &mut sums {
                    *sum = d.dot(*sum, a, b);
                }
            }
            let time = start.elapsed();
            let mut out = [0u32; 16];
            for sum in sums {
                // SAFETY: as above.
                unsafe { d.store(out.as_mut_ptr(), sum) };
                std::hint::black_box(&out);
            }
            time
        }
    }
    let fastest = |isa: Bf16| (0..7).map(|_| isa.run(Chains)).min();
    let (pairs, single) = (fastest(Bf16::Avx512Pairs), fastest(Bf16::Avx512));
    // Two products each against one.
    pairs.zip(single).is_some_and(|(pairs, single)| pairs * 5 < single * 7)
}

/// Plain arithmetic on widened values.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

// SAFETY: needs no instructions beyond the target's baseline.
unsafe impl Dot for Portable {
    type Acc = [f32; 4];
    type Words = [f32; 4];
    type Word = [f32; 4];
    type Finish = Finish;
    const LANES: usize = 4;
    const EACH: usize = 1;

    #[inline]
    fn vectorize<K: DotKernel<Finish>>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
    #[inline(always)]
    fn zero(self) -> Self::Acc {
        [0.0; 4]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const u32) -> Self::Words {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[f32; 4]>().read() }
    }
    #[inline(always)]
    unsafe fn splat(self, p: *const u8) -> Self::Word {
        // SAFETY: the caller's promise.
        [unsafe { p.cast::<f32>().read_unaligned() }; 4]
    }
    #[inline(always)]
    unsafe fn words(self, p: *const u32) -> Self::Word {
        // SAFETY: the caller's promise.
        unsafe { self.load(p) }
    }
    #[inline(always)]
    fn dot(self, sums: Self::Acc, a: Self::Word, b: Self::Words) -> Self::Acc {
        std::array::from_fn(|i| sums[i] + a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u32, sums: Self::Acc) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[f32; 4]>().write(sums) }
    }
    #[inline(always)]
    unsafe fn finish(self, sums: *const u32, f: &Finish, row: usize, column: usize, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { finish_plainly(sums, f, row, column, n) }
    }
}

/// The definition of [`Dot::finish`] for bf16.
///
/// # Safety
/// As [`Dot::finish`], for `n` sums.
#[inline(always)]
unsafe fn finish_plainly(sums: *const u32, f: &Finish, row: usize, column: usize, n: usize) {
    for i in 0..n {
        let at = row * f.stride + column + i;
        // SAFETY: the caller promises `n` sums, and results and operands for this row and these columns.
        unsafe {
            let mut v = sums.cast::<f32>().add(i).read();
            if !f.bias.is_null() {
                v += *f.bias.add(column + i);
            }
            if !f.residual.is_null() {
                v += if f.wide { *f.residual.cast::<f32>().add(at) } else { widen(*f.residual.cast::<u16>().add(at)) };
            }
            v = if f.low > v { f.low } else { v };
            v = if f.high < v { f.high } else { v };
            if f.wide { *f.out.cast::<f32>().add(at) = v } else { *f.out.cast::<u16>().add(at) = round(v) }
        }
    }
}

/// AVX2 and FMA on widened values: eight lanes.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

// SAFETY: made by `Bf16::run` only, from a value that was detected. The same token is the reason why each intrinsic below may run; loads and
// stores touch what the caller promises.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::undocumented_unsafe_blocks)]
unsafe impl Dot for Avx2 {
    type Acc = __m256;
    type Words = __m256;
    type Word = __m256;
    type Finish = Finish;
    const LANES: usize = 8;
    const EACH: usize = 1;

    #[inline]
    fn vectorize<K: DotKernel<Finish>>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        #[inline(never)]
        fn with_features<K: DotKernel<Finish>>(d: Avx2, kernel: K) -> K::Output {
            kernel.run(d)
        }
        unsafe { with_features(self, kernel) }
    }
    #[inline(always)]
    fn zero(self) -> Self::Acc {
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const u32) -> Self::Words {
        unsafe { _mm256_loadu_ps(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat(self, p: *const u8) -> Self::Word {
        unsafe { _mm256_set1_ps(p.cast::<f32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn words(self, p: *const u32) -> Self::Word {
        unsafe { self.load(p) }
    }
    #[inline(always)]
    fn dot(self, sums: Self::Acc, a: Self::Word, b: Self::Words) -> Self::Acc {
        unsafe { _mm256_fmadd_ps(a, b, sums) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u32, sums: Self::Acc) {
        unsafe { _mm256_storeu_ps(p.cast(), sums) }
    }
    #[inline(always)]
    unsafe fn finish(self, sums: *const u32, f: &Finish, row: usize, column: usize, n: usize) {
        // The plain loop, for whole vectors of known length, compiles into vectors.
        unsafe { if n == 8 { finish_plainly(sums, f, row, column, 8) } else { finish_plainly(sums, f, row, column, n) } }
    }
}

/// AVX-512 on widened values: sixteen lanes.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

#[cfg(target_arch = "x86_64")]
impl Avx512 {
    /// # Safety
    /// As [`Dot::finish`]; `rounded` gives the bf16 of sixteen sums.
    #[inline(always)]
    #[allow(clippy::undocumented_unsafe_blocks)]
    unsafe fn finish_by(self, sums: *const u32, f: &Finish, row: usize, column: usize, n: usize, rounded: impl Fn(__m512) -> __m256i) {
        let mask = ((1u32 << n.min(16)) - 1) as __mmask16;
        let at = row * f.stride + column;
        // SAFETY: the token; masked loads and stores touch `n` values from the row and column that the caller promises.
        unsafe {
            let mut v = _mm512_loadu_ps(sums.cast());
            if !f.bias.is_null() {
                v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, f.bias.add(column)));
            }
            if !f.residual.is_null() {
                let residual = if f.wide {
                    _mm512_maskz_loadu_ps(mask, f.residual.cast::<f32>().add(at))
                } else {
                    let halves = _mm256_maskz_loadu_epi16(mask, f.residual.cast::<i16>().add(at));
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
                };
                v = _mm512_add_ps(v, residual);
            }
            v = _mm512_min_ps(_mm512_set1_ps(f.high), _mm512_max_ps(_mm512_set1_ps(f.low), v));
            if f.wide {
                _mm512_mask_storeu_ps(f.out.cast::<f32>().add(at), mask, v);
            } else {
                _mm256_mask_storeu_epi16(f.out.cast::<i16>().add(at), mask, rounded(v));
            }
        }
    }

    /// The nearest bf16 of each value, ties to even; NaN becomes a quiet NaN.
    #[inline(always)]
    pub fn rounded(self, v: __m512) -> __m256i {
        // SAFETY: the token.
        unsafe {
            let bits = _mm512_castps_si512(v);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let up = _mm512_srli_epi32::<16>(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(up, nan, _mm512_set1_epi32(0x7fc0)))
        }
    }
}

// SAFETY: as for `Avx2`.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::undocumented_unsafe_blocks)]
unsafe impl Dot for Avx512 {
    type Acc = __m512;
    type Words = __m512;
    type Word = __m512;
    type Finish = Finish;
    const LANES: usize = 16;
    const EACH: usize = 1;

    #[inline]
    fn vectorize<K: DotKernel<Finish>>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512bw,avx512vl,avx512dq,avx512f,avx2,fma")]
        #[inline(never)]
        fn with_features<K: DotKernel<Finish>>(d: Avx512, kernel: K) -> K::Output {
            kernel.run(d)
        }
        unsafe { with_features(self, kernel) }
    }
    #[inline(always)]
    fn zero(self) -> Self::Acc {
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const u32) -> Self::Words {
        unsafe { _mm512_loadu_ps(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat(self, p: *const u8) -> Self::Word {
        unsafe { _mm512_set1_ps(p.cast::<f32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn words(self, p: *const u32) -> Self::Word {
        unsafe { self.load(p) }
    }
    #[inline(always)]
    unsafe fn join(self, words: *mut u32, numbers: &[*const u8; 4]) -> bool {
        unsafe {
            let numbers = _mm512_cvtepu16_epi32(_mm256_loadu_si256(numbers[0].cast()));
            _mm512_storeu_si512(words.cast(), _mm512_slli_epi32::<16>(numbers));
        }
        true
    }
    #[inline(always)]
    fn dot(self, sums: Self::Acc, a: Self::Word, b: Self::Words) -> Self::Acc {
        unsafe { _mm512_fmadd_ps(a, b, sums) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u32, sums: Self::Acc) {
        unsafe { _mm512_storeu_ps(p.cast(), sums) }
    }
    #[inline(always)]
    unsafe fn finish(self, sums: *const u32, f: &Finish, row: usize, column: usize, n: usize) {
        unsafe { self.finish_by(sums, f, row, column, n, |v| self.rounded(v)) }
    }
}

/// AVX-512 with `vdpbf16ps`: sixteen lanes of pairs.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx512Pairs(Avx512);

// SAFETY: as for `Avx2`.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::undocumented_unsafe_blocks)]
unsafe impl Dot for Avx512Pairs {
    type Acc = __m512;
    type Words = __m512i;
    type Word = __m512i;
    type Finish = Finish;
    const LANES: usize = 16;
    const EACH: usize = 2;

    #[inline]
    fn vectorize<K: DotKernel<Finish>>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512bf16,avx512bw,avx512vl,avx512dq,avx512f,avx2,fma")]
        #[inline(never)]
        fn with_features<K: DotKernel<Finish>>(d: Avx512Pairs, kernel: K) -> K::Output {
            kernel.run(d)
        }
        unsafe { with_features(self, kernel) }
    }
    #[inline(always)]
    fn zero(self) -> Self::Acc {
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const u32) -> Self::Words {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat(self, p: *const u8) -> Self::Word {
        unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn words(self, p: *const u32) -> Self::Word {
        unsafe { self.load(p) }
    }
    #[inline(always)]
    unsafe fn join(self, words: *mut u32, numbers: &[*const u8; 4]) -> bool {
        unsafe {
            let [first, second] = [numbers[0], numbers[1]].map(
                #[inline(always)]
                |p| _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast())),
            );
            _mm512_storeu_si512(words.cast(), _mm512_or_si512(first, _mm512_slli_epi32::<16>(second)));
        }
        true
    }
    #[inline(always)]
    fn dot(self, sums: Self::Acc, a: Self::Word, b: Self::Words) -> Self::Acc {
        // 512 bits are 512 bits.
        unsafe { _mm512_dpbf16_ps(sums, std::mem::transmute::<__m512i, __m512bh>(a), std::mem::transmute::<__m512i, __m512bh>(b)) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u32, sums: Self::Acc) {
        unsafe { _mm512_storeu_ps(p.cast(), sums) }
    }
    #[inline(always)]
    unsafe fn finish(self, sums: *const u32, f: &Finish, row: usize, column: usize, n: usize) {
        let rounded = |v: __m512| unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v)) };
        unsafe { self.0.finish_by(sums, f, row, column, n, rounded) }
    }
}

/// Plain loops, compiled for the instruction set.
pub(crate) trait Loops {
    /// Must be `#[inline(always)]`.
    fn run(self);
}

struct Plain<L>(L);

impl<L: Loops> DotKernel<Finish> for Plain<L> {
    type Output = ();

    #[inline(always)]
    fn run<D: Dot<Finish = Finish>>(self, _: D) {
        self.0.run();
    }
}

/// Runs `loops` compiled for `isa`.
#[inline]
pub(crate) fn looped(isa: Bf16, loops: impl Loops) {
    isa.run(Plain(loops));
}
