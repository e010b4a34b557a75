//! Whole checkpoints against transformers: logits, loss, gradients, greedy decoding.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use llm_decoder::{Decoder, DecoderConfig, DecoderError, Params, Session, TokenBatch, checkpoint};
use llm_numerics::Float;
use llm_numerics::testing::{Tolerance, compare};
use llm_training::causal_lm::{self, CausalLmConfig};
use ndarray::{Array2, Array3, ArrayD, Axis, IxDyn, s};
use safetensors::tensor::{Dtype, SafeTensors};

/// A model directory: `config.json`, `model.safetensors` or shards,
/// `expected.safetensors`, `grads.safetensors`.
#[test]
fn every_directory_agrees_with_transformers() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut directories = model_directories(&committed);
    assert!(directories.len() >= 7, "the committed directories are gone");
    if let Some(extra) = std::env::var_os("LLM_VECTORS") {
        directories.extend(model_directories(&Path::new(&extra).join("decoder")));
    }
    let mut failures = Vec::new();
    for directory in &directories {
        let name = directory.file_name().unwrap().to_string_lossy();
        for (tier, report) in [
            ("f64", check::<f64>(directory)),
            ("f32", check::<f32>(directory)),
        ] {
            for (what, outcome) in report {
                match outcome {
                    Ok(ratio) => println!("{name:24} {tier} {what:24} {ratio:.3} of the tolerance"),
                    Err(error) => failures.push(format!("{name} {tier} {what}: {error}")),
                }
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// What this version does not compute is refused, with the reason.
#[test]
fn scaled_rope_is_refused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/refused");
    for kind in ["linear", "llama3", "yarn"] {
        let path = folder.join(format!("llama_rope_{kind}/config.json"));
        let error = DecoderConfig::from_json(&fs::read_to_string(path).unwrap()).unwrap_err();
        assert!(
            matches!(&error, DecoderError::Unsupported { key: "rope_type", value, .. } if value == kind),
            "{error}"
        );
    }
}

/// Directories with a `config.json` and expected values.
fn model_directories(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut all: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("config.json").exists())
        .collect();
    all.sort();
    all
}

type Outcome = (String, Result<f64, String>);

fn check<F: Float>(directory: &Path) -> Vec<Outcome> {
    let model: Decoder<F> = match checkpoint::load(directory) {
        Ok(model) => model,
        Err(error) => return vec![("load".to_owned(), Err(error.to_string()))],
    };
    let expected = File::read(&directory.join("expected.safetensors"));
    let mut outcomes = Vec::new();
    let input_ids = expected.ids("in.input_ids");
    let (batch_size, seq) = input_ids.dim();
    let vocab = model.config().vocab;
    let rows: Vec<&[u32]> = input_ids
        .rows()
        .into_iter()
        .map(|row| row.to_slice().unwrap())
        .collect();
    let batch = TokenBatch::new(&rows).unwrap();
    let (logits, activations) = model.forward_saved(&batch).unwrap();
    let logits: Array3<F> = logits
        .into_shape_with_order((batch_size, seq, vocab))
        .unwrap();

    for name in expected.tensors.keys() {
        match name.as_str() {
            "in.input_ids" | "in.labels" | "in.padded_ids" | "in.padded_mask" => {}
            "out.logits" => outcomes.push(expected.compare(name, &logits.clone().into_dyn())),
            "out.loss" => {
                let labels = expected.tensors["in.labels"].mapv(|x| x as i64);
                let labels = labels.into_dimensionality::<ndarray::Ix2>().unwrap();
                let config = CausalLmConfig::hugging_face();
                let (loss, dlogits) = causal_lm::loss_and_grad(&logits, &labels, &config).unwrap();
                let loss = ArrayD::from_elem(expected.tensors[name].raw_dim(), loss);
                outcomes.push(expected.compare(name, &loss));
                let grads = directory.join("grads.safetensors");
                if grads.exists() {
                    let dlogits = dlogits
                        .into_shape_with_order((batch_size * seq, vocab))
                        .unwrap();
                    let mut got = Params::zeros(model.config());
                    model.backward(&activations, &dlogits, &mut got).unwrap();
                    outcomes.extend(compare_gradients(&model, &got, &File::read(&grads)));
                }
            }
            "out.greedy" | "out.step_logits" => {} // together, below
            "out.padded_logits_row1" => {
                outcomes.push(check_padded(&model, &expected, name));
            }
            other => outcomes.push((other.to_owned(), Err("unknown tensor".to_owned()))),
        }
    }
    if expected.tensors.contains_key("out.greedy") {
        outcomes.extend(check_greedy(&model, &expected, &input_ids));
    }
    outcomes
}

/// Row 1 of a left-padded batch: its tokens without the padding. RoPE sees distances
/// only, so positions may start anywhere.
fn check_padded<F: Float>(model: &Decoder<F>, expected: &File, name: &str) -> Outcome {
    let ids = expected.ids("in.padded_ids");
    let mask = expected.ids("in.padded_mask");
    let kept: Vec<usize> = (0..ids.ncols()).filter(|&i| mask[[1, i]] != 0).collect();
    let row: Vec<u32> = kept.iter().map(|&i| ids[[1, i]]).collect();
    let got = model.forward(&TokenBatch::new(&[&row]).unwrap()).unwrap();
    let want = &expected.tensors[name];
    // Some writers keep the rows of the padding, whose values mean nothing.
    let want = if want.shape()[0] == ids.ncols() && kept.len() < ids.ncols() {
        want.select(Axis(0), &kept)
    } else {
        want.clone()
    };
    (name.to_owned(), expected.ratio(&got.into_dyn(), &want))
}

/// Greedy decoding with the cache, row by row, token for token, and its logits.
fn check_greedy<F: Float>(
    model: &Decoder<F>,
    expected: &File,
    input_ids: &Array2<u32>,
) -> Vec<Outcome> {
    let seq = input_ids.ncols();
    let greedy = expected.ids("out.greedy"); // [rows, new] or [rows, seq + new]
    let has_prompt = greedy.ncols() > seq
        && greedy
            .rows()
            .into_iter()
            .zip(input_ids.rows())
            .all(|(a, b)| a.slice(s![..seq]) == b);
    let generated = if has_prompt {
        greedy.slice(s![.., seq..]).to_owned()
    } else {
        greedy
    };
    let n_new = generated.ncols();
    let mut step_logits = Array3::<F>::zeros((generated.nrows(), n_new, model.config().vocab));
    let mut tokens = Array2::<u32>::zeros(generated.dim());
    for row in 0..generated.nrows() {
        let mut session = Session::new(model, seq + n_new).unwrap();
        let mut logits = session
            .extend(input_ids.row(row).as_slice().unwrap())
            .unwrap();
        for step in 0..n_new {
            step_logits.slice_mut(s![row, step, ..]).assign(&logits);
            let best = (0..logits.len())
                .fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
            tokens[[row, step]] = best as u32;
            logits = session.extend(&[best as u32]).unwrap();
        }
    }
    let mut outcomes = vec![(
        "out.greedy".to_owned(),
        if tokens == generated {
            Ok(0.0)
        } else {
            Err(format!("got {tokens}, want {generated}"))
        },
    )];
    if let Some(want) = expected.tensors.get("out.step_logits") {
        let shape = [generated.nrows(), n_new, model.config().vocab];
        // [rows, steps, vocab], [steps, rows, vocab] or, for one row, [steps, vocab].
        let got = if want.shape() == shape {
            step_logits.into_dyn()
        } else if want.ndim() == 3 {
            step_logits.permuted_axes([1, 0, 2]).into_dyn()
        } else {
            step_logits.index_axis_move(Axis(0), 0).into_dyn()
        };
        outcomes.push(("out.step_logits".to_owned(), expected.ratio(&got, want)));
    }
    outcomes
}

/// Every parameter, to the file's tolerance and to 1e-3 of the tensor's largest gradient.
fn compare_gradients<F: Float>(model: &Decoder<F>, got: &Params<F>, want: &File) -> Vec<Outcome> {
    let mut got: BTreeMap<String, ArrayD<F>> = checkpoint::named_tensors(model.config(), got)
        .into_iter()
        .map(|(name, tensor)| (name, tensor.to_owned()))
        .collect();
    let mut worst = 0.0_f64;
    let mut outcomes = Vec::new();
    for (name, want_tensor) in &want.tensors {
        let plain = name.trim_start_matches("out.").trim_start_matches('d');
        let tensor = got.remove(name).or_else(|| got.remove(plain));
        let Some(tensor) = tensor else {
            outcomes.push((
                name.clone(),
                Err("we have no gradient of that name".to_owned()),
            ));
            continue;
        };
        match want.ratio(&tensor, want_tensor) {
            Ok(ratio) => worst = worst.max(ratio),
            Err(error) => outcomes.push((name.clone(), Err(error))),
        }
    }
    outcomes.extend(
        got.into_keys()
            .map(|name| (name, Err("no expected gradient".to_owned()))),
    );
    outcomes.push(("gradients".to_owned(), Ok(worst)));
    outcomes
}

/// The tensors of a safetensors file as f64, and its tolerance.
struct File {
    tensors: BTreeMap<String, ArrayD<f64>>,
    tolerance: Tolerance,
}

impl File {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap_or_default();
        let number = |key: &str, absent: f64| -> f64 {
            metadata
                .get(key)
                .map_or(absent, |text| text.parse().unwrap())
        };
        let tensors = file
            .iter()
            .map(|(name, view)| {
                let data = view.data();
                let values: Vec<f64> = match view.dtype() {
                    Dtype::F32 => data
                        .as_chunks()
                        .0
                        .iter()
                        .map(|b| f64::from(f32::from_le_bytes(*b)))
                        .collect(),
                    Dtype::F64 => data
                        .as_chunks()
                        .0
                        .iter()
                        .map(|b| f64::from_le_bytes(*b))
                        .collect(),
                    Dtype::I64 => data
                        .as_chunks()
                        .0
                        .iter()
                        .map(|b| i64::from_le_bytes(*b) as f64)
                        .collect(),
                    Dtype::I32 => data
                        .as_chunks()
                        .0
                        .iter()
                        .map(|b| f64::from(i32::from_le_bytes(*b)))
                        .collect(),
                    Dtype::BOOL | Dtype::U8 => data.iter().map(|b| f64::from(*b)).collect(),
                    other => panic!("{name} has type {other:?}"),
                };
                let array = ArrayD::from_shape_vec(IxDyn(view.shape()), values).unwrap();
                (name.to_owned(), array)
            })
            .collect();
        Self {
            tensors,
            tolerance: Tolerance::new(number("atol", 1e-4), number("rtol", 1e-4)),
        }
    }

    fn ids(&self, name: &str) -> Array2<u32> {
        let tensor = self.tensors[name].mapv(|x| x as u32);
        let tensor = if tensor.ndim() == 1 {
            tensor.insert_axis(Axis(0))
        } else {
            tensor
        };
        tensor.into_dimensionality().unwrap()
    }

    fn compare<F: Float>(&self, name: &str, got: &ArrayD<F>) -> Outcome {
        (name.to_owned(), self.ratio(got, &self.tensors[name]))
    }

    fn ratio<F: Float>(&self, got: &ArrayD<F>, want: &ArrayD<f64>) -> Result<f64, String> {
        match compare(got, want, self.tolerance) {
            Ok(comparison) => Ok(comparison.worst_ratio),
            Err(mismatch) => Err(mismatch.to_string()),
        }
    }
}

/// transformers 5.23.0: `GlmConfig()` and `LlamaConfig()` print these values.
#[test]
fn keys_that_a_file_leaves_out_mean_what_transformers_takes() {
    let sizes = r#""vocab_size": 50, "hidden_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 4, "intermediate_size": 96"#;
    let read = |family: &str| {
        let text = format!(r#"{{"model_type": "{family}", {sizes}}}"#);
        DecoderConfig::from_json(&text).unwrap()
    };
    let glm = read("glm");
    assert_eq!((glm.n_kv_heads, glm.head_dim, glm.rotary_dim), (2, 128, 64));
    assert_eq!((glm.qkv_bias, glm.output_bias), (true, false));
    assert_eq!((glm.context, glm.norm_eps), (131_072, 1.5625e-7));
    let llama = read("llama");
    assert_eq!(
        (llama.n_kv_heads, llama.head_dim, llama.rotary_dim),
        (4, 16, 16)
    );
    assert_eq!(
        (llama.qkv_bias, llama.output_bias, llama.mlp_bias),
        (false, false, false)
    );
    assert_eq!((llama.context, llama.norm_eps), (2048, 1e-6));
    assert_eq!((glm.rope_base, llama.rope_base), (10_000.0, 10_000.0));
    assert!(!glm.tied_head && !llama.tied_head);
}
