//! Memory that is asked for, and may be refused.

use ndarray::Array4;
use num_traits::Zero;

use crate::KvCacheError;

/// A vector with room for `n` elements, or the error.
pub(crate) fn reserve<T>(n: usize) -> Result<Vec<T>, KvCacheError> {
    let mut vec = Vec::new();
    vec.try_reserve_exact(n)
        .map_err(|_| KvCacheError::Allocation {
            bytes: n.saturating_mul(size_of::<T>()),
        })?;
    Ok(vec)
}

/// An array of zeros, or the error.
pub(crate) fn zeros<F: Clone + Zero>(axes: [usize; 4]) -> Result<Array4<F>, KvCacheError> {
    let element_bytes = size_of::<F>();
    let too_big = KvCacheError::Size {
        axes,
        element_bytes,
    };
    // Zero axes count as one: array strides must not overflow either.
    axes.iter()
        .try_fold(element_bytes, |bytes, &axis| bytes.checked_mul(axis.max(1)))
        .filter(|&bytes| isize::try_from(bytes).is_ok())
        .ok_or(too_big)?;
    let n = axes.iter().product();
    let mut data = reserve(n)?;
    data.resize(n, F::zero());
    Array4::from_shape_vec(axes, data).map_err(|_| too_big)
}
