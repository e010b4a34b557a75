"""Additive biases of posenc: ALiBi of Bloom, Falcon and MPT, and T5's relative bias.

Library versions: torch 2.15.0, transformers 5.23.0 (see requirements.txt).

The float64 run behind the tolerances is the formula in float64, not the library: Bloom takes powers of a base that was
rounded to float32, and its error is what another float32 implementation must be allowed.
"""

import math

import torch
import transformers
from common import case, generator, gradients
from transformers import T5Config
from transformers.models.bloom import modeling_bloom
from transformers.models.falcon import modeling_falcon
from transformers.models.mpt import modeling_mpt
from transformers.models.t5 import modeling_t5

HF = f"transformers {transformers.__version__}"
BLOOM = f"{HF} models.bloom.modeling_bloom.build_alibi_tensor"
FALCON = f"{HF} models.falcon.modeling_falcon.build_alibi_tensor"
MPT = f"{HF} models.mpt.modeling_mpt.build_mpt_alibi_tensor"
T5 = f"{HF} models.t5.modeling_t5.T5Attention"


def formula_slopes(heads, max_bias):
    """The slopes in float64."""
    power = 2 ** math.floor(math.log2(heads))
    first = [max_bias * i / power for i in range(1, power + 1)]
    rest = [max_bias * i / (2 * power) for i in range(1, 2 * (heads - power), 2)]
    return torch.tensor([2.0**-x for x in first + rest], dtype=torch.float64)


def library_first(library, formula):
    """The library in the first call of `case`, the formula in float64 in the second."""
    forms = iter([library, formula])
    return lambda x: next(forms)(x)


def alibi_slopes(args):
    op = "posenc.alibi.slopes"
    # name: dialect, heads, max_bias
    table = {f"bloom_{n}": ("bloom", n, 8.0) for n in [1, 2, 3, 8, 12, 14, 40, 71, 112, 128]}
    table |= {f"mpt_{n}": ("mpt", n, 8.0) for n in [1, 3, 8, 12, 20, 40, 71, 112]}
    table |= {
        "mpt_16_max_bias_4": ("mpt", 16, 4.0),
        "mpt_24_max_bias_16": ("mpt", 24, 16.0),
        "mpt_7_max_bias_5.5": ("mpt", 7, 5.5),
        "mpt_5_max_bias_1": ("mpt", 5, 1.0),
        "mpt_1_max_bias_3": ("mpt", 1, 3.0),
    }
    for name, (dialect, heads, max_bias) in table.items():
        if dialect == "bloom":
            two = torch.ones(1, 2, dtype=torch.int64)  # the second key has position 1
            slopes = lambda: modeling_bloom.build_alibi_tensor(two, heads, torch.float32)[:, 0, 1]
        else:
            # the first of two keys has distance -1
            slopes = lambda: -modeling_mpt.build_mpt_alibi_tensor(heads, 2, max_bias)[:, 0, 0]
        library = lambda x: {"slopes": slopes().clone(memory_format=torch.contiguous_format)}
        formula = lambda x: {"slopes": formula_slopes(heads, max_bias)}
        params = {"dialect": dialect, "heads": heads, "max_bias": max_bias}
        source = BLOOM if dialect == "bloom" else MPT
        case(args, op, name, params, source, {}, library_first(library, formula))


def alibi_bias(args):
    op = "posenc.alibi.bias"
    mask = lambda *rows: torch.tensor([[int(c) for c in row] for row in rows])
    long = torch.ones(1, 300, dtype=torch.int64)
    long[0, :2] = 0
    masks = {
        "no_padding": mask("11111", "11111"),
        "padded": mask("0001111", "1111111", "1111000", "1011001"),
        "all_padding": mask("0000", "0100"),
        "one_key": mask("1"),
    }
    # name: dialect, heads, attention mask
    table = {f"bloom_{name}": ("bloom", heads, m) for (name, m), heads in zip(masks.items(), [8, 6, 3, 1])}
    table |= {f"falcon_{name}": ("falcon", heads, m) for (name, m), heads in zip(masks.items(), [8, 6, 71, 1])}
    table["falcon_long"] = ("falcon", 9, long)  # positions above 256 collide in bfloat16
    for name, (dialect, heads, attention_mask) in table.items():
        batch, kv_seq = attention_mask.shape
        shape = (batch, heads, 1, kv_seq)
        params = {"dialect": dialect, "heads": heads, "kv_seq": kv_seq, "max_bias": 8.0,
                  "origin": "key_index_from_attention_mask"}
        inputs = {"attention_mask": attention_mask}
        module = modeling_bloom if dialect == "bloom" else modeling_falcon

        def library(x):
            return {"bias": module.build_alibi_tensor(x["attention_mask"], heads, torch.float32).reshape(shape)}

        def formula(x):
            positions = (x["attention_mask"].cumsum(-1) - 1) * x["attention_mask"]
            return {"bias": formula_slopes(heads, 8.0)[None, :, None, None] * positions[:, None, None, :]}

        if dialect == "bloom":
            case(args, op, name, params, BLOOM, inputs, library_first(library, formula))
        else:
            params["rounding"] = "slopes to bfloat16, product in bfloat16"
            case(args, op, name, params, FALCON, inputs, library, exact=True)

    # name: heads, keys, max_bias
    for name, (heads, kv_seq, max_bias) in {
        "mpt": (8, 6, 8.0), "mpt_12_heads": (12, 5, 8.0), "mpt_max_bias_4": (7, 9, 4.0), "mpt_one_key": (2, 1, 8.0),
        "mpt_long": (1, 1025, 16.0),
    }.items():
        def library(x):
            return {"bias": modeling_mpt.build_mpt_alibi_tensor(heads, kv_seq, max_bias)[None]}

        def formula(x):
            distances = torch.arange(1 - kv_seq, 1, dtype=torch.float64)
            return {"bias": formula_slopes(heads, max_bias)[None, :, None, None] * distances}

        params = {"dialect": "mpt", "heads": heads, "kv_seq": kv_seq, "max_bias": max_bias, "origin": "last_key_zero"}
        case(args, op, name, params, MPT, {}, library_first(library, formula))


def alibi_distances(args):
    """The matrix that the article prints for 10 tokens, by the loops that fill it there, and by subtraction.

    Its function `get_alibi_biases` expands one column to the whole lower triangle instead: row i is -i up to the
    diagonal, a constant that the softmax takes out. That is another matrix than the one it prints, and not here.
    """
    op = "posenc.alibi.distances"
    for name, seq in {"article": 10, "article_one_token": 1, "article_forty_tokens": 40}.items():
        def loops(x):
            distances = torch.zeros(seq, seq)
            for j in range(1, seq):
                for i in range(j, seq):
                    distances[i, i - j] = -j
            positions = torch.arange(seq)
            assert torch.equal(distances, torch.tril(positions[None, :] - positions[:, None]).float())
            return {"distances": distances}

        params = {"seq": seq, "kv_seq": seq, "origin": "past_distance"}
        case(args, op, name, params, f"loops of the article, torch {torch.__version__}", {}, loops, exact=True)


def near_borders(bidirectional, n_buckets, max_distance):
    """Relative positions of both signs around each border between buckets, and far beyond the last one."""
    n = n_buckets // 2 if bidirectional else n_buckets
    exact = n // 2
    borders = [exact * (max_distance / exact) ** (k / (n - exact)) for k in range(n - exact + 1)]
    distances = {round(b) + d for b in borders for d in (-2, -1, 0, 1, 2)} | {2**k for k in range(40)} | {0}
    return torch.tensor(sorted({s * d for d in distances if d >= 0 for s in (-1, 1)}))


def t5_bucket(args):
    op = "posenc.t5.bucket"
    # name: two directions, buckets, max_distance
    table = {
        "t5_encoder": (True, 32, 128),
        "t5_decoder": (False, 32, 128),
        "many_buckets": (True, 320, 800),  # WavLM's sizes
        "many_buckets_causal": (False, 64, 4096),
        "borders_on_integers": (False, 16, 2048),
        "borders_on_powers_of_ten": (True, 24, 600),
        "few_buckets": (True, 4, 3),
        "two_buckets": (False, 2, 5),
        "odd_buckets": (False, 7, 20),
        "odd_half": (True, 14, 50),
        "smallest_max_distance": (False, 16, 9),
        "large_max_distance": (True, 8, 1000000),
        # distances whose logarithm is a whole number of steps, which float64 misses by its last bit
        "exact_in_float32_9": (False, 9, 128),
        "exact_in_float32_10": (False, 10, 160),
        "exact_in_float32_19": (False, 19, 288),
    }
    table = {name: (*sizes, near_borders(*sizes)) for name, sizes in table.items()}
    table["t5_encoder_all"] = (True, 32, 128, torch.arange(-140, 141))
    table["t5_decoder_all"] = (False, 32, 128, torch.arange(-140, 10))
    for name, (bidirectional, n_buckets, max_distance, positions) in table.items():
        function = modeling_t5.T5Attention._relative_position_bucket
        run = lambda x: {"bucket": function(x["relative_position"], bidirectional, n_buckets, max_distance)}
        params = {"bidirectional": bidirectional, "num_buckets": n_buckets, "max_distance": max_distance}
        inputs = {"relative_position": positions}
        case(args, op, name, params, f"{T5}._relative_position_bucket", inputs, run, exact=True)


def t5_bias(args):
    op = "posenc.t5.bias"
    # name: two directions, buckets, max_distance, heads, queries, keys, past
    table = {
        "encoder": (True, 32, 128, 3, 12, 12, 0),
        "encoder_beyond": (True, 8, 6, 2, 17, 17, 0),
        "decoder": (False, 32, 128, 2, 11, 11, 0),
        "decoder_one_step": (False, 32, 128, 4, 1, 23, 22),
        "decoder_chunk": (False, 8, 20, 2, 3, 40, 37),
        "past_and_later_keys": (True, 10, 12, 1, 4, 9, 3),
        "one_head": (False, 6, 9, 1, 1, 1, 0),
        "far_past": (False, 16, 30, 2, 2, 3, 1000),
    }
    for name, (bidirectional, n_buckets, max_distance, heads, queries, keys, past) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        config = T5Config(d_model=heads, d_kv=1, num_heads=heads, relative_attention_num_buckets=n_buckets,
                          relative_attention_max_distance=max_distance, is_decoder=not bidirectional)
        module = modeling_t5.T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
        inputs = {"table": torch.randn(n_buckets, heads, generator=rng),
                  "dout": torch.randn(1, heads, queries, keys, generator=rng)}

        def run(x):
            def forward(y):
                embedding = torch.nn.functional.embedding
                module.relative_attention_bias.forward = lambda index: embedding(index, y["table"])
                bias = module.compute_bias(queries, keys, device="cpu", past_seen_tokens=past)
                return {"bias": bias}

            outputs, grads = gradients(forward, x, ["table"], {"bias": x["dout"]})
            return outputs | {"dtable": grads["table"]}

        params = {"bidirectional": bidirectional, "num_buckets": n_buckets, "max_distance": max_distance,
                  "query_len": queries, "key_len": keys, "past": past}
        case(args, op, name, params, f"{T5}.compute_bias", inputs, run)


def run(args):
    """Every case of this file."""
    alibi_slopes(args)
    alibi_bias(args)
    alibi_distances(args)
    t5_bucket(args)
    t5_bias(args)
