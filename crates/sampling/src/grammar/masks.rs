//! Masks of tokens: made once for each state and kept, as far as there is room.

use core::sync::atomic::Ordering;

use llm_numerics::Float;

use super::{Grammar, GrammarState};
use crate::{Candidates, Context, Processor, SamplingError};

impl Grammar {
    /// Masks the tokens that are not allowed, and leaves them out.
    ///
    /// Logits may have more tokens than the vocabulary, as many models do; those are never allowed.
    ///
    /// # Errors
    ///
    /// [`SamplingError::NanLogits`]; [`SamplingError::Axis`] if there are fewer logits than tokens in the vocabulary.
    pub fn mask<F: Float>(
        &self,
        candidates: &mut Candidates<F>,
        state: GrammarState,
    ) -> Result<(), SamplingError> {
        candidates.check()?;
        let vocab = self.inner.vocabulary.len();
        if candidates.vocab() < vocab {
            return Err(SamplingError::Axis {
                array: "logits",
                axis: "vocab of at least",
                expected: vocab,
                got: candidates.vocab(),
            });
        }
        if let Some(words) = self.kept_mask(state) {
            keep_only(candidates, words);
            return Ok(());
        }
        let scratch = candidates.with_scratch().1;
        let mut words = core::mem::take(&mut scratch.bits);
        let mut memory = core::mem::take(&mut scratch.indices);
        self.fill_mask(state, &mut words, &mut memory);
        keep_only(candidates, &words);
        let scratch = candidates.with_scratch().1;
        scratch.bits = words;
        scratch.indices = memory;
        Ok(())
    }

    /// The mask of a state, made if there is room to keep it.
    fn kept_mask(&self, state: GrammarState) -> Option<&[u32]> {
        let place = self.inner.masks.get(state.0 as usize)?;
        if let Some(words) = place.get() {
            return Some(words);
        }
        let bytes = self.inner.vocabulary.len().div_ceil(32) * 4;
        let kept = &self.inner.mask_bytes;
        let before = kept.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.mask_bytes {
            kept.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        let mut is_ours = false;
        let words = place.get_or_init(|| {
            is_ours = true;
            let mut words = Vec::new();
            self.fill_mask(state, &mut words, &mut Vec::new());
            words.into()
        });
        if !is_ours {
            kept.fetch_sub(bytes, Ordering::Relaxed); // another thread made it and counts it
        }
        Some(words)
    }

    /// A bit for each token: token `i` is bit `i % 32` of word `i / 32`.
    pub(super) fn fill_mask(
        &self,
        state: GrammarState,
        words: &mut Vec<u32>,
        memory: &mut Vec<u32>,
    ) {
        words.clear();
        words.resize(self.inner.vocabulary.len().div_ceil(32), 0);
        let mut set = |token: u32| words[token as usize / 32] |= 1 << (token % 32);
        self.inner.walk(state.0, memory, |tokens| {
            tokens.iter().copied().for_each(&mut set);
            true
        });
        if self.is_complete(state) {
            self.inner
                .vocabulary
                .end_ids()
                .iter()
                .copied()
                .for_each(set);
        }
    }
}

impl<F: Float> Processor<F> for Grammar {
    /// # Errors
    ///
    /// [`SamplingError::GrammarToken`] if a generated token is not allowed where it stands, and those of [`mask`](Grammar::mask).
    fn apply(
        &self,
        candidates: &mut Candidates<F>,
        context: &Context<'_>,
    ) -> Result<(), SamplingError> {
        let state = self.after(context.generated)?;
        self.mask(candidates, state)
    }
}

/// Leaves out the tokens whose bit is not set.
fn keep_only<F: Float>(candidates: &mut Candidates<F>, words: &[u32]) {
    if candidates.is_dense() {
        let mut words = words.iter();
        for logits in candidates.logits_mut().chunks_mut(32) {
            let word = words.next().copied().unwrap_or(0);
            if word == u32::MAX {
                continue;
            }
            for (bit, x) in logits.iter_mut().enumerate() {
                if word >> bit & 1 == 0 {
                    *x = F::neg_infinity();
                }
            }
        }
    } else {
        for i in 0..candidates.logits().len() {
            let token = candidates.id(i);
            let word = words.get(token as usize / 32).copied().unwrap_or(0);
            if word >> (token % 32) & 1 == 0 {
                candidates.logits_mut()[i] = F::neg_infinity();
            }
        }
    }
    candidates.compact();
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;
    use crate::grammar::Vocabulary;

    /// Threads that need the same mask at once count it once.
    #[test]
    fn masks_are_counted_once() {
        const N_STATES: u32 = 40;
        let tokens: Vec<String> = (0..20_000).map(|i| format!("{i:05}")).collect();
        let vocabulary = Vocabulary::new(&tokens, &[], &[]).unwrap();
        let grammar = Grammar::regex(&vocabulary, "(?:[0-9]{5}){40}").unwrap();
        let mut state = grammar.start();
        for n in 1..=N_STATES {
            let barrier = Barrier::new(4);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        barrier.wait();
                        assert!(grammar.kept_mask(state).is_some());
                    });
                }
            });
            let kept = grammar.inner.mask_bytes.load(Ordering::Relaxed);
            assert_eq!(kept, n as usize * 20_000 / 8);
            state = grammar.advance(state, 7).unwrap();
        }
    }
}
