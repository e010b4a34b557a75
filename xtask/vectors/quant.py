"""Test vectors of quant: blocks of four and eight bits as bitsandbytes makes them on the CPU.

Library versions: torch 2.15.0, bitsandbytes 0.50.2 (see requirements.txt).

The step to eight bits that double quantization takes is the form of the library in plain torch (nearest code), which is
what its other devices compute; its compiled CPU code looks numbers up in a coarse table. `blockwise8_cpu_table` has both.
"""

import json

import bitsandbytes
import bitsandbytes.functional as F
import quant_files
import quant_int8
import quant_lora
import torch
from bitsandbytes.functional import QuantState
from common import arguments, generator, save

BNB = f"bitsandbytes {bitsandbytes.__version__}"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def exact_blockwise(x, code, block):
    """`quantize_blockwise` as registered for devices without code of their own."""
    full = x.numel() - x.numel() % block
    blocks = x[:full].reshape(-1, block)
    absmax = blocks.abs().amax(dim=-1)
    scaled = (blocks * (1.0 / absmax.clamp(min=1e-38)).view(-1, 1)).clamp(-1, 1).reshape(-1)
    if x.numel() > full:
        last = x[full:].abs().max().clamp(min=1e-38)
        absmax = torch.cat([absmax, last.unsqueeze(0)])
        scaled = torch.cat([scaled, (x[full:] / last).clamp(-1, 1)])
    bounds = (code[:-1] + code[1:]) / 2
    return torch.bucketize(scaled, bounds, out_int32=True).to(torch.uint8), absmax


def weights(args, name, shape, dtype, kind):
    rng = generator(args.seed, name)
    x = torch.randn(shape, generator=rng)
    if kind == "zeros":
        x.zero_()
    elif kind == "zero_blocks":
        x.view(-1)[64:128] = 0
        x.view(-1)[-(x.numel() % 64) :] = 0
    elif kind == "tiny":
        x *= 1e-39
    elif kind == "outlier":
        x.view(-1)[::37] *= 50
    elif kind == "grid":
        x = (x * 4).round() / 16
    return x.to(DTYPES[dtype])


def plain(args):
    op = "quant.quantize_4bit"
    table = {  # shape, block, dtype, kind
        "matrix": ([13, 32], 64, "float32", ""),
        "odd_length": ([7, 11], 32, "float32", ""),
        "one": ([1], 64, "float32", ""),
        "three_axes": ([3, 5, 18], 128, "float32", "outlier"),
        "half": ([12, 30], 64, "float16", ""),
        "bfloat": ([12, 30], 64, "bfloat16", ""),
        "half_odd": ([5, 13], 32, "float16", "grid"),
        "zeros": ([150], 64, "float32", "zeros"),
        "zero_blocks": ([149], 64, "float32", "zero_blocks"),
        "tiny": ([5, 40], 64, "float32", "tiny"),
        "grid": ([9, 36], 256, "float32", "grid"),
        "block_512": ([600], 512, "bfloat16", ""),
        "block_1024": ([1100], 1024, "float16", ""),
        "block_2048": ([2050], 2048, "float16", ""),
        "block_4096": ([4100], 4096, "bfloat16", ""),
    }
    for name, (shape, block, dtype, kind) in table.items():
        for quant_type in ("nf4", "fp4"):
            label = f"{quant_type}_{name}"
            params = {"blocksize": block, "compress_statistics": False, "dtype": dtype, "quant_type": quant_type,
                      "shape": shape}
            x = weights(args, f"{op}/{name}", shape, dtype, kind)

            def run(x=x, quant_type=quant_type, block=block, shape=shape):
                packed, state = F.quantize_4bit(x, blocksize=block, quant_type=quant_type)
                return {
                    "packed": packed, "absmax": state.absmax, "code": state.code,
                    "dequantised": F.dequantize_4bit(packed, state).reshape(shape),
                }

            case_typed(args, op, label, params, f"{BNB} quantize_4bit, dequantize_4bit, CPU", {"x": x}, run)


def nested(args):
    op = "quant.quantize_4bit_nested"
    table = {  # shape, block, dtype, kind
        "matrix": ([20, 64], 64, "float32", ""),
        "two_nested_blocks": ([300, 32], 32, "bfloat16", ""),
        "odd_length": ([31, 33], 32, "float16", ""),
        "single_scale": ([6, 8], 64, "float32", ""),
    }
    for name, (shape, block, dtype, kind) in table.items():
        for quant_type in ("nf4", "fp4") if name != "two_nested_blocks" else ("nf4",):
            label = f"{quant_type}_{name}"
            params = {"blocksize": block, "dtype": dtype, "nested_blocksize": 256, "quant_type": quant_type,
                      "shape": shape}
            x = weights(args, f"{op}/{name}", shape, dtype, kind)

            def run(x=x, quant_type=quant_type, block=block, shape=shape):
                packed, state = F.quantize_4bit(x, blocksize=block, quant_type=quant_type)
                nested_code = F.create_dynamic_map()
                offset = state.absmax.mean()
                codes, nested_absmax = exact_blockwise(state.absmax - offset, nested_code, 256)
                inner = QuantState(absmax=nested_absmax, code=nested_code, blocksize=256, dtype=torch.float32)
                absmax = F.dequantize_blockwise(codes, inner) + offset
                whole = QuantState(
                    absmax=codes, shape=torch.Size(shape), code=state.code, blocksize=block, quant_type=quant_type,
                    dtype=x.dtype, offset=offset, state2=inner,
                )
                return {
                    "packed": packed, "absmax_u8": codes, "nested_absmax": nested_absmax, "nested_code": nested_code,
                    "offset": offset.reshape(1), "absmax_unnested": absmax,
                    "dequantised": F.dequantize_4bit(packed, whole).reshape(shape),
                    "serialised_json": whole.as_dict(packed=True)[f"quant_state.bitsandbytes__{quant_type}"],
                }

            source = f"{BNB} quantize_4bit, quantize_blockwise (form in torch), dequantize_4bit, CPU"
            case_typed(args, op, label, params, source, {"x": x}, run)


def eight(args):
    code = F.create_dynamic_map()
    for name, n, block, kind in [
        ("short", 5, 256, ""), ("two_blocks", 700, 256, "outlier"), ("even", 512, 256, ""), ("wide", 1000, 1024, "zero_blocks"),
        ("values", 256, 256, "values"), ("zeros", 300, 256, "zeros"),
    ]:
        op = "quant.blockwise8"
        x = weights(args, f"{op}/{name}", [n], "float32", kind)
        if kind == "values":
            x = code.clone()

        def run(x=x, block=block):
            q, absmax = exact_blockwise(x, code, block)
            state = QuantState(absmax=absmax, code=code, blocksize=block, dtype=torch.float32)
            return {"q": q, "absmax": absmax, "dequantised": F.dequantize_blockwise(q, state)}

        params = {"blocksize": block, "code": "dynamic_signed", "rule": "nearest code, bounds at midpoints"}
        case_typed(args, op, name, params, f"{BNB} quantize_blockwise (form in torch), dequantize_blockwise", {"x": x}, run)

        if kind in ("zeros", "zero_blocks"):
            continue
        def table(x=x, block=block):
            q, state = F.quantize_blockwise(x, code=code, blocksize=block)
            return {"q_cpu": q, "q_exact": exact_blockwise(x, code, block)[0], "absmax": state.absmax}

        case_typed(args, "quant.blockwise8_cpu_table", name, {"blocksize": block}, f"{BNB} quantize_blockwise, CPU", {"x": x}, table)


def codes(args):
    for signed, exponent, bits in [(True, 7, 8), (False, 7, 8), (True, 5, 8), (True, 3, 4), (True, 2, 6), (False, 3, 4)]:
        try:
            code = F.create_dynamic_map(signed, exponent, bits)
        except AssertionError:
            continue
        params = {"signed": signed, "max_exponent_bits": exponent, "total_bits": bits}
        name = f"{'signed' if signed else 'unsigned'}_{exponent}_{bits}"
        case_typed(args, "quant.code", name, params, f"{BNB} create_dynamic_map", {}, lambda code=code: {"code": code})


def case_typed(args, op, name, params, source, inputs, run):
    """A case whose inputs keep their storage type; all outputs must come back with equal bits."""
    tensors = {f"in.{k}": v for k, v in inputs.items()} | {f"out.{k}": v for k, v in run().items()}
    metadata = {"op": op, "params": json.dumps(params, sort_keys=True), "source": source, "rtol": "0", "atol": "0"}
    path = args.out / op.split(".", 1)[1] / f"{name}.safetensors"
    save(path, tensors, metadata)
    print(f"{path.parent.name}/{name}: {path.stat().st_size} bytes")


def main():
    args = arguments("quant")
    plain(args)
    nested(args)
    eight(args)
    codes(args)
    quant_files.write(args)
    quant_int8.write(args)
    quant_lora.write(args)


if __name__ == "__main__":
    main()
