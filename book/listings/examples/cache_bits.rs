//! What fewer bits do to attention: even keys, and keys with a channel far from zero.

use std::error::Error;

use llm_kvcache::kivi::{KiviCache, KiviConfig};
use llm_kvcache::paged::{
    FloatPages, Int4Pages, Int8Pages, KeysValues, PageData, PagedCache, PoolConfig,
};
use llm_kvcache::smooth::{KeySmoothing, SmoothConfig};
use llm_numerics::half::f16;
use llm_numerics::philox::Philox4x32;
use ndarray::{Array1, Array3, ArrayView2, Axis};

const TOKENS: usize = 64;
const DIM: usize = 32;

fn main() -> Result<(), Box<dyn Error>> {
    let normal = |stream: u64| {
        let philox = Philox4x32::new(stream);
        Array3::from_shape_fn([1, TOKENS, DIM], |(_, t, d)| {
            philox.normal_f64(t as u64, d as u64) as f32
        })
    };
    // ANCHOR: data
    let (even, v) = (normal(1), normal(2));
    let mut far = even.clone();
    far.index_axis_mut(Axis(2), 3).mapv_inplace(|x| x + 30.0); // channel 3
    // ANCHOR_END: data
    println!("store   bits  even keys  a channel far from zero");
    for (name, store) in stores() {
        let (bytes, of_even) = store(&even, &v)?;
        let (_, of_far) = store(&far, &v)?;
        let bits = 8.0 * bytes as f64 / (2 * TOKENS * DIM) as f64;
        println!(
            "{name:6} {bits:5.2}  {:7.2} %  {:7.2} %",
            100.0 * error(&even, &v, &of_even),
            100.0 * error(&far, &v, &of_far),
        );
    }
    Ok(())
}

/// Bytes of a store, and what comes back of it.
type Held<E> = Result<(usize, KeysValues<E>), Box<dyn Error>>;
type Store = fn(&Array3<f32>, &Array3<f32>) -> Held<f32>;

fn stores() -> [(&'static str, Store); 7] {
    [
        ("f16", |k, v| {
            let (bytes, (k, v)) =
                paged::<FloatPages<f16>>(&k.mapv(f16::from_f32), &v.mapv(f16::from_f32))?;
            Ok((bytes, (k.mapv(f16::to_f32), v.mapv(f16::to_f32))))
        }),
        ("int8", |k, v| paged::<Int8Pages>(k, v)),
        ("smooth", smooth),
        ("KIVI 8", |k, v| kivi(8, k, v)),
        ("int4", |k, v| paged::<Int4Pages>(k, v)),
        ("KIVI 4", |k, v| kivi(4, k, v)),
        ("KIVI 2", |k, v| kivi(2, k, v)),
    ]
}

// ANCHOR: stores
/// A pool of pages.
fn paged<P: PageData>(k: &Array3<P::Input>, v: &Array3<P::Input>) -> Held<P::Input> {
    let mut pool = PagedCache::<P>::new(&PoolConfig::new(1, TOKENS / 16, 16, 1, DIM))?;
    let id = pool.create(b"")?;
    pool.append(id, &[k.view()], &[v.view()])?;
    Ok((pool.bytes(), pool.gather(0, id)?))
}

// ANCHOR: smooth
/// Pages of 8 bits with smoothed keys, and what the keys were.
fn smooth(k: &Array3<f32>, v: &Array3<f32>) -> Held<f32> {
    let smoothing = KeySmoothing::of_keys(k, &SmoothConfig::new(0.75).with_means())?;
    let (bytes, (k, v)) = paged::<Int8Pages>(&smoothing.smooth_keys(k)?, v)?;
    Ok((bytes + smoothing.bytes(), (smoothing.restore_keys(&k)?, v)))
}
// ANCHOR_END: smooth

/// A KIVI cache.
fn kivi(bits: u32, k: &Array3<f32>, v: &Array3<f32>) -> Held<f32> {
    let mut cache = KiviCache::new(1, 1, DIM, DIM, &KiviConfig::new(bits, 32, 0))?;
    cache.append(0, k, v)?;
    Ok((cache.bytes(), cache.gather(0)?))
}
// ANCHOR_END: stores

// ANCHOR: error
/// Root of the mean square by which attention of 256 queries is off, as a share of the exact one's.
fn error(k: &Array3<f32>, v: &Array3<f32>, (stored_k, stored_v): &KeysValues<f32>) -> f64 {
    let philox = Philox4x32::new(3);
    let (mut off, mut all) = (0.0, 0.0);
    for query in 0..256 {
        let q = Array1::from_shape_fn(DIM, |d| philox.normal_f64(query, d as u64));
        let want = attend(&q, k, v);
        let got = attend(&q, stored_k, stored_v);
        off += (&got - &want).mapv(|x| x * x).sum();
        all += want.mapv(|x| x * x).sum();
    }
    (off / all).sqrt()
}
// ANCHOR_END: error

/// Attention in `f64`, so that only the store is to blame.
fn attend(q: &Array1<f64>, k: &Array3<f32>, v: &Array3<f32>) -> Array1<f64> {
    let of_head = |x: &Array3<f32>| x.index_axis(Axis(0), 0).mapv(f64::from);
    let (k, v) = (of_head(k), of_head(v));
    let scores = k.dot(q) / (DIM as f64).sqrt();
    let most = scores.fold(f64::NEG_INFINITY, |most: f64, x| most.max(*x));
    let weights = scores.mapv(|x| (x - most).exp());
    let v: ArrayView2<'_, f64> = v.view();
    weights.dot(&v) / weights.sum()
}
