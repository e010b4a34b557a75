"""Peers of attention. Library versions: torch 2.15.0 (see ../vectors/requirements.txt), llama-cpp-python 0.3.36 (see
requirements.txt), which is left out if it is not installed."""

import functools
import itertools
import sys
import time

import numpy
import torch
from ggml import Ggml
from serve import Peer
from torch.nn.functional import scaled_dot_product_attention


def sdpa(params, inputs):
    """Scaled dot-product attention of torch, and its gradients by automatic differentiation.

    `inputs` has q `[batch, n_heads, seq, head_dim]`, k, v `[batch, n_kv_heads, kv_seq, head_dim]` and dout, the upstream
    gradient. All get the keys and values as a cache has them, one head for a group of query heads.
    """
    group = inputs["q"].shape[1] // inputs["k"].shape[1]
    causal = params["causal"]

    def grouped(q, k, v):
        return scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=group > 1)

    def repeated(q, k, v):
        k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
        return scaled_dot_product_attention(q, k, v, is_causal=causal)

    def folded(q, k, v):
        heads_of_keys = q.reshape(q.shape[0], k.shape[1], group, q.shape[3])
        return scaled_dot_product_attention(heads_of_keys, k, v).reshape(q.shape)

    ways = [grouped, repeated] if group > 1 else [grouped]
    peers = [torch_peer("torch", quickest(ways, inputs), params["pass"])]
    if inputs["q"].shape[2] == 1:
        # Not what its documentation shows for groups: the queries of a group as those of one head, so that each key is
        # read once.
        peers.append(torch_peer("torch folded", folded, params["pass"]))
        try:
            peers.append(llama_peer(ggml(params["threads"])))
        except ImportError as error:
            print(f"no llama.cpp: {error}", file=sys.stderr)
    return peers


def torch_peer(library, attend, which):
    @torch.no_grad()
    def forward(x):
        return {"out": attend(x["q"], x["k"], x["v"])}

    def leaves(x):
        return [x[name].detach().requires_grad_() for name in ("q", "k", "v")], x["dout"]

    def gradients(out, qkv, dout, retain_graph):
        gradients = torch.autograd.grad(out, qkv, dout, retain_graph=retain_graph)
        return dict(zip(("dq", "dk", "dv"), gradients))

    def both(x):
        qkv, dout = x
        out = attend(*qkv)
        return {"out": out} | gradients(out, qkv, dout, False)

    def graph(x):
        qkv, dout = leaves(x)
        return attend(*qkv), qkv, dout

    def backward(x):
        return gradients(*x, True)

    call, prepare = {
        "forward": (forward, lambda x: x),
        "both": (both, leaves),
        "backward": (backward, graph),
    }[which]
    return Peer(library, torch.__version__, call, lambda out: out, prepare=prepare)


@torch.no_grad()
def quickest(ways, inputs):
    """Of several ways to call torch, the one that takes the least time on this machine."""
    if len(ways) == 1:
        return ways[0]
    times = {}
    inputs = [inputs[name] for name in ("q", "k", "v")]
    for way in ways:
        way(*inputs)
        samples = []
        for _ in range(3):
            start = time.perf_counter()
            way(*inputs)
            samples.append(time.perf_counter() - start)
        times[way] = min(samples)
    shown = ", ".join(f"{way.__name__} {1e3 * seconds:.2f} ms" for way, seconds in times.items())
    best = min(times, key=times.get)
    print(f"torch: {shown}; timed is {best.__name__}", file=sys.stderr)
    return best


ggml = functools.cache(Ggml)  # one pool of threads for all cases


def llama_peer(ggml):
    """A decoding step over a cache in float16, the default of llama.cpp."""

    def prepare(x):
        q, k, v = (x[name].numpy() for name in ("q", "k", "v"))
        k, v = (y.astype(numpy.float16) for y in (k, v))
        scale = q.shape[-1] ** -0.5
        # Half as many bytes as in float32, so twice as many sets must rotate to leave the cache behind.
        return itertools.cycle([ggml.attention(q, k, v, scale) for _ in range(2)])

    def results(attention):
        return {"out": torch.from_numpy(attention.result())}

    return Peer("llama.cpp", ggml.version, lambda x: next(x)(), results, prepare=prepare, rest=ggml.rest)
