//! One sequence: packed codes, their groups, and the tokens that wait.

use ndarray::{ArrayView3, Axis};

use super::KiviConfig;
use crate::KvCacheError;
use crate::affine::{Group, MOST, pack, unpack};
use crate::memory::reserve;
use crate::token::TokenShape;

/// Codes and waiting tokens of one sequence.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Row {
    pub(crate) len: usize,
    /// A multiple of the group.
    pub(crate) quantized_keys: usize,
    pub(crate) quantized_values: usize,
    pub(crate) key_codes: Vec<u8>, // [groups, kv_heads, head_dim, group * bits / 8]
    pub(crate) key_groups: Vec<Group>, // [groups, kv_heads, head_dim]
    pub(crate) value_codes: Vec<u8>, // [tokens, kv_heads, bytes of value_dim codes]
    pub(crate) value_groups: Vec<Group>, // [tokens, kv_heads, ceil(value_dim / group)]
    pub(crate) waiting_keys: Vec<f32>, // [tokens, kv_heads, head_dim]
    pub(crate) waiting_values: Vec<f32>, // [tokens, kv_heads, value_dim]
}

/// How many of everything a token or a group of tokens takes.
#[derive(Clone, Copy)]
pub(crate) struct Strides {
    /// Bytes of one channel of a group of keys.
    pub(crate) channel: usize,
    /// Channels of all heads.
    pub(crate) channels: usize,
    /// Bytes of one head of one value.
    pub(crate) value: usize,
    /// Groups of one head of one value.
    pub(crate) value_groups: usize,
}

impl Strides {
    pub(super) fn new(shape: TokenShape, config: KiviConfig) -> Self {
        let bits = config.bits as usize;
        Self {
            channel: config.group * bits / 8,
            channels: shape.n_kv_heads * shape.head_dim,
            value: (shape.value_dim * bits).div_ceil(8),
            value_groups: shape.value_dim.div_ceil(config.group),
        }
    }
}

impl Row {
    /// Asks for the memory that so many tokens may need.
    pub(super) fn reserve(
        &mut self,
        seq: usize,
        shape: TokenShape,
        config: KiviConfig,
    ) -> Result<(), KvCacheError> {
        fn more<T>(vec: &mut Vec<T>, factors: [usize; 3]) -> Result<(), KvCacheError> {
            let n = factors.iter().try_fold(1_usize, |n, &x| n.checked_mul(x));
            let bytes = n.unwrap_or(usize::MAX).saturating_mul(size_of::<T>());
            n.and_then(|n| vec.try_reserve(n).ok())
                .ok_or(KvCacheError::Allocation { bytes })
        }
        let strides = Strides::new(shape, config);
        let waiting = self.len - self.quantized_keys;
        let groups = (waiting.saturating_add(seq)) / config.group;
        more(
            &mut self.key_codes,
            [groups, strides.channels, strides.channel],
        )?;
        more(&mut self.key_groups, [groups, strides.channels, 1])?;
        let values = (self.len - self.quantized_values)
            .saturating_add(seq)
            .saturating_sub(config.residual);
        more(
            &mut self.value_codes,
            [values, shape.n_kv_heads, strides.value],
        )?;
        more(
            &mut self.value_groups,
            [values, shape.n_kv_heads, strides.value_groups],
        )?;
        more(
            &mut self.waiting_keys,
            [seq, shape.n_kv_heads, shape.head_dim],
        )?;
        more(
            &mut self.waiting_values,
            [seq, shape.n_kv_heads, shape.value_dim],
        )
    }

    /// Adds tokens that were checked.
    pub(super) fn append(
        &mut self,
        k: &ArrayView3<'_, f32>,
        v: &ArrayView3<'_, f32>,
        shape: TokenShape,
        config: KiviConfig,
    ) {
        let seq = k.dim().1;
        for (waiting, new) in [(&mut self.waiting_keys, k), (&mut self.waiting_values, v)] {
            // Tokens without features are only counted, however many.
            let stored = if new.is_empty() { 0 } else { seq };
            for token in 0..stored {
                waiting.extend(new.index_axis(Axis(1), token).iter());
            }
        }
        self.len += seq;
        let block = config.key_block();
        let blocks = (self.len - self.quantized_keys) / block;
        self.quantize_keys(blocks * block / config.group, shape, config);
        let values = (self.len - self.quantized_values).saturating_sub(config.residual);
        self.quantize_values(values, shape, config);
    }

    /// The keys that wait longest, so many groups of them.
    fn quantize_keys(&mut self, groups: usize, shape: TokenShape, config: KiviConfig) {
        let strides = Strides::new(shape, config);
        let (group_len, bits) = (config.group, config.bits);
        let stored = if strides.channels > 0 { groups } else { 0 };
        for group in 0..stored {
            for channel in 0..strides.channels {
                let numbers = (0..group_len).map(|token| {
                    self.waiting_keys[(group * group_len + token) * strides.channels + channel]
                });
                let fitted = Group::of(numbers.clone(), bits);
                let start = self.key_codes.len();
                self.key_codes.resize(start + strides.channel, 0);
                let codes = numbers.map(|x| fitted.code(x, bits));
                pack(codes, bits, &mut self.key_codes[start..]);
                self.key_groups.push(fitted);
            }
        }
        self.waiting_keys
            .drain(..groups * group_len * strides.channels);
        self.quantized_keys += groups * group_len;
    }

    /// The values that wait longest, so many tokens of them.
    fn quantize_values(&mut self, tokens: usize, shape: TokenShape, config: KiviConfig) {
        let strides = Strides::new(shape, config);
        let bits = config.bits;
        if shape.value_dim > 0 {
            let n = tokens * shape.n_kv_heads;
            for value in self.waiting_values.chunks_exact(shape.value_dim).take(n) {
                let start = self.value_codes.len();
                self.value_codes.resize(start + strides.value, 0);
                let first = self.value_groups.len();
                for numbers in value.chunks(config.group) {
                    self.value_groups
                        .push(Group::of(numbers.iter().copied(), bits));
                }
                let groups = &self.value_groups[first..];
                let codes = value.iter().enumerate();
                let codes = codes.map(|(i, &x)| groups[i / config.group].code(x, bits));
                pack(codes, bits, &mut self.value_codes[start..]);
            }
        }
        self.waiting_values
            .drain(..tokens * shape.n_kv_heads * shape.value_dim);
        self.quantized_values += tokens;
    }

    /// Keeps the first tokens; what remains of a group of keys waits again.
    pub(super) fn crop(
        &mut self,
        len: usize,
        shape: TokenShape,
        config: KiviConfig,
    ) -> Result<(), KvCacheError> {
        let strides = Strides::new(shape, config);
        if len < self.quantized_keys {
            let groups = len / config.group;
            let kept = groups * config.group;
            let mut waiting = reserve((len - kept) * strides.channels)?;
            let end = if strides.channels > 0 { len } else { kept };
            for token in kept..end {
                // A step that was rounded up may end behind the largest number that can be quantized.
                let key = |c| self.key(token, c, strides, config).clamp(-MOST, MOST);
                waiting.extend((0..strides.channels).map(key));
            }
            self.key_codes
                .truncate(groups * strides.channels * strides.channel);
            self.key_groups.truncate(groups * strides.channels);
            self.quantized_keys = kept;
            self.waiting_keys = waiting;
        } else {
            let kept = (len - self.quantized_keys) * strides.channels;
            self.waiting_keys.truncate(kept);
        }
        self.quantized_values = self.quantized_values.min(len);
        let heads = self.quantized_values * shape.n_kv_heads;
        self.value_codes.truncate(heads * strides.value);
        self.value_groups.truncate(heads * strides.value_groups);
        let waiting = (len - self.quantized_values) * shape.n_kv_heads * shape.value_dim;
        self.waiting_values.truncate(waiting);
        self.len = len;
        Ok(())
    }

    /// A channel (of all heads) of a key.
    pub(super) fn key(
        &self,
        token: usize,
        channel: usize,
        strides: Strides,
        config: KiviConfig,
    ) -> f32 {
        if token >= self.quantized_keys {
            return self.waiting_keys[(token - self.quantized_keys) * strides.channels + channel];
        }
        let at = token / config.group * strides.channels + channel;
        let codes = &self.key_codes[at * strides.channel..];
        let code = unpack(codes, token % config.group, config.bits);
        self.key_groups[at].value(code)
    }

    /// A feature of a head of a value.
    pub(super) fn value(
        &self,
        [token, head, feature]: [usize; 3],
        shape: TokenShape,
        strides: Strides,
        config: KiviConfig,
    ) -> f32 {
        let index = |token: usize| token * shape.n_kv_heads + head;
        if token >= self.quantized_values {
            let at = index(token - self.quantized_values) * shape.value_dim + feature;
            return self.waiting_values[at];
        }
        let codes = &self.value_codes[index(token) * strides.value..];
        let group = index(token) * strides.value_groups + feature / config.group;
        self.value_groups[group].value(unpack(codes, feature, config.bits))
    }

    pub(super) fn bytes(&self) -> usize {
        self.key_codes.len()
            + self.value_codes.len()
            + (self.key_groups.len() + self.value_groups.len()) * size_of::<Group>()
            + (self.waiting_keys.len() + self.waiting_values.len()) * size_of::<f32>()
    }
}
