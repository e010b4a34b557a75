//! Laws of attention to pages, over the documented domain.

use llm_attention::paged::{self, PageElement, PagedKv, UnscaledElement};
use llm_attention::{AttentionConfig, CausalAlignment, Mask, reference};
use llm_numerics::half::{bf16, f16};
use llm_numerics::testing::Tolerance;
use ndarray::{Array1, Array2, Array3, Array4, Axis, ShapeBuilder, concatenate, s};
use proptest::prelude::*;

use super::cases::{Paged, non_empty_paged_cases, paged_cases};
use crate::cases::{Case, Sizes, close};

/// As in `properties.rs`.
const F64: Tolerance = Tolerance::new(1e-11, 1e-10);
const F32: Tolerance = Tolerance::new(2e-4, 2e-4);

const CAUSAL: Mask = Mask::Causal(CausalAlignment::BottomRight);

/// The very numbers, zeros by their sign too; NaN is NaN.
fn bits<D: ndarray::Dimension>(x: &ndarray::Array<f64, D>) -> Vec<u64> {
    let canonical = |x: &f64| if x.is_nan() { f64::NAN } else { *x };
    x.iter().map(|x| canonical(x).to_bits()).collect()
}

proptest! {
    /// Pages full of NaN around the tokens, a table full of numbers of no page: neither matters.
    #[test]
    fn equals_the_reference(paged in paged_cases()) {
        let Paged { case, k, v, block_table, lengths } = &paged;
        let (want, want_lse) =
            reference::paged::forward(&case.q, k, v, block_table, lengths, &case.config).unwrap();
        let (out, lse) = paged.forward();
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
        let kv = PagedKv::new(k, v, block_table, lengths);
        prop_assert_eq!(paged::forward(&case.q, &kv, &case.config), Ok(out));
        let narrow = |x: &Array4<f64>| x.mapv(|x| x as f32);
        let (out, lse) = paged.run(&narrow(&case.q), &narrow(k), &narrow(v));
        close(&out.mapv(f64::from), &want, F32)?;
        close(&lse.mapv(f64::from), &want_lse, F32)?;
    }

    /// A single query: the bits of attention to one array. More of them: the same but for the order of sums.
    #[test]
    fn pages_equal_one_array(mut paged in paged_cases(), is_single in any::<bool>()) {
        if is_single && paged.case.q.dim().2 > 0 {
            paged.case.q = paged.case.q.slice(s![.., .., ..1, ..]).to_owned();
            paged.case.dout = paged.case.dout.slice(s![.., .., ..1, ..]).to_owned();
        }
        let (out, lse) = paged.forward();
        for b in 0..paged.lengths.len() {
            let (want, want_lse) = paged.alone(b).forward();
            let (out, lse) = (Paged::row(&out, b), Paged::row(&lse, b));
            if paged.case.q.dim().2 == 1 {
                prop_assert_eq!(bits(&out), bits(&want));
                prop_assert_eq!(bits(&lse), bits(&want_lse));
            } else {
                close(&out, &want, F64)?;
                close(&lse, &want_lse, F64)?;
            }
        }
    }

    /// Another page size and another order of the pages.
    #[test]
    fn the_layout_of_the_pages_does_not_matter(
        paged in paged_cases(),
        page_size in 1_usize..40,
        key in any::<u64>(),
    ) {
        let lengths = paged.lengths.to_vec();
        prop_assume!(!lengths.is_empty());
        let (want, want_lse) = paged.forward();
        let other = Paged::new(paged.case.clone(), page_size, &lengths, key);
        let (out, lse) = other.forward();
        close(&out, &want, F64)?;
        close(&lse, &want_lse, F64)?;
    }

    /// The others of a batch change no bit of a sequence, and an empty one gives zeros and `-inf`.
    #[test]
    fn each_sequence_is_as_alone(paged in paged_cases()) {
        let (out, lse) = paged.forward();
        for (b, &length) in paged.lengths.iter().enumerate() {
            let Paged { case, k, v, block_table, lengths } = &paged;
            let one = s![b..b + 1, ..];
            let (table, lengths) = (block_table.slice(one), lengths.slice(s![b..b + 1]));
            let q = case.q.slice(s![b..b + 1, .., .., ..]);
            let kv = PagedKv::new(k, v, &table, &lengths);
            let (want, want_lse) = paged::forward_with_lse(&q, &kv, &case.config).unwrap();
            prop_assert_eq!(bits(&Paged::row(&out, b)), bits(&want));
            prop_assert_eq!(bits(&Paged::row(&lse, b)), bits(&want_lse));
            if length == 0 {
                prop_assert!(want.iter().all(|x| *x == 0.0));
                prop_assert!(want_lse.iter().all(|x| *x == f64::NEG_INFINITY));
            }
        }
    }

    /// Any strides of the queries, the pages, the table and the lengths.
    #[test]
    fn strides_do_not_matter(paged in paged_cases()) {
        let (want, want_lse) = paged.forward();
        let fortran = |x: &Array4<f64>| {
            let mut y = Array4::zeros(x.dim().f());
            y.assign(x);
            y
        };
        let tokens_first = |x: &Array4<f64>| {
            let x = x.view().permuted_axes([0, 2, 1, 3]).as_standard_layout().into_owned();
            x.permuted_axes([0, 2, 1, 3])
        };
        let mut table = Array2::zeros(paged.block_table.dim().f());
        table.assign(&paged.block_table);
        let doubled = Array1::from_iter(paged.lengths.iter().flat_map(|&x| [x, 77]));
        let lengths = doubled.slice(s![..;2]);
        for k in [fortran(&paged.k), tokens_first(&paged.k)] {
            let (q, v) = (fortran(&paged.case.q), tokens_first(&paged.v));
            let kv = PagedKv::new(&k, &v, &table, &lengths);
            let (out, lse) = paged::forward_with_lse(&q, &kv, &paged.case.config).unwrap();
            close(&out, &want, F64)?;
            close(&lse, &want_lse, F64)?;
        }
        // Features that run backwards.
        let flip = s![.., .., .., ..;-1];
        let (k, v) = (paged.k.slice(flip), paged.v.slice(flip));
        let kv = PagedKv::new(&k, &v, &table, &lengths);
        let out = paged::forward(&paged.case.q.slice(flip), &kv, &paged.case.config).unwrap();
        close(&out.slice(flip).to_owned(), &want, F64)?;
    }

    /// Pages of f16 and bf16 are what they are as f32, bit for bit, contiguous or not.
    #[test]
    fn narrow_pages_equal_wide_ones(paged in paged_cases()) {
        let q = paged.case.q.mapv(|x| x as f32);
        fn check<S: PageElement<f32> + UnscaledElement>(
            paged: &Paged,
            q: &Array4<f32>,
            narrow: fn(f64) -> S,
            wide: fn(S) -> f32,
        ) -> Result<(), TestCaseError> {
            let (k, v) = (paged.k.mapv(narrow), paged.v.mapv(narrow));
            let same = |x: &Array4<f32>| x.mapv(f64::from);
            let (want, want_lse) = paged.run(q, &k.mapv(wide), &v.mapv(wide));
            let (out, lse) = paged.run(q, &k, &v);
            prop_assert_eq!(bits(&same(&out)), bits(&same(&want)));
            prop_assert_eq!(bits(&lse.mapv(f64::from)), bits(&want_lse.mapv(f64::from)));
            let mut fortran = Array4::from_elem(k.dim().f(), narrow(0.0));
            fortran.assign(&k);
            let (out, _) = paged.run(q, &fortran, &v);
            close(&same(&out), &same(&want), F32)
        }
        check(&paged, &q, f16::from_f64, f16::to_f32)?;
        check(&paged, &q, bf16::from_f64, bf16::to_f32)?;
    }

    /// Packed queries, another number for each sequence.
    #[test]
    fn packed_queries_are_as_alone(paged in paged_cases(), cut in prop::collection::vec(0_usize..9, 3)) {
        let Paged { case, k, v, block_table, lengths } = &paged;
        let (batch, _, seq, _) = case.q.dim();
        let counts: Vec<_> = (0..batch).map(|b| seq - cut[b % 3].min(seq)).collect();
        let mut cu_seqlens = vec![0];
        let mut packed = Array3::zeros((0, case.q.dim().1, case.q.dim().3));
        for (b, &n) in counts.iter().enumerate() {
            cu_seqlens.push(cu_seqlens[b] + n);
            let q = case.q.slice(s![b, .., seq - n.., ..]).permuted_axes([1, 0, 2]);
            packed = concatenate![Axis(0), packed, q];
        }
        let kv = PagedKv::new(k, v, block_table, lengths);
        let (out, lse) = paged::forward_varlen(&packed, &kv, &cu_seqlens, &case.config).unwrap();
        for b in 0..batch {
            let mut alone = paged.alone(b);
            alone.q = alone.q.slice(s![.., .., seq - counts[b].., ..]).to_owned();
            let (want, want_lse) = alone.forward();
            let tokens = cu_seqlens[b]..cu_seqlens[b + 1];
            let got = out.slice(s![tokens.clone(), .., ..]).permuted_axes([1, 0, 2]);
            close(&got.to_owned(), &want.remove_axis(Axis(0)), F64)?;
            close(&lse.slice(s![.., tokens]).to_owned(), &want_lse.remove_axis(Axis(0)), F64)?;
        }
    }

    /// A NaN in a value reaches the rows that see it, and only those.
    #[test]
    fn nan_is_not_swallowed(mut paged in non_empty_paged_cases(), token in 0_usize..20) {
        let length = paged.lengths[0] as usize;
        prop_assume!(length > 0);
        let (token, page_size) = (token % length, paged.k.dim().2);
        let page = paged.block_table[[0, token / page_size]] as usize;
        paged.v.slice_mut(s![page, .., token % page_size, ..]).fill(f64::NAN);
        let seq = paged.case.q.dim().2;
        let sees = reference::attention::mask_matrix(paged.case.config.mask, seq, length);
        let (out, _) = paged.forward();
        for ((b, _, i, _), x) in out.indexed_iter() {
            prop_assert_eq!(x.is_nan(), b == 0 && sees[[i, token]]);
        }
    }
}

/// Sequences may share pages, and one may have a page twice.
#[test]
fn pages_may_be_shared() {
    let sizes = Sizes {
        batch: 2,
        n_heads: 4,
        n_kv_heads: 2,
        seq: 3,
        kv_seq: 12,
        head_dim: 5,
        value_dim: 6,
    };
    let mut case = Case::new(sizes, AttentionConfig::new(CAUSAL), 1);
    // Both begin with the same 4 tokens; in the second they come again as tokens 8 to 11.
    for x in [&mut case.k, &mut case.v] {
        let shared = x.slice(s![0, .., ..4, ..]).to_owned();
        x.slice_mut(s![1, .., ..4, ..]).assign(&shared);
        x.slice_mut(s![1, .., 8.., ..]).assign(&shared);
    }
    let mut paged = Paged::new(case, 4, &[12], 2);
    let first = paged.block_table[[0, 0]];
    let spare = paged.block_table[[1, 0]] as usize;
    paged.k.index_axis_mut(Axis(0), spare).fill(f64::NAN);
    paged.block_table[[1, 0]] = first;
    paged.block_table[[1, 2]] = first;
    let (out, _) = paged.forward();
    for b in 0..2 {
        let (want, _) = paged.alone(b).forward();
        close(&Paged::row(&out, b), &want, F64).unwrap();
    }
}

/// Large enough to wake threads, with single queries and tiles, and with pieces of a long sequence.
#[cfg(feature = "fast")]
#[test]
fn the_number_of_threads_changes_no_bit() {
    for seq in [1, 70] {
        let sizes = Sizes {
            batch: 2,
            n_heads: 8,
            n_kv_heads: 2,
            seq,
            kv_seq: 2100,
            head_dim: 24,
            value_dim: 16,
        };
        let case = Case::new(sizes, AttentionConfig::new(CAUSAL), 3);
        let paged = Paged::new(case, 16, &[2100, 1500], 4);
        let run = |n: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
            pool.unwrap().install(|| paged.forward())
        };
        let want = run(1);
        assert_eq!(run(2), want);
        assert_eq!(run(3), want);
        for b in 0..2 {
            let (out, lse) = paged.alone(b).forward();
            close(&Paged::row(&want.0, b), &out, F64).unwrap();
            close(&Paged::row(&want.1, b), &lse, F64).unwrap();
            if seq == 1 {
                assert_eq!(bits(&Paged::row(&want.0, b)), bits(&out));
            }
        }
    }
}
