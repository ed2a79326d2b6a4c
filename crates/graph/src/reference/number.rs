//! The numbers that the reference computes with.

/// `f32`, as everything else computes, or `f64`, for differences. Sums and functions are taken in `f64` either way, so that one result has one
/// rounding.
pub(super) trait Number: Copy {
    fn wide(self) -> f64;
    fn narrow(wide: f64) -> Self;
}

impl Number for f32 {
    #[inline]
    fn wide(self) -> f64 {
        f64::from(self)
    }

    #[inline]
    fn narrow(wide: f64) -> Self {
        wide as f32
    }
}

impl Number for f64 {
    #[inline]
    fn wide(self) -> f64 {
        self
    }

    #[inline]
    fn narrow(wide: f64) -> Self {
        wide
    }
}
