//! Buffers on the device, and the pool that scratch buffers come from and return to.
//!
//! Why a pooled buffer is never written under somebody's eyes: the pool holds a buffer only after the last [`Storage`] handle on it was
//! dropped. Handles are held by tensors, and by every recorder that has recorded a dispatch with the buffer and has not submitted it yet
//! (see `Recorder::held`). So when a buffer comes out of the pool, all work that was ever recorded on it has been submitted or thrown
//! away, and nobody can record more. What the new owner records is submitted later to the same queue, which runs submissions in order and
//! puts barriers between uses of one buffer. A recorder takes a buffer back for itself without the pool as soon as it holds the only
//! handle: its own dispatches run in the order of recording.

use std::sync::{Arc, Mutex};

use crate::Gpu;
use crate::sync::lock;

/// A buffer on the device. Dropping the last handle frees it, or returns it to the pool.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) buffer: wgpu::Buffer,
    pub(crate) gpu: Gpu,
    pooled: bool,
}

impl Storage {
    pub(crate) fn new(gpu: Gpu, buffer: wgpu::Buffer, pooled: bool) -> Arc<Self> {
        Arc::new(Self {
            buffer,
            gpu,
            pooled,
        })
    }

    /// True if it may serve as scratch again.
    pub(crate) fn is_pooled(&self) -> bool {
        self.pooled
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if self.pooled {
            self.gpu.pool().give(self.buffer.clone());
        }
    }
}

/// Most bytes that lie idle in the pool.
const MOST_IDLE: u64 = 256 << 20;

/// Scratch buffers that nobody uses at the moment.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Idle>);

#[derive(Debug, Default)]
struct Idle {
    buffers: Vec<wgpu::Buffer>,
    bytes: u64,
}

impl Pool {
    /// A buffer of exactly this size class, if one is idle.
    pub(crate) fn take(&self, class: u64) -> Option<wgpu::Buffer> {
        let mut idle = lock(&self.0);
        // The one that came last: its memory may still be in a cache.
        let index = idle
            .buffers
            .iter()
            .rposition(|buffer| buffer.size() == class)?;
        idle.bytes -= class;
        Some(idle.buffers.remove(index))
    }

    fn give(&self, buffer: wgpu::Buffer) {
        let mut idle = lock(&self.0);
        let idle = &mut *idle;
        idle.bytes += buffer.size();
        idle.buffers.push(buffer);
        // The oldest go first.
        let mut first = 0;
        while idle.bytes > MOST_IDLE && first < idle.buffers.len() {
            idle.bytes -= idle.buffers[first].size();
            first += 1;
        }
        idle.buffers.drain(..first);
    }

    /// Frees all idle buffers.
    pub(crate) fn clear(&self) {
        *lock(&self.0) = Idle::default();
    }

    /// Number and bytes of idle buffers.
    pub(crate) fn idle(&self) -> (usize, u64) {
        let idle = lock(&self.0);
        (idle.buffers.len(), idle.bytes)
    }
}

/// The size of the scratch buffer for so many bytes: four classes for each power of two, so that at most a fifth of it lies idle, and sizes that
/// differ little share a buffer. A class above `limit` is the size itself.
pub(crate) fn size_class(bytes: u64, limit: u64) -> u64 {
    let bytes = bytes.max(256);
    let step = 1 << (bytes.ilog2() - 2);
    let class = bytes.next_multiple_of(step);
    if class > limit { bytes } else { class }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_class_is_large_enough_and_wastes_little() {
        for bytes in (4..5000)
            .step_by(4)
            .chain([1 << 20, (1 << 20) + 4, (3 << 30) + 4])
        {
            let class = size_class(bytes, u64::MAX);
            assert!(
                class >= bytes && class.is_multiple_of(4),
                "{bytes}: {class}"
            );
            assert!(class <= 256 || class * 4 <= bytes * 5, "{bytes}: {class}");
            assert_eq!(size_class(class, u64::MAX), class);
        }
    }

    #[test]
    fn a_size_class_does_not_exceed_the_limit() {
        assert_eq!(size_class(1020, 1020), 1020);
        assert_eq!(size_class(1020, 1024), 1024);
    }
}
