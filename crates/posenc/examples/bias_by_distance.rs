//! Shows what three kinds of bias take from the score of a key, by its distance from the query.

use llm_posenc::alibi::{self, AlibiOrigin};
use llm_posenc::kerple::{self, KerpleKernel};
use llm_posenc::t5::{self, T5Config, T5Direction};
use ndarray::{Array2, array};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kv_seq = 201; // one query beside the last key: distances 200 .. 0
    let slopes = alibi::slopes(8, alibi::MAX_BIAS)?;
    let linear = alibi::bias(&slopes, 1, kv_seq, AlibiOrigin::AbsoluteDistance)?; // [8, 1, 201]

    let (r1, r2) = (array![1.0_f32], array![0.5]);
    let kernel = KerpleKernel::Logarithmic;
    let logarithmic = kerple::bias(&r1, &r2, 1, kv_seq, kernel)?; // [1, 1, 201]

    // A trained table holds any numbers; here each bucket costs one quarter more than the one before.
    let config = T5Config::new(t5::N_BUCKETS, t5::MAX_DISTANCE, T5Direction::Causal)?;
    let table = Array2::from_shape_fn((t5::N_BUCKETS, 1), |(bucket, _)| -0.25 * bucket as f32);
    let stepwise = t5::bias(&table, 1, kv_seq, kv_seq - 1, &config)?; // [1, 1, 201]

    println!("distance   ALiBi 1/2   ALiBi 1/256   KERPLE log   T5 bucket   T5 bias");
    for distance in [0, 1, 2, 5, 10, 20, 50, 100, 128, 200] {
        let key = kv_seq - 1 - distance;
        println!(
            "{distance:8} {:11.2} {:13.4} {:12.4} {:11} {:9.2}",
            linear[[0, 0, key]],
            linear[[7, 0, key]],
            logarithmic[[0, 0, key]],
            t5::bucket(-(distance as i64), &config),
            stepwise[[0, 0, key]],
        );
    }
    println!(
        "ALiBi falls in a line, KERPLE flattens, T5 stops at distance {}.",
        config.max_distance()
    );
    assert_eq!(linear[[0, 0, 0]], -100.0);
    assert_eq!(stepwise[[0, 0, 0]], stepwise[[0, 0, kv_seq - 1 - 128]]);
    Ok(())
}
