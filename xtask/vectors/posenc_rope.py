"""Rotary vectors of posenc: frequencies of every scaling, the rotation with its gradients, positions with several axes.

Library versions: torch 2.15.0, transformers 5.23.0 (see requirements.txt).

The angle is formed as the library forms it: float32(position) * inv_freq, one float32 product, then its cosine and
sine. The float64 run behind the tolerances starts from that same float32 angle.
"""

import contextlib
import types
from unittest import mock

import torch
import transformers
from common import case, generator, gradients
from transformers import GlmConfig, LlamaConfig, PixtralVisionConfig
from transformers.core_model_loading import PermuteForRope
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.deepseek_v3 import modeling_deepseek_v3
from transformers.models.glm import modeling_glm
from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.llama import modeling_llama
from transformers.models.pixtral import modeling_pixtral
from transformers.models.qwen2_vl import modeling_qwen2_vl
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig, Qwen2VLVisionConfig
from transformers.models.qwen3_vl import modeling_qwen3_vl
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig

HF = f"transformers {transformers.__version__}"
# layout -> (source, function); gpt_neox passes the channels after rotary_dim through, as GLM does
LAYOUTS = {
    "interleaved": (f"{HF} models.glm.modeling_glm.apply_rotary_pos_emb", modeling_glm.apply_rotary_pos_emb),
    "half_split": (f"{HF} models.gpt_neox.modeling_gpt_neox.apply_rotary_pos_emb", modeling_gpt_neox.apply_rotary_pos_emb),
    "read_interleaved_write_half_split": (
        f"{HF} models.deepseek_v3.modeling_deepseek_v3.apply_rotary_pos_emb_interleave",
        modeling_deepseek_v3.apply_rotary_pos_emb_interleave,
    ),
}
READ_WRITE = "read_interleaved_write_half_split"
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
at = lambda *rows: torch.tensor(rows)


@contextlib.contextmanager
def double_precision():
    """The library's own functions in float64, whatever type they ask for by name."""
    to_double = lambda self: self.double()
    with mock.patch.object(torch, "float", torch.float64), mock.patch.object(torch, "float32", torch.float64), \
            mock.patch.object(torch.Tensor, "float", to_double):
        yield


def llama_config(head_dim, maximum, rope):
    return LlamaConfig(head_dim=head_dim, max_position_embeddings=maximum, rope_parameters=dict(rope))


def inverse_frequencies(base, dim):
    """As the library's default rotary embedding computes them, in float32."""
    config = llama_config(dim, 2048, {"rope_type": "default", "rope_theta": base})
    return modeling_llama.LlamaRotaryEmbedding.compute_default_rope_parameters(config)[0]


def angles(inputs, dtype):
    """The float32 angle, twice along the last axis, in `dtype`."""
    angle = (inputs["positions"][..., None].float() * inputs["inv_freq"].float()).to(dtype)
    return torch.cat((angle, angle), dim=-1)


def rotation(rotate, cos, sin, x):
    """Rotated q and k, and the gradients for the upstream gradients in `x`."""
    def forward(y):
        q, k = rotate(y["q"], y["k"], cos, sin)
        return {"q": q, "k": k}

    outputs, grads = gradients(forward, x, ["q", "k"], {"q": x["dout_q"], "k": x["dout_k"]})
    return outputs | {"dq": grads["q"], "dk": grads["k"]}


def draw_inputs(args, name, batch, heads, kv_heads, seq, head_dim):
    rng = generator(args.seed, name)
    draw = lambda n: torch.randn(batch, n, seq, head_dim, generator=rng)
    return {"q": draw(heads), "k": draw(kv_heads), "dout_q": draw(heads), "dout_k": draw(kv_heads)}


def apply(args):
    op = "posenc.rope.apply"
    # name: layout, head_dim, rotary_dim, base, attention factor, batch, q heads, k heads, positions
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
        "half_split_shared_positions": ("half_split", 6, 6, 10000.0, 1.0, 3, 1, 2, at([5, 0, 2])),
        # 40 planes: two whole groups of 16 and a rest
        "half_split_wide": ("half_split", 83, 80, 10000.0, 1.0, 1, 2, 1, at([6, 1])),
        "interleaved_wide": ("interleaved", 83, 80, 10000.0, 1.0, 1, 2, 1, at([6, 1])),
        "read_write_full": (READ_WRITE, 8, 8, 10000.0, 1.0, 2, 3, 1, at([3, 0, 17], [1, 1, 255])),
        "read_write_scaled": (READ_WRITE, 6, 6, 10000.0, 1.2079441, 1, 2, 1, at([7, 2, 1023, 40])),
        "read_write_wide": (READ_WRITE, 80, 80, 50000.0, 1.0, 1, 2, 1, at([6, 1])),
        "read_write_one_pair": (READ_WRITE, 2, 2, 10000.0, 1.0, 2, 1, 1, at([1, 2, 3], [4, 5, 6])),
    }
    for name, (layout, head_dim, rotary, base, factor, batch, heads, kv_heads, positions) in table.items():
        source, rotate = LAYOUTS[layout]
        inputs = draw_inputs(args, f"{op}/{name}", batch, heads, kv_heads, positions.shape[1], head_dim)
        inputs |= {"positions": positions, "inv_freq": inverse_frequencies(base, rotary)}

        def run(x):
            angle = angles(x | {"inv_freq": inputs["inv_freq"]}, x["q"].dtype)
            return rotation(rotate, angle.cos() * factor, angle.sin() * factor, x)

        params = {"attention_factor": factor, "base": base, "head_dim": head_dim, "layout": layout, "rotary_dim": rotary}
        case(args, op, name, params, source, inputs, run)


def half_way(value, half):
    """True where float32 values lie so near the middle of two halves that another last bit rounds them differently."""
    low, high = (torch.nextafter(value, torch.tensor(end)).to(half) for end in (-torch.inf, torch.inf))
    return (low != high).any()


def apply_rounded(args):
    """Cosines and sines rounded to a half (`cache_rounding`), or everything in one (`storage`)."""
    op = "posenc.rope.apply"
    # name: layout, head_dim, rotary_dim, attention factor, cache rounding, storage, whether cos and sin are in the file
    table = {
        # ChatGLM keeps its cache in the type of the model; here the rest is float32
        "chatglm_cache_bfloat16": ("interleaved", 16, 8, 1.0, "bfloat16", None, False),
        "chatglm_cache_float16": ("interleaved", 12, 6, 1.0, "float16", None, True),
        "half_split_cache_scaled": ("half_split", 8, 8, 1.2079441, "bfloat16", None, True),
        "half_split_stored": ("half_split", 8, 8, 1.0, None, "bfloat16", True),
        "half_split_stored_float16": ("half_split", 10, 6, 1.0, None, "float16", True),
        "interleaved_stored": ("interleaved", 16, 8, 1.1386294, None, "bfloat16", False),
        "read_write_stored": (READ_WRITE, 10, 10, 1.0, None, "bfloat16", True),
    }
    for name, (layout, head_dim, rotary, factor, cache, storage, is_given) in table.items():
        source, rotate = LAYOUTS[layout]
        batch, heads, kv_heads, positions = 2, 2, 1, at([0, 3, 19], [6, 1, 250])
        inputs = draw_inputs(args, f"{op}/{name}", batch, heads, kv_heads, positions.shape[1], head_dim)
        inputs |= {"positions": positions, "inv_freq": inverse_frequencies(10000.0, rotary)}
        half = HALVES[cache or storage]
        angle = angles(inputs, torch.float32)
        cos, sin = angle.cos() * factor, angle.sin() * factor
        assert is_given or not (half_way(cos, half) or half_way(sin, half)), name
        rounded = {"cos": cos.to(half).float(), "sin": sin.to(half).float()}
        if is_given:
            inputs |= rounded
        if storage:
            inputs |= {key: inputs[key].to(half) for key in ["q", "k", "dout_q", "dout_k"]}

        def run(x):
            dtype = half if storage else x["q"].dtype
            cos, sin = rounded["cos"].to(dtype), rounded["sin"].to(dtype)
            return rotation(rotate, cos, sin, {k: x[k].to(dtype) for k in ["q", "k", "dout_q", "dout_k"]})

        params = {"attention_factor": factor, "base": 10000.0, "head_dim": head_dim, "layout": layout, "rotary_dim": rotary}
        params |= {"cache_rounding": cache} if cache else {"storage": storage}
        case(args, op, name, params, source, inputs, run, exact=bool(storage))


def find_frequencies(function, head_dim, maximum, rope, length):
    """What the library computes: (inv_freq, attention factor)."""
    if rope["rope_type"] != "default":
        config = llama_config(head_dim, maximum, rope)
        return ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, seq_len=length)
    config = (GlmConfig if "glm" in function.__module__ else LlamaConfig)(
        head_dim=head_dim, max_position_embeddings=maximum, rope_parameters=dict(rope))
    return function.compute_default_rope_parameters(config)


def inv_freq(args):
    op = "posenc.rope.inv_freq"
    llama, glm = modeling_llama.LlamaRotaryEmbedding, modeling_glm.GlmRotaryEmbedding
    rope = lambda kind, base, **more: {"rope_theta": base, "rope_type": kind} | more
    yarn = lambda **more: rope("yarn", 10000.0, factor=4.0, original_max_position_embeddings=512) | more
    llama3 = lambda **more: rope("llama3", 500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                 original_max_position_embeddings=8192) | more
    short, long = [1.0, 1.1, 1.25, 1.5, 2.0, 2.75], [1.0, 2.5, 4.0, 8.5, 16.0, 30.25]
    longrope = lambda **more: rope("longrope", 10000.0, short_factor=short, long_factor=long, factor=16.0,
                                   original_max_position_embeddings=64) | more
    # name: parameters, head_dim, maximum positions, sequence length
    table = {
        "default": (rope("default", 10000.0), 64, 4096, None),
        "default_odd": (rope("default", 500000.0), 10, 8192, None),
        "default_small_base": (rope("default", 2.0), 6, 32, None),
        "default_large_base": (rope("default", 1e7), 128, 131072, 131072),
        "default_ignores_length": (rope("default", 10000.0), 16, 64, 1000),
        "default_partial": (rope("default", 10000.0, partial_rotary_factor=0.5), 128, 8192, None),
        "default_partial_quarter": (rope("default", 1000.0, partial_rotary_factor=0.25), 80, 2048, None),
        "linear": (rope("linear", 10000.0, factor=4.0), 64, 2048, None),
        "linear_below_one": (rope("linear", 500.0, factor=0.5), 10, 2048, 9000),
        "linear_partial": (rope("linear", 10000.0, factor=2.5, partial_rotary_factor=0.4), 80, 2048, None),
        "dynamic_no_length": (rope("dynamic", 10000.0, factor=2.0), 32, 2048, None),
        "dynamic_below": (rope("dynamic", 10000.0, factor=2.0), 32, 2048, 100),
        "dynamic_at": (rope("dynamic", 10000.0, factor=2.0), 32, 2048, 2048),
        "dynamic_one_above": (rope("dynamic", 10000.0, factor=2.0), 32, 2048, 2049),
        "dynamic_beyond": (rope("dynamic", 10000.0, factor=2.0), 128, 2048, 9001),
        "dynamic_factor_eight": (rope("dynamic", 1000.0, factor=8.0), 6, 64, 1000),
        "dynamic_factor_one": (rope("dynamic", 10000.0, factor=1.0), 16, 64, 300),
        "dynamic_partial": (rope("dynamic", 10000.0, factor=4.0, partial_rotary_factor=0.5), 24, 64, 300),
        "dynamic_four_features": (rope("dynamic", 10000.0, factor=2.0), 4, 64, 300),
        "yarn": (yarn(), 64, 2048, None),
        "yarn_length_beyond": (yarn(), 32, 2048, 5000),
        "yarn_attention_factor": (yarn(attention_factor=0.8), 32, 2048, None),
        "yarn_attention_factor_null": (yarn(attention_factor=None), 32, 2048, None),
        "yarn_betas": (yarn(beta_fast=16, beta_slow=2), 64, 2048, None),
        "yarn_no_truncate": (yarn(truncate=False, rope_theta=150000.0, factor=32.0, original_max_position_embeddings=4096), 64, 131072, None),
        "yarn_factor_null": (yarn(factor=None), 48, 4096, None),
        "yarn_factor_below_one": (yarn(factor=0.5), 32, 2048, None),
        "yarn_mscale": (yarn(mscale=0.707, mscale_all_dim=1.0, factor=40.0, original_max_position_embeddings=4096), 64, 163840, None),
        "yarn_mscale_equal": (yarn(mscale=1.0, mscale_all_dim=1.0), 32, 2048, None),
        "yarn_mscale_zero": (yarn(mscale=0.5, mscale_all_dim=0), 32, 2048, None),
        "yarn_mscale_alone": (yarn(mscale=0.5), 32, 2048, None),
        "yarn_partial": (yarn(partial_rotary_factor=0.5), 64, 2048, None),
        # every plane turns often in 2**20 tokens of base 2; every plane turns less than once in one token; and in four, with
        # both ends of the ramp at plane 0
        "yarn_all_kept": (yarn(rope_theta=2.0, original_max_position_embeddings=2**20), 16, 2**22, None),
        "yarn_all_slow": (yarn(original_max_position_embeddings=1), 16, 64, None),
        "yarn_ramp_behind_the_planes": (yarn(rope_theta=100.0, original_max_position_embeddings=4096), 16, 16384, None),
        "yarn_no_width": (yarn(original_max_position_embeddings=4), 16, 64, None),
        "yarn_no_ramp": (yarn(beta_fast=2, beta_slow=2, truncate=False), 32, 2048, None),
        "yarn_two_planes": (yarn(), 4, 2048, None),
        "longrope_no_length": (longrope(), 12, 1024, None),
        "longrope_short": (longrope(), 12, 1024, 64),
        "longrope_long": (longrope(), 12, 1024, 65),
        "longrope_attention_factor": (longrope(attention_factor=1.5), 12, 1024, 500),
        "longrope_factor_null": (longrope(factor=None), 12, 2048, 500),
        "longrope_factor_one": (longrope(factor=1.0), 12, 64, 10),
        "longrope_partial": (longrope(partial_rotary_factor=0.75), 16, 1024, 500),
        "llama3": (llama3(), 128, 131072, None),
        "llama3_length_beyond": (llama3(), 64, 131072, 200000),
        "llama3_other_factors": (llama3(factor=32.0, low_freq_factor=2.0, high_freq_factor=3.0), 64, 131072, None),
        "llama3_short_context": (llama3(original_max_position_embeddings=256, rope_theta=10000.0), 32, 4096, None),
        "llama3_partial": (llama3(partial_rotary_factor=0.5), 40, 131072, None),
        "proportional": (rope("proportional", 1000000.0, partial_rotary_factor=0.25), 64, 131072, None),
        "proportional_whole": (rope("proportional", 10000.0), 16, 131072, None),
        "proportional_factor": (rope("proportional", 10000.0, partial_rotary_factor=0.5, factor=8.0), 20, 131072, None),
        "proportional_uneven": (rope("proportional", 10000.0, partial_rotary_factor=0.3), 22, 131072, None),
    }
    for name, (parameters, head_dim, maximum, length) in table.items():
        function = glm if parameters["rope_type"] == "default" and "partial_rotary_factor" in parameters else llama
        kind = parameters["rope_type"]
        source = f"modeling_rope_utils.ROPE_INIT_FUNCTIONS[{kind!r}]"
        if kind == "default":
            source = f"{function.__module__.removeprefix('transformers.')}.{function.__name__}.compute_default_rope_parameters"

        def run(x):
            with contextlib.ExitStack() as stack:
                if x["like"].dtype == torch.float64:
                    stack.enter_context(double_precision())
                found, factor = find_frequencies(function, head_dim, maximum, parameters, length)
            return {"inv_freq": found, "attention_factor_f64": torch.tensor([factor], dtype=torch.float64)}

        params = {"head_dim": head_dim, "max_position_embeddings": maximum, "rope_parameters": parameters, "seq_len": length}
        inputs = {"seq_len": torch.tensor([length or 0])}
        frequencies_case(args, op, name, params, f"{HF} {source}", inputs, run)


def frequencies_case(args, op, name, params, source, inputs, run):
    """Low frequencies count as much as high ones: no absolute tolerance, and the least relative one that holds."""
    like = lambda dtype: types.SimpleNamespace(dtype=dtype)
    single, double = run({"like": like(torch.float32)}), run({"like": like(torch.float64)})
    for rtol in [2e-6, 5e-6, 1e-5, 2e-5]:
        if all(((single[k].double() - double[k]).abs() <= 0.5 * rtol * double[k].abs()).all() for k in single):
            break
    else:
        raise AssertionError(f"{name}: float32 and float64 differ")
    case(args, op, name, params, source, inputs, lambda x: dict(single), fixed=(rtol, 0.0))


def update_sequence(args):
    op = "posenc.rope.update_sequence"
    rope = lambda kind, **more: {"rope_theta": 10000.0, "rope_type": kind} | more
    longrope = rope("longrope", short_factor=[1.0, 1.5, 2.0], long_factor=[1.0, 4.0, 9.0], factor=4.0,
                    original_max_position_embeddings=16)
    # name: parameters, head_dim, maximum positions, lengths
    table = {
        "dynamic": (rope("dynamic", factor=2.0), 8, 16, [3, 16, 17, 40, 20, 16, 15, 16, 18]),
        "dynamic_factor_four": (rope("dynamic", factor=4.0), 6, 10, [64, 10, 9, 33, 12]),
        "longrope": (longrope, 6, 64, [16, 17, 16, 60, 1]),
        "linear": (rope("linear", factor=2.0), 4, 16, [5, 40, 5]),
        "yarn": (rope("yarn", factor=4.0, original_max_position_embeddings=64), 8, 256, [5, 100, 5]),
        "llama3": (rope("llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64), 8, 256, [5, 100]),
        "default": (rope("default"), 4, 16, [5, 40]),
    }
    for name, (parameters, head_dim, maximum, lengths) in table.items():
        def run(x, dtype):
            config = llama_config(head_dim, maximum, parameters)
            module = modeling_llama.LlamaRotaryEmbedding(config)
            frequencies, cosines = [], []
            for length in lengths:
                cos, _ = module(torch.zeros(1, dtype=dtype), torch.arange(length)[None])
                frequencies.append(module.inv_freq.clone())
                cosines.append(cos[0, -1])
            return {"inv_freq": torch.stack(frequencies), "cos_last_position": torch.stack(cosines)}

        def both(x):
            if both.first:
                both.first = False
                return run(x, torch.float32)
            with double_precision():
                return run(x, torch.float64)

        both.first = True
        params = {"head_dim": head_dim, "max_position_embeddings": maximum, "rope_parameters": parameters}
        case(args, op, name, params, f"{HF} models.llama.modeling_llama.LlamaRotaryEmbedding", {"lengths": torch.tensor(lengths)}, both)


def mrope(args):
    op = "posenc.mrope.apply"
    # a line of text, then an image of 2 x 3 patches, then text; and two frames of 1 x 2 patches
    image = [[0, 1, 2, 2, 2, 2, 2, 2, 5], [0, 1, 2, 2, 2, 3, 3, 3, 5], [0, 1, 2, 3, 4, 2, 3, 4, 5]]
    video = [[0, 1, 1, 2, 2, 4, 5, 6, 7], [0, 1, 1, 1, 1, 4, 5, 6, 7], [0, 1, 2, 1, 2, 4, 5, 6, 7]]
    # name: variant, head_dim, sections, base, positions [3, batch, seq], q heads, k heads
    table = {
        "chunked": ("chunked", 16, [2, 3, 3], 10000.0, torch.tensor([image, video]).transpose(0, 1), 2, 1),
        "chunked_uneven": ("chunked", 10, [1, 0, 4], 1000000.0, torch.tensor([image]).transpose(0, 1), 1, 1),
        "chunked_four_sections": ("chunked", 16, [1, 2, 2, 3], 10000.0, torch.tensor([image]).transpose(0, 1), 1, 1),
        "chunked_text": ("chunked", 12, [2, 2, 2], 10000.0, torch.arange(5).expand(3, 2, 5), 1, 2),
        "interleaved": ("interleaved", 14, [3, 2, 2], 10000.0, torch.tensor([image, video]).transpose(0, 1), 2, 1),
        "interleaved_much_time": ("interleaved", 20, [6, 2, 2], 5000000.0, torch.tensor([video]).transpose(0, 1), 1, 1),
        "interleaved_cut": ("interleaved", 16, [2, 3, 3], 10000.0, torch.tensor([image]).transpose(0, 1), 1, 1),
    }
    for name, (variant, head_dim, sections, base, positions, heads, kv_heads) in table.items():
        rope = {"rope_type": "default", "rope_theta": base, "mrope_section": sections}
        sizes = {"hidden_size": head_dim, "num_attention_heads": 1, "rope_parameters": rope}
        if variant == "chunked":
            module = modeling_qwen2_vl.Qwen2VLRotaryEmbedding(Qwen2VLTextConfig(**sizes))
            library, source = modeling_qwen2_vl, "models.qwen2_vl.modeling_qwen2_vl.Qwen2VLRotaryEmbedding"
        else:
            module = modeling_qwen3_vl.Qwen3VLTextRotaryEmbedding(Qwen3VLTextConfig(head_dim=head_dim, **sizes))
            library, source = modeling_qwen3_vl, "models.qwen3_vl.modeling_qwen3_vl.Qwen3VLTextRotaryEmbedding"
        assert module.inv_freq.shape == (head_dim // 2,) and list(module.mrope_section) == sections
        _, batch, seq = positions.shape
        inputs = draw_inputs(args, f"{op}/{name}", batch, heads, kv_heads, seq, head_dim) | {"positions": positions.contiguous()}

        def run(x):
            if x["q"].dtype == torch.float32:
                cos, sin = module(x["q"], x["positions"])
            else:
                angle = (x["positions"][..., None].float() * module.inv_freq).double()
                cos, sin = (module.recomposition_frequencies(part) for part in (angle.cos(), angle.sin()))
            return rotation(library.apply_rotary_pos_emb, cos, sin, x) | {"cos": cos, "sin": sin}

        params = {"axes": "t,h,w", "base": base, "head_dim": head_dim, "layout": "half_split", "mrope_section": sections,
                  "variant": variant}
        case(args, op, name, params, f"{HF} {source}", inputs, run)


def vision2d(args):
    op = "posenc.vision2d.apply"
    pixtral_axes = "row uses frequencies 0, 2, 4, ..., column 1, 3, 5, ...; order [row, column, row, column]"
    qwen_axes = "row and column both use the frequencies of head_dim / 2; order [row, column, row, column]"
    # name: axes, head_dim, base, height, width, heads
    table = {
        "pixtral": (pixtral_axes, 16, 10000.0, 3, 2, 2),
        "pixtral_wide": (pixtral_axes, 8, 10000.0, 2, 9, 1),
        "pixtral_one_patch": (pixtral_axes, 4, 10000.0, 1, 1, 1),
        "pixtral_other_base": (pixtral_axes, 12, 100.0, 4, 3, 1),
        "qwen2_vl": (qwen_axes, 16, 10000.0, 3, 2, 2),
        "qwen2_vl_one_row": (qwen_axes, 8, 10000.0, 1, 7, 1),
    }
    for name, (axes, head_dim, base, height, width, heads) in table.items():
        rope = {"rope_type": "axial", "rope_theta": base}
        if axes == pixtral_axes:
            config = PixtralVisionConfig(hidden_size=head_dim, num_attention_heads=1, rope_parameters=rope)
            module = modeling_pixtral.PixtralVisionRotaryEmbedding(config)
            rotate, source = modeling_pixtral.apply_rotary_pos_emb, "models.pixtral.modeling_pixtral.PixtralVisionRotaryEmbedding"
            frequencies = module.inv_freq
        else:
            config = Qwen2VLVisionConfig(embed_dim=head_dim, num_heads=1, num_attention_heads=1, rope_parameters=rope)
            module = modeling_qwen2_vl.Qwen2VLVisionRotaryEmbedding(config)
            # one set for both axes there; the file has one frequency for each plane
            rotate, source = modeling_pixtral.apply_rotary_pos_emb, "models.qwen2_vl.modeling_qwen2_vl.Qwen2VLVisionRotaryEmbedding"
            frequencies = torch.cat([module.inv_freq, module.inv_freq])
        assert frequencies.shape == (head_dim // 2,)
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        rng = generator(args.seed, f"{op}/{name}")
        inputs = {key: torch.randn(1, heads, height * width, head_dim, generator=rng) for key in ["q", "k"]}
        inputs["position_ids"] = torch.stack([rows.flatten(), columns.flatten()], dim=-1)

        def run(x):
            if x["q"].dtype == torch.float32:
                cos, sin = module(x["q"], x["position_ids"])
            else:
                angle = (x["position_ids"][..., None].float() * module.inv_freq).double()
                cos, sin = (module.recomposition_frequencies(part) for part in (angle.cos(), angle.sin()))
            q, k = rotate(x["q"], x["k"], cos[None], sin[None])
            return {"q": q, "k": k, "cos": cos, "sin": sin, "inv_freq": frequencies.to(x["q"].dtype)}

        params = {"axes": axes, "base": base, "head_dim": head_dim, "height": height, "layout": "half_split", "width": width}
        case(args, op, name, params, f"{HF} {source}", inputs, run)


def permute(args):
    op = "posenc.rope.permute"
    # name: from, to, heads, head_dim, d_model, type
    table = {
        "interleaved_to_half_split": ("interleaved", "half_split", 3, 6, 2, torch.float32),
        "half_split_to_interleaved": ("half_split", "interleaved", 2, 10, 3, torch.float32),
        "kv_heads_bfloat16": ("interleaved", "half_split", 1, 8, 5, torch.bfloat16),
    }
    for name, (old, new, heads, head_dim, d_model, dtype) in table.items():
        permutation = PermuteForRope(inverse=old == "half_split")
        config = types.SimpleNamespace(num_attention_heads=heads)
        rng = generator(args.seed, f"{op}/{name}")
        inputs = {"weight": torch.randn(heads * head_dim, d_model, generator=rng).to(dtype),
                  "bias": torch.randn(heads * head_dim, generator=rng).to(dtype)}
        run = lambda x: {key: permutation._permute_for_rope(x[key], config).to(dtype) for key in ["weight", "bias"]}
        params = {"from": old, "to": new, "head_dim": head_dim, "rotary_dim": head_dim}
        case(args, op, name, params, f"{HF} core_model_loading.PermuteForRope", inputs, run, exact=True)


def run(args):
    """Every case of this file."""
    apply(args)
    apply_rounded(args)
    inv_freq(args)
    update_sequence(args)
    permute(args)
    mrope(args)
    vision2d(args)
