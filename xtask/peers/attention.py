"""Peers of attention. Library versions: torch 2.15.0, transformers 5.23.0 (see ../vectors/requirements.txt), llama-cpp-python 0.3.36 (see
requirements.txt), which is left out if it is not installed."""

import functools
import itertools
import sys
import time
import types

import numpy
import torch
import transformers
from ggml import Ggml
from serve import Peer
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.gemma2 import modeling_gemma2
from transformers.models.gpt_oss import modeling_gpt_oss


def sdpa(params, inputs):
    """Scaled dot-product attention of torch, and its gradients by automatic differentiation.

    `inputs` has q `[batch, n_heads, seq, head_dim]`, k, v `[batch, n_kv_heads, kv_seq, head_dim]` and dout, the upstream
    gradient. All get the keys and values as a cache has them, one head for a group of query heads.
    """
    group = inputs["q"].shape[1] // inputs["k"].shape[1]
    causal = params["causal"]
    if params["softcap"] is not None:
        return [softcap_peer(params, inputs)]

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


def causal_mask(seq, kv_seq):
    """What is added to the scores, `[seq, kv_seq]`; the last query sees all keys."""
    hidden = torch.ones(seq, kv_seq, dtype=torch.bool).triu(kv_seq - seq + 1)
    return torch.zeros(seq, kv_seq).masked_fill(hidden, -torch.inf)


def module(inputs, **others):
    """What the functions of transformers' models ask of the layer that calls them."""
    group = inputs["q"].shape[1] // inputs["k"].shape[1]
    return types.SimpleNamespace(num_key_value_groups=group, training=False, **others)


def softcap_peer(params, inputs):
    """The function of transformers' Gemma 2 that has a softcap, which torch's does not."""
    layer, softcap = module(inputs), params["softcap"]
    seq, kv_seq, head_dim = inputs["q"].shape[2], inputs["k"].shape[2], inputs["q"].shape[3]
    mask = causal_mask(seq, kv_seq) if params["causal"] else None

    def attend(q, k, v):
        forward = modeling_gemma2.eager_attention_forward
        return forward(layer, q, k, v, mask, scaling=head_dim**-0.5, softcap=softcap)[0].transpose(1, 2)

    return torch_peer("transformers", attend, params["pass"], transformers.__version__)


def alibi(params, inputs):
    """A causal prompt with ALiBi: torch's function takes it as a bias, which is made before the clock starts."""
    seq = inputs["q"].shape[2]
    distance = torch.arange(seq)[None, :] - torch.arange(seq)[:, None]
    slopes = torch.tensor(params["slopes"], dtype=torch.float32)
    bias = (slopes[:, None, None] * distance + causal_mask(seq, seq))[None]
    attend = lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=bias)
    return [torch_peer("torch", attend, "forward")]


def sinks(params, inputs):
    """The function of transformers' gpt-oss; `inputs` has sinks `[n_heads]` besides."""
    seq, head_dim = inputs["q"].shape[2:]
    layer, mask = module(inputs, sinks=inputs["sinks"]), causal_mask(seq, seq)

    def attend(q, k, v):
        return modeling_gpt_oss.eager_attention_forward(layer, q, k, v, mask, head_dim**-0.5)[0].transpose(1, 2)

    return [torch_peer("transformers", attend, "forward", transformers.__version__)]


def prefix(params, inputs):
    """A prefix `[n_kv_heads, prefix, head_dim]` joined to the keys and values of each sequence, as PEFT puts it into the cache."""
    batch, _, seq, _ = inputs["q"].shape
    mask = causal_mask(seq, inputs["prefix_k"].shape[1] + seq)

    @torch.no_grad()
    def call(x):
        joined = (torch.cat((x[f"prefix_{name}"].expand(batch, -1, -1, -1), x[name]), dim=2) for name in ("k", "v"))
        return scaled_dot_product_attention(x["q"], *joined, attn_mask=mask, enable_gqa=True)

    return [Peer("torch", torch.__version__, call, lambda out: {"out": out})]


def paged(params, inputs):
    """A decoding step over pages `[n_pages, n_kv_heads, page_size, head_dim]`: gathered in the order of the table, and then
    attended to; the queries of a group as those of one head, so that each key is read once."""
    pages = inputs["table"][0].long()

    @torch.no_grad()
    def call(x):
        k, v = (x[name][pages].transpose(0, 1).flatten(1, 2)[None] for name in ("k", "v"))
        q = x["q"].reshape(1, k.shape[1], -1, k.shape[3])
        return scaled_dot_product_attention(q, k, v).reshape(x["q"].shape)

    return [Peer("torch folded", torch.__version__, call, lambda out: {"out": out})]


def torch_peer(library, attend, which, version=torch.__version__):
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
    return Peer(library, version, call, lambda out: out, prepare=prepare)


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
