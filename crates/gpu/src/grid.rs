//! How many workgroups a dispatch starts.

use crate::GpuError;

/// Most workgroups in one dimension: what every WebGPU device has to allow.
pub const MAX_WORKGROUPS: u32 = 65_535;

/// The workgroups of a dispatch, in three dimensions. If one of them is zero, nothing is dispatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    workgroups: [u32; 3],
}

impl Grid {
    /// Enough workgroups for `n_items`, when each does `items_per_workgroup` of them.
    ///
    /// ```text
    /// n_workgroups = ceil(n_items / items_per_workgroup)
    /// ```
    ///
    /// More than 65,535 workgroups are folded into several dimensions, with fewer workgroups too many than there are rows. The kernel
    /// finds its place with `linear_workgroup` or `linear_invocation` of the snippet [`LINEAR`](crate::snippet::LINEAR), and
    /// has to compare it with its number of items.
    ///
    /// # Errors
    ///
    /// [`GpuError::GridItems`] if there are more items than a `u32` can count, or none for each workgroup.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_gpu::Grid;
    ///
    /// assert_eq!(Grid::linear(1000, 64)?.workgroups(), [16, 1, 1]);
    /// assert_eq!(Grid::linear(70_000 * 64, 64)?.workgroups(), [35_000, 2, 1]);
    /// # Ok::<(), llm_gpu::GpuError>(())
    /// ```
    pub fn linear(n_items: usize, items_per_workgroup: u32) -> Result<Self, GpuError> {
        let refused = GpuError::GridItems {
            items: n_items,
            items_per_workgroup,
        };
        let Ok(items) = u32::try_from(n_items) else {
            return Err(refused);
        };
        if items_per_workgroup == 0 {
            return Err(refused);
        }
        let n = items.div_ceil(items_per_workgroup);
        if n == 0 {
            return Ok(Self { workgroups: [0; 3] });
        }
        // 2^32 workgroups need 65,538 rows of at most 65,535: then two planes of rows.
        let rows = n.div_ceil(MAX_WORKGROUPS);
        let planes = rows.div_ceil(MAX_WORKGROUPS);
        let rows = rows.div_ceil(planes);
        let workgroups = [n.div_ceil(rows * planes), rows, planes];
        Ok(Self { workgroups })
    }

    /// A grid as it is, for kernels that use the dimensions themselves.
    ///
    /// # Errors
    ///
    /// [`GpuError::Grid`] if a dimension is above 65,535.
    pub fn xyz(x: usize, y: usize, z: usize) -> Result<Self, GpuError> {
        let got = [x, y, z];
        let mut workgroups = [0; 3];
        for (to, from) in workgroups.iter_mut().zip(got) {
            *to = u32::try_from(from)
                .ok()
                .filter(|n| *n <= MAX_WORKGROUPS)
                .ok_or(GpuError::Grid {
                    limit: MAX_WORKGROUPS,
                    got,
                })?;
        }
        Ok(Self { workgroups })
    }

    /// The number of workgroups in x, y and z.
    #[must_use]
    pub fn workgroups(&self) -> [u32; 3] {
        self.workgroups
    }

    /// True if nothing is dispatched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.workgroups.contains(&0)
    }
}
