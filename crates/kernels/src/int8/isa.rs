//! Instruction sets of int8.

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use crate::dispatch::Isa;
use crate::dot::{Dot, DotKernel, Family};
use crate::int8::product::Finish;
use crate::int8::requantize;

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

impl Family for Int8 {
    type Finish = Finish;
    const BYTES: usize = 1;

    fn word_bytes(self) -> usize {
        1
    }

    fn lanes(self) -> usize {
        match self {
            Self::Portable => Portable::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 | Self::AvxVnni => Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512::LANES,
            #[cfg(target_arch = "aarch64")]
            Self::Neon => Neon::LANES,
        }
    }

    #[inline]
    fn run<K: DotKernel<Finish>>(self, kernel: K) -> K::Output {
        match self {
            Self::Portable => Portable.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2(()).vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => AvxVnni(()).vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512(()).vectorize(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => Neon(()).vectorize(kernel),
        }
    }
}

/// The definition of [`Dot::finish`] for bytes.
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
            if f.wide {
                if !f.residual.is_null() {
                    v += *f.residual.cast::<f32>().add(at);
                }
                v = if f.low > v { f.low } else { v };
                v = if f.high < v { f.high } else { v };
                *f.out.cast::<f32>().add(at) = v;
            } else {
                if !f.residual.is_null() {
                    v += (i32::from(*f.residual.add(at)) - f.residual_zero) as f32 * f.residual_scale;
                }
                *f.out.add(at) = requantize(v, f.low, f.high, f.zero);
            }
        }
    }
}

/// Plain integers.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

// SAFETY: needs no instructions beyond the target's baseline.
unsafe impl Dot for Portable {
    type Acc = [i32; 4];
    type Words = [[i8; 4]; 4];
    type Word = [[u8; 4]; 4];
    type Finish = Finish;
    const LANES: usize = 4;

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

#[cfg(target_arch = "x86_64")]
macro_rules! eight_lanes {
    ($name:ident, $features:literal, $dot:expr) => {
        /// Eight lanes.
        #[derive(Clone, Copy)]
        pub(crate) struct $name(());

        // SAFETY: made by `Int8::run` only, from a value that was detected. The same token is the reason why each intrinsic below may run;
        // loads and stores touch what the caller promises.
        #[allow(clippy::undocumented_unsafe_blocks)]
        unsafe impl Dot for $name {
            type Acc = __m256i;
            type Words = __m256i;
            type Word = __m256i;
            type Finish = Finish;
            const LANES: usize = 8;

            #[inline]
            fn vectorize<K: DotKernel<Finish>>(self, kernel: K) -> K::Output {
                #[target_feature(enable = $features)]
                #[inline(never)]
                fn with_features<K: DotKernel<Finish>>(d: $name, kernel: K) -> K::Output {
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
                let dot: fn(__m256i, __m256i, __m256i) -> __m256i = $dot;
                dot(sums, a, b)
            }
            #[inline(always)]
            unsafe fn store(self, p: *mut u32, sums: Self::Acc) {
                unsafe { _mm256_storeu_si256(p.cast(), sums) }
            }
            #[inline(always)]
            unsafe fn finish(self, sums: *const u32, f: &Finish, row: usize, column: usize, n: usize) {
                // The plain loop, for whole vectors of known length, compiles into vectors.
                unsafe { if n == 8 { finish_plainly(sums, f, row, column, 8) } else { finish_plainly(sums, f, row, column, n) } }
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
eight_lanes!(Avx2, "avx2,fma", |sums, a, b| dot_widened(sums, a, b));
#[cfg(target_arch = "x86_64")]
eight_lanes!(AvxVnni, "avxvnni,avx2,fma", |sums, a, b| dot_vnni(sums, a, b));

/// AVX-512 VNNI: sixteen lanes.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

// SAFETY: made by `Int8::run` only, from a value that was detected. The same token is the reason why each intrinsic below may run; loads and
// stores touch what the caller promises.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::undocumented_unsafe_blocks)]
unsafe impl Dot for Avx512 {
    type Acc = __m512i;
    type Words = __m512i;
    type Word = __m512i;
    type Finish = Finish;
    const LANES: usize = 16;

    #[inline]
    fn vectorize<K: DotKernel<Finish>>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512vnni,avx512bw,avx512vl,avx512dq,avx512f,avx2,fma")]
        #[inline(never)]
        fn with_features<K: DotKernel<Finish>>(d: Avx512, kernel: K) -> K::Output {
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
    fn dot(self, sums: Self::Acc, a: Self::Word, b: Self::Words) -> Self::Acc {
        unsafe { _mm512_dpbusd_epi32(sums, a, b) }
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
            if f.wide {
                if !f.residual.is_null() {
                    v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(mask, f.residual.cast::<f32>().add(at)));
                }
                v = _mm512_min_ps(high, _mm512_max_ps(low, v));
                return _mm512_mask_storeu_ps(f.out.cast::<f32>().add(at), mask, v);
            }
            if !f.residual.is_null() {
                let bytes = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, f.residual.add(at).cast()));
                let values = _mm512_cvtepi32_ps(_mm512_sub_epi32(bytes, _mm512_set1_epi32(f.residual_zero)));
                v = _mm512_add_ps(v, _mm512_mul_ps(values, _mm512_set1_ps(f.residual_scale)));
            }
            v = _mm512_min_ps(high, _mm512_max_ps(low, v));
            let q = _mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(f.zero));
            _mm_mask_storeu_epi8(f.out.add(at).cast(), mask, _mm512_cvtepi32_epi8(q));
        }
    }
}

/// NEON: four lanes. Products of a byte and a signed byte fit 16 bits.
#[cfg(target_arch = "aarch64")]
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

// SAFETY: NEON is part of every aarch64 processor that Rust's targets name; loads and stores touch what the caller promises.
#[cfg(target_arch = "aarch64")]
#[allow(clippy::undocumented_unsafe_blocks)]
unsafe impl Dot for Neon {
    type Acc = int32x4_t;
    type Words = int8x16_t;
    type Word = uint8x16_t;
    type Finish = Finish;
    const LANES: usize = 4;

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
