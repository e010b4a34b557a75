//! The limit of arithmetic: a large matrix product of the `gemm` crate.
//!
//! This module may use `unsafe`: that crate takes raw pointers, and going through our own `llm_numerics::gemm` would
//! make a slow step there look like a slow machine.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::case::Setup;
use crate::measure::Contender;

/// Rows and columns of all three matrices: enough work to fill the machine, small enough for a sample.
const N: usize = 1024;

/// `c = a b` in f32 on all threads.
pub(crate) struct Product {
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
    threads: usize,
}

impl Product {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            a: setup.random(2, N * N),
            b: setup.random(3, N * N),
            c: vec![0.0; N * N],
            threads: setup.threads,
        }
    }

    /// Multiplications and additions of one call.
    pub(super) fn operations(&self) -> f64 {
        2.0 * (N as f64).powi(3)
    }

    #[allow(unsafe_code, reason = "the gemm crate takes raw pointers")]
    fn multiply(&mut self) {
        let (row, column) = (N as isize, 1);
        // SAFETY: the three vectors hold N * N elements each, `new` made them so and nothing changes their length; the
        // strides of rows and columns reach exactly these; `c` is borrowed mutably and is none of the other two.
        unsafe {
            gemm::gemm(
                N,
                N,
                N,
                self.c.as_mut_ptr(),
                column,
                row,
                false,
                self.a.as_ptr(),
                column,
                row,
                self.b.as_ptr(),
                column,
                row,
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::Rayon(self.threads),
            );
        }
    }
}

impl Contender for Product {
    fn run(&mut self, calls: usize) -> Result<Duration> {
        let start = Instant::now();
        for _ in 0..calls {
            self.multiply();
            std::hint::black_box(&mut self.c);
        }
        Ok(start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_is_one() {
        let mut product = Product::new(&Setup::for_tests());
        product.multiply();
        for [i, j] in [[0, 0], [3, 1000], [1023, 511]] {
            let want: f32 = (0..N)
                .map(|k| product.a[i * N + k] * product.b[k * N + j])
                .sum();
            // Two orders of 1024 products below 1: each sum is right to about 1024 * 2^-24.
            assert!((product.c[i * N + j] - want).abs() < 1e-3);
        }
    }
}
