//! The one promise to wgpu that needs `unsafe`: that we know what "experimental" means.
#![allow(
    unsafe_code,
    reason = "wgpu wants `unsafe` as a signature under its experimental features; no memory is touched here"
)]

/// Permission for the experimental features of wgpu, given only where a caller asked for one of them in
/// [`GpuOptions`](crate::GpuOptions).
pub(crate) fn features(wanted: bool) -> wgpu::ExperimentalFeatures {
    if wanted {
        // SAFETY: the caller's option says, in its documentation, what wgpu warns of: shaders that use such a feature may go wrong in
        // ways that wgpu does not catch. Kernels that do are marked by `Needs` and tested against a base kernel.
        unsafe { wgpu::ExperimentalFeatures::enabled() }
    } else {
        wgpu::ExperimentalFeatures::disabled()
    }
}
