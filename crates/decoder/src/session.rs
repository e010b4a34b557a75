//! Generation with a key-value cache: prefill and decode.

use llm_attention::flash;
use llm_kvcache::contiguous::ContiguousCache;
use llm_numerics::{Float, gemm};
use llm_posenc::rope::RopeTable;
use ndarray::{Array1, Array2, Axis, s};

use crate::batch::check_ids;
use crate::forward::{block, causal, heads_mut, split_heads};
use crate::{Decoder, DecoderError};

/// One sequence in the making: the model and the keys and values of its tokens so far.
///
/// Prefill and decode are the same operation, [`extend`](Self::extend): with many
/// tokens it is a matrix product per weight, with one token a vector-matrix product.
///
/// Invariant: every layer's cache holds the same number of tokens.
#[derive(Clone, Debug)]
pub struct Session<'a, F> {
    model: &'a Decoder<F>,
    caches: Vec<ContiguousCache<F>>,
}

impl<'a, F: Float> Session<'a, F> {
    /// An empty sequence with room for `capacity` tokens.
    ///
    /// # Errors
    ///
    /// - [`DecoderError::ContextFull`] if `capacity` is beyond the model's context.
    /// - [`DecoderError::Cache`] if the memory cannot be had.
    ///
    /// # Example
    ///
    /// ```
    /// use llm_decoder::{Decoder, DecoderConfig, Session};
    /// use llm_numerics::philox::Philox4x32;
    ///
    /// let config = DecoderConfig::glm(11, 8, 1, 2);
    /// let model = Decoder::<f32>::random(config, 0.5, &Philox4x32::new(1))?;
    /// let mut session = Session::new(&model, 8)?;
    /// let logits = session.extend(&[1, 2, 3])?; // prefill
    /// assert_eq!(logits.len(), 11);
    /// session.extend(&[4])?; // decode
    /// assert_eq!(session.len(), 4);
    /// # Ok::<(), llm_decoder::DecoderError>(())
    /// ```
    pub fn new(model: &'a Decoder<F>, capacity: usize) -> Result<Self, DecoderError> {
        let config = model.config();
        if capacity > config.context {
            return Err(DecoderError::ContextFull {
                capacity: config.context,
                held: 0,
                new: capacity,
            });
        }
        let caches = (0..config.n_layers)
            .map(|_| {
                ContiguousCache::new(
                    1,
                    config.n_kv_heads,
                    capacity,
                    config.head_dim,
                    config.head_dim,
                )
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { model, caches })
    }

    /// Adds tokens and returns the logits of the token after the last of them, `[vocab]`.
    ///
    /// # Errors
    ///
    /// The session stays as it was.
    ///
    /// - [`DecoderError::EmptyInput`] if `ids` is empty.
    /// - [`DecoderError::TokenId`] if an id is outside the vocabulary.
    /// - [`DecoderError::ContextFull`] if the tokens do not fit.
    pub fn extend(&mut self, ids: &[u32]) -> Result<Array1<F>, DecoderError> {
        let held = self.len();
        let x = self.hidden(ids)?;
        let last = x.slice(s![-1.., ..]).to_owned();
        let logits = self.logits(&last, held)?;
        Ok(logits.row(0).to_owned())
    }

    /// Adds tokens and returns the logits after each of them, `[tokens, vocab]`.
    ///
    /// # Errors
    ///
    /// As [`extend`](Self::extend).
    pub fn extend_all(&mut self, ids: &[u32]) -> Result<Array2<F>, DecoderError> {
        let held = self.len();
        let x = self.hidden(ids)?;
        self.logits(&x, held)
    }

    /// Number of tokens held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.caches.first().map_or(0, held)
    }

    /// Whether no token is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of tokens that fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.caches.first().map_or(0, ContiguousCache::capacity)
    }

    /// Forgets all but the first `len` tokens.
    ///
    /// # Errors
    ///
    /// [`DecoderError::Cache`] if fewer are held.
    pub fn crop(&mut self, len: usize) -> Result<(), DecoderError> {
        for cache in &mut self.caches {
            cache.crop(0, len)?;
        }
        Ok(())
    }

    /// Runs the blocks on new tokens; `[tokens, d_model]`.
    fn hidden(&mut self, ids: &[u32]) -> Result<Array2<F>, DecoderError> {
        let model = self.model;
        let config = model.config();
        if ids.is_empty() {
            return Err(DecoderError::EmptyInput);
        }
        check_ids(ids, config.vocab)?;
        let held = self.len();
        if ids.len() > self.capacity() - held {
            return Err(DecoderError::ContextFull {
                capacity: self.capacity(),
                held,
                new: ids.len(),
            });
        }
        let positions: Array1<usize> = (held..held + ids.len()).collect();
        let rope = RopeTable::from_config(&config.rope(), &positions)?;
        let attention = causal();
        let mut x = model.embed(ids)?;
        for (layer, cache) in model.params().layers.iter().zip(&mut self.caches) {
            let result = block(config, layer, x, &rope, |qkv, attended, _| {
                let (q, k, v) = split_heads(config, qkv, 0..ids.len());
                cache.append(0, &k.index_axis(Axis(0), 0), &v.index_axis(Axis(0), 0))?;
                flash::forward_into(
                    &q,
                    &cache.keys(0)?.insert_axis(Axis(0)),
                    &cache.values(0)?.insert_axis(Axis(0)),
                    &attention,
                    &mut heads_mut(attended, config.head_dim, 0..ids.len()),
                    None,
                )?;
                Ok(())
            });
            match result {
                Ok((y, _)) => x = y,
                Err(error) => {
                    self.roll_back(held);
                    return Err(error);
                }
            }
        }
        Ok(x)
    }

    fn roll_back(&mut self, len: usize) {
        for cache in &mut self.caches {
            if held(cache) > len {
                // Cannot fail: the length is below the one held.
                let _ = cache.crop(0, len);
            }
        }
    }

    /// The logits of hidden states; if that fails, the session goes back to `held` tokens.
    fn logits(&mut self, x: &Array2<F>, held: usize) -> Result<Array2<F>, DecoderError> {
        let (normed, _) = self.model.final_norm(x)?;
        gemm::matmul(&normed, &self.model.params().head().t()).map_err(|error| {
            self.roll_back(held);
            error.into()
        })
    }
}

/// Tokens of the one row of a cache.
fn held<F: Float>(cache: &ContiguousCache<F>) -> usize {
    cache.len(0).unwrap_or(0)
}
