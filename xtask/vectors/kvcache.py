"""Test vectors of kvcache: the caches of transformers, updated in chunks.

Library versions: torch 2.15.0, transformers 5.23.0, optimum-quanto 0.2.7, hqq 0.2.8.post1 (see requirements.txt).

`step{i}.mask_kv_length_offset` is what the library's mask code asks for before update number i (from 0), with the
length of that chunk: [keys stored so far + chunk, offset of the first key]. `step{i}.seq_length` is taken after it.
"""

import math
import os
import pathlib
import sys

import torch
import transformers
from common import arguments, case, generator
from transformers.cache_utils import (
    DynamicCache,
    DynamicSlidingWindowLayer,
    HQQQuantizedLayer,
    QuantoQuantizedLayer,
    StaticSlidingWindowLayer,
)

# optimum-quanto unpacks its codes with an extension in C++ that it builds when it is first used, with the `ninja` of this environment.
os.environ["PATH"] = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

HF = f"transformers {transformers.__version__}"


def dynamic(args):
    op = "kvcache.dynamic.update"
    table = {  # batch, kv_heads, head_dim, chunks
        "prefill_then_decode": (2, 2, 3, [5, 1, 1, 3]),
        "one_by_one": (1, 1, 4, [1, 1, 1, 1, 1]),
        "one_chunk": (3, 1, 2, [7]),
        "chunked_prefill": (1, 3, 2, [4, 4, 2, 1]),
        "head_dim_one": (2, 3, 1, [2, 1, 6]),
    }
    for name, (batch, heads, dim, chunks) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        inputs = {n: torch.randn(batch, heads, sum(chunks), dim, generator=rng) for n in ("k", "v")}

        def run(x):
            cache, outputs, start = DynamicCache(), {}, 0
            for i, chunk in enumerate(chunks):
                new = {n: x[n][:, :, start : start + chunk] for n in ("k", "v")}
                sizes = cache.get_mask_sizes(chunk, 0)
                k, v = cache.update(new["k"], new["v"], 0)
                start += chunk
                layer = cache.layers[0]
                outputs |= {
                    f"step{i}.mask_kv_length_offset": torch.tensor(sizes),
                    f"step{i}.seq_length": torch.tensor([cache.get_seq_length()]),
                    f"step{i}.returned_k": k.clone(), f"step{i}.returned_v": v.clone(),
                    f"step{i}.stored_k": layer.keys.clone(), f"step{i}.stored_v": layer.values.clone(),
                }
            return outputs

        case(args, op, name, {"chunks": chunks}, f"{HF} DynamicCache.update, get_mask_sizes, get_seq_length", inputs, run, exact=True)


def chunked(args, op, name, params, source, layer, inputs, crop_after=None):
    """Updates a layer chunk by chunk, crops it if asked to, and records what it says and keeps."""
    chunks = params["chunks"]

    def run(x):
        cache, outputs, start = layer(), {}, 0
        for i, chunk in enumerate(chunks):
            new = {n: x[n][:, :, start : start + chunk].float() for n in ("k", "v")}
            start += chunk
            sizes = cache.get_mask_sizes(chunk)
            k, v = cache.update(new["k"], new["v"])
            if crop_after is None:
                outputs |= {
                    f"step{i}.mask_kv_length_offset": torch.tensor(sizes),
                    f"step{i}.returned_k": k.clone(), f"step{i}.returned_v": v.clone(),
                }
            else:
                cache.crop(crop_after[i])
            outputs[f"step{i}.seq_length"] = torch.tensor([cache.get_seq_length()])
            if hasattr(cache, "_quantized_keys"):
                k, v = (cache._dequantize(q).float() for q in (cache._quantized_keys, cache._quantized_values))
                if cache.keys.numel():
                    k, v = torch.cat([k, cache.keys], -2), torch.cat([v, cache.values], -2)
            else:
                k, v = cache.keys, cache.values
            outputs |= {f"step{i}.stored_k": k.clone(), f"step{i}.stored_v": v.clone()}
        return outputs

    case(args, op, name, params, source, inputs, run, exact=True)


def tensors(args, op, name, shape):
    rng = generator(args.seed, f"{op}/{name}")
    return {n: torch.randn(*shape, generator=rng) for n in ("k", "v")}


def sliding(args):
    op = "kvcache.sliding_window.dynamic"
    words = {"returned": "stored + new", "stored": "last window - 1 tokens"}
    table = {  # batch, kv_heads, head_dim, window, chunks
        "one_by_one": (1, 2, 2, 3, [1, 1, 1, 1, 1]),
        "long_prefill": (2, 1, 3, 4, [9, 1, 1]),
        "chunks": (1, 1, 2, 4, [2, 3, 5, 1]),
    }
    for name, (batch, heads, dim, window, chunks) in table.items():
        inputs = tensors(args, op, name, (batch, heads, sum(chunks), dim))
        params = {"chunks": chunks, "sliding_window": window} | words
        source = f"{HF} DynamicSlidingWindowLayer.update, get_mask_sizes, get_seq_length"
        chunked(args, op, name, params, source, lambda w=window: DynamicSlidingWindowLayer(w), inputs)

    op = "kvcache.sliding_window.static"
    table = {  # batch, kv_heads, head_dim, window, max_cache_len, chunks
        "one_by_one": (1, 2, 2, 3, 16, [1, 1, 1, 1, 1]),
        "long_prefill": (2, 1, 3, 4, 16, [9, 1, 2, 1]),
        "short_cache": (1, 1, 2, 8, 5, [3, 3, 1]),
    }
    for name, (batch, heads, dim, window, most, chunks) in table.items():
        inputs = tensors(args, op, name, (batch, heads, sum(chunks), dim))
        params = {"chunks": chunks, "sliding_window": window, "max_cache_len": most}
        source = f"{HF} StaticSlidingWindowLayer.update, get_mask_sizes, get_seq_length"
        chunked(args, op, name, params, source, lambda w=window, m=most: StaticSlidingWindowLayer(m, w), inputs)

    op = "kvcache.sliding_window.rollback"
    table = {  # batch, kv_heads, head_dim, window, chunks, crop_after
        "speculative": (1, 2, 2, 4, [6, 3, 2], [0, -2, -1]),
        "below_the_window": (2, 1, 2, 8, [3, 2, 4], [-1, 0, -2]),
    }
    for name, (batch, heads, dim, window, chunks, crops) in table.items():
        inputs = tensors(args, op, name, (batch, heads, sum(chunks), dim))

        def layer(window=window):
            layer = DynamicSlidingWindowLayer(window)
            layer.activate_past_recording()
            return layer

        params = {"chunks": chunks, "crop_after": crops, "sliding_window": window}
        source = f"{HF} DynamicSlidingWindowLayer.update, crop with activate_past_recording"
        chunked(args, op, name, params, source, layer, inputs, crop_after=crops)


def quantized(args):
    rule = (
        "first update is quantised whole but returned exact; later the whole cache is re-quantised when residual + new >= "
        "residual_length"
    )
    table = {  # op, layer, bits, group, distribution
        "gauss_4": ("quanto", QuantoQuantizedLayer, 4, "gauss"),
        "outliers_4": ("quanto", QuantoQuantizedLayer, 4, "outliers"),
        "gauss_2": ("quanto", QuantoQuantizedLayer, 2, "gauss"),
        "outliers_2": ("quanto", QuantoQuantizedLayer, 2, "outliers"),
        "hqq_gauss_4": ("hqq", HQQQuantizedLayer, 4, "gauss"),
        "hqq_outliers_4": ("hqq", HQQQuantizedLayer, 4, "outliers"),
        "hqq_gauss_8": ("hqq", HQQQuantizedLayer, 8, "gauss"),
        "hqq_outliers_8": ("hqq", HQQQuantizedLayer, 8, "outliers"),
    }
    for name, (op, layer, bits, kind) in table.items():
        op = f"kvcache.quantised.{op}"
        # Equal data for all libraries and bits.
        rng = generator(args.seed, f"kvcache.quantised/{kind}")
        inputs = {n: torch.randn(1, 1, 33, 32, generator=rng) for n in ("k", "v")}
        if kind == "outliers":  # some channels of the keys are far from zero, as in models
            scale = torch.ones(32)
            scale[::11] = 6.0
            inputs["k"] = inputs["k"] * scale + torch.where(scale > 1, 10.0, 0.0)
        group = 64
        settings = {"nbits": bits, "axis_key": 0, "axis_value": 0, "q_group_size": group, "residual_length": 128}
        source = f"{HF} {layer.__name__}.update, get_mask_sizes, get_seq_length"
        params = {"chunks": [32, 1], "rule": rule} | settings
        name = name.removeprefix("hqq_")
        chunked(args, op, name, params, source, lambda l=layer, s=settings: l(**s), inputs)


def smooth(args):
    """The two papers' formulas in torch; means and factors are rounded to bfloat16 by torch."""
    op = "kvcache.smooth"
    source = f"torch {torch.__version__}, by hand: QServe arXiv:2405.04532v2 section 4.2, SageAttention arXiv:2410.02367v1 section 4.2"
    table = {  # kv_heads, queries_per_kv, head_dim, tokens seen, tokens later, alpha, means
        "factors": (2, 2, 6, 7, 3, 0.5, False),
        "means": (1, 1, 5, 6, 2, 0.0, True),
        "both": (2, 3, 4, 9, 4, 0.75, True),
        "a_channel_of_zeros": (1, 2, 4, 5, 3, 1.0, False),
    }
    for name, (heads, queries, dim, seen, later, alpha, has_means) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        far = 1.0 + 9.0 * (torch.arange(dim) % 3 == 0)
        k = (torch.randn(heads, seen + later, dim, generator=rng) + 1.5) * far
        if name == "a_channel_of_zeros":
            k[:, :seen, 1] = 0.0
        inputs = {
            "k": k, "v": torch.randn(heads, seen + later, dim, generator=rng),
            "q": torch.randn(heads * queries, 3, dim, generator=rng),
        }

        def run(x):
            rounded = lambda y: y.to(torch.bfloat16).to(y.dtype)
            known = x["k"][:, :seen]
            means = rounded(known.mean(1)) if has_means else torch.zeros_like(known[:, 0])
            most = (known - means[:, None]).abs().amax(1)
            factors = rounded(torch.where(most > 0, most.pow(alpha), torch.ones_like(most)))
            keys, values = (x[n].repeat_interleave(queries, 0) for n in ("k", "v"))
            scores = x["q"] @ keys.transpose(1, 2) / math.sqrt(dim)
            return {
                "means": means, "factors": factors,
                "keys": torch.einsum("htd,hde->hte", x["k"] - means[:, None], torch.diag_embed(1 / factors)),
                "queries": torch.einsum("htd,hde->hte", x["q"], torch.diag_embed(factors.repeat_interleave(queries, 0))),
                "attention": torch.softmax(scores, -1) @ values,  # of what is not smoothed
            }

        params = {"alpha": alpha, "means": has_means, "seen": seen}
        case(args, op, name, params, source, inputs, run)


def main():
    args = arguments("kvcache")
    dynamic(args)
    sliding(args)
    quantized(args)
    smooth(args)


if __name__ == "__main__":
    main()
