//! What a crate's file hands in: a case is our code, what it is compared with, and how much work it is.

use anyhow::{Result, bail};
use llm_numerics::philox::Philox4x32;

use crate::measure::Contender;
use crate::peers::Python;

/// The work of one call, which says what limits it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Work {
    /// Reads and writes main memory; bytes that must be read plus bytes that must be written.
    Copy { bytes: usize },
    /// Reads main memory and writes little.
    Read { bytes: usize },
    /// Multiplies and adds; each counts as one.
    Product { operations: usize },
    /// Looks for the largest values of rows over a vocabulary, one row after the other, on one thread.
    Maximum { values: usize },
}

impl Work {
    /// Bytes, operations or values.
    pub(crate) fn amount(self) -> f64 {
        match self {
            Self::Copy { bytes } | Self::Read { bytes } => bytes as f64,
            Self::Product { operations } => operations as f64,
            Self::Maximum { values } => values as f64,
        }
    }
}

/// A case that can be timed. Whoever makes one has compared the results of all contenders before.
pub(crate) struct Case {
    pub(crate) work: Work,
    pub(crate) ours: Box<dyn Contender>,
    pub(crate) peers: Vec<Peer>,
}

/// Another library that does the same work.
pub(crate) struct Peer {
    pub(crate) library: String,
    pub(crate) version: String,
    pub(crate) contender: Box<dyn Contender>,
}

/// A case before it has any memory.
pub(crate) struct Plan {
    /// Unique in its crate: op, dialect, shapes.
    pub(crate) name: String,
    /// What the figures must reach.
    pub(crate) bars: Bars,
    pub(crate) build: Build,
}

/// What the figures of a case must reach, where something is asked of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bars {
    /// Share of the limit.
    pub(crate) of_limit: Option<f64>,
    /// How many times as long these libraries must take.
    pub(crate) peers: &'static [(&'static str, f64)],
}

/// Allocates, compares the results of all contenders, and hands them over.
pub(crate) type Build = Box<dyn Fn(&Setup) -> Result<Case>>;

/// What a plan may use to build its case.
pub(crate) struct Setup {
    /// Threads of everybody: ours, limits and peers.
    pub(crate) threads: usize,
    /// Size of the last-level cache.
    pub(crate) cache_bytes: usize,
    /// The process with the peers in Python, if peers are asked for.
    pub(crate) python: Option<Python>,
}

impl Setup {
    /// So many copies of the data of a call are larger than twice the last-level cache.
    pub(crate) fn sets(&self, bytes: usize) -> usize {
        (2 * self.cache_bytes / bytes.max(1) + 1).max(2)
    }

    /// Uniform in `[-1, 1)`; never zeros, on which some machines are quicker.
    #[allow(
        clippy::unused_self,
        reason = "a case gets all that it needs from here"
    )]
    pub(crate) fn random(&self, stream: u64, len: usize) -> Vec<f32> {
        let random = Philox4x32::new(2026);
        (0..len as u64)
            .map(|i| 2.0 * random.uniform_f32(stream, i) - 1.0)
            .collect()
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self {
            threads: 2,
            cache_bytes: 1 << 10,
            python: None,
        }
    }
}

/// Fails unless all elements differ by at most `tolerance`.
pub(crate) fn agree(
    what: &str,
    got: impl IntoIterator<Item = f64>,
    want: impl IntoIterator<Item = f64>,
    tolerance: f64,
) -> Result<()> {
    let (mut got, mut want) = (got.into_iter(), want.into_iter());
    for index in 0.. {
        match (got.next(), want.next()) {
            (Some(got), Some(want)) if (got - want).abs() <= tolerance => {}
            (Some(got), Some(want)) => {
                bail!(
                    "{what}: element {index} must be {want} within {tolerance:e}, got {got}; nothing was timed"
                )
            }
            (None, None) => break,
            _ => bail!("{what}: the results have different lengths; nothing was timed"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sets_exceed_twice_the_cache() {
        let setup = Setup {
            cache_bytes: 100,
            ..Setup::for_tests()
        };
        assert_eq!(setup.sets(1000), 2);
        for bytes in [1, 7, 66, 67, 100, 199, 200] {
            assert!(bytes * setup.sets(bytes) > 200, "{bytes}");
        }
    }

    #[test]
    fn results_that_differ_are_refused() {
        assert!(agree("x", [1.0, 2.0], [1.0, 2.05], 0.1).is_ok());
        for wrong in [[1.0, 2.2], [1.0, f64::NAN], [f64::INFINITY, 2.0]] {
            assert!(agree("x", wrong, [1.0, 2.0], 0.1).is_err(), "{wrong:?}");
        }
        assert!(agree("x", [1.0], [1.0, 2.0], 0.1).is_err());
        assert!(agree("x", [1.0, 2.0], [1.0], 0.1).is_err());
    }
}
