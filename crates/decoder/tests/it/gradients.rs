//! Gradients of whole models against finite differences.

use llm_decoder::{Decoder, DecoderConfig, Family, Params, TokenBatch};
use llm_numerics::philox::Philox4x32;
use llm_numerics::testing::gradient::{GradientCheck, assert_gradient};
use llm_training::cross_entropy::{self, CrossEntropyConfig, Reduction};
use ndarray::{Array1, ArrayD};

/// Every kind of tensor: both families, biases everywhere, tied and untied heads.
fn models() -> [Decoder<f64>; 3] {
    let glm = DecoderConfig::glm(7, 16, 2, 4)
        .with_kv_heads(2)
        .with_d_ff(6);
    let mut llama = glm.clone();
    llama.family = Family::Llama;
    llama.rotary_dim = llama.head_dim;
    llama.output_bias = true;
    llama.mlp_bias = true;
    llama.tied_head = true;
    let mut wide = glm.clone();
    wide.head_dim = 6; // wider than d_model / n_heads
    wide.rotary_dim = 2;
    wide.n_kv_heads = 1;
    wide.qkv_bias = false;
    [glm, llama, wide].map(|config| {
        let random = Philox4x32::new(11);
        let mut model = Decoder::random(config, 0.5, &random).unwrap();
        // Biases and norms that are not 0 and 1, so that they matter.
        for (stream, (_, mut tensor)) in model.params_mut().tensors_mut().into_iter().enumerate() {
            if tensor.ndim() == 1 {
                for (i, x) in tensor.iter_mut().enumerate() {
                    *x += 0.3 * random.normal_f64(100 + stream as u64, i as u64);
                }
            }
        }
        model
    })
}

fn loss_and_gradients(model: &Decoder<f64>) -> (f64, Params<f64>) {
    let batch = TokenBatch::new(&[&[1, 5, 2, 6, 0], &[3], &[4, 4, 1]]).unwrap();
    let labels = Array1::from(vec![5, -100, 6, 0, 2, 1, 4, 1, -100]);
    let (mut logits, activations) = model.forward_saved(&batch).unwrap();
    let config = CrossEntropyConfig::new(Reduction::Mean).with_ignore_index(-100);
    let loss = cross_entropy::loss_and_grad_inplace(&mut logits, &labels, None, &config).unwrap();
    let mut grads = Params::zeros(model.config());
    model.backward(&activations, &logits, &mut grads).unwrap();
    (loss, grads)
}

#[test]
fn every_gradient_equals_finite_differences() {
    for model in models() {
        let (_, grads) = loss_and_gradients(&model);
        let names: Vec<String> = model
            .params()
            .tensors()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let grads: Vec<ArrayD<f64>> = grads
            .tensors()
            .into_iter()
            .map(|(_, g)| g.to_owned())
            .collect();
        for (which, (name, grad)) in names.iter().zip(&grads).enumerate() {
            assert!(
                grad.iter().any(|g| g.abs() > 1e-4),
                "{name}: a gradient of zeros shows nothing"
            );
            let at = model.params().tensors()[which].1.to_owned();
            let loss = |x: &ArrayD<f64>| {
                let mut moved = model.clone();
                moved.params_mut().tensors_mut()[which].1.assign(x);
                loss_and_gradients(&moved).0
            };
            // RoPE's table is f32, alike in forward and backward, so f64 steps stay smooth.
            assert_gradient(loss, &at, grad, &GradientCheck::new().with_max_elements(24));
        }
    }
}

/// The gradient of a batch is the sum of the gradients of its sequences.
#[test]
fn gradients_of_parts_add_up() {
    let model = &models()[0];
    let run = |sequences: &[&[u32]], grads: &mut Params<f64>| {
        let batch = TokenBatch::new(sequences).unwrap();
        let (mut logits, activations) = model.forward_saved(&batch).unwrap();
        let labels: Array1<i64> = batch
            .ids()
            .iter()
            .map(|&id| i64::from(id + 1) % 7)
            .collect();
        let config = CrossEntropyConfig::new(Reduction::Sum);
        cross_entropy::loss_and_grad_inplace(&mut logits, &labels, None, &config).unwrap();
        model.backward(&activations, &logits, grads).unwrap();
    };
    let mut whole = Params::zeros(model.config());
    run(&[&[1, 2, 3], &[4, 5], &[6]], &mut whole);
    let mut parts = Params::zeros(model.config());
    run(&[&[1, 2, 3]], &mut parts);
    run(&[&[4, 5], &[6]], &mut parts);
    for ((name, whole), (_, parts)) in whole.tensors().into_iter().zip(parts.tensors()) {
        for (a, b) in whole.iter().zip(&parts) {
            assert!((a - b).abs() < 1e-12, "{name}: {a} {b}");
        }
    }
}
