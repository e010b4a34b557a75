"""Peers of posenc. Library versions: torch 2.15.0, transformers 5.23.0 (see ../vectors/requirements.txt)."""

import torch
import transformers
from serve import Peer
from transformers.models.glm import modeling_glm
from transformers.models.llama import modeling_llama


def rope(params, inputs):
    """The rotation of q and k, or its gradient by torch's automatic differentiation.

    `inputs` has q, k `[batch, heads, seq, head_dim]` and cos, sin `[seq, head_dim / 2]`; for the gradient, q and k are
    the upstream gradients.
    """
    rotate = (modeling_glm if params["interleaved"] else modeling_llama).apply_rotary_pos_emb
    # As the models' rotary modules make them: both halves of the features have the same angles.
    cos, sin = (torch.cat((inputs[name], inputs[name]), dim=-1)[None] for name in ("cos", "sin"))
    named = lambda pair: dict(zip(("q", "k"), pair))

    @torch.no_grad()
    def forward(x):
        return rotate(x["q"], x["k"], cos, sin)

    def graph(x):
        leaves = [torch.randn_like(x[name]).requires_grad_() for name in ("q", "k")]
        return leaves, rotate(*leaves, cos, sin), (x["q"], x["k"])

    def backward(x):
        leaves, outputs, upstream = x
        return torch.autograd.grad(outputs, leaves, upstream, retain_graph=True)

    if params["backward"]:
        return [Peer("transformers", transformers.__version__, backward, named, prepare=graph)]
    return [Peer("transformers", transformers.__version__, forward, named)]
