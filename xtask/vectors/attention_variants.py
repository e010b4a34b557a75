"""Test vectors of attention that is more than one softmax over given keys: latent attention (core and module),
differential attention, learned prefix keys and values.

Library versions: torch 2.15.0, transformers 5.23.0 (see requirements.txt).
"""

import torch
import transformers
from common import case, generator, gradients
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from transformers import DeepseekV3Config, DiffLlamaConfig
from transformers.models.deepseek_v3 import modeling_deepseek_v3
from transformers.models.diffllama import modeling_diffllama

TORCH = f"torch {torch.__version__.split('+')[0]}"
TRANSFORMERS = f"transformers {transformers.__version__}"
PLAIN = {"rope_theta": 10000.0, "rope_type": "default"}
# In transformers' attention the softmax is taken in float32 whatever it is given, so float64 tells less about the
# error: the same lower limits as for the other modules of this crate.
LIMITS = {"floor": 5e-6, "atol_floor": 2e-6}


def hidden_keys(seq, kv_seq, dtype):
    """Zero where query i sees key j, -inf elsewhere: causal, the last query sees all keys."""
    i, j = torch.arange(seq)[:, None], torch.arange(kv_seq)[None, :]
    return torch.zeros(seq, kv_seq, dtype=dtype).masked_fill(j > i + kv_seq - seq, float("-inf"))


class Core(torch.nn.Module):
    """What an attention module does between its projections: keys and values from the latent, then attention."""

    def __init__(self, attention):
        super().__init__()
        self.attention = attention

    def forward(self, q, kv_latent, k_rope):
        k, v = self.attention.expand_kv(kv_latent, k_rope)
        mask = hidden_keys(q.shape[2], k.shape[2], q.dtype)
        out, _ = modeling_deepseek_v3.eager_attention_forward(
            self.attention, q, k, v, mask, scaling=self.attention.scaling)
        return out.transpose(1, 2)


def latent_attention(hidden, heads, q_rank, kv_rank, nope, rope, v_dim, interleave, rope_parameters=PLAIN):
    """The module, its config, and the params of a case."""
    config = DeepseekV3Config(
        hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=heads, q_lora_rank=q_rank,
        kv_lora_rank=kv_rank, qk_nope_head_dim=nope, qk_rope_head_dim=rope, v_head_dim=v_dim,
        rope_interleave=interleave, rope_parameters=dict(rope_parameters), max_position_embeddings=64,
        attention_dropout=0.0, attn_implementation="eager")
    module = modeling_deepseek_v3.DeepseekV3Attention(config, layer_idx=0)
    params = {
        "causal": "bottom_right", "heads": heads, "kv_lora_rank": kv_rank, "max_position_embeddings": 64,
        "norm_eps": module.kv_a_layernorm.variance_epsilon, "q_lora_rank": q_rank, "qk_nope_head_dim": nope,
        "qk_rope_head_dim": rope, "rope_interleave": interleave, "rope_parameters": dict(rope_parameters),
        "softmax_scale": module.scaling, "v_head_dim": v_dim}
    return module, config, params


def mla_core(args):
    op = "attention.mla.core"
    # name: batch, heads, seq, kv_seq, kv_lora_rank, nope, rope, v
    table = {
        "prefill": (2, 3, 6, 6, 10, 6, 4, 5),
        "decode": (2, 4, 1, 9, 12, 5, 2, 6),
        "cached_prefix": (1, 2, 3, 8, 7, 4, 4, 4),
        "one_head": (1, 1, 5, 5, 4, 3, 2, 7),
        "deepseek_proportions": (1, 2, 4, 6, 32, 8, 4, 8),
        "one_latent_feature": (1, 3, 4, 4, 1, 2, 2, 3),
    }
    for name, (batch, heads, seq, kv_seq, rank, nope, rope, v_dim) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        draw = lambda *shape: torch.randn(*shape, generator=rng)
        inputs = {"q": draw(batch, heads, seq, nope + rope), "kv_latent": draw(batch, 1, kv_seq, rank),
                  "k_rope": draw(batch, 1, kv_seq, rope),
                  "kv_b_proj": rank**-0.5 * draw(heads * (nope + v_dim), rank), "dout": draw(batch, heads, seq, v_dim)}
        module, _, params = latent_attention(8, heads, None, rank, nope, rope, v_dim, True)

        def run(x):
            core = Core(module).to(x["q"].dtype)

            def forward(y):
                weights = {"attention.kv_b_proj.weight": y["kv_b_proj"]}
                return {"out": functional_call(core, weights, (y["q"], y["kv_latent"], y["k_rope"]))}

            wanted = ["q", "kv_latent", "k_rope", "kv_b_proj"]
            outputs, grads = gradients(forward, x, wanted, {"out": x["dout"]})
            return outputs | {f"d{key}": grad for key, grad in grads.items()}

        params |= {"kv_b_proj": "[heads*(nope+v), kv_lora_rank], per head nope rows then v rows"}
        source = (f"{TRANSFORMERS} models.deepseek_v3.modeling_deepseek_v3.DeepseekV3Attention.expand_kv and "
                  "eager_attention_forward")
        case(args, op, name, params, source, inputs, run, **LIMITS)


def mla_module(args):
    op = "attention.mla.module"
    yarn = {"rope_theta": 10000.0, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16,
            "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0}
    # name: batch, seq, hidden, heads, q_lora_rank, kv_lora_rank, nope, rope, v, interleave, first position, rope
    table = {
        "interleaved": (2, 6, 16, 3, 8, 10, 6, 4, 5, True, 0, PLAIN),
        "half_split": (1, 7, 12, 2, 6, 8, 4, 6, 4, False, 0, PLAIN),
        "without_q_lora": (1, 5, 12, 2, None, 8, 4, 4, 6, True, 0, PLAIN),
        "later_positions": (2, 4, 12, 2, None, 8, 4, 4, 4, True, 11, PLAIN),
        "yarn": (1, 6, 12, 2, 6, 8, 4, 8, 4, True, 20, yarn),
    }
    for name, row in table.items():
        batch, seq, hidden, heads, q_rank, kv_rank, nope, rope, v_dim, interleave, first, rope_parameters = row
        rng = generator(args.seed, f"{op}/{name}")
        draw = lambda *shape: torch.randn(*shape, generator=rng)
        module, config, params = latent_attention(
            hidden, heads, q_rank, kv_rank, nope, rope, v_dim, interleave, rope_parameters)
        inputs = {"hidden": draw(batch, seq, hidden), "dout": draw(batch, seq, hidden),
                  "positions": (first + torch.arange(seq)).repeat(batch, 1)}
        names = {key: key.removesuffix(".weight") for key in sorted(dict(module.named_parameters()))}
        for key, weight in module.named_parameters():
            norm = weight.dim() == 1
            drawn = 1 + 0.3 * draw(*weight.shape) if norm else weight.shape[1] ** -0.5 * draw(*weight.shape)
            inputs[f"w.{names[key]}"] = drawn
        rotary = modeling_deepseek_v3.DeepseekV3RotaryEmbedding(config)

        def run(x):
            here = module.to(x["hidden"].dtype)
            mask = hidden_keys(seq, seq, x["hidden"].dtype)[None, None]

            def forward(y):
                weights = {key: y[f"w.{short}"] for key, short in names.items()}
                embeddings = rotary(y["hidden"], y["positions"])
                out, _ = functional_call(here, weights, (y["hidden"], embeddings, mask))
                return {"out": out}

            wanted = ["hidden", *(f"w.{short}" for short in names.values())]
            outputs, grads = gradients(forward, x, wanted, {"out": x["dout"]})
            return outputs | {f"d{key}": grad for key, grad in grads.items()}

        source = f"{TRANSFORMERS} models.deepseek_v3.modeling_deepseek_v3.DeepseekV3Attention"
        case(args, op, name, params, source, inputs, run, **LIMITS)


def differential_attention(hidden, heads, kv_heads, head_dim, layer_idx):
    """The module of DiffLlama, and its config."""
    config = DiffLlamaConfig(
        hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head_dim,
        rope_parameters=dict(PLAIN), rms_norm_eps=1e-5, attention_dropout=0.0, attn_implementation="eager")
    return modeling_diffllama.DiffLlamaAttention(config, layer_idx=layer_idx), config


def differential_module(args):
    op = "attention.differential.module"
    # name: batch, seq, hidden, heads, kv_heads, head_dim, layer_idx, first position
    table = {
        "mha": (2, 5, 16, 4, 4, 4, 0, 0),
        "gqa": (1, 6, 12, 8, 4, 6, 3, 0),
        "two_kv_heads": (1, 7, 10, 6, 2, 4, 1, 5),
        "deep_layer": (1, 4, 8, 2, 2, 8, 30, 0),
    }
    for name, (batch, seq, hidden, heads, kv_heads, head_dim, layer_idx, first) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        draw = lambda *shape: torch.randn(*shape, generator=rng)
        module, config = differential_attention(hidden, heads, kv_heads, head_dim, layer_idx)
        inputs = {"hidden": draw(batch, seq, hidden), "dout": draw(batch, seq, hidden),
                  "positions": (first + torch.arange(seq)).repeat(batch, 1)}
        for key, weight in module.named_parameters():
            scale = 0.3 if weight.dim() == 1 else weight.shape[1] ** -0.5
            inputs[f"w.{key}"] = scale * draw(*weight.shape)
        names = sorted(dict(module.named_parameters()))
        rotary = modeling_diffllama.DiffLlamaRotaryEmbedding(config)

        def run(x):
            here = module.to(x["hidden"].dtype)
            mask = hidden_keys(seq, seq, x["hidden"].dtype)[None, None]

            def forward(y):
                weights = {key: y[f"w.{key}"] for key in names}
                embeddings = rotary(y["hidden"], y["positions"])
                out, _ = functional_call(here, weights, (y["hidden"], embeddings, mask))
                return {"out": out}

            wanted = ["hidden", *(f"w.{key}" for key in names)]
            outputs, grads = gradients(forward, x, wanted, {"out": x["dout"]})
            return outputs | {f"d{key}": grad for key, grad in grads.items()}

        params = {"causal": "bottom_right", "head_dim": head_dim, "heads": heads, "kv_heads": kv_heads,
                  "lambda_init": module.lambda_init, "layer_idx": layer_idx, "norm_eps": module.groupnorm.eps,
                  "rope_theta": PLAIN["rope_theta"]}
        source = f"{TRANSFORMERS} models.diffllama.modeling_diffllama.DiffLlamaAttention"
        case(args, op, name, params, source, inputs, run, **LIMITS)


def prefix_kv(args):
    op = "attention.prefix_kv"
    # name: batch, heads, kv_heads, seq, kv_seq, prefix, head_dim
    table = {
        "mha": (2, 3, 3, 5, 5, 4, 6),
        "gqa": (3, 4, 2, 4, 4, 3, 8),
        "mqa_cached": (2, 4, 1, 2, 7, 5, 4),
        "decode": (2, 4, 2, 1, 6, 3, 4),
        "one_prefix_key": (1, 2, 1, 6, 6, 1, 5),
        "long_prefix": (2, 2, 2, 3, 3, 17, 4),
        "fewer_keys": (1, 2, 1, 5, 3, 2, 4),
    }
    for name, (batch, heads, kv_heads, seq, kv_seq, prefix, dim) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        draw = lambda *shape: torch.randn(*shape, generator=rng)
        inputs = {"q": draw(batch, heads, seq, dim), "k": draw(batch, kv_heads, kv_seq, dim),
                  "v": draw(batch, kv_heads, kv_seq, dim), "dout": draw(batch, heads, seq, dim),
                  "prefix_k": draw(kv_heads, prefix, dim), "prefix_v": draw(kv_heads, prefix, dim)}
        scale = dim**-0.5

        def run(x):
            mask = hidden_keys(seq, prefix + kv_seq, x["q"].dtype)
            # The last query sees all keys. With fewer keys than queries the mask would hide prefix keys from the
            # first queries; they are for all.
            mask[:, :prefix] = 0.0

            def forward(y):
                k, v = (torch.cat([y[f"prefix_{key}"].expand(batch, -1, -1, -1), y[key]], dim=2) for key in "kv")
                with sdpa_kernel(SDPBackend.MATH):
                    out = scaled_dot_product_attention(y["q"], k, v, attn_mask=mask, scale=scale, enable_gqa=True)
                return {"out": out}

            wanted = ["q", "k", "v", "prefix_k", "prefix_v"]
            outputs, grads = gradients(forward, x, wanted, {"out": x["dout"]})
            return outputs | {f"d{key}": grad for key, grad in grads.items()}

        params = {"causal": "bottom_right", "heads": heads, "kv_heads": kv_heads, "prefix": prefix, "scale": scale}
        source = f"{TORCH} torch.cat and torch.nn.functional.scaled_dot_product_attention (math)"
        case(args, op, name, params, source, inputs, run, **LIMITS)


def run(args):
    """Every case of this file."""
    mla_core(args)
    mla_module(args)
    differential_module(args)
    prefix_kv(args)
