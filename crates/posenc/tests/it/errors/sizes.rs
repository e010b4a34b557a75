//! Arrays whose shape says more than memory holds: views that repeat one element, and arrays without elements whose
//! other axes are long. The answer, a result or `TooLarge`, comes at once: nothing aborts and nothing walks along them.

use llm_numerics::half::bf16;
use llm_posenc::PosencError;
use llm_posenc::alibi::{self, AlibiOrigin};
use llm_posenc::kerple::{self, KerpleKernel};
use llm_posenc::learned::{self, PositionConvention};
use llm_posenc::positions::positions_in;
use llm_posenc::rope::axes::{self, MropeVariant, VisionAxes};
use llm_posenc::rope::chatglm::ChatGlmTable;
use llm_posenc::rope::permute::{self, RopePermutation};
use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeScaling, RopeTable};
use llm_posenc::sinusoidal::{self, SinusoidalConfig, SinusoidalExponent, SinusoidalLayout};
use llm_posenc::t5::{self, T5Config, T5Direction};
use ndarray::{Array1, Array2, Array3, Array4, array};

/// Elements that no memory holds, though an axis may have so many.
const LONG: usize = 1 << 50;

const fn refused(rows: usize, columns: usize) -> PosencError {
    PosencError::TooLarge { rows, columns }
}

fn permutation() -> RopePermutation {
    RopePermutation::new(4, 4, RopePairing::Interleaved, RopePairing::HalfSplit).unwrap()
}

#[test]
fn weights_without_columns_have_nothing_to_permute() {
    let weight = Array2::<f32>::zeros((LONG, 0));
    let permuted = permute::weight(&weight, &permutation()).unwrap();
    assert_eq!(permuted.dim(), (LONG, 0));
    let x = Array4::<f32>::zeros((LONG, 0, 1, 4));
    let permuted = permute::rotated(&x, &permutation()).unwrap();
    assert_eq!(permuted.dim(), x.dim());
}

#[test]
fn elements_without_a_size_count_as_one_byte() {
    let bias = Array1::from_elem(LONG, ());
    let error = permute::bias(&bias, &permutation()).unwrap_err();
    assert_eq!(error, refused(LONG, 1));
    let weight = Array2::from_elem((LONG, 2), ());
    let error = permute::weight(&weight, &permutation()).unwrap_err();
    assert_eq!(error, refused(LONG, 2));
    let x = Array4::from_elem((1, 1, LONG, 4), ());
    let error = permute::unrotated(&x, &permutation()).unwrap_err();
    assert_eq!(error, refused(LONG, 4));
    let short = Array2::from_elem((8, 2), ());
    let permuted = permute::weight(&short, &permutation()).unwrap();
    assert_eq!(permuted.dim(), (8, 2));
}

#[test]
fn repeated_weights_are_refused() {
    let one = Array2::<u8>::zeros((1, 1));
    let weight = one.broadcast((LONG, 1)).unwrap();
    let error = permute::weight(&weight, &permutation()).unwrap_err();
    assert_eq!(error, refused(LONG, 1));
    let bias = one.row(0);
    let bias = bias.broadcast(LONG).unwrap();
    let error = permute::bias(&bias, &permutation()).unwrap_err();
    assert_eq!(error, refused(LONG, 1));
}

#[test]
fn repeated_positions_of_several_axes_are_refused() {
    let one = Array3::<usize>::zeros((1, 1, 1));
    let table = |inv_freq: &Array1<f64>, shape, sections: &[usize]| {
        let positions = one.broadcast(shape).unwrap();
        axes::mrope_table(inv_freq, &positions, sections, MropeVariant::Chunked, 1.0)
    };
    let error = table(&array![1.0], (3, 1, LONG), &[1]).unwrap_err();
    assert_eq!(error, refused(LONG, 1));
    let error = table(&array![], (3, LONG, 1), &[]).unwrap_err();
    assert_eq!(error, refused(LONG, 1));
    assert_eq!(table(&array![1.0], (3, LONG, 0), &[1]).unwrap().rows(), 0);

    let config = RopeConfig::new(4, RopePairing::HalfSplit);
    let positions = one.broadcast((1, LONG, 2)).unwrap();
    let positions = positions.index_axis(ndarray::Axis(0), 0);
    let error = axes::vision_table(&config, &positions, VisionAxes::SameFrequencies).unwrap_err();
    assert_eq!(error, refused(LONG, 1));
}

#[test]
fn repeated_positions_of_tables_are_refused() {
    let one = Array2::<usize>::zeros((1, 1));
    let row = one.row(0);
    let positions = row.broadcast(LONG).unwrap();
    for inv_freq in [array![], array![1.0]] {
        let error = RopeTable::new(&inv_freq, &positions, 1.0).unwrap_err();
        assert_eq!(error, refused(LONG, 1));
        let batch = one.broadcast((LONG, 1)).unwrap();
        let error = RopeTable::for_batch(&inv_freq, &batch, 1.0).unwrap_err();
        assert_eq!(error, refused(LONG, 1));
    }
    let blocks = one.broadcast((1, LONG)).unwrap();
    let error = ChatGlmTable::new(4, &blocks, &blocks).unwrap_err();
    assert_eq!(error, refused(LONG, 1));
    let error = rope::decay(&array![1.0], &positions).unwrap_err();
    assert_eq!(error, refused(LONG, 1));
    let error = positions_in::<bf16>(&positions).unwrap_err();
    assert_eq!(error, refused(1, LONG));
}

#[test]
fn repeated_frequencies_are_refused() {
    let one = array![1.0];
    let inv_freq = one.broadcast(LONG).unwrap();
    let error = RopeTable::new(&inv_freq, &array![], 1.0).unwrap_err();
    assert_eq!(error, refused(1, LONG));
    let error = rope::decay(&inv_freq, &array![1]).unwrap_err();
    assert_eq!(error, refused(1, LONG));
    let k = Array4::<f32>::zeros((1, 1, 0, 2));
    let error = rope::reposition(&k, &array![1], &inv_freq, RopePairing::HalfSplit).unwrap_err();
    assert_eq!(error, refused(1, LONG));
}

#[test]
fn repeated_angles_cosines_and_sines_are_refused() {
    let one = Array2::<f64>::zeros((1, 1));
    let angles = one.broadcast((LONG, 1)).unwrap();
    let error = RopeTable::from_angles(&angles, 1.0).unwrap_err();
    assert_eq!(error, refused(LONG, 1));
    let one = Array2::<f32>::zeros((1, 1));
    let turns = one.broadcast((LONG, 1)).unwrap();
    let error = RopeTable::from_cos_sin(&turns, &turns).unwrap_err();
    assert_eq!(error, refused(LONG, 1));
    let none = Array2::<f64>::zeros((LONG, 0));
    assert_eq!(RopeTable::from_angles(&none, 1.0).unwrap().rows(), LONG);
}

#[test]
fn repeated_distances_are_refused() {
    let one = array![1_i64];
    let distances = one.broadcast(LONG).unwrap();
    let k = Array4::<f32>::zeros((1, 0, LONG, 2));
    for inv_freq in [array![], array![1.0]] {
        let pairing = RopePairing::HalfSplit;
        let error = rope::reposition(&k, &distances, &inv_freq, pairing).unwrap_err();
        assert_eq!(error, refused(LONG, 1));
    }
    let one = array![1.0];
    let distances = one.broadcast(LONG).unwrap();
    let (layout, exponent) = (
        SinusoidalLayout::Interleaved,
        SinusoidalExponent::TwoIOverDim,
    );
    let config = SinusoidalConfig::new(4, layout, exponent);
    let error = sinusoidal::decay(&distances, &config).unwrap_err();
    assert_eq!(error, refused(1, LONG));
    let one = array![1];
    let positions = one.broadcast(LONG).unwrap();
    let error = sinusoidal::encode(&positions, &config).unwrap_err();
    assert_eq!(error, refused(LONG, 1));
}

#[test]
fn masks_without_columns_have_no_positions() {
    let conventions = [
        PositionConvention::Index { offset: 0 },
        PositionConvention::TokenCount,
        PositionConvention::Opt { offset: 2 },
        PositionConvention::Roberta { padding_idx: 1 },
    ];
    let none = Array2::from_elem((LONG, 0), true);
    let one = Array2::from_elem((1, 1), true);
    let cached = one.broadcast((1, LONG)).unwrap();
    for convention in conventions {
        let positions = learned::positions(&none, 0, convention).unwrap();
        assert_eq!(positions.dim(), (LONG, 0));
        let positions = learned::positions(&cached, LONG, convention).unwrap();
        assert_eq!(positions.dim(), (1, 0));
        let error = learned::positions(&cached, LONG - 1, convention).unwrap_err();
        assert_eq!(error, refused(1, LONG));
    }
}

#[test]
fn repeated_positions_of_learned_tables_are_refused() {
    let one = Array2::<usize>::zeros((1, 1));
    let positions = one.broadcast((LONG, 1)).unwrap();
    let want = refused(LONG, 1);
    let table = Array2::<f32>::zeros((1, 0));
    let error = learned::embed(&table, &positions).unwrap_err();
    assert_eq!(error, want);
    let mut x = Array3::<f32>::zeros((LONG, 1, 0));
    let error = learned::add_inplace(&mut x, &table, &positions).unwrap_err();
    assert_eq!(error, want);
    let error = learned::backward(&x, &positions, 1).unwrap_err();
    assert_eq!(error, want);
    let none = Array2::zeros((LONG, 0));
    let out = learned::embed(&table, &none).unwrap();
    assert_eq!(out.dim(), (LONG, 0, 0));
}

#[test]
fn arrays_without_elements_are_rotated_at_once() {
    let table = RopeTable::from_angles(&array![[1.0]], 1.0).unwrap();
    let mut x = Array4::<f32>::zeros((LONG, 0, 1, 2));
    for pairing in [RopePairing::Interleaved, RopePairing::HalfSplit] {
        assert_eq!(rope::apply(&x, &table, pairing).unwrap().dim(), x.dim());
        rope::apply_inplace(&mut x, &table, pairing).unwrap();
    }
}

/// A list of lengths that fits, of passes that do not.
#[test]
fn passes_must_fit_in_memory() {
    let config = RopeConfig::new(rope::MAX_ROTARY_DIM, RopePairing::HalfSplit);
    let is_promised = Vec::<f64>::new().try_reserve_exact(1 << 39).is_ok();
    if is_promised {
        return; // a system that promises 4 TiB, and would not keep it
    }
    let lengths = vec![0; 1 << 24];
    let error = rope::update_sequence(&config, &RopeScaling::Default, &lengths).unwrap_err();
    assert_eq!(error, refused(1 << 24, 1 << 15));
}

#[test]
fn biases_without_entries_have_any_length() {
    let origin = AlibiOrigin::SignedDistance;
    for shape in [(0, LONG), (LONG, 0)] {
        let (seq, kv_seq) = shape;
        let distances = alibi::distances(seq, kv_seq, origin).unwrap();
        assert_eq!(distances.dim(), shape);
        let bias = alibi::bias(&array![1.0_f32], seq, kv_seq, origin).unwrap();
        assert_eq!(bias.dim(), (1, seq, kv_seq));
    }
    let mask = Array2::from_elem((LONG, 0), true);
    let positions = alibi::key_positions(&mask).unwrap();
    assert_eq!(positions.dim(), (LONG, 0));
}

#[test]
fn repeated_gradients_of_biases_are_refused() {
    let config = T5Config::new(4, 8, T5Direction::Causal).unwrap();
    let one = Array3::<f32>::zeros((1, 1, 1));
    let r = array![1.0_f32];
    // Their `seq + kv_seq` sums fit, all but the second time.
    for shape in [[1, 1 << 25, 1 << 25], [1, LONG, 1], [1, 1 << 45, 32]] {
        let dbias = one.broadcast(shape).unwrap();
        let dbias = dbias.into_dimensionality().unwrap();
        let want = PosencError::BiasTooLarge { shape };
        for origin in [AlibiOrigin::KeyIndex, AlibiOrigin::SignedDistance] {
            let error = alibi::backward(&dbias, origin).unwrap_err();
            assert_eq!(error, want);
        }
        assert_eq!(t5::backward(&dbias, 0, &config).unwrap_err(), want);
        let error = kerple::backward(&dbias, &r, &r, KerpleKernel::Power).unwrap_err();
        assert_eq!(error, want);
    }
    for shape in [(1, LONG, 0), (1, 0, LONG)] {
        let none = Array3::<f32>::zeros(shape);
        let dslopes = alibi::backward(&none, AlibiOrigin::SignedDistance).unwrap();
        assert_eq!(dslopes, array![0.0]);
        assert_eq!(t5::backward(&none, 0, &config).unwrap().sum(), 0.0);
    }
}

#[test]
fn repeated_gradients_at_key_positions_are_refused() {
    let one = Array4::<f32>::zeros((1, 1, 1, 1));
    let position = Array2::<usize>::zeros((1, 1));
    for (batch, seq, kv_seq) in [(1, 1 << 40, 1 << 10), (LONG, 1, 1), (1, 1, LONG)] {
        let dbias = one.broadcast((batch, 1, seq, kv_seq)).unwrap();
        let positions = position.broadcast((batch, kv_seq)).unwrap();
        let shape = [batch, 1, seq * kv_seq];
        let error = alibi::backward_at(&dbias, &positions).unwrap_err();
        assert_eq!(error, PosencError::BiasTooLarge { shape });
    }
}

#[test]
fn repeated_features_are_refused() {
    let one = Array2::<f32>::zeros((1, 1));
    let table = one.broadcast((1, LONG)).unwrap();
    let error = sinusoidal::inner_products(&table).unwrap_err();
    assert_eq!(error, refused(1, LONG));
    let one = Array3::<f32>::zeros((1, 1, 1));
    let dout = one.broadcast((1 << 20, 1, 1 << 30)).unwrap();
    let positions = Array2::zeros((1 << 20, 1));
    let error = learned::backward(&dout, &positions, 1).unwrap_err();
    assert_eq!(error, refused(1 << 20, 1 << 30));
}
