//! What runs in the browser: uploaded, computed on the device, downloaded, and compared with the same on the CPU.

use llm_attention::gpu::flash;
use llm_attention::{AttentionConfig, AttentionError, CausalAlignment, Mask};
use llm_gpu::{Gpu, GpuError, GpuTensor, Grid};
use llm_kvcache::gpu::{GpuKvCacheError, GpuPageElement, GpuPool, GpuSlots};
use llm_kvcache::paged::{FloatPages, Int8Pages, PageTable, PagedCache, PoolConfig};
use llm_posenc::PosencError;
use llm_posenc::gpu::rope::{self as gpu_rope, GpuRopeTable};
use llm_posenc::rope::{self, RopeConfig, RopePairing, RopeTable};
use llm_quant::four_bit::Scales;
use llm_quant::gpu::matmul::low_rank::{self as gpu_low_rank, GpuLowRank};
use llm_quant::gpu::{GpuFourBit, GpuQuantError};
use llm_quant::matmul::low_rank::LowRank;
use llm_quant::{FourBit, FourBitCode, FourBitConfig};
use llm_sampling::gpu::chain::{self, Choice, Step};
use llm_sampling::gpu::{GpuLogits, GpuSamplingError};
use llm_sampling::top_k::Ties;
use llm_sampling::{Dialect, RowRandom, SamplingConfig};
use ndarray::{Array, Array1, Array2, Array3, ArrayView3, Ix4, s};

use crate::Case;
use crate::kernels::{SCALE, SUM_1_TREE, ScaleParams, SumParams};

/// Lengths around the sizes of a workgroup and of a grid.
const LENGTHS: [usize; 7] = [0, 1, 63, 64, 65, 1000, 100_003];

/// Runs all cases.
pub(crate) async fn run(gpu: &Gpu) -> Result<Vec<Case>, PosencError> {
    let mut cases = Vec::new();
    for n in LENGTHS {
        cases.push(scale(gpu, n).await?);
        cases.push(sum(gpu, n).await?);
    }
    for pairing in [RopePairing::Interleaved, RopePairing::HalfSplit] {
        cases.push(rope(gpu, pairing).await?);
    }
    Ok(cases)
}

/// One rounding on either side, so the same bits.
async fn scale(gpu: &Gpu, n: usize) -> Result<Case, GpuError> {
    let factor = 0.7;
    let x = numbers(n);
    let want: Vec<f64> = x.iter().map(|x| f64::from(factor * x)).collect();
    let tensor = gpu.upload_slice(&[n], &x)?;
    let mut recorder = gpu.recorder();
    let params = ScaleParams {
        n: n as u32,
        factor,
    };
    let grid = Grid::linear(n, 64)?;
    recorder.dispatch(&SCALE, &[], &params, &[tensor.write()], grid)?;
    recorder.submit()?;
    compare(format!("scale, n = {n}"), &tensor, &want, 0.0).await
}

/// Workgroup memory and barriers. Each of 64 invocations adds up to `n / 64` numbers, a tree of 6 steps adds these: so many
/// roundings of at most `2^-24` of the sum of the absolute values.
async fn sum(gpu: &Gpu, n: usize) -> Result<Case, GpuError> {
    let x = numbers(n);
    let want: f64 = x.iter().map(|&x| f64::from(x)).sum();
    let absolute: f64 = x.iter().map(|&x| f64::from(x.abs())).sum();
    let tolerance = (n.div_ceil(64) + 6) as f64 * absolute / f64::from(1 << 24);
    let tensor = gpu.upload_slice(&[n], &x)?;
    let mut recorder = gpu.recorder();
    let sum = recorder.output::<f32>(&[1])?;
    let bindings = [tensor.read(), sum.write()];
    let params = SumParams { n: n as u32 };
    recorder.dispatch(&SUM_1_TREE, &[], &params, &bindings, Grid::xyz(1, 1, 1)?)?;
    recorder.submit()?;
    compare(format!("sum, n = {n}"), &sum, &[want], tolerance).await
}

/// Table and rotation on the device, far into a sequence. Elements are at most 1; the device's cosine and sine and the CPU's
/// are each right to 3e-7, and a pair adds two products and some roundings of `2^-24`.
async fn rope(gpu: &Gpu, pairing: RopePairing) -> Result<Case, PosencError> {
    let shape = [2, 3, 33, 40]; // [batch, heads, seq, head_dim]
    let config = RopeConfig::new(24, pairing);
    let positions: Array1<usize> = (0..shape[2]).map(|t| t * t * 97).collect();
    let x = Array::from_shape_fn(
        Ix4(shape[0], shape[1], shape[2], shape[3]),
        |(b, h, t, j)| ((b * 31 + h * 17 + t * 7 + j * 3) % 41) as f32 / 20.5 - 1.0,
    );
    let table = RopeTable::from_config(&config, &positions)?;
    let want = rope::apply(&x, &table, pairing)?;

    let on_device: Vec<u32> = positions.iter().map(|&position| position as u32).collect();
    let on_device = gpu.upload_slice(&[shape[2]], &on_device)?;
    let x = gpu.upload(&x)?;
    let mut recorder = gpu.recorder();
    let inv_freq = rope::inv_freq(&config)?;
    let table = GpuRopeTable::record(&mut recorder, &on_device, &inv_freq, 1.0)?;
    let got = gpu_rope::apply(&mut recorder, &x, &table, pairing)?;
    recorder.submit()?;
    let want: Vec<f64> = want.iter().map(|&x| f64::from(x)).collect();
    Ok(compare(format!("rope, {pairing:?}"), &got, &want, 2e-6).await?)
}

/// Two tiles of queries, grouped heads, a window; then a decode step over several pieces of the keys. Scores are at most 2, so a
/// weighted mean of values of at most 1, or a gradient, errs by some 2^-24 of its 300 terms.
pub(crate) async fn attention(gpu: &Gpu) -> Result<Vec<Case>, AttentionError> {
    let wave = |i: usize| ((i * 7919) % 2003) as f32 / 1001.5 - 1.0;
    let array = |shape: [usize; 4], shift: usize| {
        let mut i = shift;
        Array::from_shape_simple_fn(shape, || {
            i += 1;
            wave(i)
        })
    };
    let alignment = CausalAlignment::BottomRight;
    let (left, right) = (Some(20), Some(0));
    let window = Mask::Window {
        left,
        right,
        alignment,
    };
    let mut cases = Vec::new();
    for (seq, kv_seq, mask) in [(40, 45, window), (1, 600, Mask::Full)] {
        let config = AttentionConfig::new(mask);
        let (q, k) = (array([1, 4, seq, 8], 0), array([1, 2, kv_seq, 8], 500));
        let v = array([1, 2, kv_seq, 5], 900);
        let (want, lse) = llm_attention::flash::forward_with_lse(&q, &k, &v, &config)?;
        // The output serves as its own gradient.
        let grads = llm_attention::flash::backward(&want, &q, &k, &v, &want, &lse, &config)?;
        let (q, k, v) = (gpu.upload(&q)?, gpu.upload(&k)?, gpu.upload(&v)?);
        let mut recorder = gpu.recorder();
        let (got, lse) = flash::forward(&mut recorder, &q, &k, &v, &config)?;
        let got_grads = flash::backward(&mut recorder, &got, &q, &k, &v, &got, &lse, &config)?;
        recorder.submit()?;
        let pairs = [
            ("output", got, want),
            ("dq", got_grads.dq, grads.dq),
            ("dk", got_grads.dk, grads.dk),
            ("dv", got_grads.dv, grads.dv),
        ];
        for (what, got, want) in pairs {
            let name = format!("attention, {seq} queries, {kv_seq} keys: {what}");
            let want: Vec<f64> = want.iter().map(|&x| f64::from(x)).collect();
            cases.push(compare(name, &got, &want, 2e-5).await?);
        }
    }
    Ok(cases)
}

/// Tokens over more than one group of the kernels, by both draws. They are computed in integers, so the same as natively, where tests
/// show that none of these rows is borderline.
pub(crate) async fn sampling(gpu: &Gpu) -> Result<Vec<Case>, GpuSamplingError> {
    let (batch, vocab) = (4, 9000);
    let logits = Array2::from_shape_fn((batch, vocab), |(row, token)| {
        let x = ((row * 977 + token * 7919) % 20_011) as f32 / 1000.0 - 10.0;
        if token % 50 == 0 {
            f32::NEG_INFINITY
        } else {
            x
        }
    });
    let randoms: Vec<RowRandom> = (0..batch as u64)
        .map(|row| RowRandom::new(42, row, 1 << 40))
        .collect();
    let uniforms: Vec<f64> = randoms.iter().map(|random| random.uniform(0)).collect();
    let mut cases = Vec::new();
    for dialect in [Dialect::HuggingFace, Dialect::LlamaCpp] {
        let config = SamplingConfig::sample(dialect, 0.7, Some(500), Some(0.9))?;
        let want = llm_sampling::sampler::sample(&logits, &config, &uniforms)?;
        let mut recorder = gpu.recorder();
        let rows = GpuLogits::new(&mut recorder, &gpu.upload(&logits)?)?;
        let sample = llm_sampling::gpu::sampler::sample;
        let draws = sample(&mut recorder, &rows, &config, &uniforms)?;
        recorder.submit()?;
        let want = want.iter().map(|draw| draw.token);
        let name = format!("tokens, {dialect}");
        cases.push(same(name, &draws.download().await?, want));
    }
    let steps = [Step::Temperature(1.5), Step::top_k(700, Ties::Exact)];
    let mut left = logits.clone();
    llm_sampling::temperature::apply_inplace(&mut left, 1.5)?;
    llm_sampling::top_k::apply_inplace(&mut left, 700, Ties::Exact, 1)?;
    let mut want = Vec::new();
    for (row, random) in left.rows().into_iter().zip(&randoms) {
        want.push(llm_sampling::gumbel_max::draw(&row, *random)?.token);
    }
    let mut recorder = gpu.recorder();
    let rows = GpuLogits::new(&mut recorder, &gpu.upload(&logits)?)?;
    let draws = chain::sample(&mut recorder, &rows, &steps, Choice::GumbelMax(&randoms))?;
    recorder.submit()?;
    let name = "tokens, Gumbel-max".to_owned();
    cases.push(same(name, &draws.download().await?, want.into_iter()));
    let left: Vec<f64> = left.iter().map(|x| f64::from(x.max(f32::MIN))).collect();
    let mut got = rows.tensor().download().await?;
    got.mapv_inplace(|x| x.max(f32::MIN));
    let error = got
        .iter()
        .zip(&left)
        .map(|(got, want)| (f64::from(*got) - want).abs());
    cases.push(Case {
        name: "logits that are left".to_owned(),
        compared: left.len(),
        error: error.fold(0.0, f64::max),
        tolerance: 0.0,
    });
    Ok(cases)
}

/// Codes and scales are computed in integers, so the same as natively; each of 300 products, or 304 with an update, has two roundings of at most
/// `2^-24` of a sum of numbers below 1, and those of an update two more.
pub(crate) async fn quant(gpu: &Gpu) -> Result<Vec<Case>, GpuQuantError> {
    let (d_out, d_in) = (70, 300);
    let w = Array2::from_shape_fn((d_out, d_in), |(j, i)| {
        ((j * 977 + i * 7919) % 2003) as f32 / 1001.0 - 1.0
    });
    let config = FourBitConfig::new(FourBitCode::Nf4, 64);
    let weights = llm_quant::four_bit::quantize(&w, &config)?;
    let mut recorder = gpu.recorder();
    let on_device = llm_quant::gpu::four_bit::quantize(&mut recorder, &gpu.upload(&w)?, &config)?;
    recorder.submit()?;
    let bytes = |weights: &FourBit| -> Vec<u32> {
        let bytes = weights.packed().iter();
        bytes.map(|&byte| u32::from(byte)).collect()
    };
    let got = bytes(&on_device.download().await?);
    let want = bytes(&weights).into_iter();
    let mut cases = vec![same("bytes of NF4".to_owned(), &got, want)];

    let nearest = llm_quant::eight_bit::EightBitSearch::Nearest;
    let weights = llm_quant::double::compress(weights, nearest)?;
    let mut recorder = gpu.recorder();
    let on_device = llm_quant::gpu::double::compress(&mut recorder, on_device, nearest)?;
    recorder.submit()?;
    let nested = |weights: &FourBit| -> Vec<u32> {
        match weights.scales() {
            Scales::Nested(scales) => { scales.codes().iter().map(|&code| u32::from(code)) }
                .chain(scales.absmax().iter().map(|scale| scale.to_bits()))
                .chain([scales.offset().to_bits()])
                .collect(),
            _ => Vec::new(),
        }
    };
    let got = nested(&on_device.download().await?);
    let want = nested(&weights).into_iter();
    cases.push(same("nested scales of NF4".to_owned(), &got, want));

    let on_device = GpuFourBit::upload(gpu, &weights)?;
    let a = Array2::from_shape_fn((4, d_in), |(r, i)| ((r * 7 + i) % 13) as f32 / 1300.0);
    let b = Array2::from_shape_fn((d_out, 4), |(j, r)| ((j + r * 5) % 11) as f32 / 11.0 - 0.5);
    let update = LowRank::new(&a, &b, 0.5)?;
    let [a_there, b_there] = [gpu.upload(&a)?, gpu.upload(&b)?];
    let update_there = GpuLowRank::new(&a_there, &b_there, 0.5)?;
    for seq in [1, 40] {
        let x = Array2::from_shape_fn((seq, d_in), |(t, i)| ((t + i) % 17) as f32 / 17.0);
        let mut recorder = gpu.recorder();
        let y = llm_quant::gpu::matmul::forward(&mut recorder, &gpu.upload(&x)?, &on_device)?;
        recorder.submit()?;
        let want = llm_quant::matmul::forward(&x, &weights)?;
        let want: Vec<f64> = want.iter().map(|&y| f64::from(y)).collect();
        let name = format!("product with NF4, {seq} rows");
        let tolerance = 2.0 * (d_in * d_in) as f64 / f64::from(1 << 24);
        cases.push(compare(name, &y, &want, tolerance).await?);

        let mut recorder = gpu.recorder();
        let x_there = gpu.upload(&x)?;
        let y = gpu_low_rank::forward(&mut recorder, &x_there, &on_device, &update_there)?;
        recorder.submit()?;
        let want = llm_quant::matmul::low_rank::forward(&x, &weights, &update)?;
        let want: Vec<f64> = want.iter().map(|&y| f64::from(y)).collect();
        let name = format!("product with NF4 and an update, {seq} rows");
        cases.push(compare(name, &y, &want, 2.0 * tolerance).await?);
    }
    Ok(cases)
}

/// Tokens into pages, a fork that goes on, and what both sequences hold then. Computed in integers or copied, so the bits of the CPU.
pub(crate) async fn kvcache(gpu: &Gpu) -> Result<Vec<Case>, GpuKvCacheError> {
    let config = PoolConfig::new(1, 8, 4, 2, 5);
    let k = Array3::from_shape_fn((2, 10, 5), |(h, t, d)| {
        ((h * 499 + t * 7919 + d * 31) % 2003) as f32 / 500.0 - 2.0
    });
    let k = k.view();
    let (first, last) = (k.slice(s![.., ..9, ..]), k.slice(s![.., 9.., ..]));
    let mut floats = PagedCache::<FloatPages<f32>>::new(&config)?;
    let mut integers = PagedCache::<Int8Pages>::new(&config)?;
    let id = floats.create(b"")?;
    floats.append(id, &[first], &[first])?;
    let fork = floats.fork(id)?;
    floats.append(fork, &[last], &[last])?;
    integers.create(b"")?;
    integers.append(id, &[first], &[first])?;
    integers.fork(id)?;
    integers.append(fork, &[last], &[last])?;
    let want = [floats.gather(0, id)?.0, floats.gather(0, fork)?.0];
    let mut cases = pages::<f32>(gpu, &config, first, last, "f32", &want).await?;
    let want = [integers.gather(0, id)?.0, integers.gather(0, fork)?.0];
    cases.extend(pages::<i8>(gpu, &config, first, last, "int8", &want).await?);
    Ok(cases)
}

/// The same on the device.
async fn pages<E: GpuPageElement>(
    gpu: &Gpu,
    config: &PoolConfig,
    first: ArrayView3<'_, f32>,
    last: ArrayView3<'_, f32>,
    name: &str,
    want: &[Array3<f32>; 2],
) -> Result<Vec<Case>, GpuKvCacheError> {
    let mut table = PageTable::new(config.n_pages, config.page_size)?;
    let pool = GpuPool::<E>::new(gpu, config)?;
    let (layer, shape) = (pool.layer(0)?, pool.shape());
    let mut recorder = gpu.recorder();
    let id = table.create(b"")?;
    table.grow(&[(id, 9)])?;
    let new = gpu.upload(&first)?;
    let slots = GpuSlots::for_writing(gpu, shape, &table, &[(id, 0..9)])?;
    layer.write(&mut recorder, &slots, &new, &new)?;
    let fork = table.fork(id)?;
    pool.copy_pages(&mut recorder, &table.grow(&[(fork, 1)])?)?;
    let new = gpu.upload(&last)?;
    let slots = GpuSlots::for_writing(gpu, shape, &table, &[(fork, 9..10)])?;
    layer.write(&mut recorder, &slots, &new, &new)?;
    let mut got = Vec::new();
    for tokens in [(id, 0..9), (fork, 0..10)] {
        let slots = GpuSlots::for_reading(gpu, shape, &table, &[tokens])?;
        got.push(layer.gather(&mut recorder, &slots)?.0);
    }
    recorder.submit()?;
    slots.check().await?;
    let mut cases = Vec::new();
    for (what, (got, want)) in ["prompt", "fork"].into_iter().zip(got.iter().zip(want)) {
        let want: Vec<f64> = want.iter().map(|&x| f64::from(x)).collect();
        let name = format!("pages of {name}, {what}");
        cases.push(compare(name, got, &want, 0.0).await?);
    }
    Ok(cases)
}

/// Compares ids: an error is a number of tokens.
fn same(name: String, got: &[u32], want: impl ExactSizeIterator<Item = u32>) -> Case {
    let compared = want.len();
    let wrong = got
        .iter()
        .zip(want)
        .filter(|(got, want)| *got != want)
        .count();
    Case {
        name,
        compared,
        error: if got.len() == compared {
            wrong as f64
        } else {
            f64::NAN
        },
        tolerance: 0.0,
    }
}

/// Numbers of many sizes and both signs, the same in each run.
fn numbers(n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| {
            let x = ((i * 7919) % 2003) as f32 / 1001.5 - 1.0;
            x * (1 << (i % 11)) as f32
        })
        .collect()
}

/// Downloads and compares; `tolerance` is absolute.
async fn compare(
    name: String,
    got: &GpuTensor<f32>,
    want: &[f64],
    tolerance: f64,
) -> Result<Case, GpuError> {
    let got = got.download().await?;
    let mut error = if got.len() == want.len() {
        0.0
    } else {
        f64::NAN
    };
    for (&got, &want) in got.iter().zip(want) {
        let difference = (f64::from(got) - want).abs();
        // A NaN stays: `max` would lose it.
        if !(difference <= error) {
            error = difference;
        }
    }
    Ok(Case {
        name,
        compared: want.len(),
        error,
        tolerance,
    })
}
