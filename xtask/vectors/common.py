"""Shared by the generators of test vectors: seeds, tolerances, and a deterministic safetensors writer.

A case is computed twice with the same function, once in float32 and once in float64 from the same float32
inputs. The float32 result is stored. The distance between the two decides the tolerance, so a tolerance says
how far two honest float32 implementations may differ and no more.
"""

import argparse
import hashlib
import json
import math
import pathlib
import struct

import torch

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.bool: "BOOL",
}

# The error measured against float64 may fill at most this part of the tolerance: another summation order is
# allowed four times the error of torch.
FILL = 0.25
# No tolerance is tighter than this unless a case asks for equality: some 16 units in the last place.
RTOL_FLOOR = 2e-6
RTOL_STEPS = [2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3]


def arguments(crate):
    """Command line of a generator: `--seed` and `--out` (the crate's tests/data folder)."""
    root = pathlib.Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=f"Write the test vectors of the crate {crate}.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=root / "crates" / crate / "tests" / "data")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    return args


def generator(seed, name):
    """A random generator of its own for each case, so that adding a case changes no other one."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:6], "little"))


def save(path, tensors, metadata):
    """Write a safetensors file whose bytes depend only on the arguments (keys sorted, widest types first)."""
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header, blobs, offset = {"__metadata__": dict(sorted(metadata.items()))}, [], 0
    for name in order:
        tensor = tensors[name].detach().cpu().contiguous()
        blob = tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def number(value):
    """A tolerance as text."""
    return "0" if value == 0 else f"{value:g}"


def cast(tensors, dtype):
    """Copies with floating tensors in `dtype`; integers and booleans stay."""
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in tensors.items()}


def finite_pairs(single, double):
    """Pairs of float32 results and float64 truth, finite and not all zero; infinities must agree."""
    for name in single:
        if not single[name].is_floating_point():
            assert torch.equal(single[name], double[name]), f"{name}: integers differ between precisions"
            continue
        got, want = single[name].double(), double[name].double()
        assert not got.isnan().any() and not want.isnan().any(), f"{name}: NaN"
        infinite = want.isinf() | got.isinf()
        assert torch.equal(got[infinite], want[infinite]), f"{name}: infinities differ"
        yield name, got[~infinite], want[~infinite]


def tolerance(single, double, floor=RTOL_FLOOR, atol_floor=0.0):
    """The tightest pair (rtol, atol) that leaves room for another summation order.

    rtol climbs a ladder; atol climbs 1, 2, 5, 10, ... times rtol times the smallest root mean square of an output
    tensor (at most 1), and stays at most rtol times the median one (values that cancel carry the error of their terms).
    `floor` and `atol_floor` are lower limits where an honest formula other than torch's has a larger error.
    """
    pairs = list(finite_pairs(single, double))
    scales = sorted(want.square().mean().sqrt().item() for _, _, want in pairs if want.numel() and want.any()) or [1.0]
    low, high = min(0, math.floor(math.log10(scales[0]))), scales[len(scales) // 2]
    for rtol in [r for r in RTOL_STEPS if r >= floor]:
        scale = 10.0**low
        for step in (m * 10.0**k for k in range(12) for m in (1, 2, 5)):
            if step > 1 and scale * step > high:
                break
            atol = max(float(f"{rtol * scale * step:.0e}"), atol_floor)
            if all(((got - want).abs() <= FILL * (atol + rtol * want.abs())).all() for _, got, want in pairs):
                return rtol, atol
    raise AssertionError("float32 and float64 differ by more than any tolerance of the ladder")


def case(args, op, name, params, source, inputs, function, exact=False, fixed=None, floor=RTOL_FLOOR,
         atol_floor=0.0):
    """Compute and write one case. `function(inputs) -> outputs` runs in float32 and in float64.

    `exact`: outputs are copies or integers, both tolerances 0. `fixed`: a given (rtol, atol).
    """
    single = function(cast(inputs, torch.float32))
    if exact:
        rtol, atol = 0.0, 0.0
    elif fixed:
        rtol, atol = fixed
        for key, got, want in finite_pairs(single, function(cast(inputs, torch.float64))):
            worst = ((got - want).abs() / (atol + rtol * want.abs()).clamp(min=1e-300)).max().item()
            assert worst <= 0.5, f"{op}/{name} {key}: float32 and float64 differ by {worst} of the tolerance"
    else:
        rtol, atol = tolerance(single, function(cast(inputs, torch.float64)), floor, atol_floor)
    tensors = {f"in.{k}": v for k, v in inputs.items()} | {f"out.{k}": v for k, v in single.items()}
    metadata = {
        "op": op,
        "params": json.dumps(params, sort_keys=True),
        "source": source,
        "rtol": number(rtol),
        "atol": number(atol),
    }
    folder = op.split(".", 1)[1]
    path = args.out / folder / f"{name}.safetensors"
    save(path, tensors, metadata)
    print(f"{folder}/{name}: {path.stat().st_size} bytes, rtol {metadata['rtol']}, atol {metadata['atol']}")
    return single


def gradients(function, inputs, wanted, upstream):
    """Outputs of `function` and the gradients of `wanted` for the given upstream gradients.

    `function(inputs) -> {name: tensor}`; `upstream` maps an output's name to its gradient.
    """
    leaves = {k: v.clone().requires_grad_(k in wanted) for k, v in inputs.items()}
    outputs = function(leaves)
    names = list(upstream)
    found = torch.autograd.grad(
        [outputs[n] for n in names], [leaves[w] for w in wanted], [upstream[n] for n in names]
    )
    return {k: v.detach() for k, v in outputs.items()}, dict(zip(wanted, found))
