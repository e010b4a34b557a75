//! The element types that a tensor on the device may have.

use half::{bf16, f16};

/// An element type of [`GpuTensor`](crate::GpuTensor).
///
/// `f32`, `u32` and `i32` are what shaders compute with. `f16` and `bf16` are storage: two elements lie in one `u32` word, the one
/// with the even index in the lower half, and an odd last element has a zero beside it. Shaders bind them as `array<u32>` and unpack
/// with the snippets [`F16`](crate::snippet::F16) and [`BF16`](crate::snippet::BF16).
///
/// The trait is sealed: a type has to be known to the shaders too.
pub trait GpuElement:
    sealed::Sealed + bytemuck::Pod + std::fmt::Debug + PartialEq + Send + Sync
{
    /// Name of the type, as in Rust.
    const NAME: &'static str;
}

impl GpuElement for f32 {
    const NAME: &'static str = "f32";
}
impl GpuElement for u32 {
    const NAME: &'static str = "u32";
}
impl GpuElement for i32 {
    const NAME: &'static str = "i32";
}
impl GpuElement for f16 {
    const NAME: &'static str = "f16";
}
impl GpuElement for bf16 {
    const NAME: &'static str = "bf16";
}

/// Bytes of `n` elements in whole words, at least one word because nothing smaller can be bound; `None` if that overflows.
pub(crate) fn padded_bytes<T: GpuElement>(n: usize) -> Option<u64> {
    let bytes = n.checked_mul(size_of::<T>())?.checked_next_multiple_of(4)?;
    u64::try_from(bytes.max(4)).ok()
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for u32 {}
    impl Sealed for i32 {}
    impl Sealed for half::f16 {}
    impl Sealed for half::bf16 {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_fills_whole_words() {
        assert_eq!(padded_bytes::<f32>(3), Some(12));
        assert_eq!(padded_bytes::<bf16>(0), Some(4));
        assert_eq!(padded_bytes::<bf16>(3), Some(8));
        assert_eq!(padded_bytes::<f16>(4), Some(8));
        assert_eq!(padded_bytes::<f32>(usize::MAX / 2), None);
    }
}
