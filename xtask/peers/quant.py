"""Peers of packed weights. Library versions: bitsandbytes 0.50.2 (see ../vectors/requirements.txt), llama-cpp-python 0.3.36 (see
requirements.txt), which is left out if it is not installed.

bitsandbytes gets packed weights as they are: `packed`, two codes a byte; `scales`, one byte for each block; `nested_scales` for each 256
of these; and `offset`. Each set has a copy of them.
"""

import functools
import sys

import bitsandbytes
import torch
from bitsandbytes import functional
from ggml import Ggml
from serve import Peer

N = 4096  # rows and columns of the weights


def copy(inputs, block, dtype=torch.float32):
    """Bytes and state of NF4 with double quantization."""
    nested = functional.QuantState(
        absmax=inputs["nested_scales"].clone(), code=functional.create_dynamic_map(), blocksize=256, dtype=torch.float32
    )
    state = functional.QuantState(
        absmax=inputs["scales"].to(torch.uint8),
        shape=torch.Size([N, N]),
        code=functional.get_4bit_type("nf4", device="cpu"),
        blocksize=block,
        quant_type="nf4",
        dtype=dtype,
        offset=inputs["offset"][0].clone(),
        state2=nested,
    )
    return inputs["packed"].to(torch.uint8)[:, None], state


def bits(call, results, prepare):
    """A peer without gradients."""
    return Peer("bitsandbytes", bitsandbytes.__version__, torch.no_grad()(call), results, prepare=prepare)


def product(params, inputs):
    """`x wᵀ` for x `[seq, d_in]` and w `[d_out, d_in]`."""

    def call(x):
        (packed, state), x = x
        return bitsandbytes.matmul_4bit(x, packed.t(), quant_state=state)

    peers = [bits(call, lambda out: {"out": out}, lambda x: (copy(x, params["block"]), x["x"]))]
    if params["q4_0"]:
        try:
            peers.append(llama_peer(ggml(params["threads"]), inputs["w"]))
        except ImportError as error:
            print(f"no llama.cpp: {error}", file=sys.stderr)
    return peers


def dequantize(params, inputs):
    """Into a new tensor: the CPU code of bitsandbytes knows no other way."""
    dtype = getattr(torch, params["dtype"])
    call = lambda x: functional.dequantize_4bit(*x)
    return [bits(call, lambda out: {"out": out.float()}, lambda x: copy(x, params["block"], dtype))]


def quantize(params, inputs):
    """With double quantization; the result is the packed bytes."""

    def call(x):
        return functional.quantize_4bit(x["w"], blocksize=params["block"], quant_type="nf4", compress_statistics=True)

    return [bits(call, lambda out: {"out": out[0].flatten().float()}, lambda x: x)]


ggml = functools.cache(Ggml)  # one pool of threads for all cases


def llama_peer(ggml, w):
    """A product with weights in Q4_0, the format of four bits that its CPU code is best at."""
    packed = ggml.quantize(w.numpy())

    def prepare(x):
        return ggml.product(packed, w.shape, x["x"].numpy())

    def results(graph):
        return {"out": torch.from_numpy(graph.result())}

    return Peer("llama.cpp", ggml.version, lambda graph: graph(), results, prepare=prepare, rest=ggml.rest)
