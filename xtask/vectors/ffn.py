"""Test vectors of ffn: SiLU, the gated product, gated networks, RMSNorm as Llama has it; all with gradients.

Library versions: torch 2.15.0, transformers 5.23.0 (see requirements.txt).
"""

import contextlib

import torch
import transformers
from common import arguments, case, generator, gradients
from transformers import GlmConfig, LlamaConfig
from transformers.models.glm.modeling_glm import GlmMLP
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

TORCH = f"torch {torch.__version__.split('+')[0]}"
HF = f"transformers {transformers.__version__}"


def activation(args):
    op = "ffn.activation"
    rng = generator(args.seed, f"{op}/silu")
    edges = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 1e-4, -1e-4, -1.2784645, 20.0, -20.0, 88.0, -88.0, 100.0, -100.0, 1e30, -1e30])
    cases = {"silu": 4 * torch.randn(61, generator=rng), "silu_edges": edges, "silu_one": torch.tensor([0.5])}
    for name, x in cases.items():
        inputs = {"x": x, "dout": torch.randn(x.shape, generator=rng)}

        def run(t):
            outputs, grads = gradients(lambda y: {"y": torch.nn.functional.silu(y["x"])}, t, ["x"], {"y": t["dout"]})
            return outputs | {"dx": grads["x"]}

        # 1e30 must not set the scale of atol; 1 + x (1 - sigmoid) cancels near the minimum.
        case(args, op, name, {"name": "silu"}, f"{TORCH} torch.nn.functional.silu", inputs, run, fixed=(2e-6, 5e-7))


def glu(args):
    op = "ffn.glu"
    table = {"silu": (2, 3, 7, 2.0), "silu_one_row": (1, 1, 13, 2.0), "silu_width_one": (2, 5, 1, 2.0), "silu_wide": (1, 2, 67, 5.0)}
    for name, (batch, seq, width, spread) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        inputs = {"x": spread * torch.randn(batch, seq, 2 * width, generator=rng),
                  "dout": torch.randn(batch, seq, width, generator=rng)}

        def run(t):
            def forward(y):
                gate, up = y["x"].chunk(2, dim=-1)
                return {"y": up * torch.nn.functional.silu(gate)}
            outputs, grads = gradients(forward, t, ["x"], {"y": t["dout"]})
            return outputs | {"dx": grads["x"]}

        params = {"activation": "silu", "packing": "gate_up"}
        case(args, op, name, params, f"{TORCH} chunk(2), up * torch.nn.functional.silu(gate)", inputs, run, atol_floor=5e-7)


def mlp(args):
    op = "ffn.mlp"
    # name: packing, bias, batch, seq, d_model, d_ff
    table = {
        "glm": ("gate_up", False, 2, 3, 8, 11),
        "glm_narrow": ("gate_up", False, 1, 5, 9, 4),
        "glm_one_token": ("gate_up", False, 1, 1, 12, 21),
        "llama": ("separate", False, 2, 3, 8, 11),
        "llama_odd": ("separate", False, 1, 7, 5, 17),
        "llama_bias": ("separate", True, 2, 4, 7, 10),
        "llama_width_one": ("separate", True, 1, 3, 1, 1),
    }
    for name, (packing, bias, batch, seq, d_model, d_ff) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        if packing == "gate_up":
            module, source = GlmMLP(GlmConfig(hidden_size=d_model, intermediate_size=d_ff)), "models.glm.modeling_glm.GlmMLP"
        else:
            config = LlamaConfig(hidden_size=d_model, intermediate_size=d_ff, num_attention_heads=1, head_dim=2, mlp_bias=bias)
            module, source = LlamaMLP(config), "models.llama.modeling_llama.LlamaMLP"
        inputs = {"x": torch.randn(batch, seq, d_model, generator=rng), "dout": torch.randn(batch, seq, d_model, generator=rng)}
        names = [k for k, _ in module.named_parameters()]
        for key, parameter in module.named_parameters():
            inputs[f"w.{key}"] = torch.randn(parameter.shape, generator=rng) * parameter.shape[-1] ** -0.5

        def run(t):
            def forward(y):
                return {"y": torch.func.functional_call(module, {k: y[f"w.{k}"] for k in names}, (y["x"],))}
            wanted = ["x"] + [f"w.{k}" for k in names]
            outputs, grads = gradients(forward, t, wanted, {"y": t["dout"]})
            return outputs | {f"d{k}": v for k, v in grads.items()}

        params = {"activation": "silu", "form": "gated", "packing": packing}
        case(args, op, name, params, f"{HF} {source}", inputs, run, floor=5e-6, atol_floor=1e-6)


@contextlib.contextmanager
def float32_means(dtype):
    """The norm casts up to float32; in a float64 run let it cast to float64."""
    saved = torch.float32
    torch.float32 = dtype
    try:
        yield
    finally:
        torch.float32 = saved


def norm(args):
    op = "ffn.norm.llama"
    # name: batch, seq, d_model, eps, spread of x
    table = {
        "eps_1e-5": (2, 3, 16, 1e-5, 1.0),
        "eps_1e-6": (1, 4, 9, 1e-6, 2.0),
        "eps_glm": (2, 2, 33, 1.5625e-07, 1.0),
        "eps_matters": (1, 3, 7, 1e-2, 0.05),
        "tiny_input": (1, 2, 8, 1e-6, 1e-5),
        "large_input": (1, 1, 8, 1e-6, 1e6),
        "width_one": (1, 5, 1, 1e-5, 1.0),
        "zero_row": (1, 3, 6, 1e-5, 1.0),
        "wide": (1, 2, 129, 1e-5, 1.0),
    }
    for name, (batch, seq, d_model, eps, spread) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        inputs = {"x": spread * torch.randn(batch, seq, d_model, generator=rng),
                  "weight": 1 + 0.3 * torch.randn(d_model, generator=rng),
                  "dout": torch.randn(batch, seq, d_model, generator=rng)}
        if name == "zero_row":
            inputs["x"][0, 1] = 0
        module = LlamaRMSNorm(d_model, eps)

        def run(t):
            def forward(y):
                with float32_means(y["x"].dtype):
                    return {"y": torch.func.functional_call(module, {"weight": y["weight"]}, (y["x"],))}
            outputs, grads = gradients(forward, t, ["x", "weight"], {"y": t["dout"]})
            return outputs | {"dx": grads["x"], "dweight": grads["weight"]}

        params = {"eps": eps, "order": "normalise in f32, cast to input type, multiply by weight", "storage": "float32"}
        case(args, op, name, params, f"{HF} models.llama.modeling_llama.LlamaRMSNorm", inputs, run,
             atol_floor=2e-6 if d_model == 1 else 0.0)  # with one channel dx is a difference of nearly equal terms


def main():
    args = arguments("ffn")
    activation(args)
    glu(args)
    mlp(args)
    norm(args)


if __name__ == "__main__":
    main()
