//! Exercise of the page on filters: the smallest set of tokens that has enough probability.

// ANCHOR: exercise
/// The ids of the likeliest tokens, the likeliest first, as many as it takes to have `mass` together.
///
/// The token with which the sum reaches `mass` belongs to them. Of equal tokens the lower id comes first.
#[must_use]
pub fn nucleus(p: &[f64], mass: f64) -> Vec<usize> {
    // ANCHOR_END: exercise
    // ANCHOR: solution
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&i, &j| p[j].total_cmp(&p[i])); // equals stay in the order of their ids
    let mut sum = 0.0;
    let before = |&id: &usize| {
        let goes_on = sum < mass;
        sum += p[id];
        goes_on
    };
    order.into_iter().take_while(before).collect()
}
// ANCHOR_END: solution

#[cfg(test)]
mod tests {
    use llm_sampling::top_p::{SumFrom, TopP};
    use llm_sampling::{Candidates, Context, Processor};

    use super::nucleus;

    // ANCHOR: tests
    #[test]
    fn the_token_that_crosses_belongs_to_it() {
        let p = [0.1, 0.5, 0.15, 0.25];
        assert_eq!(nucleus(&p, 0.5), [1]);
        assert_eq!(nucleus(&p, 0.6), [1, 3]);
        assert_eq!(nucleus(&p, 0.8), [1, 3, 2]);
        assert_eq!(nucleus(&p, 1.0), [1, 3, 2, 0]);
    }

    #[test]
    fn the_crate_agrees() {
        let p = [0.02, 0.3, 0.08, 0.2, 0.2, 0.01, 0.19];
        for percent in [5, 31, 49, 51, 69, 71, 88, 96, 98] {
            let mass = f64::from(percent) / 100.0;
            let mut candidates = Candidates::new();
            candidates.fill(&p.map(f64::ln)).unwrap();
            let top_p = TopP::new(mass, SumFrom::Largest, 1).unwrap();
            top_p
                .apply(&mut candidates, &Context::new(&[], &[]))
                .unwrap();
            let mut ours = nucleus(&p, mass);
            ours.sort_unstable();
            let kept = (0..7).filter(|&id| candidates.index(id).is_some());
            let stays = |id: &u32| {
                let index = candidates.index(*id).unwrap();
                candidates.logits()[index].is_finite()
            };
            let kept: Vec<usize> = kept.filter(stays).map(|id| id as usize).collect();
            assert_eq!(ours, kept, "{mass}");
        }
    }
    // ANCHOR_END: tests
}
