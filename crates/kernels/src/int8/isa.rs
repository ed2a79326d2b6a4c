//! Instruction sets of int8.

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use crate::dispatch::Isa;
use crate::dot::{Dot, DotKernel, Family};
use crate::int8::product::{Finish, Form};
use crate::int8::{Width, nearest, requantize};

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Which instructions do the products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Int8 {
    Portable,
    /// `vpmaddwd` on widened bytes: exact, where `vpmaddubsw` would saturate.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// `vpdpbusd` on 256 bits.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// `vpdpbusd` on 512 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Int8 {
    /// Those of this machine, slowest first.
    pub fn available() -> Vec<Self> {
        #[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), allow(unused_mut))]
        let mut list = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            let isas: Vec<&str> = Isa::available().iter().map(|isa| isa.name()).collect();
            if isas.contains(&"avx2") {
                list.push(Self::Avx2);
                if is_x86_feature_detected!("avxvnni") {
                    list.push(Self::AvxVnni);
                }
            }
            if isas.contains(&"avx512") && is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw") {
                list.push(Self::Avx512);
            }
        }
        #[cfg(target_arch = "aarch64")]
        list.push(Self::Neon);
        list
    }

    /// The fastest that [`Isa::best`] permits.
    pub fn best() -> Self {
        static BEST: OnceLock<Int8> = OnceLock::new();
        *BEST.get_or_init(|| {
            let permitted = |isa: &Self| match isa {
                Self::Portable => true,
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 | Self::AvxVnni => matches!(Isa::best().name(), "avx2" | "avx512"),
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => Isa::best().name() == "avx512",
                #[cfg(target_arch = "aarch64")]
                Self::Neon => std::env::var("FIELDMARK_ISA").ok().as_deref() != Some("portable"),
            };
            Self::available().into_iter().rfind(permitted).unwrap_or(Self::Portable)
        })
    }
}

/// Integers of a product and its instruction set: words of four bytes, or of two 16-bit integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Integers {
    pub isa: Int8,
    pub width: Width,
}

impl Integers {
    pub fn best(width: Width) -> Self {
        Self { isa: Int8::best(), width }
    }
}

impl Family for Integers {
    type Finish = Finish;

    fn bytes(self) -> usize {
        match self.width {
            Width::Bytes => 1,
            Width::Halves => 2,
        }
    }

    fn word_bytes(self) -> usize {
        self.bytes()
    }

    fn lanes(self) -> usize {
        match self.isa {
            Int8::Portable => Portable::<false>::LANES,
            #[cfg(target_arch = "x86_64")]
            Int8::Avx2 | Int8::AvxVnni => Avx2::<false>::LANES,
            #[cfg(target_arch = "x86_64")]
            Int8::Avx512 => Avx512::<false>::LANES,
            #[cfg(target_arch = "aarch64")]
            Int8::Neon => Neon::<false>::LANES,
        }
    }

    #[inline]
    fn run<K: DotKernel<Finish>>(self, kernel: K) -> K::Output {
        match (self.isa, self.width) {
            (Int8::Portable, Width::Bytes) => Portable::<false>.vectorize(kernel),
            (Int8::Portable, Width::Halves) => Portable::<true>.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            (Int8::Avx2, Width::Bytes) => Avx2::<false>(()).vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            (Int8::Avx2, Width::Halves) => Avx2::<true>(()).vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            (Int8::AvxVnni, Width::Bytes) => AvxVnni::<false>(()).vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            (Int8::AvxVnni, Width::Halves) => AvxVnni::<true>(()).vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            (Int8::Avx512, Width::Bytes) => Avx512::<false>(()).vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            (Int8::Avx512, Width::Halves) => Avx512::<true>(()).vectorize(kernel),
            #[cfg(target_arch = "aarch64")]
            (Int8::Neon, Width::Bytes) => Neon::<false>(()).vectorize(kernel),
            #[cfg(target_arch = "aarch64")]
            (Int8::Neon, Width::Halves) => Neon::<true>(()).vectorize(kernel),
        }
    }
}

/// [`Integers`] of a dense product. AVX2 multiplies pairs of 16-bit integers at once and has nothing of the kind for bytes (`vpmaddubsw`
/// saturates), so that bytes are widened there, once for all that read them, rather than in the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Products(pub Integers);

impl Products {
    /// Whether bytes become 16-bit integers on their way.
    pub fn widens(self) -> bool {
        match self.0.isa {
            #[cfg(target_arch = "x86_64")]
            Int8::Avx2 => self.0.width == Width::Bytes,
            _ => false,
        }
    }
}

impl Family for Products {
    type Finish = Finish;

    fn bytes(self) -> usize {
        self.0.bytes()
    }

    fn word_bytes(self) -> usize {
        if self.widens() { 2 } else { self.0.word_bytes() }
    }

    fn lanes(self) -> usize {
        self.0.lanes()
    }

    #[inline]
    fn run<K: DotKernel<Finish>>(self, kernel: K) -> K::Output {
        if self.widens() { Integers { width: Width::Halves, ..self.0 }.run(kernel) } else { self.0.run(kernel) }
    }
}

/// The definition of [`Dot::finish`] for bytes, 16-bit integers and f32.
///
/// # Safety
/// As [`Dot::finish`], for `n` sums.
#[inline(always)]
unsafe fn finish_plainly(sums: *const u32, f: &Finish, row: usize, column: usize, n: usize) {
    for i in 0..n {
        let at = row * f.stride + column + i;
        // SAFETY: the caller promises `n` sums, and results and operands for this row and these columns.
        unsafe {
            let sum = sums.cast::<i32>().add(i).read() + *f.bias.add(column + i);
            let mut v = sum as f32 * *f.scale.add(column + i);
            match f.form {
                Form::F32 => {
                    if !f.residual.is_null() {
                        v += *f.residual.cast::<f32>().add(at);
                    }
                    v = if f.low > v { f.low } else { v };
                    v = if f.high < v { f.high } else { v };
                    *f.out.cast::<f32>().add(at) = v;
                }
                Form::Bytes => {
                    if !f.residual.is_null() {
                        v += (i32::from(*f.residual.add(at)) - f.residual_zero) as f32 * f.residual_scale;
                    }
                    *f.out.add(at) = requantize(v, f.low, f.high, f.zero);
                }
                Form::Halves => {
                    if !f.residual.is_null() {
                        v += f32::from(*f.residual.cast::<i16>().add(at)) * f.residual_scale;
                    }
                    *f.out.cast::<i16>().add(at) = nearest(v, f.low, f.high) as i16;
                }
            }
        }
    }
}

/// Plain integers: of 16 bits where `HALVES`, as in all of these.
#[derive(Clone, Copy)]
pub(crate) struct Portable<const HALVES: bool>;

// SAFETY: needs no instructions beyond the target's baseline.
unsafe impl<const HALVES: bool> Dot for Portable<HALVES> {
    type Acc = [i32; 4];
    type Words = [[i8; 4]; 4];
    type Word = [[u8; 4]; 4];
    type Finish = Finish;
    const LANES: usize = 4;
    const EACH: usize = if HALVES { 2 } else { 4 };

    #[inline]
    fn vectorize<K: DotKernel<Finish>>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
    #[inline(always)]
    fn zero(self) -> Self::Acc {
        [0; 4]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const u32) -> Self::Words {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[u32; 4]>().read() }.map(|word| word.to_le_bytes().map(|b| b as i8))
    }
    #[inline(always)]
    unsafe fn splat(self, p: *const u8) -> Self::Word {
        // SAFETY: the caller's promise.
        [unsafe { p.cast::<[u8; 4]>().read() }; 4]
    }
    #[inline(always)]
    unsafe fn words(self, p: *const u32) -> Self::Word {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[u32; 4]>().read() }.map(u32::to_le_bytes)
    }
    #[inline(always)]
    fn dot(self, sums: Self::Acc, a: Self::Word, b: Self::Words) -> Self::Acc {
        if HALVES {
            let half = |word: [u8; 4], e: usize| i32::from(i16::from_le_bytes([word[2 * e], word[2 * e + 1]]));
            let product = |i: usize, e| half(a[i], e) * half(b[i].map(|b| b as u8), e);
            return std::array::from_fn(|i| sums[i] + product(i, 0) + product(i, 1));
        }
        std::array::from_fn(|i| sums[i] + (0..4).map(|e| i32::from(a[i][e]) * i32::from(b[i][e])).sum::<i32>())
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u32, sums: Self::Acc) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[i32; 4]>().write(sums) }
    }
    #[inline(always)]
    unsafe fn finish(self, sums: *const u32, f: &Finish, row: usize, column: usize, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { finish_plainly(sums, f, row, column, n) }
    }
}

/// [`finish_plainly`] for eight sums: the same roundings in the same order.
///
/// # Safety
/// As [`Dot::finish`], for eight sums, on a processor with AVX2.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::undocumented_unsafe_blocks, reason = "one promise for all: the caller's")]
#[inline(always)]
unsafe fn finish_eight(sums: *const u32, f: &Finish, row: usize, column: usize) {
    let at = row * f.stride + column;
    unsafe {
        let sum = _mm256_add_epi32(_mm256_loadu_si256(sums.cast()), _mm256_loadu_si256(f.bias.add(column).cast()));
        let mut v = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), _mm256_loadu_ps(f.scale.add(column)));
        let (low, high) = (_mm256_set1_ps(f.low), _mm256_set1_ps(f.high));
        match f.form {
            Form::F32 => {
                if !f.residual.is_null() {
                    v = _mm256_add_ps(v, _mm256_loadu_ps(f.residual.cast::<f32>().add(at)));
                }
                v = _mm256_min_ps(high, _mm256_max_ps(low, v));
                _mm256_storeu_ps(f.out.cast::<f32>().add(at), v);
            }
            Form::Bytes => {
                if !f.residual.is_null() {
                    let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(f.residual.add(at).cast()));
                    let values = _mm256_cvtepi32_ps(_mm256_sub_epi32(bytes, _mm256_set1_epi32(f.residual_zero)));
                    v = _mm256_add_ps(v, _mm256_mul_ps(values, _mm256_set1_ps(f.residual_scale)));
                }
                v = _mm256_min_ps(high, _mm256_max_ps(low, v));
                let q = _mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(f.zero));
                let halves = _mm_packus_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256::<1>(q));
                _mm_storel_epi64(f.out.add(at).cast(), _mm_packus_epi16(halves, halves));
            }
            Form::Halves => {
                if !f.residual.is_null() {
                    let halves = _mm256_cvtepi16_epi32(_mm_loadu_si128(f.residual.cast::<i16>().add(at).cast()));
                    v = _mm256_add_ps(v, _mm256_mul_ps(_mm256_cvtepi32_ps(halves), _mm256_set1_ps(f.residual_scale)));
                }
                v = _mm256_min_ps(high, _mm256_max_ps(low, v));
                let q = _mm256_cvtps_epi32(v);
                let halves = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256::<1>(q));
                _mm_storeu_si128(f.out.cast::<i16>().add(at).cast(), halves);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
type Dot256 = fn(__m256i, __m256i, __m256i) -> __m256i;

#[cfg(target_arch = "x86_64")]
macro_rules! eight_lanes {
    ($name:ident, $features:literal, $dot:expr, $halves:expr) => {
        /// Eight lanes.
        #[derive(Clone, Copy)]
        pub(crate) struct $name<const HALVES: bool>(());

        // SAFETY: made by `Int8::run` only, from a value that was detected. The same token is the reason why each intrinsic below may run;
        // loads and stores touch what the caller promises.
        #[allow(clippy::undocumented_unsafe_blocks)]
        unsafe impl<const HALVES: bool> Dot for $name<HALVES> {
            type Acc = __m256i;
            type Words = __m256i;
            type Word = __m256i;
            type Finish = Finish;
            const LANES: usize = 8;
            const EACH: usize = if HALVES { 2 } else { 4 };

            #[inline]
            fn vectorize<K: DotKernel<Finish>>(self, kernel: K) -> K::Output {
                #[target_feature(enable = $features)]
                #[inline(never)]
                fn with_features<const HALVES: bool, K: DotKernel<Finish>>(d: $name<HALVES>, kernel: K) -> K::Output {
                    kernel.run(d)
                }
                unsafe { with_features(self, kernel) }
            }
            #[inline(always)]
            fn zero(self) -> Self::Acc {
                unsafe { _mm256_setzero_si256() }
            }
            #[inline(always)]
            unsafe fn load(self, p: *const u32) -> Self::Words {
                unsafe { _mm256_loadu_si256(p.cast()) }
            }
            #[inline(always)]
            unsafe fn splat(self, p: *const u8) -> Self::Word {
                unsafe { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
            }
            #[inline(always)]
            unsafe fn words(self, p: *const u32) -> Self::Word {
                unsafe { self.load(p) }
            }
            #[inline(always)]
            fn dot(self, sums: Self::Acc, a: Self::Word, b: Self::Words) -> Self::Acc {
                let (dot, halves): (Dot256, Dot256) = ($dot, $halves);
                if HALVES { halves(sums, a, b) } else { dot(sums, a, b) }
            }
            #[inline(always)]
            unsafe fn store(self, p: *mut u32, sums: Self::Acc) {
                unsafe { _mm256_storeu_si256(p.cast(), sums) }
            }
            #[inline(always)]
            unsafe fn finish(self, sums: *const u32, f: &Finish, row: usize, column: usize, n: usize) {
                unsafe { if n == 8 { finish_eight(sums, f, row, column) } else { finish_plainly(sums, f, row, column, n) } }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn dot_widened(sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: reached through an `Avx2` token only.
    unsafe {
        let (low, shifted) = (_mm256_set1_epi16(0xff), _mm256_slli_epi16::<8>(b));
        let even = _mm256_madd_epi16(_mm256_and_si256(a, low), _mm256_srai_epi16::<8>(shifted));
        let odd = _mm256_madd_epi16(_mm256_srli_epi16::<8>(a), _mm256_srai_epi16::<8>(b));
        _mm256_add_epi32(_mm256_add_epi32(sums, even), odd)
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn dot_vnni(sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: reached through an `AvxVnni` token only.
    unsafe { _mm256_dpbusd_avx_epi32(sums, a, b) }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn halves_added(sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: reached through an `Avx2` token only.
    unsafe { _mm256_add_epi32(sums, _mm256_madd_epi16(a, b)) }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn halves_vnni(sums: __m256i, a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: reached through an `AvxVnni` token only.
    unsafe { _mm256_dpwssd_avx_epi32(sums, a, b) }
}

#[cfg(target_arch = "x86_64")]
eight_lanes!(Avx2, "avx2,fma", |sums, a, b| dot_widened(sums, a, b), |sums, a, b| halves_added(sums, a, b));
#[cfg(target_arch = "x86_64")]
eight_lanes!(AvxVnni, "avxvnni,avx2,fma", |sums, a, b| dot_vnni(sums, a, b), |sums, a, b| halves_vnni(sums, a, b));

/// AVX-512 VNNI: sixteen lanes.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const HALVES: bool>(());

// SAFETY: made by `Int8::run` only, from a value that was detected. The same token is the reason why each intrinsic below may run; loads and
// stores touch what the caller promises.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::undocumented_unsafe_blocks)]
unsafe impl<const HALVES: bool> Dot for Avx512<HALVES> {
    type Acc = __m512i;
    type Words = __m512i;
    type Word = __m512i;
    type Finish = Finish;
    const LANES: usize = 16;
    const EACH: usize = if HALVES { 2 } else { 4 };

    #[inline]
    fn vectorize<K: DotKernel<Finish>>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512vnni,avx512bw,avx512vl,avx512dq,avx512f,avx2,fma")]
        #[inline(never)]
        fn with_features<const HALVES: bool, K: DotKernel<Finish>>(d: Avx512<HALVES>, kernel: K) -> K::Output {
            kernel.run(d)
        }
        unsafe { with_features(self, kernel) }
    }
    #[inline(always)]
    fn zero(self) -> Self::Acc {
        unsafe { _mm512_setzero_si512() }
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
            let joined = if HALVES {
                let [a, b] = [numbers[0], numbers[1]].map(
                    #[inline(always)]
                    |p| _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast())),
                );
                _mm512_or_si512(a, _mm512_slli_epi32::<16>(b))
            } else {
                let [a, b, c, d] = numbers.map(
                    #[inline(always)]
                    |p| _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())),
                );
                let (low, high) = (_mm512_or_si512(a, _mm512_slli_epi32::<8>(b)), _mm512_or_si512(c, _mm512_slli_epi32::<8>(d)));
                _mm512_or_si512(low, _mm512_slli_epi32::<16>(high))
            };
            _mm512_storeu_si512(words.cast(), joined);
        }
        true
    }
    #[inline(always)]
    fn dot(self, sums: Self::Acc, a: Self::Word, b: Self::Words) -> Self::Acc {
        unsafe { if HALVES { _mm512_dpwssd_epi32(sums, a, b) } else { _mm512_dpbusd_epi32(sums, a, b) } }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u32, sums: Self::Acc) {
        unsafe { _mm512_storeu_si512(p.cast(), sums) }
    }
    #[inline(always)]
    unsafe fn finish(self, sums: *const u32, f: &Finish, row: usize, column: usize, n: usize) {
        let mask = ((1u32 << n.min(16)) - 1) as __mmask16;
        let at = row * f.stride + column;
        unsafe {
            let sum = _mm512_add_epi32(_mm512_loadu_si512(sums.cast()), _mm512_maskz_loadu_epi32(mask, f.bias.add(column)));
            let mut v = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_maskz_loadu_ps(mask, f.scale.add(column)));
            let (low, high) = (_mm512_set1_ps(f.low), _mm512_set1_ps(f.high));
            match f.form {
                Form::F32 => {
                    if !f.residual.is_null() {
                        v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, f.residual.cast::<f32>().add(at)));
                    }
                    v = _mm512_min_ps(high, _mm512_max_ps(low, v));
                    _mm512_mask_storeu_ps(f.out.cast::<f32>().add(at), mask, v);
                }
                Form::Bytes => {
                    if !f.residual.is_null() {
                        let bytes = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, f.residual.add(at).cast()));
                        let values = _mm512_cvtepi32_ps(_mm512_sub_epi32(bytes, _mm512_set1_epi32(f.residual_zero)));
                        v = _mm512_add_ps(v, _mm512_mul_ps(values, _mm512_set1_ps(f.residual_scale)));
                    }
                    v = _mm512_min_ps(high, _mm512_max_ps(low, v));
                    let q = _mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(f.zero));
                    _mm_mask_storeu_epi8(f.out.add(at).cast(), mask, _mm512_cvtepi32_epi8(q));
                }
                Form::Halves => {
                    if !f.residual.is_null() {
                        let halves = _mm256_maskz_loadu_epi16(mask, f.residual.cast::<i16>().add(at));
                        let values = _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(halves));
                        v = _mm512_add_ps(v, _mm512_mul_ps(values, _mm512_set1_ps(f.residual_scale)));
                    }
                    v = _mm512_min_ps(high, _mm512_max_ps(low, v));
                    _mm256_mask_storeu_epi16(f.out.cast::<i16>().add(at), mask, _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(v)));
                }
            }
        }
    }
}

/// NEON: four lanes. Products of a byte and a signed byte fit 16 bits.
#[cfg(target_arch = "aarch64")]
#[derive(Clone, Copy)]
pub(crate) struct Neon<const HALVES: bool>(());

// SAFETY: NEON is part of every aarch64 processor that Rust's targets name; loads and stores touch what the caller promises.
#[cfg(target_arch = "aarch64")]
#[allow(clippy::undocumented_unsafe_blocks)]
unsafe impl<const HALVES: bool> Dot for Neon<HALVES> {
    type Acc = int32x4_t;
    type Words = int8x16_t;
    type Word = uint8x16_t;
    type Finish = Finish;
    const LANES: usize = 4;
    const EACH: usize = if HALVES { 2 } else { 4 };

    #[inline]
    fn vectorize<K: DotKernel<Finish>>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
    #[inline(always)]
    fn zero(self) -> Self::Acc {
        unsafe { vdupq_n_s32(0) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const u32) -> Self::Words {
        unsafe { vld1q_s8(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat(self, p: *const u8) -> Self::Word {
        unsafe { vreinterpretq_u8_u32(vdupq_n_u32(p.cast::<u32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn words(self, p: *const u32) -> Self::Word {
        unsafe { vld1q_u8(p.cast()) }
    }
    #[inline(always)]
    fn dot(self, sums: Self::Acc, a: Self::Word, b: Self::Words) -> Self::Acc {
        unsafe {
            if HALVES {
                let (a, b) = (vreinterpretq_s16_u8(a), vreinterpretq_s16_s8(b));
                let (low, high) = (vmull_s16(vget_low_s16(a), vget_low_s16(b)), vmull_high_s16(a, b));
                return vaddq_s32(sums, vpaddq_s32(low, high));
            }
            let low = vmulq_s16(vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(a))), vmovl_s8(vget_low_s8(b)));
            let high = vmulq_s16(vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(a))), vmovl_s8(vget_high_s8(b)));
            vaddq_s32(sums, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)))
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut u32, sums: Self::Acc) {
        unsafe { vst1q_s32(p.cast(), sums) }
    }
    #[inline(always)]
    unsafe fn finish(self, sums: *const u32, f: &Finish, row: usize, column: usize, n: usize) {
        unsafe { if n == 4 { finish_plainly(sums, f, row, column, 4) } else { finish_plainly(sums, f, row, column, n) } }
    }
}
