//! Products with packed weights against the reference.

use llm_quant::four_bit::FourBitCode;
use llm_quant::gpu::{GpuFourBit, matmul};
use llm_quant::{matmul as cpu, reference};
use ndarray::{Array2, ArrayD};
use proptest::prelude::*;

use super::{blocks, codes, config, gpu, numbers, packed};

/// Between -1 and 1.
pub(super) fn factors(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
    let random = llm_numerics::philox::Philox4x32::new(seed);
    Array2::from_shape_fn((rows, columns), |(i, j)| {
        2.0 * random.uniform_f32(5, (i * columns + j) as u64) - 1.0
    })
}

/// Each sum may be off by two roundings for each of its terms, and one more of each weight.
pub(super) fn close(
    got: &ArrayD<f32>,
    want: &Array2<f64>,
    size: &Array2<f64>,
    inner: usize,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.shape(), want.shape());
    let relative = (inner as f64 + 4.0) * f64::from(f32::EPSILON);
    for ((got, want), size) in got.iter().zip(want).zip(size) {
        prop_assert!(
            (f64::from(*got) - want).abs() <= relative * size,
            "{got} {want}"
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn products_equal_the_reference(
        seq in 0_usize..40,
        d_out in 0_usize..70,
        d_in in 0_usize..150,
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
        let mut recorder = gpu.recorder();
        let y = matmul::forward(&mut recorder, &gpu.upload(&x).unwrap(), &on_device).unwrap();
        let dx = matmul::backward(&mut recorder, &gpu.upload(&dout).unwrap(), &on_device).unwrap();
        recorder.submit().unwrap();

        // A nested scale, rounded once or twice, may be off by that of its product and of the offset.
        let unpacked = llm_quant::four_bit::dequantize::<f32>(&weights).unwrap().mapv(f64::from);
        let unpacked = unpacked.into_shape_with_order((d_out, d_in)).unwrap();
        let largest = w.iter().fold(0.0_f64, |max, x| max.max(f64::from(x.abs())));
        let size = unpacked.mapv(|x| if is_nested { x.abs() + largest } else { x.abs() });
        let [x, dout] = [x, dout].map(|x| x.mapv(f64::from));
        let (y, dx) = (y.download_blocking().unwrap(), dx.download_blocking().unwrap());
        close(&y, &x.dot(&unpacked.t()), &x.mapv(f64::abs).dot(&size.t()), d_in)?;
        close(&dx, &dout.dot(&unpacked), &dout.mapv(f64::abs).dot(&size), d_out)?;
    }
}

/// As many rows as the kernel for a few rows takes, and one more; rows of weights that begin within a word.
#[test]
fn few_and_many_rows_agree() {
    let Some(gpu) = gpu() else { return };
    let w = numbers(37 * 61, 9).into_shape_with_order((37, 61)).unwrap();
    let weights = packed(&w, FourBitCode::Nf4, 64, true);
    let on_device = GpuFourBit::upload(&gpu, &weights).unwrap();
    let x = factors(9, 61, 2);
    let product = |x: &Array2<f32>| {
        let mut recorder = gpu.recorder();
        let y = matmul::forward(&mut recorder, &gpu.upload(x).unwrap(), &on_device).unwrap();
        recorder.submit().unwrap();
        y.download_blocking().unwrap()
    };
    let many = product(&x);
    let want = cpu::forward(&x, &weights).unwrap();
    for rows in 1..=8 {
        let few = product(&x.slice(ndarray::s![..rows, ..]).to_owned());
        for ((few, many), want) in few.iter().zip(&many).zip(&want) {
            let allowed = 1e-4 * want.abs().max(1.0);
            assert!((few - many).abs() < allowed && (few - want).abs() < allowed);
        }
    }
    let unpacked = llm_quant::four_bit::dequantize::<f32>(&weights).unwrap();
    let [x, w] =
        [x.into_dyn(), unpacked].map(|a| a.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
    let textbook = reference::matmul::forward(&x, &w, 61, 37);
    for (many, want) in many.iter().zip(&textbook) {
        assert!((f64::from(*many) - want).abs() < 1e-4 * want.abs().max(1.0));
    }
}
