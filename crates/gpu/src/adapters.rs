//! Which adapters there are.

use crate::capabilities::{self, Capabilities};

/// What each adapter of this machine can do, without opening a device; in a browser, the one that it offers.
///
/// Empty where there is no driver. [`GpuOptions::adapter`](crate::GpuOptions::adapter) chooses one by name.
pub async fn adapters() -> Vec<Capabilities> {
    let instance = instance();
    #[cfg(not(target_arch = "wasm32"))]
    let adapters = instance.enumerate_adapters(wgpu::Backends::PRIMARY).await;
    #[cfg(target_arch = "wasm32")]
    let adapters: Vec<wgpu::Adapter> = instance
        .request_adapter(&wgpu::RequestAdapterOptions::default())
        .await
        .into_iter()
        .collect();
    let capabilities =
        |adapter: &wgpu::Adapter| capabilities::of(adapter, adapter.features(), &adapter.limits());
    adapters.iter().map(capabilities).collect()
}

/// [`adapters`], and waits for it.
#[cfg(not(target_arch = "wasm32"))]
#[must_use]
pub fn adapters_blocking() -> Vec<Capabilities> {
    pollster::block_on(adapters())
}

/// The entrance to the drivers.
pub(crate) fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    descriptor.backends &= wgpu::Backends::PRIMARY;
    // We never dispatch indirectly, and this check caps buffers at 4 GiB.
    descriptor.flags -= wgpu::InstanceFlags::VALIDATION_INDIRECT_CALL;
    wgpu::Instance::new(descriptor)
}
