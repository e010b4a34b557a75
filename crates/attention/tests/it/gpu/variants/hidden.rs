//! Whole tiles of 32 keys that a mask hides from all queries, alone and side by side: no other tile is skipped with them.

use llm_attention::gpu::score_mods::{self, GpuScoreMods};
use llm_attention::{AttentionConfig, Mask, MaskPolarity, ScoreMods, reference};
use ndarray::Array4;

use super::super::{upload, wide, wide_lse};
use super::{F16, MATRICES, SUBGROUPS, Tested, case};
use crate::cases::{Case, Sizes};

fn check(tested: Tested) {
    let Some(gpu) = tested.gpu() else { return };
    let sizes = Sizes {
        batch: 1,
        n_heads: 2,
        n_kv_heads: 1,
        seq: 33,
        kv_seq: 130,
        head_dim: 8,
        value_dim: 4,
    };
    let config = AttentionConfig::new(Mask::Full);
    let Case { q, k, v, .. } = case(sizes, config, 13);
    for hidden in [0..32, 32..64, 0..64, 64..96, 0..96, 32..128] {
        let mask = Array4::from_shape_fn((1, 1, 1, 130), |(.., j)| hidden.contains(&j));
        let mods = ScoreMods::new().with_mask(&mask, MaskPolarity::TrueHides);
        let (want, want_lse) = reference::score_mods::forward(&q, &k, &v, &mods, &config).unwrap();
        let [q, k, v] = [&q, &k, &v].map(|x| upload(&gpu, x));
        let mask = gpu.upload(&mask.mapv(u32::from)).unwrap();
        let mods = GpuScoreMods::new().with_mask(&mask, MaskPolarity::TrueHides);
        let (mut r, variant) = (gpu.recorder(), tested.variant);
        let (out, lse) =
            score_mods::forward_with(&mut r, &q, &k, &v, &mods, &config, variant).unwrap();
        r.submit().unwrap();
        let got = [wide(&out), wide_lse(&lse)];
        if let Err(error) = tested.close(got, [want.into_dyn(), want_lse.into_dyn()]) {
            panic!("keys {hidden:?} hidden: {error}");
        }
    }
}

#[test]
fn subgroups_skip_hidden_tiles_only() {
    check(SUBGROUPS);
}

#[test]
fn f16_skips_hidden_tiles_only() {
    check(F16);
}

#[test]
fn matrices_skip_hidden_tiles_only() {
    check(MATRICES);
}
