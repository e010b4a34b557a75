//! One test for each error variant.

mod scaling;

use llm_posenc::PosencError;
use llm_posenc::rope::axes::{self, MropeVariant, VisionAxes};
use llm_posenc::rope::chatglm::{self, ChatGlmTable};
use llm_posenc::rope::permute::{self, RopePermutation};
use llm_posenc::rope::{self, MAX_ROTARY_DIM, RopeConfig, RopePairing, RopeTable};
use ndarray::{Array1, Array2, Array3, Array4, array};

const PAIRING: RopePairing = RopePairing::HalfSplit;

#[test]
fn rotary_dim_must_be_even_positive_and_sane() {
    for got in [0, 1, 7, MAX_ROTARY_DIM + 2, usize::MAX, usize::MAX - 1] {
        let error = rope::inv_freq(&RopeConfig::new(got, PAIRING)).unwrap_err();
        assert_eq!(error, PosencError::RotaryDim { got });
    }
    let largest = RopeConfig::new(MAX_ROTARY_DIM, PAIRING);
    assert_eq!(rope::inv_freq(&largest).unwrap().len(), MAX_ROTARY_DIM / 2);
    let message = PosencError::RotaryDim { got: 7 }.to_string();
    assert_eq!(message, "rotary_dim must be even and in 2..=65536, got 7");
}

#[test]
fn base_must_make_wavelengths_grow() {
    for got in [1.0, 0.0, -10.0, f64::INFINITY] {
        let config = RopeConfig::new(4, PAIRING).with_base(got);
        assert_eq!(rope::inv_freq(&config), Err(PosencError::Base { got }));
    }
    let config = RopeConfig::new(4, PAIRING).with_base(f64::NAN);
    let error = rope::inv_freq(&config).unwrap_err();
    assert!(matches!(error, PosencError::Base { got } if got.is_nan()));
}

#[test]
fn inv_freq_must_be_finite() {
    let error = RopeTable::new(&array![1.0, f64::INFINITY], &array![0], 1.0).unwrap_err();
    let got = f64::INFINITY;
    assert_eq!(error, PosencError::InvFreq { index: 1, got });
}

#[test]
fn angles_must_be_finite() {
    let error = RopeTable::from_angles(&array![[0.0], [f64::NEG_INFINITY]], 1.0).unwrap_err();
    let (index, got) = ([1, 0], f64::NEG_INFINITY);
    assert_eq!(error, PosencError::Angle { index, got });
}

#[test]
fn attention_factor_must_be_finite() {
    let got = f64::INFINITY;
    let error = RopeTable::new(&array![1.0], &array![0], got).unwrap_err();
    assert_eq!(error, PosencError::AttentionFactor { got });
    // Also as the number that the table has: the largest `f32` is 3.4e38.
    for got in [got, f64::NEG_INFINITY, 1e39, -1e39] {
        let error = RopeTable::from_angles(&array![[1.0]], got).unwrap_err();
        assert_eq!(error, PosencError::AttentionFactor { got });
    }
    let largest = f64::from(f32::MAX);
    let table = RopeTable::from_angles(&array![[0.0]], largest).unwrap();
    assert_eq!(table.cos()[[0, 0]], f32::MAX);
}

#[test]
fn positions_must_be_exact_and_their_angles_finite() {
    let got = (1 << 53) + 1;
    let error = RopeTable::new(&array![1.0], &array![1 << 53, got], 1.0).unwrap_err();
    assert_eq!(error, PosencError::Position { index: 1, got });
    let error = RopeTable::new(&array![f64::MAX], &array![2], 1.0).unwrap_err();
    assert_eq!(error, PosencError::Position { index: 0, got: 2 });
}

#[test]
fn table_must_fit_the_sequence() {
    let config = RopeConfig::new(4, PAIRING);
    let table = RopeTable::from_config(&config, &array![0, 1]).unwrap();
    let mut x = Array4::<f32>::ones((1, 1, 3, 4));
    let want = PosencError::TableRows {
        seq: 3,
        batch: 1,
        got: 2,
    };
    assert_eq!(rope::apply(&x, &table, PAIRING).unwrap_err(), want);
    assert_eq!(rope::backward(&x, &table, PAIRING).unwrap_err(), want);
    assert_eq!(
        rope::apply_inplace(&mut x, &table, PAIRING),
        Err(want.clone())
    );
    assert_eq!(
        rope::backward_inplace(&mut x, &table, PAIRING),
        Err(want.clone())
    );
    assert_eq!(x, Array4::<f32>::ones((1, 1, 3, 4)), "x must be unchanged");
}

#[test]
fn positions_must_fit_the_sequence() {
    let config = RopeConfig::new(4, PAIRING);
    let x = Array4::<f32>::ones((2, 1, 5, 4));
    for got in [0, 4, 6, 10] {
        let positions: Array1<usize> = (0..got).collect();
        let error = rope::apply_at(&x, &positions, &config).unwrap_err();
        assert_eq!(error, PosencError::PositionsLen { seq: 5, got });
    }
    let message = PosencError::PositionsLen { seq: 5, got: 4 }.to_string();
    assert_eq!(message, "positions must have length 5 (seq), got 4");
}

#[test]
fn rotary_dim_must_fit_the_head() {
    let config = RopeConfig::new(8, PAIRING);
    let x = Array4::<f64>::ones((1, 1, 1, 7));
    let error = rope::apply_at(&x, &array![0], &config).unwrap_err();
    let want = PosencError::RotaryDimAboveHeadDim {
        rotary_dim: 8,
        head_dim: 7,
    };
    assert_eq!(error, want);
}

#[test]
fn results_must_fit_into_memory() {
    // Arrays that repeat one element can be longer than memory.
    let (rows, columns) = (1 << 61, 1);
    let one = Array2::<f64>::zeros((1, 1));
    let x = one.broadcast((1, 1, rows, columns)).unwrap();
    let table = RopeTable::from_angles(&Array2::zeros((1, 0)), 1.0).unwrap();
    let x = x.permuted_axes([2, 0, 1, 3]);
    let error = rope::apply(&x, &table, PAIRING).unwrap_err();
    assert_eq!(error, PosencError::TooLarge { rows, columns });
}

#[test]
fn table_rows_name_sequence_and_batch() {
    let inv_freq = array![1.0];
    let table = RopeTable::for_batch(&inv_freq, &array![[0, 1], [2, 3]], 1.0).unwrap();
    let x = Array4::<f32>::ones((3, 1, 2, 2));
    let error = rope::apply(&x, &table, PAIRING).unwrap_err();
    let (seq, batch, got) = (2, 3, 4);
    assert_eq!(error, PosencError::TableRows { seq, batch, got });
    let message = "the table must have seq = 2 rows, or one for each of the batch of 3, got 4";
    assert_eq!(error.to_string(), message);
}

#[test]
fn tables_need_cosines_and_sines_that_fit() {
    let (two, three) = (Array2::zeros((1, 2)), Array2::zeros((1, 3)));
    let (cos, sin) = ([1, 2], [1, 3]);
    let error = RopeTable::from_cos_sin(&two, &three).unwrap_err();
    assert_eq!(error, PosencError::TableShapes { cos, sin });
    let bad = array![[0.0, f32::INFINITY]];
    let (index, got) = ([0, 1], f32::INFINITY);
    let want = Err(PosencError::TableValue { index, got });
    assert_eq!(RopeTable::from_cos_sin(&bad, &two), want);
    assert_eq!(RopeTable::from_cos_sin(&two, &bad), want);
}

#[test]
fn batch_positions_are_checked_like_others() {
    let got = usize::MAX;
    let error = RopeTable::for_batch(&array![1.0], &array![[1, 2], [3, got]], 1.0).unwrap_err();
    assert_eq!(error, PosencError::Position { index: 3, got });
    let one = Array2::<usize>::zeros((1, 1));
    let (rows, columns) = (1 << 62, 1);
    let long = one.broadcast((1 << 31, 1 << 31)).unwrap();
    let error = RopeTable::for_batch(&array![1.0], &long, 1.0).unwrap_err();
    assert_eq!(error, PosencError::TooLarge { rows, columns });
    let none = one.broadcast((usize::MAX >> 1, 1)).unwrap();
    let none = none.slice(ndarray::s![.., ..0]);
    let table = RopeTable::for_batch(&array![1.0], &none, 1.0).unwrap();
    assert_eq!(table.rows(), 0);
}

#[test]
fn sections_must_cover_the_planes() {
    let error = |n_planes, sections: &[usize], variant| {
        axes::mrope_planes(n_planes, sections, variant).unwrap_err()
    };
    let want = |n_planes, sum, count| PosencError::MropeSections {
        n_planes,
        sum,
        count,
    };
    let (chunked, interleaved) = (MropeVariant::Chunked, MropeVariant::Interleaved);
    assert_eq!(error(8, &[2, 3, 2], chunked), want(8, 7, 3));
    assert_eq!(error(8, &[2, 3, 2], interleaved), want(8, 7, 3));
    assert_eq!(error(8, &[2, 3, 2, 1], interleaved), want(8, 8, 4));
    assert_eq!(error(8, &[usize::MAX, 9], chunked), want(8, usize::MAX, 2));
}

#[test]
fn positions_must_have_the_axes_of_the_method() {
    let positions = Array3::zeros((2, 1, 1));
    let error = axes::mrope_table(&array![1.0], &positions, &[1], MropeVariant::Chunked, 1.0);
    let (expected, got) = (3, 2);
    assert_eq!(error, Err(PosencError::PositionAxes { expected, got }));
    let config = RopeConfig::new(4, PAIRING);
    let error = axes::vision_table(&config, &array![[0, 0, 0]], VisionAxes::SameFrequencies);
    let (expected, got) = (2, 3);
    assert_eq!(error, Err(PosencError::PositionAxes { expected, got }));
}

#[test]
fn axes_refuse_bad_numbers() {
    let positions = Array3::from_elem((3, 1, 1), usize::MAX);
    let table = |inv_freq: &Array1<f64>, positions: &Array3<usize>, factor| {
        axes::mrope_table(inv_freq, positions, &[1], MropeVariant::Chunked, factor).unwrap_err()
    };
    let got = usize::MAX;
    let want = PosencError::Position { index: 0, got };
    assert_eq!(table(&array![1.0], &positions, 1.0), want);
    let (index, got) = (0, f64::INFINITY);
    let want = PosencError::InvFreq { index, got };
    assert_eq!(table(&array![got], &positions, 1.0), want);
    let want = PosencError::AttentionFactor { got };
    assert_eq!(table(&array![1.0], &Array3::zeros((3, 1, 1)), got), want);
    let (rows, columns) = (usize::MAX, 2);
    let error = axes::grid(rows, columns).unwrap_err();
    assert_eq!(error, PosencError::TooLarge { rows, columns });
}

#[test]
fn quarters_need_multiples_of_four() {
    let config = RopeConfig::new(6, PAIRING);
    let want = Err(PosencError::Quarters { got: 6 });
    assert_eq!(
        axes::vision_table(&config, &array![[0, 0]], VisionAxes::SameFrequencies),
        want
    );
    let zeros = array![[0]];
    let (multiple, max) = (4, 2 * MAX_ROTARY_DIM);
    for got in [0, 2, 6, max + 4, 1 << 20] {
        let error = ChatGlmTable::new(got, &zeros, &zeros).unwrap_err();
        assert_eq!(error, PosencError::HeadDim { multiple, max, got });
    }
    let table = ChatGlmTable::new(max, &zeros, &zeros).unwrap();
    assert_eq!(table.positions().rotary_dim(), MAX_ROTARY_DIM);
    let got = 1 << 20;
    assert_eq!(
        PosencError::HeadDim { multiple, max, got }.to_string(),
        "head_dim must be a multiple of 4 in 4..=131072, got 1048576"
    );
}

#[test]
fn chatglm_positions_must_fit() {
    let error = ChatGlmTable::new(8, &array![[0, 1]], &array![[0]]).unwrap_err();
    let (positions, block_positions) = ([1, 2], [1, 1]);
    let want = PosencError::PositionShapes {
        positions,
        block_positions,
    };
    assert_eq!(error, want);
    let error = chatglm::positions_v1(3, 3, 5).unwrap_err();
    let (context, got) = (3, 3);
    assert_eq!(error, PosencError::MaskPosition { context, got });
    let error = chatglm::positions_v1(1, 0, usize::MAX).unwrap_err();
    let (rows, columns) = (1, usize::MAX);
    assert_eq!(error, PosencError::TooLarge { rows, columns });
}

#[test]
fn chatglm_tables_are_for_one_head_size() {
    let table = ChatGlmTable::new(8, &array![[0, 1]], &array![[0, 0]]).unwrap();
    let (expected, got) = (8, 12);
    let want = PosencError::ChatGlmHeadDim { expected, got };
    let mut x = Array4::<f32>::ones((1, 1, 2, 12));
    assert_eq!(chatglm::apply_v1(&x, &table).unwrap_err(), want);
    assert_eq!(chatglm::backward_v1(&x, &table).unwrap_err(), want);
    assert_eq!(chatglm::apply_v1_inplace(&mut x, &table), Err(want.clone()));
    assert_eq!(
        chatglm::backward_v1_inplace(&mut x, &table),
        Err(want.clone())
    );
    let mut x = Array4::<f32>::ones((3, 1, 4, 8));
    let (seq, batch, got) = (4, 3, 2);
    let want = Err(PosencError::TableRows { seq, batch, got });
    assert_eq!(chatglm::apply_v1_inplace(&mut x, &table), want);
    assert_eq!(x, Array4::<f32>::ones((3, 1, 4, 8)), "x must be unchanged");
}

#[test]
fn permutations_need_whole_heads() {
    let new = |head_dim, rotary_dim| {
        RopePermutation::new(head_dim, rotary_dim, RopePairing::Interleaved, PAIRING)
    };
    assert_eq!(new(8, 3), Err(PosencError::RotaryDim { got: 3 }));
    assert_eq!(new(8, 0), Err(PosencError::RotaryDim { got: 0 }));
    let (rotary_dim, head_dim) = (10, 8);
    let want = PosencError::RotaryDimAboveHeadDim {
        rotary_dim,
        head_dim,
    };
    assert_eq!(new(8, 10), Err(want.clone()));
    let (rows, columns) = (1, usize::MAX);
    let want = PosencError::TooLarge { rows, columns };
    assert_eq!(new(usize::MAX, 10), Err(want.clone()));

    let permutation = new(8, 4).unwrap();
    let (rows, head_dim) = (20, 8);
    let want = PosencError::PermuteRows { rows, head_dim };
    let weight = Array2::<f32>::zeros((20, 3));
    assert_eq!(permute::weight(&weight, &permutation).unwrap_err(), want);
    let bias = Array1::<f32>::zeros(20);
    assert_eq!(permute::bias(&bias, &permutation).unwrap_err(), want);
    let (expected, got) = (8, 6);
    let want = PosencError::PermuteHeadDim { expected, got };
    let x = Array4::<f32>::zeros((1, 1, 1, 6));
    assert_eq!(permute::unrotated(&x, &permutation).unwrap_err(), want);
    assert_eq!(permute::rotated(&x, &permutation).unwrap_err(), want);
}

#[test]
fn distances_must_fit_the_keys() {
    let mut k = Array4::<f32>::ones((1, 1, 3, 2));
    let mut refused = |distances: &[i64], inv_freq: f64, want| {
        let (distances, inv_freq) = (Array1::from(distances.to_vec()), array![inv_freq]);
        let error = rope::reposition(&k, &distances, &inv_freq, PAIRING).unwrap_err();
        assert_eq!(error, want);
        let error = rope::reposition_inplace(&mut k, &distances, &inv_freq, PAIRING);
        assert_eq!(error, Err(want.clone()));
    };
    let (seq, got) = (3, 2);
    refused(&[1, 2], 1.0, PosencError::Distances { seq, got });
    let (seq, got) = (3, 0);
    let want = PosencError::Distances { seq, got };
    assert_eq!(
        want.to_string(),
        "distances must have length 3 (seq) or 1, got 0"
    );
    refused(&[], 1.0, want);
    let message = PosencError::Distances { seq: 1, got }.to_string();
    assert_eq!(message, "distances must have length 1 (seq), got 0");
    let (index, got) = (1, i64::MIN);
    refused(&[1, got, 2], 1.0, PosencError::Distance { index, got });
    let (index, got) = (0, -2);
    refused(&[got], f64::MAX, PosencError::Distance { index, got });
    let (index, got) = (0, f64::INFINITY);
    refused(&[1], got, PosencError::InvFreq { index, got });
    assert_eq!(k, Array4::<f32>::ones((1, 1, 3, 2)), "k must be unchanged");
}

#[test]
fn distances_of_decay_are_positions() {
    let got = usize::MAX;
    let error = rope::decay(&array![1.0], &array![0, got]).unwrap_err();
    assert_eq!(error, PosencError::Position { index: 1, got });
    let (index, got) = (0, f64::INFINITY);
    let error = rope::decay(&array![got], &array![0]).unwrap_err();
    assert_eq!(error, PosencError::InvFreq { index, got });
}

/// 2^46 numbers fit into `isize` and into no memory.
#[test]
fn sizes_that_only_the_address_space_could_hold_are_refused() {
    let huge = 1_usize << 46;
    let refused = |rows, columns| PosencError::TooLarge { rows, columns };
    let (from, to) = (RopePairing::Interleaved, RopePairing::HalfSplit);
    let error = RopePermutation::new(huge, 4, from, to).unwrap_err();
    assert_eq!(error, refused(1, huge));
    let sections = [huge, 0, 0];
    let error = axes::mrope_planes(huge, &sections, MropeVariant::Chunked).unwrap_err();
    assert_eq!(error, refused(1, huge));
    assert_eq!(axes::grid(huge, 1).unwrap_err(), refused(huge, 2));
    let error = chatglm::positions_v1(1, 0, huge).unwrap_err();
    assert_eq!(error, refused(1, huge));
}
