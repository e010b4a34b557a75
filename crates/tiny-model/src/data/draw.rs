//! Draws of one example: a counter over one stream of Philox.

use llm_numerics::philox::Philox4x32;

/// The random draws of one example. The same key and stream always give the same draws.
#[derive(Clone, Debug)]
pub(crate) struct Draws {
    generator: Philox4x32,
    stream: u64,
    offset: u64,
}

impl Draws {
    /// The draws of `stream` under `key`, from the first.
    pub(crate) const fn new(key: u64, stream: u64) -> Self {
        Self {
            generator: Philox4x32::new(key),
            stream,
            offset: 0,
        }
    }

    /// The next 32 bits.
    pub(crate) const fn next_u32(&mut self) -> u32 {
        let word = self.generator.u32_at(self.stream, self.offset);
        self.offset += 1;
        word
    }

    /// A number in `0..n`, or 0 if `n` is 0. The bias is below `n / 2^32`.
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        let scaled = u64::from(self.next_u32()) * u64::from(n);
        (scaled >> 32) as u32
    }

    /// A number in `low..=high`.
    pub(crate) fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of 100 cases.
    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// One of `items`, which must not be empty.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u32) as usize]
    }

    /// One of `items` by the weight beside it.
    pub(crate) fn pick_weighted<T: Copy>(&mut self, items: &[(u32, T)]) -> T {
        let total = items.iter().map(|(weight, _)| weight).sum();
        let mut rest = self.below(total);
        for &(weight, item) in items {
            if rest < weight {
                return item;
            }
            rest -= weight;
        }
        items[items.len() - 1].1
    }

    /// Brings `items` into a random order (Fisher-Yates).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last as u32 + 1) as usize;
            items.swap(last, other);
        }
    }
}
