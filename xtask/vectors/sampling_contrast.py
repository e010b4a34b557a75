"""Test vectors of contrastive search and DoLa, which transformers has moved out since.

Not run by `cargo xtask vectors generate`: it needs an environment of its own, with requirements-transformers4.txt
(torch 2.15.0, transformers 4.55.4). `python sampling_contrast.py` in it writes the files.
"""

import torch
import transformers
from common import arguments, case, generator
from transformers import DynamicCache, GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.generation.utils import _dola_select_contrast, _ranking_fast
from transformers.modeling_outputs import CausalLMOutputWithPast

HF = f"transformers {transformers.__version__}"
assert HF.startswith("transformers 4.55"), HF


class HiddenTable(PreTrainedModel, GenerationMixin):
    """Logits and hidden states depend on the last two ids (0 before the first), which are kept in the cache."""

    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, table, hidden):
        config = PretrainedConfig()
        config.vocab_size = table.shape[-1]
        config.num_hidden_layers = 1
        super().__init__(config)
        self.table = torch.nn.Parameter(table.clone(), requires_grad=False)
        self.hidden = torch.nn.Parameter(hidden.clone(), requires_grad=False)
        self.generation_config = GenerationConfig()

    def prepare_inputs_for_generation(self, input_ids, past_key_values=None, **kwargs):
        return {"input_ids": input_ids, "past_key_values": past_key_values}

    def forward(self, input_ids, past_key_values=None, attention_mask=None, **kwargs):
        past_key_values = DynamicCache() if past_key_values is None else past_key_values
        keys = input_ids.float()[:, None, :, None]
        ids = past_key_values.update(keys, keys, 0)[0][:, 0, :, 0].long()
        before = torch.nn.functional.pad(ids, (1, 0))[:, :-1]
        logits, hidden = self.table[before, ids], self.hidden[before, ids]
        n = input_ids.shape[1]
        return CausalLMOutputWithPast(logits=logits[:, -n:], past_key_values=past_key_values, hidden_states=(hidden[:, -n:],))


def rank(args):
    op = "sampling.contrastive.rank"
    table = {  # batch, context, candidates, features, alpha, padding
        "plain": (3, 9, 4, 8, 0.6, False), "padded": (3, 9, 4, 8, 0.6, True), "only_penalty": (2, 5, 6, 16, 1.0, True),
        "only_probability": (2, 5, 3, 4, 0.0, False), "one_candidate": (2, 3, 1, 5, 0.6, False), "short": (1, 1, 5, 7, 0.4, False),
    }
    for name, (batch, seq, k, d_model, alpha, padded) in table.items():
        for attempt in range(100):
            rng = generator(args.seed, f"{op}/{name}/{attempt}")
            context, hidden = torch.randn(batch, seq, d_model, generator=rng), torch.randn(batch, k, d_model, generator=rng)
            hidden = hidden + context.mean(1, keepdim=True)
            probs = torch.randn(batch, k, generator=rng).softmax(-1).sort(descending=True).values
            mask = torch.ones(batch, seq, dtype=torch.bool)
            if padded:
                mask = torch.arange(seq)[None] >= torch.randint(1, seq, (batch, 1), generator=rng)

            def run(x):
                flat = x["hidden"].reshape(batch * k, 1, d_model)
                index = _ranking_fast(x["context"].repeat_interleave(k, 0), flat, x["probs"].reshape(-1),
                                      x["mask"].long().repeat_interleave(k, 0), alpha, k)
                return {"index": index}

            inputs = {"context": context, "hidden": hidden, "mask": mask, "probs": probs}
            unmasked = run(inputs | {"mask": torch.ones_like(mask)})["index"]
            if not padded or not torch.equal(unmasked, run(inputs)["index"]):
                break  # padding would change a choice
        else:
            raise AssertionError(name)
        case(args, op, name, {"penalty_alpha": alpha}, f"{HF} _ranking_fast", inputs, run, exact=True)


def search(args):
    op = "sampling.search.contrastive"
    table = {  # batch, vocabulary, prompt, features, new tokens, candidates, alpha, padding, end id
        "plain": (2, 9, 4, 6, 10, 4, 0.6, False, None), "padded": (3, 8, 5, 6, 9, 3, 0.5, True, None),
        "ends": (4, 7, 3, 4, 12, 3, 0.6, False, 4), "strong": (1, 10, 3, 8, 16, 6, 0.9, False, None),
    }
    for name, (batch, vocab, prompt, d_model, new, k, alpha, padded, eos) in table.items():
        for attempt in range(200):
            rng = generator(args.seed, f"{op}/{name}/{attempt}")
            model = torch.randn(vocab, vocab, vocab, generator=rng)
            hidden = torch.randn(vocab, vocab, d_model, generator=rng) + 0.5
            ids = torch.randint(1, vocab, (batch, prompt), generator=rng)
            mask = torch.ones(batch, prompt, dtype=torch.bool)
            if padded:
                mask = torch.arange(prompt)[None] >= torch.arange(batch)[:, None]
                ids = ids * mask
            settings = {"max_new_tokens": new, "pad_token_id": 0, "penalty_alpha": alpha, "top_k": k}
            if eos is not None:
                settings["eos_token_id"] = eos

            def run(x):
                config = GenerationConfig(do_sample=False, **settings)
                model = HiddenTable(x["table"].float(), x["hidden_table"].float()).eval()
                return {"sequences": model.generate(x["input_ids"], attention_mask=x["mask"].long(), generation_config=config)}

            inputs = {"hidden_table": hidden, "input_ids": ids, "mask": mask, "table": model}
            out = run(inputs)["sequences"]
            greedy = HiddenTable(model, hidden).eval().generate(ids, attention_mask=mask.long(), generation_config=GenerationConfig(
                do_sample=False, max_new_tokens=new, pad_token_id=0, eos_token_id=eos))
            ended = (out[:, prompt:-1] == eos).any(-1).sum().item() if eos is not None else 0
            if not torch.equal(out, greedy) and (eos is None or 0 < ended < batch):
                break  # the penalty matters; some rows end and some do not
        else:
            raise AssertionError(name)
        case(args, op, name, settings | {"order": 2}, f"{HF} GenerationMixin.generate (contrastive) on a table model", inputs, run, exact=True)


def dola(args):
    op = "sampling.dola.contrast"
    table = {"two_layers": (1, 11, 2), "many_layers": (1, 17, 5), "batch": (3, 9, 3), "one_layer": (2, 8, 1), "wide": (1, 151, 4)}
    for name, (batch, vocab, layers) in table.items():
        for attempt in range(100):
            rng = generator(args.seed, f"{op}/{name}/{attempt}")
            final = 2.0 * torch.randn(batch, vocab, generator=rng)
            premature = final[None] + 1.5 * torch.randn(layers, batch, vocab, generator=rng)

            def run(x):
                logits = {i: x["premature_logits"][i].clone() for i in range(layers)}
                return {"logits": _dola_select_contrast(list(range(layers)), logits, x["final_logits"].clone())}

            inputs = {"final_logits": final, "premature_logits": premature}
            p = final.double().softmax(-1)
            share = p / p.max(-1, keepdim=True).values
            q = premature.double().softmax(-1)
            m = 0.5 * (p[None] + q)
            distance = ((m * (m / p).log() + m * (m / q).log()).sum(-1) / 2).mean(-1).sort(descending=True).values
            far = layers == 1 or distance[0] - distance[1] > 1e-2 * distance[0]
            if far and bool(((share - 0.1).abs() > 1e-3).all()):
                break  # neither the layer nor the set of tokens hangs on rounding
        else:
            raise AssertionError(name)
        params = {"relative_top": 0.1, "divergence": "reversed", "layer": "one for the batch"}
        case(args, op, name, params, f"{HF} _dola_select_contrast", inputs, run, atol_floor=2e-6)


def main():
    args = arguments("sampling")
    transformers.logging.set_verbosity_error()
    rank(args)
    search(args)
    dola(args)


if __name__ == "__main__":
    main()
