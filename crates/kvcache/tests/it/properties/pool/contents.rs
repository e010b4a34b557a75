//! What the tokens of the pool's tests are made of.

use std::collections::BTreeMap;

use llm_kvcache::Element;
use llm_kvcache::paged::PoolConfig;
use ndarray::{Array3, ArrayView3};

/// The content of a token: equal for equal salts and histories, and for no others. 0 is a token that was never written.
pub(super) type Content = u64;

#[derive(Default)]
pub(super) struct Contents {
    known: BTreeMap<(Vec<Content>, u8, u32), Content>,
}

impl Contents {
    pub(super) fn of(&mut self, history: &[Content], salt: u8, id: u32) -> Content {
        let next = self.known.len() as Content + 1;
        *self
            .known
            .entry((history.to_vec(), salt, id))
            .or_insert(next)
    }
}

pub(super) fn array(
    config: &PoolConfig,
    layer: usize,
    tokens: &[Content],
    is_key: bool,
) -> Array3<f32> {
    let features = if is_key {
        config.head_dim
    } else {
        config.value_dim
    };
    Array3::from_shape_fn([config.n_kv_heads, tokens.len(), features], |(h, t, d)| {
        if tokens[t] == 0 {
            return 0.0;
        }
        let x = (((tokens[t] * 2 + layer as u64) * 2 + h as u64) * 2 + d as u64) as f32;
        if is_key { x } else { -x }
    })
}

pub(super) fn layers(config: &PoolConfig, tokens: &[Content], is_key: bool) -> Vec<Array3<f32>> {
    (0..config.n_layers)
        .map(|layer| array(config, layer, tokens, is_key))
        .collect()
}

pub(super) fn views<E: Element>(arrays: &[Array3<E>]) -> Vec<ArrayView3<'_, E>> {
    arrays.iter().map(|x| x.view()).collect()
}
