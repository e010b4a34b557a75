//! What each store holds of twelve tokens, and what attention over it sees.

use std::error::Error;

use llm_attention::{AttentionConfig, Mask, flash};
use llm_kvcache::ring::{RingCache, RingConfig};
use llm_kvcache::{ContiguousCache, SinkCache};
use ndarray::{Array3, Array4, ArrayView3, Axis};

fn main() -> Result<(), Box<dyn Error>> {
    // ANCHOR: stores
    // All keys are equal, so that each token gets the same weight; the value of token t is t.
    let k = Array3::<f32>::zeros([1, 12, 4]);
    let v = Array3::from_shape_fn([1, 12, 4], |(_, t, _)| t as f32);

    let mut whole = ContiguousCache::new(1, 1, 16, 4, 4)?; // room for 16
    let window = RingConfig::new(1, 1, 4, 4); // the last 4
    let mut ring = RingCache::new(&window)?;
    let mut sinks = SinkCache::new(2, &window)?; // and the first 2
    whole.append(0, &k, &v)?;
    ring.append(0, &k, &v)?;
    sinks.append(0, &k, &v)?;

    show("contiguous", whole.keys(0)?, whole.values(0)?)?;
    let (k, v) = (ring.ordered_keys(0)?, ring.ordered_values(0)?);
    show("ring", k.view(), v.view())?;
    let (k, v) = (sinks.stored_keys(0)?, sinks.values(0)?);
    show("sinks", k.view(), v.view())?;
    // ANCHOR_END: stores
    Ok(())
}

/// The tokens that are held, and the mean that a query sees.
fn show(name: &str, k: ArrayView3<'_, f32>, v: ArrayView3<'_, f32>) -> Result<(), Box<dyn Error>> {
    let q = Array4::zeros([1, 1, 1, 4]);
    let [keys, values] = [k, v].map(|x| x.insert_axis(Axis(0)).to_owned());
    let out = flash::forward(&q, &keys, &values, &AttentionConfig::new(Mask::Full))?;
    let held: Vec<String> = (values.iter().step_by(4))
        .map(|value| format!("{value}"))
        .collect();
    println!(
        "{name:10}  holds {:26}  attention: {:.2}",
        held.join(" "),
        out[[0, 0, 0, 0]]
    );
    Ok(())
}
