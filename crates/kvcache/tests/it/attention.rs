//! Attention over each store is attention over the contiguous one; over quantized stores, within what their steps allow.

use llm_attention::paged::{self, PagedKv};
use llm_attention::{AttentionConfig, CausalAlignment, Mask, flash, merge};
use llm_kvcache::kivi::{KiviCache, KiviConfig};
use llm_kvcache::paged::{FloatPages, Int4Pages, Int8Pages, PagedCache, PoolConfig, SequenceId};
use llm_kvcache::ring::{RingCache, RingConfig};
use llm_kvcache::{ContiguousCache, SinkCache};
use llm_numerics::half::{bf16, f16};
use llm_numerics::philox::Philox4x32;
use ndarray::{Array3, Array4, ArrayView3, Axis, s};

const KV_HEADS: usize = 2;
const HEADS: usize = 4;
const SEQ: usize = 37;
const DIM: usize = 8;

/// Numbers between -1 and 1.
fn random(key: u64, shape: [usize; 3]) -> Array3<f32> {
    let philox = Philox4x32::new(key);
    Array3::from_shape_fn(shape, |(a, b, c)| {
        let index = ((a * shape[1] + b) * shape[2] + c) as u64;
        2.0 * philox.uniform_f32(0, index) - 1.0
    })
}

/// Query, keys and values.
fn data() -> [Array3<f32>; 3] {
    [
        random(1, [HEADS, 1, DIM]),
        random(2, [KV_HEADS, SEQ, DIM]),
        random(3, [KV_HEADS, SEQ, DIM]),
    ]
}

fn last() -> AttentionConfig {
    AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight))
}

fn batch(x: ArrayView3<'_, f32>) -> Array4<f32> {
    x.insert_axis(Axis(0)).to_owned()
}

/// One query over keys and values in one array.
fn attend(q: &Array3<f32>, k: ArrayView3<'_, f32>, v: ArrayView3<'_, f32>) -> Array4<f32> {
    flash::forward(&batch(q.view()), &batch(k), &batch(v), &last()).unwrap()
}

fn worst(a: &Array4<f32>, b: &Array4<f32>) -> f32 {
    (a - b).fold(0.0, |most, x| most.max(x.abs()))
}

// ANCHOR: contiguous
#[test]
fn contiguous_ones_are_what_they_were_given() {
    let [q, k, v] = data();
    let want = attend(&q, k.view(), v.view());
    let mut fixed = ContiguousCache::new(1, KV_HEADS, SEQ, DIM, DIM).unwrap();
    let mut growing = ContiguousCache::growing(1, KV_HEADS, 5, DIM, DIM).unwrap();
    for t in 0..SEQ {
        let token = s![.., t..t + 1, ..];
        fixed.append(0, &k.slice(token), &v.slice(token)).unwrap();
        growing.append(0, &k.slice(token), &v.slice(token)).unwrap();
    }
    for cache in [fixed, growing] {
        let got = attend(&q, cache.keys(0).unwrap(), cache.values(0).unwrap());
        assert_eq!(got, want);
    }
}
// ANCHOR_END: contiguous

#[test]
fn a_ring_is_a_window_in_order_and_in_two_parts() {
    let [q, k, v] = data();
    let window = 9;
    let mut ring = RingCache::new(&RingConfig::new(1, KV_HEADS, window, DIM)).unwrap();
    for t in 0..SEQ {
        let token = s![.., t..t + 1, ..];
        ring.append(0, &k.slice(token), &v.slice(token)).unwrap();
    }
    let config = AttentionConfig::new(Mask::Window {
        left: Some(window - 1),
        right: Some(0),
        alignment: CausalAlignment::BottomRight,
    });
    let whole = [&q, &k, &v].map(|x| batch(x.view()));
    let want = flash::forward(&whole[0], &whole[1], &whole[2], &config).unwrap();
    let (keys, values) = (
        ring.ordered_keys(0).unwrap(),
        ring.ordered_values(0).unwrap(),
    );
    assert!(worst(&attend(&q, keys.view(), values.view()), &want) < 1e-6);

    // Where the parts lie, merged: nothing is copied but by this test.
    let parts = ring
        .key_parts(0)
        .unwrap()
        .into_iter()
        .zip(ring.value_parts(0).unwrap());
    let full = AttentionConfig::new(Mask::Full);
    let parts = parts.map(|(k, v)| {
        flash::forward_with_lse(&batch(q.view()), &batch(k), &batch(v), &full).unwrap()
    });
    let parts: Vec<_> = parts.collect();
    let (got, _) =
        merge::forward(&[&parts[0].0, &parts[1].0], &[&parts[0].1, &parts[1].1]).unwrap();
    assert!(worst(&got, &want) < 1e-6);
}

#[test]
fn a_ring_with_slack_needs_the_mask_of_its_window() {
    let [_, k, v] = data();
    let (window, slack) = (9, 4);
    let chunk = slack + 1;
    let q = random(4, [HEADS, chunk, DIM]);
    let config = RingConfig::new(1, KV_HEADS, window, DIM).with_slack(slack);
    let mut ring = RingCache::new(&config).unwrap();
    for t in 0..SEQ - chunk {
        let token = s![.., t..t + 1, ..];
        ring.append(0, &k.slice(token), &v.slice(token)).unwrap();
    }
    // As many tokens at once as the slack allows.
    let new = s![.., SEQ - chunk.., ..];
    ring.append(0, &k.slice(new), &v.slice(new)).unwrap();
    let (keys, values) = (
        ring.ordered_keys(0).unwrap(),
        ring.ordered_values(0).unwrap(),
    );
    assert_eq!(keys.dim().1, window + slack);

    let windowed = AttentionConfig::new(Mask::Window {
        left: Some(window - 1),
        right: Some(0),
        alignment: CausalAlignment::BottomRight,
    });
    let causal = last();
    let over = |q: &Array3<f32>, k: &Array3<f32>, v: &Array3<f32>, config| {
        let [q, k, v] = [q, k, v].map(|x| batch(x.view()));
        flash::forward(&q, &k, &v, config).unwrap()
    };
    let newest = q.slice(s![.., chunk - 1.., ..]).to_owned();
    for q in [q, newest] {
        // The contiguous sequence, with the window as a mask.
        let want = over(&q, &k, &v, &windowed);
        assert!(worst(&over(&q, &keys, &values, &windowed), &want) < 1e-6);
        // Causal attention would see more than the window.
        assert!(worst(&over(&q, &keys, &values, &causal), &want) > 1e-3);
    }
}

/// A rotation of pairs of features by the position, one frequency for each pair.
fn rotate(mut x: ndarray::ArrayViewMut3<'_, f32>, position: impl Fn(usize) -> f64) {
    let turned = Array3::from_shape_fn(x.dim(), |(h, t, d)| {
        let angle = position(t) * 0.3_f64.powi((d / 2) as i32);
        let (a, b) = (
            f64::from(x[[h, t, d / 2 * 2]]),
            f64::from(x[[h, t, d / 2 * 2 + 1]]),
        );
        let (sin, cos) = angle.sin_cos();
        (if d % 2 == 0 {
            a * cos - b * sin
        } else {
            a * sin + b * cos
        }) as f32
    });
    x.assign(&turned);
}

#[test]
fn sinks_and_a_window_are_a_short_sequence_in_both_ways() {
    let [q, k, v] = data();
    let (sinks, window) = (3, 8);
    let make = || SinkCache::new(sinks, &RingConfig::new(1, KV_HEADS, window, DIM)).unwrap();
    let (mut plain, mut rotated) = (make(), make());
    let mut turned = k.clone();
    rotate(turned.view_mut(), |t| t as f64);
    plain.append(0, &k, &v).unwrap();
    rotated.append(0, &turned, &v).unwrap();

    // By hand: the first three tokens and the last eight, at positions 0 to 10.
    let kept: Vec<usize> = (0..sinks).chain(SEQ - window..SEQ).collect();
    let mut keys = k.select(Axis(1), &kept);
    rotate(keys.view_mut(), |place| place as f64);
    let values = v.select(Axis(1), &kept);
    let mut query = q.clone();
    rotate(query.view_mut(), |_| (kept.len() - 1) as f64);
    let want = attend(&query, keys.view(), values.view());

    let keys = plain
        .keys_by_place(0, |keys| rotate(keys, |place| place as f64))
        .unwrap();
    assert_eq!(
        attend(&query, keys.view(), plain.values(0).unwrap().view()),
        want
    );

    let mut late = q.clone();
    rotate(late.view_mut(), |_| (SEQ - 1) as f64);
    let keys = rotated.keys_with_moved_sinks(0, |keys, distance| rotate(keys, |_| distance as f64));
    let got = attend(
        &late,
        keys.unwrap().view(),
        rotated.values(0).unwrap().view(),
    );
    assert!(worst(&got, &want) < 1e-5, "{}", worst(&got, &want));
    // It is not the same without moving them.
    let still = attend(
        &late,
        rotated.stored_keys(0).unwrap().view(),
        rotated.values(0).unwrap().view(),
    );
    assert!(worst(&still, &want) > 1e-3);
}

/// A pool with the sequence, and a shorter fork of it that goes on with other tokens.
fn pool<P: llm_kvcache::paged::PageData>(
    page_size: usize,
    k: ArrayView3<'_, P::Input>,
    v: ArrayView3<'_, P::Input>,
) -> (PagedCache<P>, [SequenceId; 2]) {
    let config = PoolConfig::new(1, 100, page_size, KV_HEADS, DIM);
    let mut cache = PagedCache::<P>::new(&config).unwrap();
    let other = cache.create(b"").unwrap();
    cache
        .append(
            other,
            &[k.slice(s![.., ..3, ..])],
            &[v.slice(s![.., ..3, ..])],
        )
        .unwrap();
    let a = cache.create(b"").unwrap();
    let half = s![.., ..SEQ / 2, ..];
    cache.append(a, &[k.slice(half)], &[v.slice(half)]).unwrap();
    cache.free(other).unwrap();
    let b = cache.fork(a).unwrap();
    for t in SEQ / 2..SEQ {
        let (token, mirror) = (s![.., t..t + 1, ..], s![.., SEQ - 1 - t..SEQ - t, ..]);
        cache
            .append(a, &[k.slice(token)], &[v.slice(token)])
            .unwrap();
        cache
            .append(b, &[k.slice(mirror)], &[v.slice(mirror)])
            .unwrap();
    }
    (cache, [a, b])
}

/// Tokens of the fork.
fn fork_tokens() -> Vec<usize> {
    (0..SEQ / 2)
        .chain((SEQ / 2..SEQ).map(|t| SEQ - 1 - t))
        .collect()
}

// ANCHOR: pages
#[test]
fn pages_are_read_where_they_lie() {
    let [q, k, v] = data();
    let two = ndarray::stack![Axis(0), q, q];
    let tokens = fork_tokens();
    for page_size in [1, 4, 5, 64] {
        let (cache, ids) = pool::<FloatPages<f32>>(page_size, k.view(), v.view());
        let (table, lengths) = cache.block_table(&ids).unwrap();
        let pages = cache.layer(0).unwrap();
        let kv = PagedKv::new(pages.k(), pages.v(), &table, &lengths);
        let got = paged::forward(&two, &kv, &last()).unwrap();
        let (fk, fv) = (k.select(Axis(1), &tokens), v.select(Axis(1), &tokens));
        let want = [
            attend(&q, k.view(), v.view()),
            attend(&q, fk.view(), fv.view()),
        ];
        for (row, want) in want.iter().enumerate() {
            assert_eq!(got.index_axis(Axis(0), row), want.index_axis(Axis(0), 0));
        }
    }
}
// ANCHOR_END: pages

#[test]
fn half_precision_pages_are_read_where_they_lie() {
    let [q, k, v] = data();
    let two = ndarray::stack![Axis(0), q, q];
    macro_rules! check {
        ($type:ty) => {
            let (narrow_k, narrow_v) = (k.mapv(<$type>::from_f32), v.mapv(<$type>::from_f32));
            let (cache, ids) = pool::<FloatPages<$type>>(4, narrow_k.view(), narrow_v.view());
            let (table, lengths) = cache.block_table(&ids).unwrap();
            let pages = cache.layer(0).unwrap();
            let kv = PagedKv::new(pages.k(), pages.v(), &table, &lengths);
            let got = paged::forward(&two, &kv, &last()).unwrap();
            let [k, v] = [narrow_k, narrow_v].map(|x| x.mapv(<$type>::to_f32));
            let want = attend(&q, k.view(), v.view());
            assert_eq!(got.index_axis(Axis(0), 0), want.index_axis(Axis(0), 0));
        };
    }
    check!(f16);
    check!(bf16);
}

/// How far attention may be off if keys are off by `k_error` and values by `v_error` at most: the bound of
/// `llm_attention::paged::PagedKv::int8`, with the errors of each store.
fn bound(q: &Array3<f32>, v: &Array3<f32>, k_error: f32, v_error: f32) -> f32 {
    let scale = 1.0 / (DIM as f32).sqrt();
    let most = q
        .rows()
        .into_iter()
        .map(|q| q.fold(0.0, |sum, x| sum + x.abs()));
    let score = scale * k_error * most.fold(0.0, f32::max);
    let values = v.fold(0.0_f32, |most, x| most.max(x.abs()));
    v_error + ((2.0 * score).exp() - 1.0) * values + 1e-5
}

#[test]
fn int8_pages_are_read_where_they_lie_within_half_their_scales() {
    let [q, k, v] = data();
    let (cache, ids) = pool::<Int8Pages>(4, k.view(), v.view());
    let (table, lengths) = cache.block_table(&ids[..1]).unwrap();
    let pages = cache.layer(0).unwrap();
    let [k_scales, v_scales] = [pages.k_scales(), pages.v_scales()];
    let kv = PagedKv::int8(pages.k(), pages.v(), k_scales, v_scales, &table, &lengths);
    let got = paged::forward(&batch(q.view()), &kv, &last()).unwrap();
    // The same bits as attention to what the pool says that it holds.
    let (gathered_k, gathered_v) = cache.gather(0, ids[0]).unwrap();
    assert_eq!(got, attend(&q, gathered_k.view(), gathered_v.view()));
    // Scales are at most 1 / 123.5.
    let error = worst(&got, &attend(&q, k.view(), v.view()));
    let bound = bound(&q, &v, 0.5 / 123.5, 0.5 / 123.5);
    assert!(error <= bound && bound < 0.05, "{error} of {bound}");
    assert!(error > 1e-5, "nothing was quantized");
}

#[test]
fn quantized_stores_are_within_half_their_steps() {
    let [q, k, v] = data();
    let want = attend(&q, k.view(), v.view());
    let (cache, ids) = pool::<Int4Pages>(4, k.view(), v.view());
    let (k4, v4) = cache.gather(0, ids[0]).unwrap();
    let kivi = |bits| {
        let mut cache =
            KiviCache::new(1, KV_HEADS, DIM, DIM, &KiviConfig::new(bits, 8, 8)).unwrap();
        cache.append(0, &k, &v).unwrap();
        cache
    };
    let mut stores = vec![("int4", 4, k4, v4)];
    for bits in [2, 4, 8] {
        let (k, v) = kivi(bits).gather(0).unwrap();
        stores.push(("kivi", bits, k, v));
    }
    let mut errors = Vec::new();
    for (name, bits, qk, qv) in &stores {
        // Numbers are between -1 and 1, so that a step is at most 2 / levels, and a little for its rounding to f16.
        let half = 1.002 / ((1 << bits) - 1) as f32;
        let error = worst(&attend(&q, qk.view(), qv.view()), &want);
        let bound = bound(&q, &v, half, half);
        assert!(error <= bound, "{name} {bits}: {error} of {bound}");
        errors.push(error);
    }
    assert!(
        errors[1] > errors[2] && errors[2] > errors[3] && errors[3] > 0.0,
        "{errors:?}"
    );

    // A long cache is read in pieces, which are merged: a buffer of a page is enough.
    let cache = kivi(4);
    let (whole_k, whole_v) = cache.gather(0).unwrap();
    let full = AttentionConfig::new(Mask::Full);
    let mut parts = Vec::new();
    for start in (0..SEQ).step_by(16) {
        let tokens = start..SEQ.min(start + 16);
        let mut k = Array3::zeros([KV_HEADS, tokens.len(), DIM]);
        let mut v = k.clone();
        cache.read(0, tokens, k.view_mut(), v.view_mut()).unwrap();
        let [q, k, v] = [&q, &k, &v].map(|x| batch(x.view()));
        parts.push(flash::forward_with_lse(&q, &k, &v, &full).unwrap());
    }
    let (outs, lses): (Vec<_>, Vec<_>) = parts.iter().map(|part| (&*part.0, &*part.1)).unzip();
    let (got, _) = merge::forward(&outs, &lses).unwrap();
    assert!(worst(&got, &attend(&q, whole_k.view(), whole_v.view())) < 1e-6);
}
