"""Test vectors of attention: scaled dot products with causal alignments, windows, grouped heads, a softcap, gradients,
log-sum-exp; patterns of masks; parts merged by log-sum-exp; key-value heads pooled. See attention_variants.py for the others.

Library versions: torch 2.15.0, transformers 5.23.0 (see requirements.txt).

Rows that see no key: torch's scaled_dot_product_attention gives output 0 and gradient 0 on the CPU (math and flash
back ends were both seen to), and logsumexp over no key is -inf. That is what the files hold.
"""

from types import SimpleNamespace

import attention_paged
import attention_scores
import attention_variants
import torch
from attention_masks import TORCH, TRANSFORMERS, visible
from common import arguments, case, generator, gradients
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from transformers import masking_utils
from transformers.models.gemma2 import modeling_gemma2
from transformers.models.gpt_oss import modeling_gpt_oss

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
    table = {name: (*row, None, None) for name, row in table.items()}
    # The same and a window: left, right
    table |= {
        "window_mistral_3": (1, 4, 2, 9, 9, 6, "bottom_right", None, 1.0, 2, 0),
        "window_itself_only": (1, 2, 1, 5, 5, 3, "bottom_right", None, 1.0, 0, None),
        "window_cached_prefix": (2, 4, 2, 4, 13, 5, "bottom_right", None, 1.0, 5, None),
        "window_decode": (2, 4, 1, 1, 12, 8, "bottom_right", None, 1.0, 6, 0),
        "window_both_sides": (1, 3, 3, 8, 8, 5, None, None, 1.0, 2, 3),
        "window_both_sides_more_keys": (1, 2, 1, 4, 10, 4, None, 0.4, 1.0, 3, 1),
        "window_right_only": (1, 2, 2, 6, 7, 4, None, None, 1.0, None, 2),
        "window_top_left": (1, 2, 1, 6, 10, 4, "top_left", None, 1.0, 2, None),
        "window_top_left_passes_the_keys": (1, 2, 1, 9, 4, 4, "top_left", None, 1.0, 2, None),
        "window_fewer_keys": (1, 2, 1, 7, 4, 4, "bottom_right", None, 1.0, 1, None),
        "window_tiles": (1, 2, 1, 41, 66, 4, "bottom_right", None, 1.0, 17, None),
    }
    for name, row in table.items():
        batch, heads, kv_heads, seq, kv_seq, dim, causal, scale, spread, left, right = row
        rng = generator(args.seed, f"{op}/{name}")
        draw = lambda h, s: torch.randn(batch, h, s, dim, generator=rng)
        inputs = {"q": spread * draw(heads, seq), "k": draw(kv_heads, kv_seq), "v": draw(kv_heads, kv_seq),
                  "dout": draw(heads, seq)}
        scale = dim**-0.5 if scale is None else scale
        mask = visible(causal, seq, kv_seq, left, right)
        empty = not mask.any(-1).all()

        def run(x):
            def forward(y):
                with sdpa_kernel(SDPBackend.MATH):
                    out = scaled_dot_product_attention(
                        y["q"], y["k"], y["v"], attn_mask=None if mask.all() else mask, scale=scale, enable_gqa=True)
                    if causal == "top_left" and left is None:  # is_causal is this alignment
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
                  "window_left": left, "window_right": right}
        case(args, op, name, params, source, inputs, run, floor=5e-6, atol_floor=2e-6)


def softcap(args):
    op = "attention.softcap"
    # name: batch, heads, kv_heads, seq, kv_seq, head_dim, softcap, window_left, scale, spread of q
    table = {
        "gemma2": (1, 4, 2, 7, 7, 8, 50.0, None, 16**-0.5, 1.0),
        "gemma2_window": (1, 4, 2, 9, 9, 8, 50.0, 3, 16**-0.5, 1.0),
        "tight": (2, 2, 1, 5, 8, 6, 0.5, None, 0.6, 1.0),
        "large_scores": (1, 2, 2, 6, 9, 6, 5.0, 4, 1.0, 20.0),
        "decode": (2, 4, 1, 1, 11, 4, 3.0, None, 1.0, 2.0),
        "decode_window": (1, 4, 2, 1, 11, 4, 3.0, 5, 1.0, 2.0),
    }
    for name, (batch, heads, kv_heads, seq, kv_seq, dim, cap, left, scale, spread) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        draw = lambda h, s: torch.randn(batch, h, s, dim, generator=rng)
        inputs = {"q": spread * draw(heads, seq), "k": draw(kv_heads, kv_seq), "v": draw(kv_heads, kv_seq),
                  "dout": draw(heads, seq)}
        mask = visible("bottom_right", seq, kv_seq, left)
        module = SimpleNamespace(num_key_value_groups=heads // kv_heads, head_dim=dim, training=False)

        def run(x):
            bias = torch.zeros(seq, kv_seq, dtype=x["q"].dtype).masked_fill(~mask, float("-inf"))

            def forward(y):
                out, _ = modeling_gemma2.eager_attention_forward(
                    module, y["q"], y["k"], y["v"], bias, scaling=scale, softcap=cap)
                return {"out": out.transpose(1, 2)}

            outputs, grads = gradients(forward, x, ["q", "k", "v"], {"out": x["dout"]})
            scores = x["q"] @ x["k"].repeat_interleave(heads // kv_heads, dim=1).transpose(-1, -2) * scale
            lse = torch.logsumexp(torch.tanh(scores / cap) * cap + bias, dim=-1)
            return outputs | {"lse": lse, "dq": grads["q"], "dk": grads["k"], "dv": grads["v"]}

        source = f"{TRANSFORMERS} models.gemma2.modeling_gemma2.eager_attention_forward, lse: torch.logsumexp"
        params = {"causal": "bottom_right", "heads": heads, "kv_heads": kv_heads, "order": "scale, softcap, mask",
                  "scale": scale, "softcap": cap, "window_left": left}
        # The library takes the softmax in float32 whatever it is given, so float64 tells less about the error.
        case(args, op, name, params, source, inputs, run, floor=5e-6, atol_floor=2e-6)


def sinks(args):
    op = "attention.sinks"
    # name: batch, heads, kv_heads, seq, kv_seq, head_dim, window_left, spread of the sinks, shift of the sinks
    table = {
        "gpt_oss": (1, 4, 2, 7, 7, 8, None, 1.0, 0.0),
        "gpt_oss_window": (1, 8, 2, 9, 9, 8, 3, 1.0, 0.0),
        "decode": (2, 4, 1, 1, 11, 4, None, 2.0, 0.0),
        "cached_prefix_window": (2, 2, 2, 3, 8, 6, 2, 1.0, 0.0),
        "strong": (1, 3, 3, 5, 5, 4, None, 1.0, 9.0),
        "weak": (1, 2, 1, 5, 6, 4, None, 1.0, -20.0),
    }
    for name, (batch, heads, kv_heads, seq, kv_seq, dim, left, spread, shift) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        draw = lambda h, s: torch.randn(batch, h, s, dim, generator=rng)
        inputs = {"q": draw(heads, seq), "k": draw(kv_heads, kv_seq), "v": draw(kv_heads, kv_seq),
                  "sinks": spread * torch.randn(heads, generator=rng) + shift, "dout": draw(heads, seq)}
        mask, scale = visible("bottom_right", seq, kv_seq, left), dim**-0.5

        def run(x):
            bias = torch.zeros(seq, kv_seq, dtype=x["q"].dtype).masked_fill(~mask, float("-inf"))

            def forward(y):
                module = SimpleNamespace(num_key_value_groups=heads // kv_heads, sinks=y["sinks"], training=False)
                out, _ = modeling_gpt_oss.eager_attention_forward(module, y["q"], y["k"], y["v"], bias, scaling=scale)
                return {"out": out.transpose(1, 2)}

            outputs, grads = gradients(forward, x, ["q", "k", "v", "sinks"], {"out": x["dout"]})
            scores = x["q"] @ x["k"].repeat_interleave(heads // kv_heads, dim=1).transpose(-1, -2) * scale
            lse = torch.logsumexp(scores + bias, dim=-1)
            return outputs | {"lse_without_sink": lse} | {f"d{key}": grad for key, grad in grads.items()}

        source = f"{TRANSFORMERS} models.gpt_oss.modeling_gpt_oss.eager_attention_forward, lse: torch.logsumexp"
        params = {"causal": "bottom_right", "heads": heads, "kv_heads": kv_heads, "scale": scale, "window_left": left}
        case(args, op, name, params, source, inputs, run, floor=5e-6, atol_floor=2e-6)


def varlen(args):
    op = "attention.varlen"
    # name: lengths of the queries, of the keys (None: the same), heads, kv_heads, head_dim, causal, window_left
    table = {
        "packed": ([3, 5, 1, 4], None, 4, 2, 6, "bottom_right", None),
        "packed_full": ([4, 2, 6], None, 2, 2, 5, None, None),
        "window": ([7, 9, 2], None, 4, 1, 4, "bottom_right", 3),
        "empty_sequence": ([2, 0, 5, 0], None, 2, 1, 4, "bottom_right", None),
        "one_sequence": ([8], None, 3, 3, 4, "bottom_right", None),
        "cached_prefixes": ([1, 3, 1, 2], [9, 5, 4, 6], 4, 2, 8, "bottom_right", None),
        "top_left": ([3, 4], [5, 9], 2, 1, 4, "top_left", None),
        "cross": ([3, 4], [5, 2], 2, 2, 4, None, None),
    }
    for name, (lengths, kv_lengths, heads, kv_heads, dim, causal, left) in table.items():
        kv_lengths = kv_lengths or lengths
        rng = generator(args.seed, f"{op}/{name}")
        starts = lambda x: torch.tensor([0, *x]).cumsum(0).to(torch.int32)
        draw = lambda n, h: torch.randn(n, h, dim, generator=rng)
        inputs = {"q": draw(sum(lengths), heads), "k": draw(sum(kv_lengths), kv_heads),
                  "v": draw(sum(kv_lengths), kv_heads), "dout": draw(sum(lengths), heads),
                  "cu_seqlens_q": starts(lengths), "cu_seqlens_k": starts(kv_lengths)}
        blocks = [visible(causal, n, m, left) for n, m in zip(lengths, kv_lengths)]
        mask, scale = torch.block_diag(*[block.int() for block in blocks]).bool(), dim**-0.5

        def run(x):
            def forward(y):
                q, k, v = (y[key].transpose(0, 1)[None] for key in ("q", "k", "v"))
                with sdpa_kernel(SDPBackend.MATH):
                    out = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=True)
                return {"out": out[0].transpose(0, 1)}

            outputs, grads = gradients(forward, x, ["q", "k", "v"], {"out": x["dout"]})
            return outputs | {f"d{key}": grad for key, grad in grads.items()}

        source = f"{TORCH} torch.nn.functional.scaled_dot_product_attention (math) under a mask of blocks"
        params = {"causal": causal, "heads": heads, "kv_heads": kv_heads, "scale": scale, "window_left": left,
                  "layout": "[total_tokens, heads, head_dim]"}
        case(args, op, name, params, source, inputs, run, floor=5e-6, atol_floor=2e-6)


def mask_pattern(args):
    op = "attention.mask_pattern"
    none = torch.zeros(1, dtype=torch.int64)
    window = masking_utils.sliding_window_causal_mask_function
    chunked = lambda chunk: masking_utils.chunked_causal_mask_function(chunk, none)
    # name: seq, kv_seq, the kind with its size, transformers' function
    table = {
        "causal": (5, 5, {"kind": "causal"}, masking_utils.causal_mask_function),
        "causal_cached": (3, 8, {"kind": "causal"}, masking_utils.causal_mask_function),
        "sliding_window_1": (4, 4, {"kind": "sliding_window_causal", "sliding_window": 1}, window(1)),
        "sliding_window_3": (7, 7, {"kind": "sliding_window_causal", "sliding_window": 3}, window(3)),
        "sliding_window_cached": (4, 11, {"kind": "sliding_window_causal", "sliding_window": 5}, window(5)),
        "chunked_1": (4, 4, {"kind": "chunked_causal", "chunk": 1}, chunked(1)),
        "chunked_3": (8, 8, {"kind": "chunked_causal", "chunk": 3}, chunked(3)),
        "chunked_cached": (5, 11, {"kind": "chunked_causal", "chunk": 4}, chunked(4)),
    }
    for name, (seq, kv_seq, params, function) in table.items():
        offset = kv_seq - seq

        def run(_):
            i, j = torch.arange(seq)[:, None] + offset, torch.arange(kv_seq)[None, :]
            mask = function(torch.tensor(0), torch.tensor(0), i, j)
            return {"mask": mask.expand(1, seq, kv_seq)}

        params = params | {"alignment": "bottom_right", "query_offset": offset}
        if "sliding_window" in params:
            params |= {"meaning": "W keys including self"}
        source = f"{TRANSFORMERS} masking_utils.{params['kind']}_mask_function"
        case(args, op, name, params, source, {}, run, exact=True)
    left_padding(args)
    packed_positions(args)


def left_padding(args):
    """The first tokens of a sequence are padding: positions and chunks count from the first real one."""
    op = "attention.mask_pattern"
    # name: seq, kv_seq, padding of each sequence, the kind with its size
    table = {
        "left_padding": (5, 5, (0, 2, 5), {"kind": "causal"}),
        "left_padding_cached": (3, 9, (0, 4, 7), {"kind": "causal"}),
        "left_padding_window": (7, 7, (1, 0, 4), {"kind": "sliding_window_causal", "sliding_window": 3}),
        "left_padding_chunked": (8, 8, (0, 2, 4), {"kind": "chunked_causal", "chunk": 3}),
        "left_padding_chunked_cached": (4, 11, (0, 3, 9), {"kind": "chunked_causal", "chunk": 4}),
    }
    for name, (seq, kv_seq, padding, params) in table.items():
        offset = kv_seq - seq

        def run(x):
            short = x["left_padding"]
            function = {
                "causal": lambda: masking_utils.causal_mask_function,
                "sliding_window_causal": lambda: masking_utils.sliding_window_causal_mask_function(
                    params["sliding_window"]),
                "chunked_causal": lambda: masking_utils.chunked_causal_mask_function(params["chunk"], short),
            }[params["kind"]]()
            real = torch.arange(kv_seq) >= short[:, None]
            mask = masking_utils.sdpa_mask(
                len(padding), seq, kv_seq, q_offset=offset, mask_function=function, attention_mask=real,
                allow_is_causal_skip=False)
            return {"mask": mask[:, 0]}

        params = params | {"alignment": "bottom_right", "query_offset": offset}
        if "sliding_window" in params:
            params |= {"meaning": "W keys including self"}
        source = (f"{TRANSFORMERS} masking_utils.sdpa_mask of {params['kind']}_mask_function and a padding mask")
        case(args, op, name, params, source, {"left_padding": torch.tensor(padding)}, run, exact=True)


def packed_positions(args):
    """Several sequences in a row of a batch: a position that does not follow the one before it begins a new one."""
    op = "attention.mask_pattern"
    table = {
        "packed": [[0, 1, 2, 0, 1, 2, 3, 0]],
        "packed_rows": [[0, 1, 0, 1, 2, 3], [0, 1, 2, 3, 4, 0]],
        "packed_ones": [[0, 0, 0, 0]],
        "packed_goes_on": [[3, 4, 0, 1, 2]],
    }
    for name, positions in table.items():
        def run(x):
            index = masking_utils.find_packed_sequence_indices(x["position_ids"])
            function = masking_utils.and_masks(
                masking_utils.causal_mask_function, masking_utils.packed_sequence_mask_function(index))
            batch, seq = index.shape
            mask = masking_utils.sdpa_mask(batch, seq, seq, mask_function=function, allow_is_causal_skip=False)
            return {"mask": mask[:, 0], "sequence_index": index}

        params = {"kind": "packed_causal", "alignment": "bottom_right", "query_offset": 0}
        source = f"{TRANSFORMERS} masking_utils.find_packed_sequence_indices and packed_sequence_mask_function"
        case(args, op, name, params, source, {"position_ids": torch.tensor(positions)}, run, exact=True)


def merge_lse(args):
    """Attention to pieces of the keys in; attention to all of them, never merged, out."""
    op = "attention.merge_lse"
    # name: batch, heads, seq, dim, lengths of the pieces, spread of q, "blind": item 0 sees no key of piece 0
    table = {
        "two": (2, 3, 4, 8, (5, 6), 1.0, None),
        "one": (1, 2, 3, 5, (7,), 1.0, None),
        "eight": (1, 2, 1, 7, (3, 3, 3, 3, 3, 3, 3, 1), 1.0, None),
        "uneven": (1, 1, 5, 4, (1, 20, 2), 1.0, None),
        "empty_pieces": (1, 2, 2, 4, (0, 5, 0, 3), 1.0, None),
        "no_keys": (1, 2, 3, 4, (0, 0), 1.0, None),
        "blind_rows": (2, 2, 3, 4, (4, 3), 1.0, "some"),
        "blind_everywhere": (2, 2, 3, 4, (4, 3), 1.0, "all"),
        "far_apart": (1, 2, 6, 16, (4, 4, 4), 60.0, None),
        "one_value": (1, 1, 2, 1, (2, 2), 1.0, None),
    }
    for name, (batch, heads, seq, dim, lengths, spread, blind) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        total = sum(lengths)
        q = spread * torch.randn(batch, heads, seq, dim, generator=rng)
        k = torch.randn(batch, heads, total, dim, generator=rng)
        v = torch.randn(batch, heads, total, dim, generator=rng)
        mask = torch.ones(batch, 1, seq, total, dtype=torch.bool)
        if blind == "some":
            mask[0, :, :, : lengths[0]] = False  # the first item sees nothing of the first piece
            mask[1, :, 1, lengths[0] :] = False  # the second query of the second nothing of the second
        if blind == "all":
            mask[0, :, 2] = False

        def attend(q, k, v, mask):
            """Output and log-sum-exp, in float64; nothing seen gives 0 and -inf."""
            q, k, v = q.double(), k.double(), v.double()
            with sdpa_kernel(SDPBackend.MATH):
                out = scaled_dot_product_attention(q, k, v, attn_mask=mask)
            scores = (q @ k.transpose(-1, -2) * dim**-0.5).masked_fill(~mask, float("-inf"))
            return out, torch.logsumexp(scores, dim=-1) if k.shape[2] else torch.full(q.shape[:3], -torch.inf)

        starts = [sum(lengths[:p]) for p in range(len(lengths))]
        pieces = [slice(start, start + length) for start, length in zip(starts, lengths)]
        found = [attend(q, k[:, :, piece], v[:, :, piece], mask[..., piece]) for piece in pieces]
        outs, lses = (torch.stack(x).float() for x in zip(*found))
        want, want_lse = attend(q, k, v, mask)

        def run(x):
            # Not merged: the whole at once, rounded to the type that is asked for. The inputs were rounded to
            # float32 on the way, so the distance of the two results is one rounding; the tolerances are given.
            dtype = x["outs"].dtype
            return {"out": want.to(dtype), "lse": want_lse.to(dtype)}

        # Independent of the merge too: torch's softmax over the parts of these very inputs agrees with the whole.
        weights = torch.softmax(lses.double(), dim=0).nan_to_num(0.0)
        merged = (weights[..., None] * outs.double()).sum(0)
        assert torch.allclose(merged, want, rtol=5e-6, atol=2e-5), (merged - want).abs().max()
        # A log-sum-exp of L is stored to half of 1.2e-7 L, so weights made of two are off by 1.2e-7 L of themselves.
        # Values are below 4, and an honest implementation may err by as much again: 1e-6 L.
        largest = max([1.0, *lses[lses.isfinite()].abs().tolist()])
        fixed = (5e-6, float(f"{1e-6 * largest:.0e}"))
        source = f"{TORCH} scaled_dot_product_attention (math) and logsumexp in float64; in: of pieces, out: of all keys"
        nothing = not want_lse.isfinite().any()  # zeros and -inf, to be met exactly
        case(args, op, name, {"parts": len(lengths)}, source, {"outs": outs, "lses": lses}, run, exact=nothing,
             fixed=fixed)


def mha_to_gqa(args):
    op = "attention.convert.mha_to_gqa"
    # name: heads, kv_heads, head_dim, hidden
    table = {
        "gqa": (8, 2, 4, 6),
        "mqa": (6, 1, 3, 5),
        "same": (4, 4, 2, 3),
        "pairs": (6, 3, 1, 4),
        "one_head": (1, 1, 5, 2),
    }
    for name, (heads, kv_heads, head_dim, hidden) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        rows = heads * head_dim
        inputs = {
            "k_weight": torch.randn(rows, hidden, generator=rng),
            "v_weight": torch.randn(rows, hidden, generator=rng),
            "k_bias": torch.randn(rows, generator=rng),
        }

        def run(x):
            def pool(w):
                return w.reshape(kv_heads, heads // kv_heads, head_dim, *w.shape[1:]).mean(1).flatten(0, 1)

            return {key: pool(w) for key, w in x.items()}

        params = {"head_dim": head_dim, "heads": heads, "kv_heads": kv_heads, "weight": "[heads*head_dim, hidden]"}
        case(args, op, name, params, f"{TORCH} reshape and mean", inputs, run, atol_floor=1e-7)


def main():
    args = arguments("attention")
    sdpa(args)
    softcap(args)
    sinks(args)
    varlen(args)
    mask_pattern(args)
    merge_lse(args)
    mha_to_gqa(args)
    attention_paged.run(args)
    attention_scores.write(args)
    attention_variants.run(args)


if __name__ == "__main__":
    main()
