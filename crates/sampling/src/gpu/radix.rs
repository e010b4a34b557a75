//! The search for the cut of a row, digit by digit.

use llm_gpu::{Access, GpuTensor, Grid, Kernel, Needs, Recorder, Snippet, snippet};

use super::{
    GpuLogits, GpuSamplingError, KEYS, REAL, SEARCH_WORDS, WEIGHT, WIDE, WORKGROUP_SIZE, word,
};

llm_gpu::params! {
    /// The parameter block of `radix_start.wgsl`.
    pub(super) struct RadixStartParams {
        share: [u32; 2],
        n_rows: u32,
        n: u32,
        use_mass: u32,
        from_smallest: u32,
        pad0: u32,
        pad1: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `radix_histogram.wgsl`.
    pub(super) struct RadixHistogramParams {
        n_rows: u32,
        vocab: u32,
        n_groups: u32,
        by_token: u32,
        shift: u32,
        use_mass: u32,
        pad0: u32,
        pad1: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `radix_select.wgsl`.
    pub(super) struct RadixSelectParams {
        n_rows: u32,
        n_groups: u32,
        word: u32,
        shift: u32,
        use_mass: u32,
        from_smallest: u32,
        pad0: u32,
        pad1: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `radix_ties.wgsl`.
    pub(super) struct RadixTiesParams {
        n_rows: u32,
        vocab: u32,
        kind: u32,
        least: u32,
    }
}

llm_gpu::params! {
    /// The parameter block of `keep.wgsl`.
    pub(super) struct KeepParams {
        n_elements: u32,
        vocab: u32,
        pad0: u32,
        pad1: u32,
    }
}

/// The words of a search.
pub(super) const RADIX: Snippet = Snippet {
    name: "radix",
    source: include_str!("radix.wgsl"),
};

pub(super) static RADIX_START: Kernel = Kernel {
    name: "radix_start",
    source: include_str!("radix_start.wgsl"),
    snippets: &[snippet::LINEAR, WIDE, KEYS, RADIX],
    bindings: &[Access::Read, Access::Read, Access::Write],
    params_size: size_of::<RadixStartParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

pub(super) static RADIX_HISTOGRAM: Kernel = Kernel {
    name: "radix_histogram",
    source: include_str!("radix_histogram.wgsl"),
    snippets: &[snippet::LINEAR, WIDE, REAL, KEYS, WEIGHT, RADIX],
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
    params_size: size_of::<RadixHistogramParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(3072),
};

pub(super) static RADIX_SELECT: Kernel = Kernel {
    name: "radix_select",
    source: include_str!("radix_select.wgsl"),
    snippets: &[snippet::LINEAR, WIDE, KEYS, RADIX],
    bindings: &[Access::Read, Access::Write],
    params_size: size_of::<RadixSelectParams>(),
    constants: &[],
    needs: Needs::CORE.with_workgroup_bytes(4096),
};

pub(super) static RADIX_TIES: Kernel = Kernel {
    name: "radix_ties",
    source: include_str!("radix_ties.wgsl"),
    snippets: &[snippet::LINEAR, WIDE, REAL, KEYS, WEIGHT, RADIX],
    bindings: &[Access::Read, Access::Write],
    params_size: size_of::<RadixTiesParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

pub(super) static KEEP: Kernel = Kernel {
    name: "keep",
    source: include_str!("keep.wgsl"),
    snippets: &[snippet::LINEAR, KEYS, RADIX],
    bindings: &[Access::Read, Access::Write],
    params_size: size_of::<KeepParams>(),
    constants: &["WORKGROUP_SIZE"],
    needs: Needs::CORE,
};

/// Buckets of a digit and words of each, as in `radix.wgsl`.
pub(super) const BUCKETS: usize = 256;
pub(super) const BUCKET_WORDS: usize = 3;

/// What a search adds up, from where, and up to what.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal<'a> {
    /// So many elements, at least 1 and at most all, from the largest.
    Number(usize),
    /// A share below 1 of the weights, in whole units of `2^-64` and at least one; from the largest. What is left of it is cut off.
    Largest(u64, &'a GpuTensor<u32>),
    /// More than a share of the weights, from the smallest.
    Smallest(u64, &'a GpuTensor<u32>),
}

impl Goal<'_> {
    const fn use_mass(&self) -> bool {
        !matches!(self, Self::Number(_))
    }

    const fn is_ascending(&self) -> bool {
        matches!(self, Self::Smallest(..))
    }
}

/// Which of the tokens at the cut stay, as in `radix_ties.wgsl`.
#[derive(Clone, Copy, Debug)]
pub(super) enum TieRule {
    /// As many of the lowest ids as the number of elements says.
    Exact = 0,
    /// As many of the lowest ids as the share of the weights says.
    Largest = 1,
    /// The same with the highest ids.
    Smallest = 2,
    /// None yet: the search is for a least number of tokens.
    Floor = 3,
}

/// The searches of all rows: `[batch, SEARCH_WORDS]`, and memory for the passes.
#[derive(Debug)]
pub(super) struct Search<'a> {
    logits: &'a GpuLogits,
    extent: &'a GpuTensor<u32>,
    state: GpuTensor<u32>,
    buckets: GpuTensor<u32>,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        recorder: &mut Recorder,
        logits: &'a GpuLogits,
        extent: &'a GpuTensor<u32>,
    ) -> Result<Self, GpuSamplingError> {
        let (batch, n_groups) = (logits.batch(), logits.n_groups());
        Ok(Self {
            logits,
            extent,
            state: recorder.scratch(&[batch, SEARCH_WORDS])?,
            buckets: recorder.scratch(&[batch, n_groups, BUCKETS, BUCKET_WORDS])?,
        })
    }

    pub(super) const fn state(&self) -> &GpuTensor<u32> {
        &self.state
    }

    /// Records the search for the key of the cut.
    pub(super) fn find(
        &self,
        recorder: &mut Recorder,
        goal: Goal<'_>,
    ) -> Result<(), GpuSamplingError> {
        let (n, share, mass) = match goal {
            Goal::Number(n) => (word(n), 0, self.extent),
            Goal::Largest(share, mass) | Goal::Smallest(share, mass) => (0, share, mass),
        };
        let params = RadixStartParams {
            share: [share as u32, (share >> 32) as u32],
            n_rows: word(self.logits.batch()),
            n,
            use_mass: u32::from(goal.use_mass()),
            from_smallest: u32::from(goal.is_ascending()),
            pad0: 0,
            pad1: 0,
        };
        let bindings = [mass.read(), self.logits.status().read(), self.state.write()];
        let grid = Grid::linear(self.logits.batch(), WORKGROUP_SIZE)?;
        recorder.dispatch(&RADIX_START, &[], &params, &bindings, grid)?;
        for shift in [24, 16, 8, 0] {
            self.pass(recorder, false, shift, goal.use_mass(), goal.is_ascending())?;
        }
        Ok(())
    }

    /// Records which tokens at the cut stay; `least` of all at least, after a search with [`TieRule::Floor`].
    pub(super) fn settle(
        &self,
        recorder: &mut Recorder,
        rule: TieRule,
        least: usize,
    ) -> Result<(), GpuSamplingError> {
        let params = RadixTiesParams {
            n_rows: word(self.logits.batch()),
            vocab: word(self.logits.vocab()),
            kind: rule as u32,
            least: word(least),
        };
        let bindings = [self.extent.read(), self.state.write()];
        let grid = Grid::linear(self.logits.batch(), WORKGROUP_SIZE)?;
        recorder.dispatch(&RADIX_TIES, &[], &params, &bindings, grid)?;
        if matches!(rule, TieRule::Floor) {
            return Ok(());
        }
        // Ids have at most 20 bits.
        for shift in [16, 8, 0] {
            if (self.logits.vocab() - 1) >> shift > 0 || shift == 0 {
                self.pass(recorder, true, shift, false, true)?;
            }
        }
        Ok(())
    }

    /// Records that all beyond the cut is masked.
    pub(super) fn keep(&self, recorder: &mut Recorder) -> Result<(), GpuSamplingError> {
        let params = KeepParams {
            n_elements: word(self.logits.tensor().len()),
            vocab: word(self.logits.vocab()),
            pad0: 0,
            pad1: 0,
        };
        let bindings = [self.state.read(), self.logits.tensor().write()];
        let grid = Grid::linear(self.logits.tensor().len(), WORKGROUP_SIZE)?;
        recorder.dispatch(&KEEP, &[], &params, &bindings, grid)?;
        Ok(())
    }

    /// One digit of the key, or of the token.
    fn pass(
        &self,
        recorder: &mut Recorder,
        by_token: bool,
        shift: u32,
        use_mass: bool,
        from_smallest: bool,
    ) -> Result<(), GpuSamplingError> {
        let (batch, n_groups) = (self.logits.batch(), self.logits.n_groups());
        let params = RadixHistogramParams {
            n_rows: word(batch),
            vocab: word(self.logits.vocab()),
            n_groups: word(n_groups),
            by_token: u32::from(by_token),
            shift,
            use_mass: u32::from(use_mass),
            pad0: 0,
            pad1: 0,
        };
        let bindings = [
            self.logits.tensor().read(),
            self.extent.read(),
            self.state.read(),
            self.buckets.write(),
        ];
        let grid = Grid::linear(batch * n_groups, 1)?;
        recorder.dispatch(&RADIX_HISTOGRAM, &[], &params, &bindings, grid)?;
        let params = RadixSelectParams {
            n_rows: word(batch),
            n_groups: word(n_groups),
            word: if by_token { 2 } else { 0 },
            shift,
            use_mass: u32::from(use_mass),
            from_smallest: u32::from(from_smallest),
            pad0: 0,
            pad1: 0,
        };
        let bindings = [self.buckets.read(), self.state.write()];
        recorder.dispatch(
            &RADIX_SELECT,
            &[],
            &params,
            &bindings,
            Grid::linear(batch, 1)?,
        )?;
        Ok(())
    }
}
