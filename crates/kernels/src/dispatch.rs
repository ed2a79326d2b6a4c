//! Instruction sets: which one runs, and the vector operations of each.
//!
//! A [`Simd`] token can be obtained only where the processor supports its instructions ([`Isa`] checks that), so an algorithm written
//! once, generic over the token, may use its operations. [`Isa::run`] is the one place where a token turns into compiled code.

use std::sync::OnceLock;

use crate::bf16::{round, widen};

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// An instruction set that this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The instruction sets of this machine, slowest first.
    pub fn available() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
        let mut list = vec![Self(Kind::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                list.push(Self(Kind::Avx2));
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512dq") {
                    list.push(Self(Kind::Avx512));
                }
            }
        }
        list
    }

    /// The fastest one, or the one that `FIELDMARK_ISA` names where the machine has it.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            let list = Self::available();
            let forced = std::env::var("FIELDMARK_ISA").ok();
            let forced = forced.and_then(|name| list.iter().copied().find(|isa| isa.name() == name));
            forced.or(list.last().copied()).unwrap_or(Self(Kind::Portable))
        })
    }

    /// `avx512`, `avx2` or `portable`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        }
    }

    /// Columns of a full panel of packed B.
    pub(crate) fn panel(self) -> (usize, usize) {
        match self.0 {
            Kind::Portable => (Portable::LANES, Portable::PANEL),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => (Avx2::LANES, Avx2::PANEL),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => (Avx512::LANES, Avx512::PANEL),
        }
    }

    /// Runs an algorithm compiled for this instruction set.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Kind::Portable => Portable.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => Avx2(()).vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => Avx512(()).vectorize(kernel),
        }
    }
}

/// An algorithm generic over the instruction set.
pub(crate) trait Kernel {
    type Output;
    /// Must be `#[inline(always)]`, so that it compiles into the caller's instruction set.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Vector operations of an instruction set.
///
/// # Safety
/// A value of the type proves that the processor supports the instructions: values are made in this file only, from an [`Isa`].
pub(crate) unsafe trait Simd: Copy + Send + Sync + 'static {
    /// `LANES` values.
    type V: Copy;
    const LANES: usize;
    /// Vectors in a row of a full panel of packed B.
    const PANEL: usize;

    /// Runs `kernel` in a function of its own, compiled for this instruction set.
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output;
    fn splat(self, x: f32) -> Self::V;
    /// # Safety
    /// `LANES` values are readable at `p`.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// # Safety
    /// `LANES` values are writable at `p`.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// The first `n <= LANES` values, zeros behind.
    /// # Safety
    /// `n` values are readable at `p`.
    unsafe fn load_first(self, p: *const f32, n: usize) -> Self::V;
    /// # Safety
    /// `n <= LANES` values are writable at `p`.
    unsafe fn store_first(self, p: *mut f32, n: usize, v: Self::V);
    /// Asks for the cache line at `p`, which need not be readable, in the second cache level.
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: part of SSE, which every x86-64 has; a prefetch never faults.
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(p.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = p;
    }
    /// `LANES` bf16, widened.
    /// # Safety
    /// `LANES` halves are readable at `p`.
    unsafe fn load_half(self, p: *const u16) -> Self::V;
    /// Rounded to bf16: to nearest, ties to even; NaN stays NaN.
    /// # Safety
    /// `LANES` halves are writable at `p`.
    unsafe fn store_half(self, p: *mut u16, v: Self::V);
    /// The first `n <= LANES` bf16, zeros behind.
    /// # Safety
    /// `n` halves are readable at `p`.
    #[inline(always)]
    unsafe fn load_half_first(self, p: *const u16, n: usize) -> Self::V {
        // SAFETY: the caller's promise; sixteen halves are a vector or more.
        unsafe { if n >= Self::LANES { self.load_half(p) } else { self.load_half(some_halves(p, n).as_ptr()) } }
    }
    /// # Safety
    /// `n <= LANES` halves are writable at `p`.
    #[inline(always)]
    unsafe fn store_half_first(self, p: *mut u16, n: usize, v: Self::V) {
        // SAFETY: the caller's promise; sixteen halves are a vector or more.
        unsafe {
            if n >= Self::LANES {
                return self.store_half(p, v);
            }
            let mut halves = [0; 16];
            self.store_half(halves.as_mut_ptr(), v);
            put_halves(p, n, &halves);
        }
    }
    /// `a * b + c`.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `x` where `low < v < high`, else 0.
    fn inside(self, v: Self::V, low: Self::V, high: Self::V, x: Self::V) -> Self::V;
    /// The larger; `b` where either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` where either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
}

/// Some halves, zeros behind. Rarely wanted: kept out of the loops that call it.
///
/// # Safety
/// `n` halves, sixteen at most, are readable at `p`.
#[inline(never)]
unsafe fn some_halves(p: *const u16, n: usize) -> [u16; 16] {
    // SAFETY: the caller's promise.
    std::array::from_fn(|i| if i < n { unsafe { *p.add(i) } } else { 0 })
}

/// # Safety
/// `n` halves, sixteen at most, are writable at `p`.
#[inline(never)]
unsafe fn put_halves(p: *mut u16, n: usize, halves: &[u16; 16]) {
    for (i, &half) in halves.iter().enumerate().take(n) {
        // SAFETY: the caller's promise.
        unsafe { *p.add(i) = half }
    }
}

/// Any processor: four lanes that compilers map to the baseline vectors.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

// SAFETY: needs no instructions beyond the target's baseline.
unsafe impl Simd for Portable {
    type V = [f32; 4];
    const LANES: usize = 4;
    const PANEL: usize = 2;

    #[inline]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::V {
        // SAFETY: the caller's promise; an array of f32 has the alignment of f32.
        unsafe { p.cast::<[f32; 4]>().read() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::V) {
        // SAFETY: the caller's promise; an array of f32 has the alignment of f32.
        unsafe { p.cast::<[f32; 4]>().write(v) }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> Self::V {
        // SAFETY: the caller promises `n` readable values.
        std::array::from_fn(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: Self::V) {
        for (i, x) in v.iter().enumerate().take(n) {
            // SAFETY: the caller promises `n` writable values.
            unsafe { *p.add(i) = *x }
        }
    }
    #[inline(always)]
    unsafe fn load_half(self, p: *const u16) -> Self::V {
        // SAFETY: the caller's promise; an array of u16 has the alignment of u16.
        unsafe { p.cast::<[u16; 4]>().read() }.map(widen)
    }
    #[inline(always)]
    unsafe fn store_half(self, p: *mut u16, v: Self::V) {
        // SAFETY: the caller's promise; an array of u16 has the alignment of u16.
        unsafe { p.cast::<[u16; 4]>().write(v.map(round)) }
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn inside(self, v: Self::V, low: Self::V, high: Self::V, x: Self::V) -> Self::V {
        std::array::from_fn(|i| if low[i] < v[i] && v[i] < high[i] { x[i] } else { 0.0 })
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
}

/// AVX2 and FMA: eight lanes.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn mask8(n: usize) -> __m256i {
    const TABLE: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: 8 - min(n, 8) lies in 0..=8 and eight values follow it in the table; callers hold an Avx2 token.
    unsafe { _mm256_loadu_si256(TABLE.as_ptr().add(8 - n.min(8)).cast()) }
}

// SAFETY: made by `Isa::run` only, from an `Isa` whose features were detected. The same token is the reason why each intrinsic below may
// run; loads and stores touch what the caller promises.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::undocumented_unsafe_blocks)]
unsafe impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const PANEL: usize = 2;

    #[inline]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        #[inline(never)]
        fn with_features<K: Kernel>(s: Avx2, kernel: K) -> K::Output {
            kernel.run(s)
        }
        unsafe { with_features(self, kernel) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::V {
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::V) {
        unsafe { _mm256_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> Self::V {
        unsafe { if n >= 8 { _mm256_loadu_ps(p) } else { _mm256_maskload_ps(p, mask8(n)) } }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: Self::V) {
        // A masked store takes some processors (Zen 2 and 3) a dozen cycles and more.
        unsafe { if n >= 8 { _mm256_storeu_ps(p, v) } else { _mm256_maskstore_ps(p, mask8(n), v) } }
    }
    #[inline(always)]
    unsafe fn load_half(self, p: *const u16) -> Self::V {
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())))) }
    }
    #[inline(always)]
    unsafe fn store_half(self, p: *mut u16, v: Self::V) {
        unsafe {
            let bits = _mm256_castps_si256(v);
            // Half a unit, less a bit where the last bit that stays is even.
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let quiet = _mm256_castsi256_ps(_mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000)));
            let kept = _mm256_blendv_ps(_mm256_castsi256_ps(rounded), quiet, _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            let upper = _mm256_srli_epi32::<16>(_mm256_castps_si256(kept));
            let packed = _mm_packus_epi32(_mm256_castsi256_si128(upper), _mm256_extracti128_si256::<1>(upper));
            _mm_storeu_si128(p.cast(), packed);
        }
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn inside(self, v: Self::V, low: Self::V, high: Self::V, x: Self::V) -> Self::V {
        unsafe {
            let keep = _mm256_and_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(low, v), _mm256_cmp_ps::<_CMP_LT_OQ>(v, high));
            _mm256_and_ps(keep, x)
        }
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_min_ps(a, b) }
    }
}

/// AVX-512 F, VL and DQ: sixteen lanes.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn mask16(n: usize) -> __mmask16 {
    ((1u32 << n.min(16)) - 1) as __mmask16
}

// SAFETY: made by `Isa::run` only, from an `Isa` whose features were detected. The same token is the reason why each intrinsic below may
// run; loads and stores touch what the caller promises.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::undocumented_unsafe_blocks)]
unsafe impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const PANEL: usize = 3;

    #[inline]
    fn vectorize<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx2,fma")]
        #[inline(never)]
        fn with_features<K: Kernel>(s: Avx512, kernel: K) -> K::Output {
            kernel.run(s)
        }
        unsafe { with_features(self, kernel) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::V {
        unsafe { _mm512_loadu_ps(p) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::V) {
        unsafe { _mm512_storeu_ps(p, v) }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> Self::V {
        unsafe { _mm512_maskz_loadu_ps(mask16(n), p) }
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: Self::V) {
        unsafe { _mm512_mask_storeu_ps(p, mask16(n), v) }
    }
    #[inline(always)]
    unsafe fn load_half(self, p: *const u16) -> Self::V {
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast())))) }
    }
    #[inline(always)]
    unsafe fn store_half(self, p: *mut u16, v: Self::V) {
        unsafe {
            let bits = _mm512_castps_si512(v);
            // Half a unit, less a bit where the last bit that stays is even.
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let kept = _mm512_mask_or_epi32(rounded, _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v), bits, _mm512_set1_epi32(0x40_0000));
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(kept)));
        }
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn inside(self, v: Self::V, low: Self::V, high: Self::V, x: Self::V) -> Self::V {
        unsafe { _mm512_maskz_mov_ps(_mm512_mask_cmp_ps_mask::<_CMP_LT_OQ>(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(low, v), v, high), x) }
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm512_min_ps(a, b) }
    }
}
