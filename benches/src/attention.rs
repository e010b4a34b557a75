//! Cases of `llm-attention`.

#[cfg(feature = "peers")]
mod candle;
mod dense;
mod ops;
mod packed;
mod paged;

use anyhow::Result;
use llm_attention::{AttentionConfig, CausalAlignment, Mask, flash};
use llm_numerics::philox::Philox4x32;
use ndarray::Array4;

use crate::case::{Bars, Plan};
use crate::growth::{Growth, peak};
use dense::{Dense, Pass, Sees};
use ops::Op;
use packed::Packed;
use paged::{Element, Paged};

/// Every case of the crate.
pub(crate) fn plans() -> Vec<Plan> {
    let prefill = Dense {
        pass: Pass::Forward,
        sees: Sees::Causal,
        softcap: None,
        q: [1, 32, 2048, 128],
        kv: [1, 8, 2048, 128],
    };
    let decode = Dense {
        q: [1, 32, 1, 128],
        kv: [1, 8, 4096, 128],
        ..prefill
    };
    let train = Dense {
        pass: Pass::Both,
        q: [1, 8, 1024, 64],
        kv: [1, 8, 1024, 64],
        ..prefill
    };
    let asked = [
        prefill.plan(Bars {
            of_limit: Some(0.65),
            peers: &[("torch", 1.3), ("candle", 10.0)],
        }),
        decode.plan(Bars {
            of_limit: Some(0.75),
            peers: &[("torch", 4.0), ("llama.cpp", 2.0)],
        }),
        train.plan(Bars {
            of_limit: None,
            peers: &[("torch", 1.5)],
        }),
    ];
    let others = [
        Dense {
            sees: Sees::LastKeys(512),
            ..prefill
        },
        Dense {
            sees: Sees::All,
            q: [1, 16, 1024, 64],
            kv: [1, 16, 1024, 64],
            ..prefill
        },
        Dense {
            q: [8, 32, 1, 128],
            kv: [8, 8, 1024, 128],
            ..decode
        },
        Dense {
            pass: Pass::Backward,
            ..train
        },
        // The heads of the first case, where a task of the backward pass has four query heads.
        Dense {
            pass: Pass::Both,
            q: [1, 32, 1024, 128],
            kv: [1, 8, 1024, 128],
            ..prefill
        },
    ];
    // The heads of Gemma 2 of 2 billion parameters.
    let softcap = Dense {
        softcap: Some(50.0),
        q: [1, 8, 1024, 256],
        kv: [1, 4, 1024, 256],
        ..prefill
    };
    let softcaps = [Pass::Forward, Pass::Backward].map(|pass| Dense { pass, ..softcap });
    // Where rows lie must not cost more than a tenth.
    let as_one_array = Bars {
        of_limit: None,
        peers: &[("ours in one array", 0.91)],
    };
    let pages = [Element::F32, Element::F16, Element::Bf16, Element::Int8].map(|element| {
        let paged = Paged {
            element,
            page_size: 16,
            n_heads: 32,
            n_kv_heads: 8,
            kv_seq: 4096,
            head_dim: 128,
        };
        paged.plan(as_one_array)
    });
    let packed = Packed {
        lengths: &[1024, 17, 512, 300, 1, 194],
        n_heads: 32,
        n_kv_heads: 8,
        head_dim: 128,
    };
    let others = others.into_iter().chain(softcaps);
    (asked.into_iter())
        .chain(pages)
        .chain(others.map(|case| case.plan(Bars::default())))
        .chain([packed.plan(Bars::default())])
        .chain(ops::all().map(Op::plan))
        .collect()
}

/// What must not grow with the square of the length.
pub(crate) fn growths() -> Vec<Growth> {
    [false, true].map(growth).into()
}

/// Two heads are enough to see the growth, and few enough to wait for.
fn growth(backward: bool) -> Growth {
    let measure = move |n: usize| -> Result<usize> {
        let shape = [1, 2, n, 32];
        let random = Philox4x32::new(2026);
        let [q, k, v, dout] = [0, 1, 2, 3].map(|stream| {
            let mut at = 0..;
            Array4::from_shape_simple_fn(shape, || {
                2.0 * random.uniform_f32(stream, at.next().unwrap_or(0)) - 1.0
            })
        });
        let config = AttentionConfig::new(Mask::Causal(CausalAlignment::BottomRight));
        let (bytes, done) = peak(|| -> Result<()> {
            if backward {
                let (out, lse) = flash::forward_with_lse(&q, &k, &v, &config)?;
                let gradients = flash::backward(&dout, &q, &k, &v, &out, &lse, &config)?;
                std::hint::black_box(gradients);
            } else {
                std::hint::black_box(flash::forward(&q, &k, &v, &config)?);
            }
            Ok(())
        });
        done?;
        Ok(bytes)
    };
    let pass = if backward {
        "forward and backward"
    } else {
        "forward"
    };
    Growth {
        name: format!("{pass} causal, q, k 1×2×n×32"),
        lengths: vec![4096, 8192, 16384, 32768],
        measure: Box::new(measure),
    }
}
