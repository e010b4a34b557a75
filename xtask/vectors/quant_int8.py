"""Test vectors of quant: rows in eight bits with columns of outliers (LLM.int8), and products, as bitsandbytes computes them on the CPU.

Library versions: torch 2.15.0, bitsandbytes 0.50.2 (see requirements.txt).
"""

import json

import bitsandbytes
import bitsandbytes.functional as F
import torch
from common import arguments, generator, save, tolerance
from torch.ao.quantization.observer import PerChannelMinMaxObserver

BNB = f"bitsandbytes {bitsandbytes.__version__}"
FACTOR = 6.200124e-05  # of the library in plain torch


def numbers(args, name, shape, kind):
    x = torch.randn(shape, generator=generator(args.seed, name)) * 1.5
    if kind == "outliers":
        x[:, 3] *= 8
        x[0, 1] = 6.0
        x[-1, 5] = -30.0
    elif kind == "zero_row":
        x[1] = 0
    elif kind == "tiny":
        x *= 1e-6
    elif kind == "halves":
        x = torch.arange(x.numel()).reshape(shape) % 255 - 127
        x = x.float() / 2
        x[:, 0] = 127
    return x.half()


def write_case(args, op, name, params, source, inputs, outputs, rtol=0.0, atol=0.0, library=f"{BNB} "):
    tensors = {f"in.{k}": v for k, v in inputs.items()} | {f"out.{k}": v for k, v in outputs.items()}
    metadata = {"op": op, "params": json.dumps(params, sort_keys=True), "source": f"{library}{source}, CPU",
                "rtol": f"{rtol:g}", "atol": f"{atol:g}"}
    path = args.out / op.split(".", 1)[1] / f"{name}.safetensors"
    save(path, tensors, metadata)
    print(f"{path.parent.name}/{name}: {path.stat().st_size} bytes")


def rows(args):
    op = "quant.int8_vectorwise"
    for name, shape, threshold, kind in [
        ("plain", [5, 33], 0.0, ""), ("outliers", [6, 40], 6.0, "outliers"), ("no_outlier_found", [4, 24], 20.0, ""),
        ("one_row", [1, 30], 2.0, ""), ("all_outliers", [3, 8], 0.001, ""), ("zero_row", [3, 17], 0.0, "zero_row"),
        ("tiny", [2, 40], 0.0, "tiny"), ("halves", [4, 128], 0.0, "halves"), ("one", [1, 1], 0.0, ""),
    ]:
        x = numbers(args, f"{op}/{name}", shape, kind)
        q, stats, columns = F.int8_vectorwise_quant(x.clone(), threshold=threshold)
        outputs = {"q": q, "row_stats": stats, "dequantised": F.int8_vectorwise_dequant(q, stats)}
        if columns is not None:
            outputs["outlier_cols"] = columns
        source = "int8_vectorwise_quant, int8_vectorwise_dequant"
        write_case(args, op, name, {"threshold": threshold}, source, {"x": x}, outputs)


def products(args):
    op = "quant.int8_matmul"
    for name, seq, d_out, d_in, kind in [
        ("plain", 5, 7, 33, ""), ("one", 1, 1, 1, ""), ("wide", 3, 5, 700, ""), ("halves", 4, 3, 128, "halves"),
        ("tiny", 2, 3, 40, "tiny"),
    ]:
        a, w = numbers(args, f"{op}/{name}/a", [seq, d_in], kind), numbers(args, f"{op}/{name}/w", [d_out, d_in], kind)
        (qa, sa, _), (qw, sw, _) = F.int8_vectorwise_quant(a.clone()), F.int8_vectorwise_quant(w.clone())
        acc = F.int8_linear_matmul(qa, qw)
        outputs = {"qa": qa, "qw": qw, "row_stats_a": sa, "row_stats_w": sw, "acc": acc,
                   "y": F.int8_mm_dequant(acc, sa, sw)}
        write_case(args, op, name, {"factor": FACTOR}, "int8_linear_matmul, int8_mm_dequant", {"a": a, "w": w}, outputs)


def layers(args):
    op = "quant.int8_linear"
    for name, seq, d_out, d_in, threshold, kind in [
        ("plain", 5, 7, 33, 0.0, ""), ("outliers", 6, 9, 40, 6.0, "outliers"), ("no_outlier_found", 3, 4, 24, 30.0, ""),
        ("all_outliers", 3, 4, 8, 0.001, ""),
    ]:
        x = numbers(args, f"{op}/{name}/x", [seq, d_in], kind).float()
        w = numbers(args, f"{op}/{name}/w", [d_out, d_in], "").float()
        rng = generator(args.seed, f"{op}/{name}")
        bias, dout = torch.randn([d_out], generator=rng), torch.randn([seq, d_out], generator=rng)
        module = bitsandbytes.nn.Linear8bitLt(d_in, d_out, bias=True, has_fp16_weights=False, threshold=threshold)
        module.load_state_dict({"weight": w, "bias": bias})
        # While it trains on a CPU, the library multiplies in floating point.
        module = module.to("cpu").eval()
        state = {k: v.clone() for k, v in module.state_dict().items()}
        leaf = x.clone().requires_grad_()
        y = module(leaf)
        (dx,) = torch.autograd.grad(y, leaf, dout)
        outputs = {"y": y.detach(), "dx": dx} | {f"state.{k}": v for k, v in state.items()}

        # The same from its parts in float64, for the tolerance.
        q, stats, columns = F.int8_vectorwise_quant(x.half(), threshold=threshold)
        wide = state["weight"].double() * state["SCB"].double().unsqueeze(1) / 127
        integers = (q.double() @ state["weight"].double().T) * stats.double().unsqueeze(1) * state["SCB"].double()
        exact = integers * FACTOR + bias.double()
        if columns is not None:
            exact += x.double()[:, columns] @ wide[:, columns].T
        rtol, atol = tolerance({"y": y.detach(), "dx": dx}, {"y": exact, "dx": dout.double() @ wide})
        params = {"threshold": threshold, "factor": FACTOR}
        inputs = {"x": x, "weight": w, "bias": bias, "dout": dout}
        write_case(args, op, name, params, "Linear8bitLt", inputs, outputs, rtol, atol)


def integers(args):
    """Codes of four and eight bits by torch's own observers, which know no blocks: a block is a channel."""
    op = "quant.integer"
    for name, shape, kind in [("plain", [5, 33], ""), ("outliers", [6, 40], "outliers"), ("halves", [2, 128], "halves"),
                              ("positive", [3, 20], "positive"), ("negative", [3, 21], "negative")]:
        for bits in (4, 8):
            for scheme in ("symmetric", "affine"):
                x = numbers(args, f"{op}/{name}", shape, kind).float()
                x = x.abs() if kind == "positive" else -x.abs() - 1 if kind == "negative" else x
                largest = 2**bits - 1
                is_affine = scheme == "affine"
                low, high = (0, largest) if is_affine else (-(largest // 2), largest // 2)
                observer = PerChannelMinMaxObserver(
                    ch_axis=0, quant_min=low, quant_max=high, eps=0.0,
                    qscheme=torch.per_channel_affine if is_affine else torch.per_channel_symmetric,
                    dtype=torch.quint8 if is_affine else torch.qint8,
                )
                observer(x)
                scale, zero = observer.calculate_qparams()
                zero = zero.int()
                back = torch.fake_quantize_per_channel_affine(x, scale, zero, 0, low, high)
                codes = torch.round(back / scale.unsqueeze(1)).int() + zero.unsqueeze(1)
                middle = 0 if is_affine else largest // 2 + 1
                outputs = {"codes": (codes + middle).to(torch.uint8), "scale": scale, "dequantised": back}
                if is_affine:
                    outputs["zero_point"] = zero.to(torch.uint8)
                params = {"bits": bits, "scheme": scheme, "block": shape[1]}
                source = f"torch {torch.__version__.split('+')[0]} PerChannelMinMaxObserver, fake_quantize_per_channel_affine"
                write_case(args, op, f"{scheme}{bits}_{name}", params, source, {"x": x}, outputs, library="")


def write(args):
    rows(args)
    integers(args)
    products(args)
    layers(args)


if __name__ == "__main__":
    write(arguments("quant"))
