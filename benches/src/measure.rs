//! How things are timed: in rounds, everybody in each round, so that a slow moment of the machine hits all alike.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long one sample lasts at least, so that the clock and the first call do not count.
const SAMPLE: Duration = Duration::from_millis(30);
/// Pause before each sample: threads of the one before stop spinning.
const PAUSE: Duration = Duration::from_millis(5);
/// Most calls in one sample.
const MOST_CALLS: usize = 1 << 22;

/// Something that can be called and timed: our code, a limit, a peer.
pub(crate) trait Contender {
    /// Calls it so many times and returns how long all of them took.
    fn run(&mut self, calls: usize) -> Result<Duration>;
}

/// A closure as a contender. It gets the number of the call, to choose its buffers by.
pub(crate) struct Calls<F> {
    call: F,
    next: usize,
}

impl<F: FnMut(usize) -> Result<()>> Calls<F> {
    pub(crate) fn boxed<'a>(call: F) -> Box<dyn Contender + 'a>
    where
        F: 'a,
    {
        Box::new(Self { call, next: 0 })
    }
}

impl<F: FnMut(usize) -> Result<()>> Contender for Calls<F> {
    fn run(&mut self, calls: usize) -> Result<Duration> {
        let start = Instant::now();
        for _ in 0..calls {
            (self.call)(self.next)?;
            self.next = self.next.wrapping_add(1);
        }
        Ok(start.elapsed())
    }
}

/// Seconds of one call, a sample each round.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Samples(pub(crate) Vec<f64>);

impl Samples {
    /// The middle one.
    pub(crate) fn median(&self) -> f64 {
        quantile(&self.0, 0.5)
    }

    /// Half the distance between the quartiles, as a share of the median.
    pub(crate) fn spread(&self) -> f64 {
        (quantile(&self.0, 0.75) - quantile(&self.0, 0.25)) / (2.0 * self.median())
    }

    /// The median over the rounds of how many times as long as `other` it took.
    pub(crate) fn ratio_to(&self, other: &Self) -> f64 {
        let ratios: Vec<f64> = self.0.iter().zip(&other.0).map(|(a, b)| a / b).collect();
        quantile(&ratios, 0.5)
    }
}

/// The value below which the share `at` of them lies, between the two nearest.
fn quantile(values: &[f64], at: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = at * last as f64;
    let (low, high) = (place.floor(), place.ceil());
    sorted[low as usize] + (place - low) * (sorted[high as usize] - sorted[low as usize])
}

/// Times all contenders in each round, beginning with another one each time.
pub(crate) fn race(contenders: &mut [&mut dyn Contender], rounds: usize) -> Result<Vec<Samples>> {
    if rounds == 0 {
        bail!("at least one round must be run, got 0");
    }
    let calls: Vec<usize> = contenders
        .iter_mut()
        .map(|contender| calls_of_a_sample(*contender))
        .collect::<Result<_>>()?;
    let mut samples = vec![Samples(Vec::with_capacity(rounds)); contenders.len()];
    for round in 0..rounds {
        for place in 0..contenders.len() {
            let i = (round + place) % contenders.len();
            std::thread::sleep(PAUSE);
            let time = contenders[i].run(calls[i])?.as_secs_f64() / calls[i] as f64;
            samples[i].0.push(time);
        }
    }
    Ok(samples)
}

/// Warms the contender up and finds how many calls fill a sample.
fn calls_of_a_sample(contender: &mut dyn Contender) -> Result<usize> {
    contender.run(1)?;
    let mut calls = 1;
    loop {
        let time = contender.run(calls)?;
        if time >= SAMPLE || calls >= MOST_CALLS {
            return Ok(calls);
        }
        // Straight to the goal where the clock is precise enough to tell, by doubling before.
        let share = SAMPLE.as_secs_f64() / time.as_secs_f64().max(1e-9);
        calls = ((calls as f64 * share.clamp(1.2, 16.0)).ceil() as usize).min(MOST_CALLS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_nearest_values() {
        let samples = Samples(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!(samples.median(), 2.5);
        assert_eq!(samples.spread(), (3.25 - 1.75) / 5.0);
        assert!(Samples(Vec::new()).median().is_nan());
    }

    #[test]
    fn a_ratio_pairs_the_rounds() {
        // The second round was slow for both; the ratio does not see it.
        let (ours, peer) = (Samples(vec![1.0, 10.0, 1.0]), Samples(vec![3.0, 30.0, 3.0]));
        assert_eq!(peer.ratio_to(&ours), 3.0);
    }

    #[test]
    fn everybody_runs_in_every_round() {
        let mut slow = Calls::boxed(|_| {
            std::thread::sleep(Duration::from_millis(40));
            Ok(())
        });
        let mut seen = 0;
        let mut quick = Calls::boxed(|call| {
            assert_eq!(call, seen);
            seen += 1;
            std::thread::sleep(Duration::from_millis(10));
            Ok(())
        });
        let samples = race(&mut [&mut *slow, &mut *quick], 2).unwrap();
        assert_eq!((samples[0].0.len(), samples[1].0.len()), (2, 2));
        assert!(samples[0].ratio_to(&samples[1]) > 1.0);
        assert!(race(&mut [&mut *slow], 0).is_err());
    }
}
