"""Rotary vectors of posenc: rotary inverse frequencies and the rotation with its gradients.

Library versions: torch 2.15.0, transformers 5.23.0 (see requirements.txt).

The angle is formed as the library forms it: float32(position) * inv_freq, one float32 product, then its cosine and
sine. The float64 run behind the tolerances starts from that same float32 angle.
"""

import torch
import transformers
from common import case, generator, gradients
from transformers import GlmConfig, LlamaConfig
from transformers.models.glm import modeling_glm
from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.llama import modeling_llama

HF = f"transformers {transformers.__version__}"
# layout -> (source, function); gpt_neox passes the channels after rotary_dim through, as GLM does
LAYOUTS = {
    "interleaved": (f"{HF} models.glm.modeling_glm.apply_rotary_pos_emb", modeling_glm.apply_rotary_pos_emb),
    "half_split": (f"{HF} models.gpt_neox.modeling_gpt_neox.apply_rotary_pos_emb", modeling_gpt_neox.apply_rotary_pos_emb),
}


def inverse_frequencies(base, dim):
    """As the library's default rotary embedding computes them, in float32."""
    config = LlamaConfig(head_dim=dim, rope_parameters={"rope_type": "default", "rope_theta": base})
    return modeling_llama.LlamaRotaryEmbedding.compute_default_rope_parameters(config)[0]


def apply(args):
    op = "posenc.rope.apply"
    # name: layout, head_dim, rotary_dim, base, attention factor, batch, q heads, k heads, positions
    at = lambda *rows: torch.tensor(rows)
    table = {
        "glm_partial": ("interleaved", 16, 8, 10000.0, 1.0, 2, 4, 2, at([0, 1, 2, 3, 4], [5, 6, 7, 8, 9])),
        "interleaved_full": ("interleaved", 8, 8, 10000.0, 1.0, 2, 3, 1, at([3, 0, 17], [1, 1, 255])),
        "interleaved_scaled": ("interleaved", 12, 6, 500.0, 1.2079441, 1, 2, 2, at([7, 2, 1023, 40])),
        "interleaved_long": ("interleaved", 16, 8, 10000.0, 1.0, 2, 2, 1, at([99998, 99999, 100000], [4095, 65537, 8191])),
        "interleaved_one_pair": ("interleaved", 5, 2, 10000.0, 1.0, 1, 1, 1, at([1, 2, 3, 4, 5, 6, 7])),
        "half_split_full": ("half_split", 8, 8, 10000.0, 1.0, 2, 4, 2, at([0, 1, 2], [9, 8, 7])),
        "half_split_partial": ("half_split", 20, 10, 500000.0, 1.0, 1, 3, 1, at([11, 0, 5, 300])),
        "half_split_scaled": ("half_split", 6, 6, 10000.0, 0.75, 2, 2, 2, at([4, 12], [31, 0])),
        "half_split_long": ("half_split", 16, 16, 1000000.0, 1.0, 1, 2, 1, at([100000, 131071, 0, 32768])),
        # base 256 with rotary_dim 16: every inverse frequency is a power of two, every angle below is exact
        "half_split_exact_angles": ("half_split", 16, 16, 256.0, 1.0, 1, 1, 1, at([256, 257, 258, 100001])),
        "interleaved_exact_angles": ("interleaved", 24, 16, 256.0, 1.0, 1, 2, 1, at([513, 512, 16777215])),
        "one_token": ("interleaved", 64, 32, 10000.0, 1.0, 1, 1, 1, at([77])),
        "odd_head_dim": ("half_split", 7, 4, 10000.0, 1.0, 1, 2, 1, at([3, 9])),
    }
    for name, (layout, head_dim, rotary, base, factor, batch, heads, kv_heads, positions) in table.items():
        source, rotate = LAYOUTS[layout]
        rng = generator(args.seed, f"{op}/{name}")
        seq = positions.shape[1]
        assert positions.shape[0] == batch
        draw = lambda n: torch.randn(batch, n, seq, head_dim, generator=rng)
        inputs = {"q": draw(heads), "k": draw(kv_heads), "dout_q": draw(heads), "dout_k": draw(kv_heads),
                  "positions": positions, "inv_freq": inverse_frequencies(base, rotary)}

        def run(x):
            dtype = x["q"].dtype
            angle = (x["positions"][..., None].float() * inputs["inv_freq"]).to(dtype)
            angle = torch.cat((angle, angle), dim=-1)
            cos, sin = angle.cos() * factor, angle.sin() * factor

            def forward(y):
                q, k = rotate(y["q"], y["k"], cos, sin)
                return {"q": q, "k": k}

            outputs, grads = gradients(forward, x, ["q", "k"], {"q": x["dout_q"], "k": x["dout_k"]})
            return outputs | {"dq": grads["q"], "dk": grads["k"]}

        params = {"attention_factor": factor, "base": base, "head_dim": head_dim, "layout": layout, "rotary_dim": rotary}
        case(args, op, name, params, source, inputs, run)


def inv_freq(args):
    op = "posenc.rope.inv_freq"
    # name: family, base, head_dim, partial factor, maximum positions, sequence length
    table = {
        "default": ("llama", 10000.0, 64, None, 4096, None),
        "default_odd": ("llama", 500000.0, 10, None, 8192, None),
        "default_small_base": ("llama", 2.0, 6, None, 32, None),
        "default_large_base": ("llama", 1e7, 128, None, 131072, 131072),
        "default_ignores_length": ("llama", 10000.0, 16, None, 64, 1000),
        "default_partial": ("glm", 10000.0, 128, 0.5, 8192, None),
        "default_partial_quarter": ("glm", 1000.0, 80, 0.25, 2048, None),
    }
    for name, (family, base, head_dim, partial, maximum, length) in table.items():
        rope = {"rope_theta": base, "rope_type": "default"}
        if partial is not None:
            rope["partial_rotary_factor"] = partial
        if family == "llama":
            config = LlamaConfig(head_dim=head_dim, max_position_embeddings=maximum, rope_parameters=dict(rope))
            function, source = modeling_llama.LlamaRotaryEmbedding, "models.llama.modeling_llama.LlamaRotaryEmbedding"
        else:
            config = GlmConfig(head_dim=head_dim, max_position_embeddings=maximum, rope_parameters=dict(rope))
            function, source = modeling_glm.GlmRotaryEmbedding, "models.glm.modeling_glm.GlmRotaryEmbedding"

        def run(x):
            if run.first:
                run.first = False
                found, factor = function.compute_default_rope_parameters(config)
            else:  # the textbook formula in float64
                dim, factor = int(head_dim * (partial or 1.0)), 1.0
                found = base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
            return {"inv_freq": found, "attention_factor_f64": torch.tensor([factor], dtype=torch.float64)}

        run.first = True
        params = {"head_dim": head_dim, "max_position_embeddings": maximum, "rope_parameters": rope, "seq_len": length}
        inputs = {"seq_len": torch.tensor([length or 0])}
        case(args, op, name, params, f"{HF} {source}.compute_default_rope_parameters", inputs, run, fixed=(2e-6, 0.0))


def run(args):
    """Every case of this file."""
    apply(args)
    inv_freq(args)
