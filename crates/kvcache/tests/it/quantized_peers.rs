//! Attention over our quantized stores is no further from the exact one than over those of transformers, on the same data and
//! with no more bytes.

use std::path::Path;

use llm_kvcache::kivi::{KiviCache, KiviConfig};
use llm_kvcache::paged::{Int8Pages, PagedCache, PoolConfig};
use llm_kvcache::smooth::{KeySmoothing, SmoothConfig};
use llm_numerics::philox::Philox4x32;
use llm_numerics::testing::vectors::Case;
use ndarray::{Array1, Array2, Array3, Array4, ArrayView2, Axis, Ix2, Ix4, s};

/// Tokens that are quantized in all stores; also features of a head.
const N: usize = 32;
const QUERIES: u64 = 256;

/// One head of one sequence, after the first chunk or after all.
struct Data {
    exact: [Array2<f64>; 2],
    theirs: [Array2<f64>; 2],
    bits: usize,
    theirs_bytes: usize,
}

/// The data after update number `step`: the tokens of the first are quantized by theirs, and one more waits as it is.
fn read(op: &str, name: &str, step: usize) -> Data {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let case = Case::read(root.join(op).join(format!("{name}.safetensors"))).unwrap();
    let of_case = |name: &str| -> Array2<f64> {
        let x = case
            .output_f64(name)
            .unwrap()
            .into_dimensionality::<Ix4>()
            .unwrap();
        x.index_axis_move(Axis(0), 0).index_axis_move(Axis(0), 0)
    };
    let exact = ["k", "v"].map(|name| {
        let x: Array4<f32> = case.input_f32::<Ix4>(name).unwrap();
        x.slice(s![0, 0, ..N + step, ..])
            .mapv(f64::from)
            .into_dimensionality::<Ix2>()
            .unwrap()
    });
    let bits = case.param_usize("nbits").unwrap();
    let group = case.param_usize("q_group_size").unwrap();
    // Codes, and a step and a zero in f32 for each group, and f32 where a token waits; of keys and of values.
    let theirs_bytes = 2 * (N * N * bits / 8 + N * N / group * 8 + 4 * step * N);
    Data {
        exact,
        theirs: ["k", "v"].map(|x| of_case(&format!("step{step}.stored_{x}"))),
        bits,
        theirs_bytes,
    }
}

/// Attention of many queries, and how far it is from the exact one: root of the mean square, as a share of the exact
/// output's.
fn error(data: &Data, kept: &[Array2<f64>; 2]) -> f64 {
    error_of(data, kept, Clone::clone)
}

/// The same, of queries that are changed before they meet the keys.
fn error_of(
    data: &Data,
    [k, v]: &[Array2<f64>; 2],
    change: impl Fn(&Array1<f64>) -> Array1<f64>,
) -> f64 {
    let philox = Philox4x32::new(5);
    let (mut off, mut all) = (0.0, 0.0);
    for query in 0..QUERIES {
        let q = Array1::from_shape_fn(N, |d| philox.normal_f64(query, d as u64));
        let attend = |q: &Array1<f64>, k: ArrayView2<'_, f64>, v: ArrayView2<'_, f64>| {
            let scores = k.dot(q) / (N as f64).sqrt();
            let most = scores.fold(f64::NEG_INFINITY, |a: f64, b| a.max(*b));
            let weights = scores.mapv(|x| (x - most).exp());
            weights.dot(&v) / weights.sum()
        };
        let want = attend(&q, data.exact[0].view(), data.exact[1].view());
        let got = attend(&change(&q), k.view(), v.view());
        off += (&got - &want).mapv(|x| x * x).sum();
        all += want.mapv(|x| x * x).sum();
    }
    (off / all).sqrt()
}

fn narrow(x: &Array2<f64>) -> Array3<f32> {
    x.mapv(|x| x as f32).insert_axis(Axis(0))
}

fn wide(x: Array3<f32>) -> Array2<f64> {
    x.index_axis_move(Axis(0), 0).mapv(f64::from)
}

/// What a KIVI cache makes of the data, and its bytes.
fn kivi(data: &Data) -> ([Array2<f64>; 2], usize) {
    // A step and a least value in f16: half the bytes of theirs for a group, so half the group.
    let config = KiviConfig::new(data.bits as u32, N, 0);
    let mut cache = KiviCache::new(1, 1, N, N, &config).unwrap();
    let [k, v] = [&data.exact[0], &data.exact[1]].map(narrow);
    cache.append(0, &k, &v).unwrap();
    let (k, v) = cache.gather(0).unwrap();
    ([wide(k), wide(v)], cache.bytes())
}

/// What pages of 8 bits make of the data, and their bytes.
fn int8(data: &Data) -> ([Array2<f64>; 2], usize) {
    let [k, v] = [&data.exact[0], &data.exact[1]].map(narrow);
    in_pages(&k, &v)
}

/// Keys and values in pages of 8 bits, all of whose places are taken, and the bytes of the pages.
fn in_pages(k: &Array3<f32>, v: &Array3<f32>) -> ([Array2<f64>; 2], usize) {
    let config = PoolConfig::new(1, k.dim().1, 1, 1, N);
    let mut cache = PagedCache::<Int8Pages>::new(&config).unwrap();
    let id = cache.create(b"").unwrap();
    cache.append(id, &[k.view()], &[v.view()]).unwrap();
    let (k, v) = cache.gather(0, id).unwrap();
    ([wide(k), wide(v)], cache.bytes())
}

/// How far attention over smoothed keys in such pages is off, and the bytes of pages, means and factors. What is known of the
/// keys is known from the first chunk; the last token comes later.
fn smoothed_int8(data: &Data, config: &SmoothConfig) -> (f64, usize) {
    let [k, v] = [&data.exact[0], &data.exact[1]].map(narrow);
    let smoothing = KeySmoothing::of_keys(&k.slice(s![.., ..N, ..]), config).unwrap();
    let (kept, bytes) = in_pages(&smoothing.smooth_keys(&k).unwrap(), &v);
    let change = |q: &Array1<f64>| {
        let q = q
            .mapv(|x| x as f32)
            .insert_axis(Axis(0))
            .insert_axis(Axis(0));
        let q = smoothing.smooth_queries(&q).unwrap();
        q.slice(s![0, 0, ..]).mapv(f64::from)
    };
    (error_of(data, &kept, change), bytes + smoothing.bytes())
}

// ANCHOR: peers
#[test]
fn kivi_has_no_larger_error_of_attention_than_transformers_at_equal_bytes() {
    for op in ["quantised.quanto", "quantised.hqq"] {
        let names: &[&str] = match op {
            "quantised.quanto" => &["gauss_2", "outliers_2", "gauss_4", "outliers_4"],
            _ => &["gauss_4", "outliers_4", "gauss_8", "outliers_8"],
        };
        for name in names {
            let data = read(op, name, 0);
            let (ours, bytes) = kivi(&data);
            let (ours, theirs) = (error(&data, &ours), error(&data, &data.theirs));
            println!(
                "{op} {name}: ours {ours:.5}, theirs {theirs:.5}, {bytes} and {} bytes",
                data.theirs_bytes
            );
            assert!(
                bytes <= data.theirs_bytes,
                "{bytes} of {}",
                data.theirs_bytes
            );
            assert!(ours <= theirs, "{op} {name}: ours {ours}, theirs {theirs}");
        }
    }
}
// ANCHOR_END: peers

/// Where all channels are alike. Channels far from zero need a step of their own, which the layout of int8 pages has not:
/// such keys are what KIVI and smoothing are for, as the other tests show, and what the second part of this one shows too.
#[test]
fn int8_has_no_larger_error_of_attention_than_transformers_at_equal_bytes() {
    let errors = |name: &str| {
        let data = read("quantised.hqq", name, 0);
        let (ours, bytes) = int8(&data);
        let (of_kivi, _) = kivi(&data);
        assert!(
            bytes <= data.theirs_bytes,
            "{bytes} of {}",
            data.theirs_bytes
        );
        let [ours, of_kivi] = [ours, of_kivi].map(|x| error(&data, &x));
        let theirs = error(&data, &data.theirs);
        println!(
            "int8 {name}: ours {ours:.5}, theirs {theirs:.5}, KIVI in 8 bits {of_kivi:.5}, {bytes} bytes"
        );
        [ours, theirs, of_kivi]
    };
    let [ours, theirs, _] = errors("gauss_8");
    assert!(ours <= theirs, "ours {ours}, theirs {theirs}");
    let [ours, _, of_kivi] = errors("outliers_8");
    assert!(of_kivi < ours, "KIVI {of_kivi}, int8 {ours}");
}

// ANCHOR: smoothed
/// On all data, with means, factors and the token that theirs keeps as it is. The shares are those of the book.
#[test]
fn smoothed_int8_has_no_larger_error_of_attention_than_transformers_at_equal_bytes() {
    for name in ["gauss_8", "outliers_8"] {
        let data = read("quantised.hqq", name, 1);
        let theirs = error(&data, &data.theirs);
        let plain = error(&data, &int8(&data).0);
        println!(
            "{name}: theirs {theirs:.5}, {} bytes; int8 {plain:.5}",
            data.theirs_bytes
        );
        for alpha in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let factors = SmoothConfig::new(alpha);
            let [alone, both] =
                [factors, factors.with_means()].map(|config| smoothed_int8(&data, &config).0);
            println!("{name}: alpha {alpha}: factors {alone:.5}, with means {both:.5}");
        }
        let config = SmoothConfig::new(0.75).with_means();
        let (ours, bytes) = smoothed_int8(&data, &config);
        assert!(
            bytes <= data.theirs_bytes,
            "{bytes} of {}",
            data.theirs_bytes
        );
        assert!(ours <= theirs, "{name}: ours {ours}, theirs {theirs}");
    }
}
// ANCHOR_END: smoothed
