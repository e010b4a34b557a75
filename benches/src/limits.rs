//! What the machine can do at best, measured in the same run as everything else.

mod product;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use llm_numerics::simd;
use rayon::prelude::*;

use crate::case::{Setup, Work};
use crate::measure::{Contender, Samples, race};

pub(crate) use product::Product;

/// The limits that rows are compared with.
pub(crate) struct Limits {
    copy: Copy,
    read: Read,
    product: Product,
    maximum: Maximum,
}

impl Limits {
    /// Arrays larger than twice the last-level cache, so that they come from main memory.
    pub(crate) fn new(setup: &Setup) -> Self {
        let len = (2 * setup.cache_bytes + (8 << 20)) / size_of::<f32>();
        let read = Read::new(setup, len);
        Self {
            copy: Copy::new(setup, len),
            maximum: Maximum::new(Arc::clone(&read.from)),
            read,
            product: Product::new(setup),
        }
    }

    /// The limit of this kind of work.
    pub(crate) fn contender(&mut self, work: Work) -> &mut dyn Contender {
        match work {
            Work::Copy { .. } => &mut self.copy,
            Work::Read { .. } => &mut self.read,
            Work::Product { .. } => &mut self.product,
            Work::Maximum { .. } => &mut self.maximum,
        }
    }

    /// How much one call of that limit does: bytes, multiplications and additions, or values.
    pub(crate) fn amount(&self, work: Work) -> f64 {
        match work {
            Work::Copy { .. } => self.copy.bytes(),
            Work::Read { .. } => self.read.bytes(),
            Work::Product { .. } => self.product.operations(),
            Work::Maximum { .. } => ROW as f64,
        }
    }

    /// The shortest time in which the machine could do the work, by the limit's samples.
    pub(crate) fn time_of(&self, work: Work, limit: &Samples) -> Samples {
        let share = work.amount() / self.amount(work);
        Samples(limit.0.iter().map(|seconds| seconds * share).collect())
    }

    /// Copy and read in bytes, product in operations a second.
    pub(crate) fn rates(&mut self, rounds: usize) -> Result<[f64; 3]> {
        let samples = race(
            &mut [&mut self.copy, &mut self.read, &mut self.product],
            rounds,
        )?;
        Ok([
            self.copy.bytes() / samples[0].median(),
            self.read.bytes() / samples[1].median(),
            self.product.operations() / samples[2].median(),
        ])
    }
}

/// One thread's part of an array: the whole of it in as many pieces as there are threads.
fn part(setup: &Setup, len: usize) -> usize {
    len.div_ceil(setup.threads).max(1)
}

/// Copies an array to another on all threads.
///
/// Each call copies twice: in one piece a thread, where the C library bypasses the cache, and in pieces that fit into
/// it. The better of the two is the limit, so that it does not depend on what that library does.
struct Copy {
    from: Vec<f32>,
    to: Vec<f32>,
    pieces: [usize; 2],
}

impl Copy {
    fn new(setup: &Setup, len: usize) -> Self {
        let from = setup.random(0, len);
        Self {
            to: from.clone(),
            pieces: [part(setup, len), 1 << 14],
            from,
        }
    }

    /// Read and written.
    fn bytes(&self) -> f64 {
        2.0 * size_of_val(&self.from[..]) as f64
    }
}

impl Contender for Copy {
    fn run(&mut self, calls: usize) -> Result<Duration> {
        let mut best = [Duration::ZERO; 2];
        for (best, piece) in best.iter_mut().zip(self.pieces) {
            let start = Instant::now();
            for _ in 0..calls {
                self.to
                    .par_chunks_mut(piece)
                    .zip(self.from.par_chunks(piece))
                    .for_each(|(to, from)| to.copy_from_slice(from));
                std::hint::black_box(&mut self.to);
            }
            *best = start.elapsed();
        }
        Ok(best[0].min(best[1]))
    }
}

/// Reads an array on all threads and keeps its largest element.
struct Read {
    from: Arc<[f32]>,
    piece: usize,
}

impl Read {
    fn new(setup: &Setup, len: usize) -> Self {
        Self {
            from: setup.random(1, len).into(),
            piece: part(setup, len),
        }
    }

    fn bytes(&self) -> f64 {
        size_of_val(&self.from[..]) as f64
    }
}

impl Contender for Read {
    fn run(&mut self, calls: usize) -> Result<Duration> {
        let start = Instant::now();
        for _ in 0..calls {
            let largest = self
                .from
                .par_chunks(self.piece)
                .map(largest_by_vectors)
                .reduce(|| f32::NEG_INFINITY, f32::max);
            std::hint::black_box(largest);
        }
        Ok(start.elapsed())
    }
}

/// Values of a row in [`Maximum`]: the vocabulary of the cases.
pub(crate) const ROW: usize = 151_936;

/// The largest element of a row, on one thread; each call takes the next row of an array.
struct Maximum {
    from: Arc<[f32]>,
    next: usize,
}

impl Maximum {
    fn new(from: Arc<[f32]>) -> Self {
        Self { from, next: 0 }
    }

    /// The next row, from the start again after the last whole one.
    fn row(&mut self) -> &[f32] {
        let start = self.next;
        self.next += ROW;
        if self.next + ROW > self.from.len() {
            self.next = 0;
        }
        &self.from[start..start + ROW]
    }
}

impl Contender for Maximum {
    fn run(&mut self, calls: usize) -> Result<Duration> {
        let start = Instant::now();
        for _ in 0..calls {
            let row = self.row();
            std::hint::black_box(largest_by_vectors(row));
        }
        Ok(start.elapsed())
    }
}

/// The largest element. 16 chains are two registers at least; more of them would be kept on the stack.
#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (blocks, rest) = values.as_chunks::<16>();
    for block in blocks {
        for (lane, &value) in lanes.iter_mut().zip(block) {
            *lane = larger(*lane, value);
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, &b| larger(a, b))
}

/// [`largest`] with the widest vector instructions there are.
fn largest_by_vectors(values: &[f32]) -> f32 {
    simd::vectorize(
        #[inline(always)]
        || largest(values),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_scales_with_the_work() {
        let limits = Limits::new(&Setup::for_tests());
        let work = Work::Copy {
            bytes: limits.copy.bytes() as usize / 2,
        };
        let limit = limits.time_of(work, &Samples(vec![2.0, 4.0]));
        assert_eq!(limit, Samples(vec![1.0, 2.0]));
    }

    #[test]
    fn rows_follow_one_another_and_start_again() {
        let from: Arc<[f32]> = (0..3 * ROW - 1).map(|i| i as f32).collect();
        let mut maximum = Maximum::new(from);
        let firsts = [(); 4].map(|()| maximum.row()[0]);
        assert_eq!(firsts, [0.0, ROW as f32, 0.0, ROW as f32]);
        assert_eq!(maximum.row().len(), ROW);
    }

    #[test]
    fn a_copy_copies_and_the_largest_is_found() {
        let setup = Setup::for_tests();
        let mut copy = Copy::new(&setup, 1000);
        copy.to.fill(0.0);
        copy.run(1).unwrap();
        assert_eq!(copy.from, copy.to);

        let mut values = setup.random(0, 1000);
        values[997] = 2.0;
        assert_eq!(largest_by_vectors(&values), 2.0);
        values[10] = 3.0;
        assert_eq!(largest_by_vectors(&values), 3.0);
    }
}
