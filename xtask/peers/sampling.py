"""Peers of sampling. Library versions: torch 2.15.0, transformers 5.23.0 (see ../vectors/requirements.txt)."""

import itertools

import torch
import transformers
from serve import Peer
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

# In the order in which `generate` runs them.
WARPERS = {
    "repetition_penalty": RepetitionPenaltyLogitsProcessor,
    "temperature": TemperatureLogitsWarper,
    "top_k": TopKLogitsWarper,
    "top_p": TopPLogitsWarper,
    "min_p": MinPLogitsWarper,
}


def rows(inputs):
    """Each call gets the next row of `logits` `[rows, vocab]`, as `[1, vocab]`."""
    return itertools.cycle(inputs["logits"].split(1))


def draw(params, inputs):
    """A draw as `generate` makes it: warpers, softmax, multinomial. The result is what it draws from.

    `inputs` has logits `[rows, vocab]` and tokens `[1, seq]`, those that occurred.
    """
    warpers = [make(params[name]) for name, make in WARPERS.items() if params[name] is not None]
    tokens = inputs["tokens"].long()

    @torch.no_grad()
    def call(rows):
        scores = next(rows)
        for warper in warpers:
            scores = warper(tokens, scores)
        probabilities = torch.nn.functional.softmax(scores, dim=-1)
        return scores, torch.multinomial(probabilities, num_samples=1)

    return [Peer("transformers", transformers.__version__, call, lambda out: {"out": out[0]}, prepare=rows)]


def greedy(params, inputs):
    """The likeliest token, as `generate` without sampling takes it."""

    @torch.no_grad()
    def call(rows):
        return torch.argmax(next(rows), dim=-1)

    return [Peer("transformers", transformers.__version__, call, lambda out: {"out": out}, prepare=rows)]
