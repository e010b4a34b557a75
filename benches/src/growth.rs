//! How the memory of a call grows with its input.
//!
//! This module may use `unsafe`: whoever counts what is asked of the allocator has to stand in its place. All it does is
//! count and pass on; what the rest of the program sees is the safe [`peak`].

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};

use anyhow::Result;
use serde_json::{Value, json};

use crate::table::Judged;

/// Bytes a token at the longest length may be so many times those at the shortest. A square over three doublings would
/// come close to 8.
const LINEAR: f64 = 1.1;

/// A call whose peak of memory must grow with the length, and no faster.
pub(crate) struct Growth {
    /// Unique in its crate: op and shapes, with `n` for the length.
    pub(crate) name: String,
    /// From the shortest to the longest.
    pub(crate) lengths: Vec<usize>,
    /// Makes the inputs of that length, and then takes the [`peak`] of the call alone.
    pub(crate) measure: Box<dyn Fn(usize) -> Result<usize>>,
}

/// The peaks of a [`Growth`], in bytes.
pub(crate) struct Peaks {
    pub(crate) package: String,
    pub(crate) name: String,
    /// Length and peak.
    pub(crate) peaks: Vec<(usize, usize)>,
}

impl Growth {
    pub(crate) fn measured(&self, package: &str) -> Result<Peaks> {
        // What threads and libraries keep from their first call on is not this call's.
        (self.measure)(self.lengths.first().map_or(1, |shortest| shortest / 4))?;
        let peak = |&length: &usize| Ok((length, (self.measure)(length)?));
        Ok(Peaks {
            package: package.to_owned(),
            name: self.name.clone(),
            peaks: self.lengths.iter().map(peak).collect::<Result<_>>()?,
        })
    }
}

impl Peaks {
    /// Whether the longest needs as much for a token as the shortest.
    pub(crate) fn judged(&self) -> Judged {
        let a_token = |&(length, bytes): &(usize, usize)| bytes as f64 / length as f64;
        let shortest = self.peaks.first().map_or(f64::NAN, a_token);
        let longest = self.peaks.last().map_or(f64::NAN, a_token);
        let ratio = longest / shortest;
        Judged {
            reached: ratio <= LINEAR,
            line: format!(
                "{} {}: memory for a token is {ratio:.2} times as much at the longest as at the shortest, asked are at \
                 most {LINEAR:.1}",
                self.package, self.name
            ),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let peaks: Vec<Value> = (self.peaks.iter())
            .map(|(length, bytes)| json!({ "tokens": length, "bytes": bytes }))
            .collect();
        json!({ "crate": self.package, "case": self.name, "peaks": peaks })
    }
}

/// What the call asked of the allocator at its peak, beyond what was there before it: results included, inputs not.
pub(crate) fn peak<R>(call: impl FnOnce() -> R) -> (usize, R) {
    ALLOCATOR.peak(call)
}

#[global_allocator]
static ALLOCATOR: Counting = Counting::new();

/// The system's allocator, counted while somebody wants to know. The timed cases pay one look at a flag.
struct Counting {
    is_on: AtomicBool,
    held: AtomicIsize,
    peak: AtomicIsize,
}

impl Counting {
    const fn new() -> Self {
        Self {
            is_on: AtomicBool::new(false),
            held: AtomicIsize::new(0),
            peak: AtomicIsize::new(0),
        }
    }

    fn peak<R>(&self, call: impl FnOnce() -> R) -> (usize, R) {
        self.held.store(0, Ordering::SeqCst);
        self.peak.store(0, Ordering::SeqCst);
        self.is_on.store(true, Ordering::SeqCst);
        let result = call();
        self.is_on.store(false, Ordering::SeqCst);
        let peak = self.peak.load(Ordering::SeqCst);
        (usize::try_from(peak).unwrap_or(0), result)
    }

    /// No allocation is larger than `isize::MAX`, so that the casts of sizes hold.
    fn count(&self, bytes: isize) {
        if self.is_on.load(Ordering::Relaxed) {
            let before = self.held.fetch_add(bytes, Ordering::Relaxed);
            self.peak.fetch_max(before + bytes, Ordering::Relaxed);
        }
    }
}

// SAFETY: each call goes to the system's allocator as it came, with its conditions, and its answer goes back.
#[allow(unsafe_code, reason = "the trait of allocators is unsafe")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count(layout.size() as isize);
        // SAFETY: the caller keeps the conditions of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.count(layout.size() as isize);
        // SAFETY: the caller keeps the conditions of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        self.count(-(layout.size() as isize));
        // SAFETY: the caller keeps the conditions of `dealloc`, and the memory came from the system's allocator.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.count(size as isize - layout.size() as isize);
        // SAFETY: the caller keeps the conditions of `realloc`, and the memory came from the system's allocator.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peaks(bytes: impl Fn(usize) -> usize) -> Peaks {
        Peaks {
            package: "attention".to_owned(),
            name: "forward".to_owned(),
            peaks: [4096, 8192, 16384, 32768].map(|n| (n, bytes(n))).to_vec(),
        }
    }

    #[test]
    fn a_line_is_linear_and_a_square_is_not() {
        assert!(peaks(|n| 1000 * n).judged().reached);
        assert!(peaks(|n| 1000 * n + 500_000).judged().reached); // a constant in addition
        assert!(!peaks(|n| n * n).judged().reached);
        // One byte for each pair beside a thousand for each token: small here, and still no line.
        assert!(!peaks(|n| 1000 * n + n * n / 100).judged().reached);
        assert!(!peaks(|_| 0).judged().reached); // nothing was counted
    }

    #[test]
    #[allow(unsafe_code, reason = "an allocator is called here")]
    fn the_peak_is_the_most_that_was_held_at_once() {
        let counting = Counting::new();
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        // SAFETY: sizes are not zero; each block is given back once, with the layout that it has then.
        let allocate = || unsafe {
            let first = counting.alloc(layout(1000));
            let second = counting.alloc_zeroed(layout(100));
            counting.dealloc(first, layout(1000));
            let second = counting.realloc(second, layout(100), 300);
            counting.dealloc(second, layout(300));
        };
        allocate(); // nobody asked
        assert_eq!(counting.peak(allocate).0, 1100);
        assert_eq!(counting.peak(|| ()).0, 0);
    }

    #[test]
    fn the_program_is_counted() {
        // Other tests run at the same time, so: far more than they use.
        let (bytes, _) = peak(|| Vec::<u8>::with_capacity(1 << 32));
        assert!(bytes > 1 << 31, "{bytes}");
    }
}
