"""Test vectors of attention: scaled dot products with causal alignments, grouped heads, gradients, log-sum-exp.

Library versions: torch 2.15.0 (see requirements.txt).

Rows that see no key: torch's scaled_dot_product_attention gives output 0 and gradient 0 on the CPU (math and flash
back ends were both seen to), and logsumexp over no key is -inf. That is what the files hold.
"""

import torch
from common import arguments, case, generator, gradients
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

TORCH = f"torch {torch.__version__.split('+')[0]}"


def visible(causal, seq, kv_seq):
    """True where query i may attend to key j."""
    i, j = torch.arange(seq)[:, None], torch.arange(kv_seq)[None, :]
    if causal == "bottom_right":
        return j <= i + kv_seq - seq
    if causal == "top_left":
        return j <= i
    return torch.ones(seq, kv_seq, dtype=torch.bool)


def sdpa(args):
    op = "attention.sdpa"
    # name: batch, heads, kv_heads, seq, kv_seq, head_dim, causal, scale (None: 1/sqrt(head_dim)), spread of q
    table = {
        "mha_full": (2, 3, 3, 5, 5, 8, None, None, 1.0),
        "gqa_full_more_keys": (1, 4, 2, 3, 9, 7, None, None, 1.0),
        "mqa_full_more_queries": (2, 3, 1, 7, 2, 5, None, 0.3, 1.0),
        "mha_causal": (1, 2, 2, 6, 6, 4, "bottom_right", None, 1.0),
        "gqa_causal": (2, 6, 2, 7, 7, 9, "bottom_right", None, 1.0),
        "mqa_causal": (1, 5, 1, 9, 9, 6, "bottom_right", None, 1.0),
        "gqa_cached_prefix": (2, 4, 2, 3, 11, 8, "bottom_right", None, 1.0),
        "gqa_decode": (3, 4, 2, 1, 13, 8, "bottom_right", None, 1.0),
        "one_token": (1, 2, 1, 1, 1, 3, "bottom_right", None, 1.0),
        "head_dim_one": (1, 2, 2, 4, 4, 1, "bottom_right", None, 1.0),
        "scale": (1, 2, 1, 5, 5, 16, "bottom_right", 0.125, 2.0),
        "scale_negative": (1, 2, 1, 4, 6, 4, "bottom_right", -0.7, 1.0),
        "scale_zero": (1, 1, 1, 3, 5, 4, "bottom_right", 0.0, 1.0),
        "large_scores": (1, 2, 1, 6, 8, 8, "bottom_right", 1.0, 12.0),
        "bottom_right_fewer_keys": (1, 4, 2, 7, 4, 5, "bottom_right", None, 1.0),
        "bottom_right_one_key": (1, 2, 1, 4, 1, 3, "bottom_right", None, 1.0),
        "top_left_square": (1, 2, 2, 5, 5, 6, "top_left", None, 1.0),
        "top_left_more_keys": (2, 4, 2, 4, 9, 7, "top_left", None, 1.0),
        "top_left_fewer_keys": (1, 3, 1, 8, 3, 5, "top_left", 0.5, 1.0),
        "top_left_decode": (1, 2, 1, 1, 6, 4, "top_left", None, 1.0),
        "tiles": (1, 2, 1, 37, 69, 4, "bottom_right", None, 1.0),
    }
    for name, (batch, heads, kv_heads, seq, kv_seq, dim, causal, scale, spread) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        draw = lambda h, s: torch.randn(batch, h, s, dim, generator=rng)
        inputs = {"q": spread * draw(heads, seq), "k": draw(kv_heads, kv_seq), "v": draw(kv_heads, kv_seq),
                  "dout": draw(heads, seq)}
        scale = dim**-0.5 if scale is None else scale
        mask = visible(causal, seq, kv_seq)
        empty = not mask.any(-1).all()

        def run(x):
            def forward(y):
                with sdpa_kernel(SDPBackend.MATH):
                    out = scaled_dot_product_attention(
                        y["q"], y["k"], y["v"], attn_mask=None if causal is None else mask, scale=scale, enable_gqa=True)
                    if causal == "top_left":  # is_causal is this alignment
                        flag = scaled_dot_product_attention(
                            y["q"], y["k"], y["v"], is_causal=True, scale=scale, enable_gqa=True)
                        assert torch.allclose(out, flag, rtol=1e-5, atol=1e-6)
                return {"out": out}

            outputs, grads = gradients(forward, x, ["q", "k", "v"], {"out": x["dout"]})
            groups = heads // kv_heads
            scores = x["q"] @ x["k"].repeat_interleave(groups, dim=1).transpose(-1, -2) * scale
            lse = torch.logsumexp(scores.masked_fill(~mask, float("-inf")), dim=-1)
            if empty:
                rows = ~mask.any(-1)
                assert not outputs["out"][:, :, rows].any() and not grads["q"][:, :, rows].any()
                assert (lse[:, :, rows] == float("-inf")).all()
            return outputs | {"lse": lse, "dq": grads["q"], "dk": grads["k"], "dv": grads["v"]}

        source = f"{TORCH} torch.nn.functional.scaled_dot_product_attention (math), lse: torch.logsumexp of the scores"
        if empty:
            source += "; rows without keys: output and gradient 0 as torch gives them, lse -inf"
        params = {"causal": causal, "heads": heads, "kv_heads": kv_heads, "scale": scale,
                  "window_left": None, "window_right": None}
        case(args, op, name, params, source, inputs, run, floor=5e-6, atol_floor=2e-6)


def main():
    sdpa(arguments("attention"))


if __name__ == "__main__":
    main()
