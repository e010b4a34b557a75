"""Peers of decoder. Library versions: torch 2.15.0, transformers 5.23.0 (see ../vectors/requirements.txt)."""

import torch
import transformers
from serve import Peer
from transformers import AutoConfig, AutoModelForCausalLM


def write_on(params, inputs):
    """The likeliest tokens after `prompt` `[1, seq]`, with the cache that `generate` makes by itself."""
    # The default id of padding is beyond a small vocabulary.
    config = AutoConfig.from_pretrained(params["checkpoint"], pad_token_id=None)
    model = AutoModelForCausalLM.from_pretrained(params["checkpoint"], config=config, dtype=torch.float32).eval()
    prompt = inputs["prompt"].long()
    new = params["new"]
    # Nothing ends the text early.
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0

    @torch.no_grad()
    def call(_):
        return model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=new,
            do_sample=False,
            use_cache=True,
        )

    results = lambda out: {"ids": out[0, prompt.shape[1] :].float()}
    return [Peer("transformers", transformers.__version__, call, results)]
