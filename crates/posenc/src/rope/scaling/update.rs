//! What a model does to its frequencies while its sequences grow and shrink.

use super::{RopeFrequencies, RopeScaling, frequencies};
use crate::PosencError;
use crate::memory::check_size;
use crate::rope::RopeConfig;

/// The frequencies of one forward pass after the other, as a model of transformers keeps them.
///
/// A model holds one set of frequencies. Before each pass over `n = lengths[i]` tokens (largest position plus one):
///
/// - `DynamicNtk`: if `n` is above the longest length so far, the frequencies of `n` replace
///   them; if `n` is below `max_position_embeddings`, the plain ones do, and the longest
///   length is forgotten. In between, and at `max_position_embeddings` itself, the
///   frequencies of the longest length stay, so that a shorter sequence does not get those
///   that [`frequencies`] gives for it.
/// - `LongRope`: the long or the short set, by `n` alone.
/// - all others: the same in each pass.
///
/// Cached keys keep the frequencies that they were rotated with: after a change they no longer fit the queries.
///
/// # Shapes
///
/// - `lengths`: one for each pass
/// - returns: one for each pass
///
/// # Errors
///
/// - [`PosencError::TooLarge`] if there is no memory for the frequencies of all passes.
/// - As [`frequencies`].
///
/// # Precision
///
/// As [`frequencies`].
///
/// # Example
///
/// ```
/// use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeScaling};
///
/// let config = RopeConfig::new(8, RopePairing::HalfSplit);
/// let scaling = RopeScaling::DynamicNtk { factor: 2.0, max_position_embeddings: 16 };
/// let passes = rope::update_sequence(&config, &scaling, &[10, 40, 20, 16, 15])?;
/// assert_eq!(passes[0].inv_freq, rope::inv_freq(&config)?);
/// assert_eq!(passes[2], passes[1]); // 20 is below 40
/// assert_eq!(passes[3], passes[1]); // 16 is not below 16
/// assert_eq!(passes[4], passes[0]);
/// # Ok::<(), llm_posenc::PosencError>(())
/// ```
///
/// Source: `dynamic_rope_update` of transformers 5.23 (`modeling_rope_utils`).
pub fn update_sequence(
    config: &RopeConfig,
    scaling: &RopeScaling,
    lengths: &[usize],
) -> Result<Vec<RopeFrequencies>, PosencError> {
    let first = frequencies(config, scaling, None)?;
    let (rows, columns) = (lengths.len(), first.inv_freq.len());
    let too_large = PosencError::TooLarge { rows, columns };
    // With what an allocator adds to each of many small lists.
    let bytes = size_of::<RopeFrequencies>() + columns * size_of::<f64>() + 32;
    check_size::<u8>(rows, bytes).map_err(|_| too_large.clone())?;
    let mut passes = Vec::new();
    passes.try_reserve_exact(rows).map_err(|_| too_large)?;
    let RopeScaling::DynamicNtk {
        max_position_embeddings: original,
        ..
    } = *scaling
    else {
        for &length in lengths {
            passes.push(frequencies(config, scaling, Some(length))?);
        }
        return Ok(passes);
    };
    let (mut held, mut longest) = (first.clone(), original);
    for &length in lengths {
        if length > longest {
            held = frequencies(config, scaling, Some(length))?;
            longest = length;
        } else if length < original && longest > original {
            held = first.clone();
            longest = original;
        }
        passes.push(held.clone());
    }
    Ok(passes)
}
