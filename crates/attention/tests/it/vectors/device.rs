//! The GPU tier: where there is a device, the files of attention run on it too.

use llm_attention::gpu::llm_gpu::testing::gpu;
use llm_attention::gpu::llm_gpu::{Gpu, GpuTensor};
use llm_attention::gpu::paged::{self, GpuPageElement, GpuPagedKv};
use llm_attention::gpu::{GpuGradients, download_lse_blocking, flash, score_mods, sinks, varlen};
use llm_attention::{AlibiOrigin, AttentionConfig, ScoreMods};
use llm_numerics::testing::vectors::{Case, Tier, VectorError};
use ndarray::{Array, Array1, Array2, Array4, ArrayD, Dimension, Ix1, Ix3, Ix4};

/// The tiers that this machine can run.
pub(super) fn tiers() -> Vec<Tier> {
    match gpu() {
        Some(_) => vec![Tier::Reference, Tier::Cpu, Tier::Gpu],
        None => vec![Tier::Reference, Tier::Cpu],
    }
}

/// Forward and backward, with whatever the file has: modified scores, sinks.
pub(super) fn attention(
    case: &Case,
    config: &AttentionConfig,
    mods: &ScoreMods<'_, f32>,
) -> Result<(), VectorError> {
    let gpu = gpu().ok_or_else(|| VectorError::op("no device"))?;
    let input = |name| upload(&gpu, &case.input_f32::<Ix4>(name)?);
    let (q, k, v) = (input("q")?, input("k")?, input("v")?);
    let slopes = match mods.alibi {
        Some((slopes, origin)) => Some((upload(&gpu, &slopes.to_owned())?, origin)),
        None => None,
    };
    let bias = match mods.bias {
        Some(bias) => Some(upload(&gpu, &bias.to_owned())?),
        None => None,
    };
    let mask = match mods.mask {
        Some((mask, polarity)) => {
            let words = gpu.upload(&mask.mapv(u32::from)).map_err(VectorError::op)?;
            Some((words, polarity))
        }
        None => None,
    };
    let mut on_device = score_mods::GpuScoreMods::new();
    if let Some((slopes, origin)) = &slopes {
        on_device = on_device.with_alibi(slopes, *origin);
    }
    if let Some(bias) = &bias {
        on_device = on_device.with_bias(bias);
    }
    if let Some((mask, polarity)) = &mask {
        on_device = on_device.with_mask(mask, *polarity);
    }
    let is_modified = slopes.is_some() || bias.is_some() || mask.is_some();

    let mut recorder = gpu.recorder();
    let forward = if is_modified {
        score_mods::forward(&mut recorder, &q, &k, &v, &on_device, config)
    } else {
        flash::forward(&mut recorder, &q, &k, &v, config)
    };
    let (mut out, mut lse) = forward.map_err(VectorError::op)?;
    let sink = match case.has_input("sinks") {
        true => Some(upload(&gpu, &case.input_f32::<Ix1>("sinks")?)?),
        false => None,
    };
    if let Some(sink) = &sink {
        let without = lse;
        (out, lse) = sinks::apply(&mut recorder, &out, &without, sink).map_err(VectorError::op)?;
        recorder.submit().map_err(VectorError::op)?;
        expect_lse(case, "lse_without_sink", &without)?;
    } else {
        recorder.submit().map_err(VectorError::op)?;
        if case.output_shape("lse").is_some() {
            expect_lse(case, "lse", &lse)?;
        }
    }
    expect(case, "out", &out)?;
    if !case.has_input("dout") {
        return Ok(());
    }
    let dout = input("dout")?;
    let mut recorder = gpu.recorder();
    let (gradients, dbias, dslopes) = if is_modified {
        let got = score_mods::backward(
            &mut recorder,
            &dout,
            &q,
            &k,
            &v,
            &out,
            &lse,
            &on_device,
            config,
        );
        let got = got.map_err(VectorError::op)?;
        (got.inputs, got.dbias, got.dslopes)
    } else {
        let got = flash::backward(&mut recorder, &dout, &q, &k, &v, &out, &lse, config);
        (got.map_err(VectorError::op)?, None, None)
    };
    let dsinks = match &sink {
        Some(sink) => {
            Some(sinks::backward(&mut recorder, &dout, &out, &lse, sink).map_err(VectorError::op)?)
        }
        None => None,
    };
    recorder.submit().map_err(VectorError::op)?;
    expect_gradients(case, &gradients)?;
    for (name, got) in [("dbias", dbias), ("dslopes", dslopes), ("dsinks", dsinks)] {
        if let Some(got) = got {
            expect(case, name, &got)?;
        }
    }
    Ok(())
}

/// Packed sequences, forward and backward.
pub(super) fn packed(
    case: &Case,
    [queries, keys]: [&[usize]; 2],
    config: &AttentionConfig,
) -> Result<(), VectorError> {
    let gpu = gpu().ok_or_else(|| VectorError::op("no device"))?;
    let input = |name| upload(&gpu, &case.input_f32::<Ix3>(name)?);
    let (q, k, v, dout) = (input("q")?, input("k")?, input("v")?, input("dout")?);
    let mut recorder = gpu.recorder();
    let (out, lse) = varlen::forward(&mut recorder, &q, &k, &v, queries, keys, config)
        .map_err(VectorError::op)?;
    let got = varlen::backward(
        &mut recorder,
        &dout,
        &q,
        &k,
        &v,
        &out,
        &lse,
        queries,
        keys,
        config,
    )
    .map_err(VectorError::op)?;
    recorder.submit().map_err(VectorError::op)?;
    expect(case, "out", &out)?;
    expect_gradients(case, &got)
}

/// ALiBi in packed sequences, forward and backward.
pub(super) fn packed_alibi(
    case: &Case,
    [queries, keys]: [&[usize]; 2],
    origin: AlibiOrigin,
    config: &AttentionConfig,
) -> Result<(), VectorError> {
    let gpu = gpu().ok_or_else(|| VectorError::op("no device"))?;
    let input = |name| upload(&gpu, &case.input_f32::<Ix3>(name)?);
    let (q, k, v, dout) = (input("q")?, input("k")?, input("v")?, input("dout")?);
    let slopes = upload(&gpu, &case.input_f32::<Ix1>("slopes")?)?;
    let mods = score_mods::GpuScoreMods::new().with_alibi(&slopes, origin);
    let mut recorder = gpu.recorder();
    let (out, lse) =
        varlen::score_mods::forward(&mut recorder, &q, &k, &v, queries, keys, &mods, config)
            .map_err(VectorError::op)?;
    let got = varlen::score_mods::backward(
        &mut recorder,
        &dout,
        &q,
        &k,
        &v,
        &out,
        &lse,
        queries,
        keys,
        &mods,
        config,
    )
    .map_err(VectorError::op)?;
    recorder.submit().map_err(VectorError::op)?;
    expect(case, "out", &out)?;
    if case.output_shape("lse").is_some() {
        expect_lse(case, "lse", &lse)?;
    }
    expect_gradients(case, &got.inputs)?;
    match got.dslopes {
        Some(dslopes) => expect(case, "dslopes", &dslopes),
        None => Err(VectorError::op("no gradient of the slopes")),
    }
}

/// Keys and values in pages.
pub(super) fn pages<T: GpuPageElement>(
    case: &Case,
    [k, v]: &[Array4<T>; 2],
    block_table: &Array2<u32>,
    lengths: &Array1<u32>,
    config: &AttentionConfig,
) -> Result<(), VectorError> {
    let gpu = gpu().ok_or_else(|| VectorError::op("no device"))?;
    let q = upload(&gpu, &case.input_f32::<Ix4>("q")?)?;
    let [k, v] = [k, v].map(|pages| gpu.upload(pages));
    let (k, v) = (k.map_err(VectorError::op)?, v.map_err(VectorError::op)?);
    let block_table = gpu.upload(block_table).map_err(VectorError::op)?;
    let lengths = gpu.upload(lengths).map_err(VectorError::op)?;
    let kv = GpuPagedKv::new(&k, &v, &block_table, &lengths);
    let mut recorder = gpu.recorder();
    let (out, lse) = paged::forward(&mut recorder, &q, &kv, config).map_err(VectorError::op)?;
    recorder.submit().map_err(VectorError::op)?;
    expect(case, "out", &out)?;
    if case.output_shape("lse").is_some() {
        expect_lse(case, "lse", &lse)?;
    }
    Ok(())
}

fn upload<D: Dimension>(gpu: &Gpu, x: &Array<f32, D>) -> Result<GpuTensor<f32>, VectorError> {
    gpu.upload(x).map_err(VectorError::op)
}

fn expect_gradients(case: &Case, got: &GpuGradients) -> Result<(), VectorError> {
    expect(case, "dq", &got.dq)?;
    expect(case, "dk", &got.dk)?;
    expect(case, "dv", &got.dv)
}

fn expect(case: &Case, name: &str, got: &GpuTensor<f32>) -> Result<(), VectorError> {
    let got: ArrayD<f32> = got.download_blocking().map_err(VectorError::op)?;
    case.expect(name, &got)
}

/// The sentinel of a row that sees no key becomes `-inf` on the way.
fn expect_lse(case: &Case, name: &str, got: &GpuTensor<f32>) -> Result<(), VectorError> {
    let got = download_lse_blocking(got).map_err(VectorError::op)?;
    case.expect(name, &got)
}
