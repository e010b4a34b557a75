//! Calls into wgpu that may fail: their errors and panics become ours.
//!
//! wgpu reports errors to scopes, which on native platforms are known at once and belong to the thread. In browsers they are promises, for
//! which a function that is not `async` cannot wait: there the errors come late, by `Gpu::check` and `download`.

use crate::{Gpu, GpuError};

/// Runs calls into wgpu and returns the first error that they cause.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn run<R>(
    gpu: &Gpu,
    task: &'static str,
    bytes: Option<u64>,
    calls: impl FnOnce() -> R,
) -> Result<R, GpuError> {
    use wgpu::ErrorFilter as Filter;
    let scopes = [Filter::OutOfMemory, Filter::Internal, Filter::Validation]
        .map(|filter| gpu.device().push_error_scope(filter));
    let outcome = catch(task, calls);
    let mut error = None;
    for scope in scopes.into_iter().rev() {
        let found = pollster::block_on(scope.pop());
        error = error.or(found);
    }
    match error {
        Some(error) => Err(GpuError::from_wgpu(&error, task, bytes)),
        None => outcome,
    }
}

/// Runs calls into wgpu; their errors come late.
#[cfg(target_arch = "wasm32")]
pub(crate) fn run<R>(
    _gpu: &Gpu,
    _task: &'static str,
    _bytes: Option<u64>,
    calls: impl FnOnce() -> R,
) -> Result<R, GpuError> {
    Ok(calls())
}

/// Lets the driver report, or waits for it. Does nothing in browsers, which poll by themselves.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn poll(gpu: &Gpu, how: wgpu::PollType) -> Result<(), GpuError> {
    match catch("wait", || gpu.device().poll(how)) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(GpuError::Device {
            task: "wait",
            message: error.to_string(),
        }),
        // wgpu panics when the device dies while it waits.
        Err(error) => {
            gpu.faults().lose(error.to_string());
            Err(error)
        }
    }
}

/// Lets the driver report, or waits for it. Does nothing in browsers, which poll by themselves.
#[cfg(target_arch = "wasm32")]
#[expect(clippy::unnecessary_wraps, reason = "the native form can fail")]
pub(crate) fn poll(_gpu: &Gpu, _how: wgpu::PollType) -> Result<(), GpuError> {
    Ok(())
}

/// A panic inside wgpu or its shader compiler becomes an error. Nothing of ours is changed inside `calls` that could be left half done.
#[cfg(not(target_arch = "wasm32"))]
fn catch<R>(task: &'static str, calls: impl FnOnce() -> R) -> Result<R, GpuError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(calls)).map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        GpuError::Device {
            task,
            message: format!("it panicked: {}", text.unwrap_or("without a message")),
        }
    })
}
