//! Sequences of a [`Case`] laid out in pages.

use llm_attention::paged::{self, PageElement, PagedKv, UnscaledElement};
use llm_numerics::Float;
use llm_numerics::philox::Philox4x32;
use ndarray::{Array1, Array2, Array3, Array4, Axis, s};
use proptest::prelude::*;

use crate::cases::{Case, cases, non_empty_cases};

/// A call with pages.
#[derive(Clone, Debug)]
pub(super) struct Paged {
    /// The keys and values in one array, as long as the longest sequence may be.
    pub(super) case: Case,
    pub(super) k: Array4<f64>,
    pub(super) v: Array4<f64>,
    pub(super) block_table: Array2<u32>,
    pub(super) lengths: Array1<u32>,
}

impl Paged {
    /// Lays the first `lengths[b]` tokens of each sequence out in pages, in an order drawn from `key`.
    ///
    /// All else is junk: NaN in the pool, and numbers of no page in the table.
    pub(super) fn new(case: Case, page_size: usize, lengths: &[u32], key: u64) -> Self {
        let (batch, n_kv_heads, kv_seq, head_dim) = case.k.dim();
        let value_dim = case.v.dim().3;
        let max_pages = kv_seq.div_ceil(page_size) + 1;
        let n_pages = batch * max_pages;
        let random = Philox4x32::new(key);
        let mut order: Vec<u32> = (0..n_pages as u32).collect();
        order.sort_by_key(|&page| random.normal_f64(9, u64::from(page)).to_bits());
        let mut order = order.into_iter();

        let nan =
            |features| Array4::from_elem((n_pages, n_kv_heads, page_size, features), f64::NAN);
        let (mut k, mut v) = (nan(head_dim), nan(value_dim));
        let mut block_table = Array2::from_elem((batch, max_pages), u32::MAX);
        let lengths: Array1<u32> = (0..batch).map(|b| lengths[b % lengths.len()]).collect();
        for (b, &length) in lengths.iter().enumerate() {
            for token in 0..length as usize {
                let (index, place) = (token / page_size, token % page_size);
                if place == 0 {
                    block_table[[b, index]] = order.next().unwrap();
                }
                let page = block_table[[b, index]] as usize;
                let to = s![page, .., place, ..];
                k.slice_mut(to).assign(&case.k.slice(s![b, .., token, ..]));
                v.slice_mut(to).assign(&case.v.slice(s![b, .., token, ..]));
            }
        }
        Self {
            case,
            k,
            v,
            block_table,
            lengths,
        }
    }

    pub(super) fn forward(&self) -> (Array4<f64>, Array3<f64>) {
        self.run(&self.case.q, &self.k, &self.v)
    }

    /// With other arrays in the place of its own.
    pub(super) fn run<F: Float, S: PageElement<F> + UnscaledElement>(
        &self,
        q: &Array4<F>,
        k: &Array4<S>,
        v: &Array4<S>,
    ) -> (Array4<F>, Array3<F>) {
        let kv = PagedKv::new(k, v, &self.block_table, &self.lengths);
        paged::forward_with_lse(q, &kv, &self.case.config).unwrap()
    }

    /// Sequence `b` without pages.
    pub(super) fn alone(&self, b: usize) -> Case {
        let length = self.lengths[b] as usize;
        let part = |x: &Array4<f64>, n: usize| x.slice(s![b..b + 1, .., ..n, ..]).to_owned();
        let seq = self.case.q.dim().2;
        Case {
            q: part(&self.case.q, seq),
            k: part(&self.case.k, length),
            v: part(&self.case.v, length),
            dout: part(&self.case.dout, seq),
            config: self.case.config,
        }
    }

    /// What sequence `b` has of a result.
    pub(super) fn row<D: ndarray::RemoveAxis>(
        x: &ndarray::Array<f64, D>,
        b: usize,
    ) -> ndarray::Array<f64, D> {
        x.slice_axis(Axis(0), (b..b + 1).into()).to_owned()
    }
}

/// Any [`cases`], any page size, any lengths up to the number of keys, any order of the pages.
pub(super) fn paged_cases() -> impl Strategy<Value = Paged> {
    in_pages(cases())
}

/// [`paged_cases`] in which every axis has elements.
pub(super) fn non_empty_paged_cases() -> impl Strategy<Value = Paged> {
    in_pages(non_empty_cases())
}

fn in_pages(cases: impl Strategy<Value = Case>) -> impl Strategy<Value = Paged> {
    let page_size = prop_oneof![4 => 1_usize..9, 1 => 9_usize..70];
    let lengths = prop::collection::vec(any::<prop::sample::Index>(), 3);
    (cases, page_size, lengths, any::<u64>()).prop_map(|(case, page_size, lengths, key)| {
        let kv_seq = case.k.dim().2;
        let lengths: Vec<_> = lengths.iter().map(|x| x.index(kv_seq + 1) as u32).collect();
        Paged::new(case, page_size, &lengths, key)
    })
}
