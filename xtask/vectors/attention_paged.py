"""Vectors of attention to keys and values that are stored narrow, or in pages.

Library versions: torch 2.15.0 (see requirements.txt).

The keys and values of a sequence are gathered with torch's indexing, and torch attends to them. Inputs are of the stated
storage type; everything is computed from their exact values.
"""

import torch
from common import case, generator
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

SOURCE = f"torch {torch.__version__.split('+')[0]} torch.nn.functional.scaled_dot_product_attention (math)"


def attend(q, k, v, scale, causal, left):
    """Output and log-sum-exp of one batch; the last query stands at the last key."""
    seq, kv_seq = q.shape[2], k.shape[2]
    distance = torch.arange(kv_seq)[None, :] - torch.arange(seq)[:, None] - (kv_seq - seq)
    mask = distance <= 0 if causal else torch.ones(seq, kv_seq, dtype=torch.bool)
    if left is not None:
        mask &= distance >= -left
    with sdpa_kernel(SDPBackend.MATH):
        out = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=True)
    if kv_seq == 0:
        return out, torch.full(q.shape[:3], -torch.inf, dtype=q.dtype)
    scores = q @ k.repeat_interleave(q.shape[1] // k.shape[1], dim=1).transpose(-1, -2) * scale
    return out, torch.logsumexp(scores.masked_fill(~mask, -torch.inf), dim=-1)


def sdpa_storage(args):
    op = "attention.sdpa_storage"
    # name: batch, heads, kv_heads, seq, kv_seq, head_dim, storage
    table = {
        "bf16_decode": (2, 4, 2, 1, 11, 8, torch.bfloat16),
        "bf16_prefill": (1, 4, 1, 7, 7, 6, torch.bfloat16),
        "bf16_cached_prefix": (1, 2, 2, 3, 9, 5, torch.bfloat16),
        "f16_decode": (2, 4, 2, 1, 13, 8, torch.float16),
        "f16_prefill": (1, 3, 1, 6, 6, 7, torch.float16),
        "f16_long_decode": (1, 2, 1, 1, 70, 4, torch.float16),
    }
    for name, (batch, heads, kv_heads, seq, kv_seq, dim, storage) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        draw = lambda h, s: torch.randn(batch, h, s, dim, generator=rng).to(storage)
        inputs = {"q": draw(heads, seq), "k": draw(kv_heads, kv_seq), "v": draw(kv_heads, kv_seq)}
        run = lambda x: {"out": attend(x["q"], x["k"], x["v"], dim**-0.5, True, None)[0]}
        params = {"causal": "bottom_right", "heads": heads, "kv_heads": kv_heads, "scale": dim**-0.5,
                  "storage": str(storage).removeprefix("torch.")}
        case(args, op, name, params, f"{SOURCE} in float32", inputs, run, floor=5e-6, atol_floor=2e-6)


def paged(args):
    op = "attention.paged"
    # name: lengths, page_size, heads, kv_heads, seq, head_dim, causal, window_left, storage, page table (None: shuffled)
    f32, f16, bf16 = torch.float32, torch.float16, torch.bfloat16
    table = {
        "decode": ([7, 12, 1], 4, 4, 2, 1, 8, True, None, f32, None),
        "decode_page_of_one": ([5, 2], 1, 2, 1, 1, 4, True, None, f32, None),
        "decode_one_page": ([9], 16, 2, 2, 1, 6, False, None, f32, None),
        "decode_window": ([13, 6], 4, 4, 1, 1, 5, True, 5, f32, None),
        "decode_empty_sequence": ([0, 4], 4, 2, 1, 1, 4, True, None, f32, None),
        "decode_f16": ([10, 3], 4, 4, 2, 1, 8, True, None, f16, None),
        "decode_bf16": ([10, 3], 3, 4, 2, 1, 8, True, None, bf16, None),
        "chunk": ([11, 6], 4, 4, 2, 4, 6, True, None, f32, None),
        "chunk_window": ([15], 5, 2, 1, 6, 4, True, 3, f32, None),
        "chunk_longer_than_the_sequence": ([2, 9], 4, 2, 1, 4, 4, True, None, f32, None),
        "chunk_bf16": ([9, 14], 8, 4, 1, 3, 6, True, None, bf16, None),
        "shared_prefix": ([7, 6], 4, 2, 1, 1, 4, True, None, f32, [[1, 0], [1, 3]]),
    }
    for name, (lengths, page_size, heads, kv_heads, seq, dim, causal, left, storage, pages) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        batch, max_pages = len(lengths), max(-(-n // page_size) for n in lengths)
        n_pages = batch * max_pages
        block_table = torch.randperm(n_pages, generator=rng).reshape(batch, max_pages) if pages is None else torch.tensor(pages)
        inputs = {"q": torch.randn(batch, heads, seq, dim, generator=rng)}
        inputs |= {key: torch.randn(n_pages, kv_heads, page_size, dim, generator=rng).to(storage) for key in ("k", "v")}

        def run(x):
            found = []
            for b, length in enumerate(lengths):
                k, v = (x[key][block_table[b]].transpose(0, 1).flatten(1, 2)[None, :, :length] for key in ("k", "v"))
                found.append(attend(x["q"][b : b + 1], k, v, dim**-0.5, causal, left))
            out, lse = zip(*found)
            return {"out": torch.cat(out), "lse": torch.cat(lse)}

        inputs |= {"block_table": block_table.to(torch.int32), "lengths": torch.tensor(lengths, dtype=torch.int32)}
        params = {"causal": "bottom_right" if causal else None, "heads": heads, "kv_heads": kv_heads, "scale": dim**-0.5,
                  "window_left": left, "layout": "[n_pages, kv_heads, page_size, features]",
                  "storage": str(storage).removeprefix("torch.")}
        source = f"{SOURCE} of each sequence's pages, lse: torch.logsumexp of the scores"
        case(args, op, name, params, source, inputs, run, floor=5e-6, atol_floor=2e-6)


def run(args):
    sdpa_storage(args)
    paged(args)
