"""Test vectors of attention with modified scores: ALiBi, in packed sequences too, additive biases, boolean masks.

Library versions: torch 2.15.0, transformers 5.23.0 (see requirements.txt).

ALiBi of BLOOM runs the module of transformers, whose projections hand on what they get. The other kinds run torch's
FlexAttention; it has no backward on the CPU, so their gradients are those of torch's scaled_dot_product_attention under
the same bias, whose output is compared with FlexAttention's.
"""

import torch
import transformers
from attention_masks import TORCH, TRANSFORMERS, visible
from common import case, generator, gradients
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.bloom import modeling_bloom

DISTANCES = {
    "bidirectional_abs": "bias = -slope * |i + sk - sq - j|",
    "softcap_then_alibi": "bias = -slope * |i + sk - sq - j|",
    "causal_relative": "bias = -slope * (i + sk - sq - j)",
    "causal_bloom": "bias = slope * key_index",
}


def distances(mode, seq, kv_seq):
    """What the slope is multiplied with."""
    i, j = torch.arange(seq)[:, None], torch.arange(kv_seq)[None, :]
    if mode == "causal_bloom":
        return j.expand(seq, kv_seq)
    back = i + kv_seq - seq - j
    return -(back if mode == "causal_relative" else back.abs())


def bloom(heads, dim, q, k, v, slopes):
    """The attention of BLOOM between given projections: `[1, heads, tokens, dim]`, as many queries as keys."""
    config = transformers.BloomConfig(
        hidden_size=heads * dim, n_head=heads, hidden_dropout=0.0, attention_dropout=0.0, pretraining_tp=1)
    module = modeling_bloom.BloomAttention(config, layer_idx=0).to(q.dtype)
    module.query_key_value = torch.nn.Identity()
    module.dense = torch.nn.Identity()
    tokens = q.shape[2]
    # Per token and head: its query, key and value side by side.
    fused = torch.cat([x[0].transpose(0, 1) for x in (q, k, v)], dim=-1).reshape(1, tokens, -1)
    alibi = (slopes[:, None, None] * torch.arange(tokens)).to(q.dtype)  # as build_alibi_tensor without padding
    mask = torch.zeros(tokens, tokens, dtype=q.dtype).masked_fill(
        ~visible("bottom_right", tokens, tokens), torch.finfo(q.dtype).min)
    out, _ = module(fused, torch.zeros(1, tokens, heads * dim, dtype=q.dtype), alibi, mask[None, None])
    return out.reshape(1, tokens, heads, dim).transpose(1, 2)


def alibi(args):
    op = "attention.alibi"
    # name: mode, batch, heads, kv_heads, seq, kv_seq, head_dim, softcap
    table = {
        "abs": ("bidirectional_abs", 2, 4, 2, 5, 5, 6, None),
        "abs_more_keys": ("bidirectional_abs", 1, 6, 3, 3, 9, 4, None),
        "abs_fewer_keys": ("bidirectional_abs", 1, 2, 1, 7, 4, 5, None),
        "relative": ("causal_relative", 1, 4, 4, 7, 7, 5, None),
        "relative_cached": ("causal_relative", 2, 4, 2, 3, 11, 8, None),
        "relative_decode": ("causal_relative", 2, 8, 2, 1, 13, 4, None),
        "relative_tiles": ("causal_relative", 1, 2, 1, 37, 70, 4, None),
        "softcap": ("softcap_then_alibi", 1, 4, 2, 6, 9, 6, 2.0),
        "softcap_decode": ("softcap_then_alibi", 1, 4, 1, 1, 9, 6, 1.5),
        "bloom": ("causal_bloom", 1, 6, 6, 7, 7, 5, None),
        "bloom_one_head": ("causal_bloom", 1, 1, 1, 5, 5, 3, None),
    }
    for name, (mode, batch, heads, kv_heads, seq, kv_seq, dim, cap) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        draw = lambda h, s: torch.randn(batch, h, s, dim, generator=rng)
        slopes = (modeling_bloom._get_alibi_slopes(heads, "cpu") if mode == "causal_bloom"
                  else torch.rand(heads, generator=rng))
        inputs = {"q": draw(heads, seq), "k": draw(kv_heads, kv_seq), "v": draw(kv_heads, kv_seq),
                  "slopes": slopes.float(), "dout": draw(heads, seq)}
        causal = "bottom_right" if mode.startswith("causal") else None
        scale, far = dim**-0.5, distances(mode, seq, kv_seq)
        hidden = torch.zeros(seq, kv_seq).masked_fill(~visible(causal, seq, kv_seq), float("-inf"))

        def run(x):
            def scores(y):
                products = y["q"] @ y["k"].repeat_interleave(heads // kv_heads, dim=1).transpose(-1, -2) * scale
                bent = products if cap is None else cap * torch.tanh(products / cap)
                return bent + y["slopes"][:, None, None] * far + hidden.to(products.dtype)

            def forward(y):
                if mode == "causal_bloom":
                    return {"out": bloom(heads, dim, y["q"], y["k"], y["v"], y["slopes"])}
                return {"out": torch.softmax(scores(y), dim=-1) @ y["v"].repeat_interleave(heads // kv_heads, dim=1)}

            outputs, grads = gradients(forward, x, ["q", "k", "v", "slopes"], {"out": x["dout"]})
            lse = torch.logsumexp(scores(x), dim=-1)
            if mode != "causal_bloom":
                def mod(score, b, h, i, j):
                    score = score if cap is None else cap * torch.tanh(score / cap)
                    back = i + kv_seq - seq - j
                    score = score - x["slopes"][h] * (back if mode == "causal_relative" else back.abs())
                    return score if causal is None else torch.where(back >= 0, score, float("-inf"))

                torch._dynamo.reset()  # it would compile for any scale the second time, and fail
                with torch.no_grad():
                    out, flex_lse = flex_attention(
                        x["q"], x["k"], x["v"], score_mod=mod, scale=scale, enable_gqa=True, return_lse=True)
                assert torch.allclose(out, outputs["out"], rtol=1e-5, atol=1e-6)
                assert torch.allclose(flex_lse.to(lse.dtype), lse, rtol=1e-5, atol=1e-6)
                outputs, lse = {"out": out}, flex_lse.to(lse.dtype)
            return outputs | {"lse": lse} | {f"d{key}": grad for key, grad in grads.items()}

        source = (f"{TRANSFORMERS} models.bloom.modeling_bloom.BloomAttention between given projections, lse: "
                  "torch.logsumexp" if mode == "causal_bloom" else
                  f"{TORCH} torch.nn.attention.flex_attention; gradients: torch.autograd of softmax")
        params = {"bias": DISTANCES[mode], "causal": causal, "heads": heads, "kv_heads": kv_heads, "mode": mode,
                  "scale": scale, "softcap": cap}
        case(args, op, name, params, source, inputs, run, floor=5e-6, atol_floor=2e-6)


def sdpa_mask(args):
    op = "attention.sdpa_mask"
    # name: kind, batch, heads, kv_heads, seq, kv_seq, head_dim, axes of length 1 in the mask
    table = {
        "add": ("add", 2, 4, 2, 5, 7, 6, ()),
        "add_per_head": ("add_h", 2, 4, 2, 5, 7, 6, (0,)),
        "add_for_all": ("add", 2, 2, 2, 4, 6, 5, (0, 1)),
        "add_per_key": ("add", 3, 2, 1, 4, 6, 5, (1, 2)),
        "add_per_query": ("add", 1, 2, 1, 4, 6, 5, (0, 1, 3)),
        "add_decode": ("add", 2, 4, 1, 1, 9, 5, ()),
        "add_min": ("add_min", 1, 2, 2, 5, 5, 4, (0, 1)),
        "add_inf": ("add_inf", 2, 4, 2, 5, 7, 6, (1,)),
        "add_inf_rows": ("add_inf_rows", 1, 2, 1, 6, 5, 4, (0, 1)),
        "add_tiles": ("add_inf", 1, 2, 1, 35, 67, 4, (0,)),
        "bool": ("bool", 2, 4, 2, 5, 7, 6, ()),
        "bool_rows": ("bool_rows", 1, 4, 2, 6, 5, 4, (0, 1)),
        "bool_none": ("bool_none", 1, 2, 1, 3, 4, 4, (0, 1)),
        "bool_one_row": ("bool_b1", 3, 2, 2, 4, 5, 4, (1, 2)),
        "pad_left": ("pad_left", 3, 4, 2, 6, 6, 4, (1,)),
        "pad_right": ("pad_right", 3, 4, 2, 6, 6, 4, (1,)),
        "bool_decode": ("bool", 2, 4, 2, 1, 9, 5, (1,)),
        "bool_tiles": ("pad_left", 2, 2, 1, 40, 66, 4, (1,)),
    }
    for name, (kind, batch, heads, kv_heads, seq, kv_seq, dim, ones) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        draw = lambda h, s: torch.randn(batch, h, s, dim, generator=rng)
        inputs = {"q": draw(heads, seq), "k": draw(kv_heads, kv_seq), "v": draw(kv_heads, kv_seq),
                  "dout": draw(heads, seq)}
        shape = [1 if axis in ones else length for axis, length in enumerate((batch, heads, seq, kv_seq))]
        additive = kind.startswith("add")
        if kind.startswith("pad"):
            # As transformers pads a batch: sequence b has b tokens less; the causal mask comes on top.
            j = torch.arange(kv_seq)
            short = torch.arange(batch)[:, None]
            real = j >= short if kind == "pad_left" else j < kv_seq - short
            sees = real[:, None, None, :] & visible("bottom_right", seq, kv_seq)
        else:
            sees = torch.rand(shape, generator=rng) < 0.6
            sees[..., 0] |= ~sees.any(-1)  # no row is empty, but where the name says so
            if kind.endswith("rows"):
                sees[..., 1, :] = False
                sees[..., -1, :] = False
            if kind == "bool_none":
                sees[:] = False
        if additive:
            bias = torch.randn(shape, generator=rng)
            low = {"add_min": torch.finfo(torch.float32).min, "add_inf": -torch.inf, "add_inf_rows": -torch.inf}
            inputs["bias"] = bias.masked_fill(~sees, low[kind]) if kind in low else bias
        else:
            inputs["mask"] = sees
        scale = dim**-0.5

        def run(x):
            def forward(y):
                with sdpa_kernel(SDPBackend.MATH):
                    mask = y["bias"] if additive else y["mask"]
                    return {"out": scaled_dot_product_attention(
                        y["q"], y["k"], y["v"], attn_mask=mask, scale=scale, enable_gqa=True)}

            wanted = ["q", "k", "v"] + (["bias"] if additive else [])
            outputs, grads = gradients(forward, x, wanted, {"out": x["dout"]})
            scores = x["q"] @ x["k"].repeat_interleave(heads // kv_heads, dim=1).transpose(-1, -2) * scale
            scores = scores + x["bias"] if additive else scores.masked_fill(~x["mask"], float("-inf"))
            lse = torch.logsumexp(scores, dim=-1)
            assert not any(grad.isnan().any() for grad in grads.values())
            return outputs | {"lse": lse} | {f"d{key}": grad for key, grad in grads.items()}

        source = f"{TORCH} torch.nn.functional.scaled_dot_product_attention (math), lse: torch.logsumexp"
        params = {"heads": heads, "kind": kind, "kv_heads": kv_heads,
                  "mask": "additive" if additive else "true_is_attend", "scale": scale}
        case(args, op, name, params, source, inputs, run, floor=5e-6, atol_floor=2e-6)


def varlen_alibi(args):
    """Each sequence by itself, and all at once in FlexAttention under a mask of blocks, whose output is stored."""
    op = "attention.varlen_alibi"
    # name: lengths of the queries, of the keys (None: the same), heads, kv_heads, head_dim, mode, softcap
    table = {
        "packed": ([3, 5, 1, 4], None, 4, 2, 6, "causal_relative", None),
        "packed_abs": ([4, 2, 6], None, 2, 2, 5, "bidirectional_abs", None),
        "key_index": ([3, 4, 2], None, 3, 1, 4, "causal_bloom", None),
        "empty_sequence": ([2, 0, 5, 0], None, 2, 1, 4, "causal_relative", None),
        "cached_prefixes": ([1, 3, 1, 2], [9, 5, 4, 6], 4, 2, 8, "causal_relative", None),
        "cross_abs": ([3, 4], [5, 2], 2, 2, 4, "bidirectional_abs", None),
        "softcap": ([3, 4, 1], [5, 9, 2], 4, 1, 6, "softcap_then_alibi", 1.5),
        "tiles": ([37, 20], [41, 35], 2, 1, 4, "causal_relative", None),
    }
    for name, (lengths, kv_lengths, heads, kv_heads, dim, mode, cap) in table.items():
        kv_lengths = kv_lengths or lengths
        rng = generator(args.seed, f"{op}/{name}")
        starts = lambda x: torch.tensor([0, *x]).cumsum(0).to(torch.int32)
        draw = lambda n, h: torch.randn(n, h, dim, generator=rng)
        inputs = {"q": draw(sum(lengths), heads), "k": draw(sum(kv_lengths), kv_heads),
                  "v": draw(sum(kv_lengths), kv_heads), "slopes": torch.rand(heads, generator=rng),
                  "dout": draw(sum(lengths), heads),
                  "cu_seqlens_q": starts(lengths), "cu_seqlens_k": starts(kv_lengths)}
        causal = "bottom_right" if mode.startswith("causal") else None
        scale = dim**-0.5

        def run(x):
            def forward(y):
                """One sequence after the other: softmax of the scores that it has alone."""
                outs, lses = [], []
                parts = zip(*(y[key].split(n) for key, n in (("q", lengths), ("k", kv_lengths), ("v", kv_lengths))))
                for q, k, v in parts:
                    n, m = len(q), len(k)
                    k, v = (z.repeat_interleave(heads // kv_heads, dim=1).transpose(0, 1) for z in (k, v))
                    products = q.transpose(0, 1) @ k.transpose(-1, -2) * scale
                    bent = products if cap is None else cap * torch.tanh(products / cap)
                    scores = bent + y["slopes"][:, None, None] * distances(mode, n, m)
                    scores = scores.masked_fill(~visible(causal, n, m), float("-inf"))
                    outs.append((torch.softmax(scores, dim=-1) @ v).transpose(0, 1))
                    lses.append(torch.logsumexp(scores, dim=-1))
                return {"out": torch.cat(outs), "lse": torch.cat(lses, dim=-1)}

            outputs, grads = gradients(forward, x, ["q", "k", "v", "slopes"], {"out": x["dout"]})
            ids = lambda x: torch.repeat_interleave(torch.arange(len(x)), torch.tensor(x))
            of_query, of_key = ids(lengths), ids(kv_lengths)
            place = lambda x: torch.cat([torch.arange(n) for n in x])
            behind = torch.cat([torch.arange(n) + m - n for n, m in zip(lengths, kv_lengths)])
            at = place(kv_lengths)

            def mod(score, b, h, i, j):
                score = score if cap is None else cap * torch.tanh(score / cap)
                back = behind[i] - at[j]
                far = {"causal_bloom": at[j], "causal_relative": -back}.get(mode, -back.abs())
                sees = of_query[i] == of_key[j]
                sees = sees if causal is None else sees & (back >= 0)
                return torch.where(sees, score + x["slopes"][h] * far, float("-inf"))

            torch._dynamo.reset()  # it would compile for any scale the second time, and fail
            with torch.no_grad():
                out, lse = flex_attention(
                    *(x[key].transpose(0, 1)[None] for key in ("q", "k", "v")), score_mod=mod, scale=scale,
                    enable_gqa=True, return_lse=True)
            found = {"out": out[0].transpose(0, 1), "lse": lse[0].to(out.dtype)}
            for key in found:
                assert torch.allclose(found[key], outputs[key], rtol=1e-5, atol=1e-6), key
            return found | {f"d{key}": grad for key, grad in grads.items()}

        source = (f"{TORCH} torch.nn.attention.flex_attention under a mask of blocks; "
                  "gradients: torch.autograd of softmax, sequence by sequence")
        params = {"bias": DISTANCES[mode], "causal": causal, "heads": heads, "kv_heads": kv_heads,
                  "layout": "[total_tokens, heads, head_dim]", "mode": mode, "scale": scale, "softcap": cap}
        case(args, op, name, params, source, inputs, run, floor=5e-6, atol_floor=2e-6)


def write(args):
    alibi(args)
    varlen_alibi(args)
    sdpa_mask(args)
