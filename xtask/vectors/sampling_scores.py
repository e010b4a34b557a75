"""Shared by the generators of sampling: random logits, and whether a filter would keep the same tokens with slightly other settings."""

import copy

import torch
import transformers

HF = f"transformers {transformers.__version__}"
INF = float("inf")

# Which number of a filter decides what it keeps.
BOUNDS = {
    "TopHLogitsWarper": "top_h",
    "TopPLogitsWarper": "top_p",
    "MinPLogitsWarper": "min_p",
    "TypicalLogitsWarper": "mass",
    "EpsilonLogitsWarper": "epsilon",
    "EtaLogitsWarper": "epsilon",
}
MARGIN = 1e-3


def scores(rng, batch, vocab, spread=3.0, hidden=0):
    """Random logits without ties, `hidden` of them -inf in each row."""
    logits = spread * torch.randn(batch, vocab, generator=rng)
    for row in logits:
        row[torch.randperm(vocab, generator=rng)[:hidden]] = -INF
        kept = row[row > -INF]
        assert kept.unique().numel() == kept.numel()
    return logits


def clear(processor, ids, logits):
    """A filter keeps the same tokens in both precisions, and with a bound that is 0.1 % smaller or larger."""
    name = BOUNDS.get(type(processor).__name__)
    if name is None:
        return True
    kept = processor(ids, logits.double()).isinf()
    if not torch.equal(kept, processor(ids, logits.float()).isinf()):
        return False
    for factor in (1 - MARGIN, 1 + MARGIN):
        other = copy.copy(processor)
        setattr(other, name, getattr(processor, name) * factor)
        if not torch.equal(kept, other(ids, logits.double()).isinf()):
            return False
    return True
