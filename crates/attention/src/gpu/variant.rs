//! Which kernel computes a forward pass.

use llm_gpu::{Capabilities, GpuError};

use super::plan::Sizes;
use crate::AttentionError;

/// Which kernel computes a forward pass, and in which precision: f32, or factors in f16, which a caller has to ask for.
///
/// A single query of each head in [`flash`](super::flash), and pages, are computed in f32 whatever the variant: they wait for memory, and would
/// not be faster. There [`F16`](Self::F16) and [`F16Matrices`](Self::F16Matrices) are [`Auto`](Self::Auto).
/// [`score_mods`](super::score_mods) and [`varlen`](super::varlen) have the variant's kernel for single queries too. Backward passes have one
/// kernel each, in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Variant {
    /// Everything in f32: [`Subgroups`](Self::Subgroups) where it can be had, [`Base`](Self::Base) elsewhere. So results of two devices
    /// may differ by rounding.
    #[default]
    Auto,
    /// Everything in f32, on every device that has WebGPU.
    Base,
    /// Everything in f32, with loads of four numbers and sums across subgroups.
    ///
    /// Needs subgroups of 4 to 64 lanes for decode steps and pages, of 8 to 64 otherwise, and a `head_dim` and `value_dim` in
    /// multiples of 4.
    Subgroups,
    /// Queries, keys and values are rounded to f16, an error of at most 2⁻¹¹ of each (and what is beyond 65504 becomes that); weights
    /// and all sums are in f32. So the result is that of [`Subgroups`](Self::Subgroups) for rounded inputs.
    ///
    /// Needs f16, and what [`Subgroups`](Self::Subgroups) needs.
    F16,
    /// As [`F16`](Self::F16), with both products in cooperative matrices (tensor cores), and the weights rounded to f16 too where they
    /// meet the values, which adds an error of at most 2⁻¹¹ of the largest value. All sums are in f32.
    ///
    /// Needs a device that was asked for [`cooperative_matrices`](llm_gpu::GpuOptions::cooperative_matrices) and has them with factors
    /// in f16 and sums in f32, 8 × 8 × 8, or 16 × 16 × 16 with subgroups of 32 lanes or more; 27.0 KiB of workgroup memory; and what
    /// [`F16`](Self::F16) needs.
    F16Matrices,
}

/// The kernel for many queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Base,
    Subgroups,
    F16,
    Matrices8,
    Matrices16,
}

impl Variant {
    /// The kernel for many queries.
    pub(super) fn choice(
        self,
        capabilities: &Capabilities,
        sizes: &Sizes,
    ) -> Result<Choice, AttentionError> {
        let subgroups = subgroups(capabilities, 8);
        match self {
            Self::Base => Ok(Choice::Base),
            Self::Auto => Ok(match subgroups {
                Some(_) if in_fours(sizes) => Choice::Subgroups,
                _ => Choice::Base,
            }),
            Self::Subgroups | Self::F16 | Self::F16Matrices => {
                expect_fours(sizes)?;
                let lacks = || self.lacks("subgroups of 8 to 64 lanes");
                let smallest = subgroups.ok_or_else(lacks)?;
                // That f16 and cooperative matrices are there is checked where the kernel is recorded.
                match self {
                    Self::F16 => Ok(Choice::F16),
                    Self::F16Matrices => self.matrices(capabilities, smallest),
                    _ => Ok(Choice::Subgroups),
                }
            }
        }
    }

    /// The lanes of the smallest subgroup if a decode step uses subgroups, `None` if it takes the base kernel.
    pub(super) fn decode_lanes(
        self,
        capabilities: &Capabilities,
        sizes: &Sizes,
    ) -> Result<Option<u32>, AttentionError> {
        let subgroups = subgroups(capabilities, 4);
        match self {
            Self::Base => Ok(None),
            Self::Auto | Self::F16 | Self::F16Matrices => Ok(subgroups.filter(|_| in_fours(sizes))),
            Self::Subgroups => {
                expect_fours(sizes)?;
                let lacks = || self.lacks("subgroups of 4 to 64 lanes");
                subgroups.ok_or_else(lacks).map(Some)
            }
        }
    }

    /// The larger of the shapes that the kernel is there for. Each subgroup of its workgroup needs a pair of matrices of its own, of
    /// 4 or 16 pairs.
    fn matrices(
        self,
        capabilities: &Capabilities,
        smallest: u32,
    ) -> Result<Choice, AttentionError> {
        let has = |n: u32| {
            smallest >= if n == 16 { 32 } else { 8 }
                && capabilities.cooperative_matrices.iter().any(|shape| {
                    [shape.m, shape.n, shape.k] == [n; 3]
                        && shape.factors == "F16"
                        && shape.sum == "F32"
                })
        };
        match (has(16), has(8)) {
            (true, _) => Ok(Choice::Matrices16),
            (false, true) => Ok(Choice::Matrices8),
            (false, false) => {
                Err(self.lacks("cooperative matrices of f16 with sums in f32, 8 or 16 on a side"))
            }
        }
    }

    fn lacks(self, feature: &'static str) -> AttentionError {
        let what = match self {
            Self::Auto => "Variant::Auto",
            Self::Base => "Variant::Base",
            Self::Subgroups => "Variant::Subgroups",
            Self::F16 => "Variant::F16",
            Self::F16Matrices => "Variant::F16Matrices",
        };
        AttentionError::Gpu(GpuError::UnsupportedFeature { feature, what })
    }
}

/// The lanes of the smallest subgroup, if all sizes are between `lanes` and the 64 of a workgroup.
fn subgroups(capabilities: &Capabilities, lanes: u32) -> Option<u32> {
    let (smallest, largest) = capabilities.subgroups?;
    let fills = smallest.is_power_of_two() && largest.is_power_of_two() && largest <= 64;
    (fills && smallest >= lanes).then_some(smallest)
}

fn in_fours(sizes: &Sizes) -> bool {
    let fits = |n: usize| n > 0 && n.is_multiple_of(4);
    fits(sizes.head_dim) && fits(sizes.value_dim)
}

fn expect_fours(sizes: &Sizes) -> Result<(), AttentionError> {
    if in_fours(sizes) {
        return Ok(());
    }
    Err(AttentionError::VectorFeatures {
        head_dim: sizes.head_dim,
        value_dim: sizes.value_dim,
    })
}
