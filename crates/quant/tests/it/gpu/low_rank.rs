//! Products with packed weights and a low-rank update against the reference.

use llm_quant::four_bit::FourBitCode;
use llm_quant::gpu::GpuFourBit;
use llm_quant::gpu::matmul::{self, low_rank};
use llm_quant::reference;
use low_rank::GpuLowRank;
use ndarray::{Array2, ArrayD};
use proptest::prelude::*;

use super::matmul::{close, factors};
use super::{blocks, codes, config, gpu, numbers, packed};

proptest! {
    #![proptest_config(config())]

    #[test]
    fn products_are_those_with_merged_weights(
        seq in 0_usize..40,
        d_out in 1_usize..70,
        d_in in 1_usize..150,
        rank in prop_oneof![0_usize..9, 30_usize..70],
        code in codes(),
        block in blocks(),
        is_nested: bool,
        seed: u64,
    ) {
        let Some(gpu) = gpu() else { return Ok(()) };
        let w = numbers(d_out * d_in, seed).into_shape_with_order((d_out, d_in)).unwrap();
        let weights = packed(&w, code, block, is_nested);
        let on_device = GpuFourBit::upload(&gpu, &weights).unwrap();
        let (x, dout) = (factors(seq, d_in, seed), factors(seq, d_out, seed));
        // Of the size of the weights, so that neither part hides the other.
        let largest = w.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        let (a, b) = (factors(rank, d_in, seed ^ 1), factors(d_out, rank, seed ^ 2) * largest);
        let scaling = 0.75_f32;
        let [a_there, b_there] = [&a, &b].map(|x| gpu.upload(x).unwrap());
        let update = GpuLowRank::new(&a_there, &b_there, scaling).unwrap();
        let mut recorder = gpu.recorder();
        let y = low_rank::forward(&mut recorder, &gpu.upload(&x).unwrap(), &on_device, &update).unwrap();
        let dx = low_rank::backward_input(&mut recorder, &gpu.upload(&dout).unwrap(), &on_device, &update).unwrap();
        recorder.submit().unwrap();

        let unpacked = llm_quant::four_bit::dequantize::<f32>(&weights).unwrap().mapv(f64::from);
        let unpacked = unpacked.into_shape_with_order((d_out, d_in)).unwrap();
        let [x, dout, a, b] = [x, dout, a, b].map(|x| x.mapv(f64::from));
        let list = |x: &Array2<f64>| x.iter().copied().collect::<Vec<_>>();
        let (a_list, b_list) = (list(&a), list(&b));
        let scaling = f64::from(scaling);
        let merged = reference::matmul::LowRank { a: &a_list, b: &b_list, scaling };
        let merged = merged.merged(&list(&unpacked), d_in, d_out);
        let merged = Array2::from_shape_vec((d_out, d_in), merged).unwrap();
        // A nested scale, rounded once or twice, may be off by that of its product and of the offset.
        let largest = f64::from(largest);
        let size = unpacked.mapv(|x| if is_nested { x.abs() + largest } else { x.abs() });
        let size = size + b.mapv(f64::abs).dot(&a.mapv(f64::abs)) * scaling;
        let (y, dx) = (y.download_blocking().unwrap(), dx.download_blocking().unwrap());
        close(&y, &x.dot(&merged.t()), &x.mapv(f64::abs).dot(&size.t()), d_in + rank)?;
        close(&dx, &dout.dot(&merged), &dout.mapv(f64::abs).dot(&size), d_out + rank)?;
    }

    /// Not a bit changes without an update.
    #[test]
    fn rank_0_is_the_plain_product(seq in 1_usize..20, d_out in 1_usize..50, d_in in 1_usize..90, seed: u64) {
        let Some(gpu) = gpu() else { return Ok(()) };
        let w = numbers(d_out * d_in, seed).into_shape_with_order((d_out, d_in)).unwrap();
        let weights = GpuFourBit::upload(&gpu, &packed(&w, FourBitCode::Nf4, 64, true)).unwrap();
        let [x, dout] = [d_in, d_out].map(|n| gpu.upload(&factors(seq, n, seed)).unwrap());
        let (a, b) = (gpu.zeros::<f32>(&[0, d_in]).unwrap(), gpu.zeros::<f32>(&[d_out, 0]).unwrap());
        let update = GpuLowRank::new(&a, &b, 2.0).unwrap();
        let mut recorder = gpu.recorder();
        let y = low_rank::forward(&mut recorder, &x, &weights, &update).unwrap();
        let plain = matmul::forward(&mut recorder, &x, &weights).unwrap();
        let dx = low_rank::backward_input(&mut recorder, &dout, &weights, &update).unwrap();
        let plain_dx = matmul::backward(&mut recorder, &dout, &weights).unwrap();
        recorder.submit().unwrap();
        let bits = |x: ArrayD<f32>| x.mapv(f32::to_bits);
        let [y, plain, dx, plain_dx] = [y, plain, dx, plain_dx].map(|x| bits(x.download_blocking().unwrap()));
        prop_assert_eq!(y, plain);
        prop_assert_eq!(dx, plain_dx);
    }
}
