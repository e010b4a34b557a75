//! The number types that weights and caches are stored in.

use half::{bf16, f16};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

/// A number type that weights and caches may be stored in; arithmetic is done in `f32`.
pub trait Storage: Copy + core::fmt::Debug + Send + Sync + sealed::Sealed + 'static {
    /// Widens to `f32`, exactly.
    #[must_use]
    fn to_f32(self) -> f32;

    /// Rounds to nearest, ties to even.
    #[must_use]
    fn from_f32(x: f32) -> Self;
}

impl Storage for f32 {
    fn to_f32(self) -> f32 {
        self
    }

    fn from_f32(x: f32) -> Self {
        x
    }
}

impl Storage for f16 {
    fn to_f32(self) -> f32 {
        Self::to_f32(self)
    }

    fn from_f32(x: f32) -> Self {
        Self::from_f32(x)
    }
}

impl Storage for bf16 {
    fn to_f32(self) -> f32 {
        Self::to_f32(self)
    }

    fn from_f32(x: f32) -> Self {
        Self::from_f32(x)
    }
}
