"""Test vectors of kvcache: the growing cache of transformers, updated in chunks.

Library versions: torch 2.15.0, transformers 5.23.0 (see requirements.txt).

`step{i}.mask_kv_length_offset` is what the library's mask code asks for before update number i (from 0), with the
length of that chunk: [keys stored so far + chunk, offset of the first key]. `step{i}.seq_length` is taken after it.
"""

import torch
import transformers
from common import arguments, case, generator
from transformers.cache_utils import DynamicCache

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


def main():
    dynamic(arguments("kvcache"))


if __name__ == "__main__":
    main()
