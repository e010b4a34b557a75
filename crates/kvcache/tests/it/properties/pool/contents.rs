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

/// Keys or values of tokens, all different, that 8 bits and 4 bits can say without an error: from `-127 s` to `113 s` in
/// steps of `16 s`, with `s` a power of two.
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
        let number = ((tokens[t] * 2 + layer as u64) * 2 + h as u64) * 2 + u64::from(is_key);
        let digits = features as u32 - 2;
        let steps = match d as u32 {
            0 => 0,
            1 => 15,
            d => number / 16_u64.pow(d - 2) % 16,
        };
        let power = (number / 16_u64.pow(digits) % 17) as i32 - 8;
        (16.0 * steps as f32 - 127.0) * 2.0_f32.powi(power)
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
