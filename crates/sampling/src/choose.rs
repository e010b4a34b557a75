//! What chooses the next token.

use std::sync::Arc;

use llm_numerics::Float;

use crate::{
    Candidates, Chain, Context, Draw, SamplingConfig, SamplingError, categorical, sampler,
};

/// Chooses the next token of one row, in [`generate`](crate::generate).
///
/// A [`SamplingConfig`] and a [`Chain`] do; so does a closure, which can bring processors, a watermark or a method that is no processor. What
/// it draws with comes from [`Context::random`], so that the same seed gives the same tokens.
///
/// # Example
///
/// ```
/// use llm_sampling::{Candidates, Choose, Context, Draw, RowRandom, SamplingError, gumbel_max};
///
/// let gumbel = |row: &[f32], context: &Context<'_>, candidates: &mut Candidates<f32>| {
///     candidates.fill(row)?;
///     gumbel_max::choose(candidates, context.random)
/// };
/// fn first<C: Choose<f32>>(choose: &C) -> Result<Draw, SamplingError> {
///     let context = Context::new(&[1, 2], &[]).with_random(RowRandom::new(7, 0, 0));
///     choose.choose(&[0.0, 3.0, f32::NEG_INFINITY], &context, &mut Candidates::new())
/// }
/// assert!(first(&gumbel)?.token < 2);
/// # Ok::<(), SamplingError>(())
/// ```
pub trait Choose<F> {
    /// Chooses a token for a row `[vocab]`; `candidates` is memory for the work.
    ///
    /// # Errors
    ///
    /// Those of the method; they name row 0.
    fn choose(
        &self,
        row: &[F],
        context: &Context<'_>,
        candidates: &mut Candidates<F>,
    ) -> Result<Draw, SamplingError>;
}

impl<F: Float> Choose<F> for SamplingConfig {
    /// With number 0 of the random numbers; [`sampler::sample`] of one row.
    fn choose(
        &self,
        row: &[F],
        context: &Context<'_>,
        candidates: &mut Candidates<F>,
    ) -> Result<Draw, SamplingError> {
        sampler::choose(row, self, context.random.uniform(0), candidates)
    }
}

impl<F: Float> Choose<F> for Chain<F> {
    /// [`Chain::sample`] of one row.
    fn choose(
        &self,
        row: &[F],
        context: &Context<'_>,
        candidates: &mut Candidates<F>,
    ) -> Result<Draw, SamplingError> {
        self.fill(row, context, candidates)?;
        categorical::draw_candidates(candidates, context.random.uniform(0))
    }
}

impl<F> Choose<F> for Arc<dyn Choose<F> + Send + Sync> {
    /// As what it points to.
    fn choose(
        &self,
        row: &[F],
        context: &Context<'_>,
        candidates: &mut Candidates<F>,
    ) -> Result<Draw, SamplingError> {
        (**self).choose(row, context, candidates)
    }
}

impl<F, C> Choose<F> for C
where
    C: Fn(&[F], &Context<'_>, &mut Candidates<F>) -> Result<Draw, SamplingError>,
{
    fn choose(
        &self,
        row: &[F],
        context: &Context<'_>,
        candidates: &mut Candidates<F>,
    ) -> Result<Draw, SamplingError> {
        self(row, context, candidates)
    }
}
