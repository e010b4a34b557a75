//! Grids, and their places in shaders.

use llm_gpu::testing::gpu;
use llm_gpu::{GpuError, Grid, MAX_WORKGROUPS};
use ndarray::ArrayD;
use proptest::prelude::*;

use crate::kernels::{INDEX, IndexParams};

proptest! {
    /// Enough workgroups, each dimension within the limit, and fewer too many than there are rows.
    #[test]
    fn a_linear_grid_covers_its_items(
        items in prop_oneof![0..1000_usize, 0..=u32::MAX as usize, (u32::MAX as usize - 70_000)..=u32::MAX as usize],
        items_per_workgroup in prop_oneof![Just(1_u32), 1..300_u32, any::<u32>().prop_map(|n| n.max(1))],
    ) {
        let grid = Grid::linear(items, items_per_workgroup).unwrap();
        let [x, y, z] = grid.workgroups().map(u64::from);
        let needed = (items as u64).div_ceil(u64::from(items_per_workgroup));
        prop_assert!([x, y, z].iter().all(|n| *n <= u64::from(MAX_WORKGROUPS)));
        prop_assert!(x * y * z >= needed);
        prop_assert!(x * y * z < needed + y * z || needed == 0);
        prop_assert_eq!(grid.is_empty(), items == 0);
    }
}

#[test]
fn a_grid_as_it_is() {
    let grid = Grid::xyz(65_535, 2, 65_535).unwrap();
    assert_eq!(grid.workgroups(), [65_535, 2, 65_535]);
    assert!(!grid.is_empty());
    assert!(Grid::xyz(3, 0, 5).unwrap().is_empty());
}

#[test]
fn each_workgroup_of_a_folded_grid_has_an_index_of_its_own() {
    let Some(gpu) = gpu() else { return };
    for n in [1, 65_535, 65_536, 131_071, 200_003] {
        let visits = gpu.zeros::<u32>(&[n]).unwrap();
        let grid = Grid::linear(n, 1).unwrap();
        assert_eq!(grid.workgroups()[1] > 1, n > 65_535, "{n}");
        let mut recorder = gpu.recorder();
        let params = IndexParams { n: n as u32 };
        recorder
            .dispatch(&INDEX, &[], &params, &[visits.write()], grid)
            .unwrap();
        recorder.submit().unwrap();
        let want = ArrayD::from_elem(vec![n], 1);
        assert_eq!(visits.download_blocking().unwrap(), want, "{n}");
    }
}

#[test]
fn an_empty_grid_dispatches_nothing_but_is_checked() {
    let Some(gpu) = gpu() else { return };
    let visits = gpu.zeros::<u32>(&[0]).unwrap();
    let grid = Grid::linear(0, 1).unwrap();
    let mut recorder = gpu.recorder();
    let params = IndexParams { n: 0 };
    recorder
        .dispatch(&INDEX, &[], &params, &[visits.write()], grid)
        .unwrap();
    let error = recorder.dispatch(&INDEX, &[], &params, &[visits.read()], grid);
    assert!(matches!(error, Err(GpuError::BindingAccess { .. })));
    recorder.submit().unwrap();
    assert_eq!(visits.download_blocking().unwrap().shape(), [0]);
}
