"""Test vectors of the decoder: small random GLM and Llama checkpoints with logits, loss, gradients and greedy ids.

Library versions: torch 2.15.0, transformers 5.23.0, safetensors 0.8.0 (see requirements.txt).

Each directory `<family>_<case>/` has `config.json` and `model.safetensors` as `save_pretrained` writes them, and
`expected.safetensors`:
  in.input_ids          i64 [batch, seq]              no padding id among them
  in.labels             i64 [batch, seq]              input_ids with some -100; not shifted (the loss shifts)
  in.padded_ids         i64 [2, seq]                  row 0 without padding, row 1 padded on the left
  in.padded_mask        i64 [2, seq]                  1 = token, 0 = padding
  out.logits            f32 [batch, seq, vocab]       every position of input_ids, no mask
  out.loss              f32 [1]                       mean over labels that are not -100, after the shift
  out.greedy            i64 [batch, seq + new]        prompt (all of input_ids) followed by the new ids
  out.step_logits       f32 [batch, new, vocab]       logits that each new id is the argmax of
  out.padded_logits_row1 f32 [tokens, vocab]          row 1 of the padded batch, positions with mask 1 only,
                                                      position ids = cumulative sum of the mask minus 1
`grads.safetensors` has the gradient of out.loss for every parameter under its name in the checkpoint; a tied
embedding has one gradient, the sum of both uses. End-of-sequence ids do not stop the greedy decoding.
"""

import contextlib
import copy
import json
import shutil

import torch
import transformers
from common import arguments, generator, number, save, tolerance
from transformers import GenerationConfig, GlmConfig, GlmForCausalLM, LlamaConfig, LlamaForCausalLM

NEW_TOKENS = 6
MODELS = {"glm": (GlmConfig, GlmForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}

# name -> (family, standard deviation of the weights, batch, seq, config)
CASES = {
    "glm_gqa": ("glm", 0.25, 2, 11, dict(
        vocab_size=53, hidden_size=32, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=64, rms_norm_eps=1.5625e-07,
        attention_bias=True, tie_word_embeddings=False, pad_token_id=52, eos_token_id=[52, 50],
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5})),
    "glm_mha_tied": ("glm", 0.3, 3, 7, dict(
        vocab_size=37, hidden_size=24, intermediate_size=28, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=3, head_dim=8, max_position_embeddings=32, rms_norm_eps=1e-5,
        attention_bias=False, tie_word_embeddings=True, pad_token_id=36, eos_token_id=36,
        rope_parameters={"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5})),
    "glm_mqa_old_config": ("glm", 0.3, 2, 9, dict(
        vocab_size=41, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=12, max_position_embeddings=48, rms_norm_eps=1e-6,
        attention_bias=True, tie_word_embeddings=False, pad_token_id=40, eos_token_id=[40],
        rope_parameters={"rope_type": "default", "rope_theta": 20000.0, "partial_rotary_factor": 0.5})),
    "llama_gqa": ("llama", 0.25, 2, 12, dict(
        vocab_size=61, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False,
        bos_token_id=1, eos_token_id=2, rope_parameters={"rope_type": "default", "rope_theta": 10000.0})),
    "llama_mha_tied_bias": ("llama", 0.3, 3, 8, dict(
        vocab_size=43, hidden_size=24, intermediate_size=36, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=32, rms_norm_eps=1e-6, tie_word_embeddings=True,
        attention_bias=True, mlp_bias=True, bos_token_id=1, eos_token_id=2,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0})),
    "llama_wide_heads": ("llama", 0.3, 1, 10, dict(
        vocab_size=47, hidden_size=20, intermediate_size=33, num_hidden_layers=2, num_attention_heads=5,
        num_key_value_heads=1, head_dim=10, max_position_embeddings=40, rms_norm_eps=1e-4,
        tie_word_embeddings=False, bos_token_id=1, eos_token_id=[2, 3],
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0})),
    "llama_old_config": ("llama", 0.3, 2, 9, dict(
        vocab_size=39, hidden_size=16, intermediate_size=22, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32, rms_norm_eps=1e-6, tie_word_embeddings=False,
        bos_token_id=1, eos_token_id=2, rope_parameters={"rope_type": "default", "rope_theta": 1000.0})),
}

# Configurations whose position scaling the first version refuses; no weights.
REFUSED = {
    "llama_rope_llama3": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
                          "high_freq_factor": 4.0, "original_max_position_embeddings": 16},
    "llama_rope_linear": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0},
    "llama_rope_yarn": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
                        "original_max_position_embeddings": 16},
}


def build(name, seed):
    """A model with random weights: every tensor drawn anew, norms around 1, the padding row not zero."""
    family, std, _, _, options = CASES[name]
    config_class, model_class = MODELS[family]
    config = config_class(**options, attention_dropout=0.0, dtype="float32")
    config._attn_implementation = "eager"
    model = model_class(config).eval()
    rng = generator(seed, f"decoder/{name}/weights")
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            draw = torch.randn(parameter.shape, generator=rng)
            parameter.copy_(1 + 0.3 * draw if key.endswith("norm.weight") else std * draw)
    model.generation_config = GenerationConfig(pad_token_id=config.pad_token_id)
    return model


@contextlib.contextmanager
def all_float64():
    """The model code casts norms and attention weights up to float32; in a float64 run let it cast to float64."""
    saved = torch.float32
    torch.float32 = torch.float64
    try:
        yield
    finally:
        torch.float32 = saved


def forward(model, batch):
    """Logits, loss, padded logits and gradients."""
    model.zero_grad(set_to_none=True)
    result = model(input_ids=batch["input_ids"], labels=batch["labels"], use_cache=False)
    result.loss.backward()
    mask = batch["padded_mask"]
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        padded = model(input_ids=batch["padded_ids"], attention_mask=mask, position_ids=positions, use_cache=False)
    outputs = {
        "logits": result.logits.detach(),
        "loss": result.loss.detach().reshape(1),
        "padded_logits_row1": padded.logits[1][mask[1] == 1],
    }
    return outputs, {k: p.grad.clone() for k, p in model.named_parameters()}


def greedy(model, ids):
    """Greedy decoding by the library's own `generate`, with its cache."""
    config = GenerationConfig(
        max_new_tokens=NEW_TOKENS, do_sample=False, num_beams=1, use_cache=True, pad_token_id=0,
        return_dict_in_generate=True, output_logits=True)
    result = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    logits = torch.stack(result.logits, dim=1)
    assert logits.shape[1] == NEW_TOKENS and torch.equal(logits.argmax(-1), result.sequences[:, ids.shape[1]:])
    best = logits.topk(2, dim=-1).values
    margin = (best[..., 0] - best[..., 1]).min().item()
    return result.sequences, logits, margin


def batch_of(name, seed):
    """Ids, labels with some positions masked, and a batch padded on the left."""
    _, _, batch, seq, options = CASES[name]
    rng = generator(seed, f"decoder/{name}/batch")
    pad = options.get("pad_token_id", 0)
    low, high = (1, options["vocab_size"]) if pad == 0 else (0, pad)
    draw = lambda *shape: torch.randint(low, high, shape, generator=rng)
    ids = draw(batch, seq)
    labels = ids.clone()
    labels[torch.rand(batch, seq, generator=rng) < 0.3] = -100
    labels[0, :3] = -100
    labels[:, -1] = ids[:, -1]
    padded, mask = draw(2, seq), torch.ones(2, seq, dtype=torch.int64)
    mask[1, : seq // 3] = 0
    padded[mask == 0] = pad
    return {"input_ids": ids, "labels": labels, "padded_ids": padded, "padded_mask": mask}


def old_style(path):
    """Rewrite a configuration as releases before 5 did: rotary parameters at the top level, `torch_dtype`."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope["rope_theta"]
    config["rope_scaling"] = None
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope["partial_rotary_factor"]
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.46.0"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def write(args, name):
    family = CASES[name][0]
    folder = args.out / name
    shutil.rmtree(folder, ignore_errors=True)
    batch = batch_of(name, args.seed)
    for attempt in range(20):  # the greedy choice must not hang on rounding
        model = build(name, f"{args.seed}+{attempt}" if attempt else args.seed)
        sequences, steps, margin = greedy(model, batch["input_ids"])
        if margin > 0.02:
            break
    else:
        raise AssertionError(f"{name}: no seed gives a clear greedy choice")
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    path = folder / "config.json"
    path.write_text(path.read_text().rstrip() + "\n")
    if name.endswith("old_config"):
        old_style(path)
    again = MODELS[family][1].from_pretrained(folder, attn_implementation="eager").eval()
    again.generation_config = model.generation_config
    outputs, grads = forward(again, batch)
    assert torch.equal(outputs["logits"], forward(model, batch)[0]["logits"]), "the saved copy differs"
    rope = again.model.rotary_emb
    assert rope.attention_scaling == 1.0 and again.config.rope_parameters["rope_type"] == "default"

    double = copy.deepcopy(again).double()
    double.model.rotary_emb.inv_freq.data = rope.inv_freq.clone()
    with all_float64():
        outputs64, grads64 = forward(double, batch)
        double_sequences, steps64, _ = greedy(double, batch["input_ids"])
    assert torch.equal(double_sequences, sequences)

    versions = f"float32, torch {torch.__version__.split('+')[0]}"
    source = f"transformers {transformers.__version__} {type(model).__name__} (eager attention, {versions})"
    params = json.dumps({"family": family, "ignore_index": -100, "new_tokens": NEW_TOKENS}, sort_keys=True)
    rtol, atol = tolerance(outputs | {"step_logits": steps}, outputs64 | {"step_logits": steps64}, 1e-5)
    tensors = {f"in.{k}": v for k, v in batch.items()} | {f"out.{k}": v for k, v in outputs.items()}
    tensors |= {"out.greedy": sequences, "out.step_logits": steps}
    metadata = {"op": f"decoder.{family}", "params": params, "source": source}
    save(folder / "expected.safetensors", tensors, metadata | {"rtol": number(rtol), "atol": number(atol)})
    g_rtol, g_atol = tolerance(grads, grads64, 1e-4)
    save(folder / "grads.safetensors", grads, metadata | {"rtol": number(g_rtol), "atol": number(g_atol)})

    size = sum(f.stat().st_size for f in folder.iterdir())
    spread = outputs["logits"].std().item()
    smallest = min((g.square().mean().sqrt().item(), k) for k, g in grads.items())
    print(f"{name}: {size} bytes, logits std {spread:.2f}, loss {outputs['loss'].item():.3f}, greedy margin {margin:.3f}, "
          f"smallest gradient {smallest[0]:.1e} {smallest[1]}, rtol {number(rtol)} atol {number(atol)}, "
          f"gradients rtol {number(g_rtol)} atol {number(g_atol)}")


def main():
    args = arguments("decoder")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in CASES:
        write(args, name)
    for name, rope in REFUSED.items():
        config = LlamaConfig(**(CASES["llama_gqa"][4] | {"rope_parameters": rope}), attention_dropout=0.0, dtype="float32")
        config.architectures = ["LlamaForCausalLM"]
        folder = args.out / "refused" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(config.to_json_string().rstrip() + "\n")
    print("refused:", ", ".join(REFUSED))


if __name__ == "__main__":
    main()
