"""Test vectors of speculative decoding: the rule on probabilities, prompt lookup, and assisted greedy decoding.

Run by `sampling.py`. What `_speculative_sampling` computes is read where it asks for random numbers: the ratio of
probabilities that it hands to `rand_like`, and the distribution that it hands to `multinomial`.
"""

from unittest import mock

import torch
import transformers
from common import case, generator
from transformers import GenerationConfig, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator
from transformers.generation.utils import _speculative_sampling
from transformers.modeling_outputs import CausalLMOutputWithPast

HF = f"transformers {transformers.__version__}"


class CachedTable(PreTrainedModel, GenerationMixin):
    """A table model that takes and returns a cache, which it has no use for: it is given all tokens at each step."""

    config_class = PreTrainedConfig
    main_input_name = "input_ids"

    def __init__(self, table):
        config = PreTrainedConfig()
        config.vocab_size = table.shape[-1]
        config.num_hidden_layers = 1
        super().__init__(config)
        self.table = torch.nn.Parameter(table.clone(), requires_grad=False)
        self.generation_config = GenerationConfig()

    def prepare_inputs_for_generation(self, input_ids, past_key_values=None, **kwargs):
        return {"input_ids": input_ids, "past_key_values": past_key_values}

    def forward(self, input_ids, past_key_values=None, attention_mask=None, **kwargs):
        if self.table.dim() == 2:
            logits = self.table[input_ids]
        else:
            before = torch.nn.functional.pad(input_ids, (1, 0))[:, :-1]
            logits = self.table[before, input_ids]
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)


def one_rejection(p, q, token):
    """The ratio that decides on a drafted token, and what the next one is drawn from if it is rejected."""
    seen = {}

    def rand_like(ratio):
        seen["ratio"] = ratio.clone()
        return torch.full_like(ratio, float("inf"))  # rejected, whatever the ratio is

    def multinomial(weights, num_samples):
        seen["weights"] = weights.clone()
        return weights.argmax(-1, keepdim=True)

    vocab = p.shape[0]
    with mock.patch.object(torch, "rand_like", rand_like), mock.patch.object(torch, "multinomial", multinomial):
        _speculative_sampling(torch.tensor([[0, token]]), q.log().reshape(1, 1, vocab), 1,
                              torch.stack([p, p]).log().reshape(1, 2, vocab))
    return seen["ratio"].reshape(()), seen["weights"].reshape(vocab)


def residual(args):
    op = "sampling.speculative.residual"
    table = {"near": (3, 7, 0.3), "far": (4, 11, 3.0), "two_tokens": (3, 2, 1.0), "wide": (2, 97, 1.5), "zeros": (3, 9, 1.0)}
    for name, (rows, vocab, spread) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        logits = torch.randn(rows, vocab, generator=rng)
        target, draft = logits.softmax(-1), (logits + spread * torch.randn(rows, vocab, generator=rng)).softmax(-1)
        if name == "zeros":  # the target rules out tokens that the draft has
            target[:, 2:4] = 0.0
            target /= target.sum(-1, keepdim=True)

        def run(x):
            p, q = x["target_probs"], x["draft_probs"]
            ratio, weights = torch.zeros_like(p), torch.zeros_like(p)
            for row in range(rows):
                for token in range(vocab):
                    ratio[row, token], weights[row] = one_rejection(p[row], q[row], token)
            accept = ratio.clamp(max=1.0)
            # accepted by the draft's own share of each token
            return {"accept_prob": accept, "accept_rate": (q * accept).sum(-1), "residual": weights / weights.sum(-1, keepdim=True)}

        params = {"rule": "accept token x with min(1, p(x)/q(x)); on rejection draw from max(p - q, 0) normalised"}
        case(args, op, name, params, f"{HF} _speculative_sampling", {"draft_probs": draft, "target_probs": target}, run,
             floor=2e-5, atol_floor=2e-6)


def verify_row(target, draft, tokens, accept, choose):
    """What `_speculative_sampling` makes of one row for given uniform numbers."""
    n, seen = tokens.shape[0], {}

    def rand_like(ratio):
        assert ratio.numel() == n
        seen["accepted"] = int(((accept.to(ratio.dtype) <= ratio.reshape(-1)).long().cumprod(0)).sum())
        return accept.to(ratio.dtype).reshape(ratio.shape)

    def multinomial(weights, num_samples):
        sums = weights.reshape(-1).double().cumsum(0)
        seen["margin"] = min(abs(float(edge / sums[-1] - choose[seen["accepted"]])) for edge in sums)
        return (sums / sums[-1] > choose[seen["accepted"]]).int().argmax().reshape(1, 1)

    with mock.patch.object(torch, "rand_like", rand_like), mock.patch.object(torch, "multinomial", multinomial):
        out, accepted = _speculative_sampling(torch.cat([torch.tensor([0]), tokens])[None], draft[None], n, target[None])
    assert int(accepted) == seen["accepted"]
    return out.reshape(-1), int(accepted), seen["margin"]


def verify(args):
    op = "sampling.speculative.verify"
    table = {"alike": (4, 4, 9, 0.5), "unlike": (4, 3, 6, 3.0), "one": (5, 1, 5, 1.0), "long": (3, 8, 12, 0.3), "wide": (2, 3, 157, 0.8)}
    for name, (batch, draft, vocab, spread) in table.items():
        for attempt in range(200):
            rng = generator(args.seed, f"{op}/{name}/{attempt}")
            target = 1.5 * torch.randn(batch, draft + 1, vocab, generator=rng)
            proposal = target[:, :-1] + spread * torch.randn(batch, draft, vocab, generator=rng)
            tokens = torch.multinomial(proposal.softmax(-1).reshape(-1, vocab), 1, generator=rng).reshape(batch, draft)
            accept = torch.rand(batch, draft, generator=rng, dtype=torch.float64)
            choose = torch.rand(batch, draft + 1, generator=rng, dtype=torch.float64)

            def run(x):
                rows = [verify_row(x["target_logits"][i], x["draft_logits"][i], x["draft_tokens"][i], accept[i], choose[i])
                        for i in range(batch)]
                new = torch.full((batch, draft + 1), -1)
                for i, (row, _, _) in enumerate(rows):
                    new[i, : row.shape[0]] = row
                return {"accepted": torch.tensor([n for _, n, _ in rows]), "tokens": new}, min(margin for _, _, margin in rows)

            inputs = {"accept": accept, "choose": choose, "draft_logits": proposal, "draft_tokens": tokens, "target_logits": target}
            out, margin = run(inputs)
            p = torch.gather(target[:, :-1].double().softmax(-1), 2, tokens[..., None])
            q = torch.gather(proposal.double().softmax(-1), 2, tokens[..., None])
            clear = bool((((p / q).squeeze(-1) - accept).abs() > 1e-4).all()) and margin > 1e-4
            if clear and 0 < int(out["accepted"].sum()) < batch * draft:
                break  # nothing hangs on rounding, and there are both
        else:
            raise AssertionError(name)
        params = {"padding": "-1 behind the new tokens"}
        case(args, op, name, params, f"{HF} _speculative_sampling with given uniform numbers", inputs, lambda x: run(x)[0], exact=True)


def prompt_lookup(args):
    op = "sampling.prompt_lookup.candidates"
    table = {  # tokens, n-gram, outputs, max_length, end ids
        "bigram": ([5, 1, 2, 7, 8, 1, 2, 9, 4, 1, 2], 2, 3, 50, None),
        "falls_to_one": ([3, 4, 9, 6, 5, 4], 2, 4, 50, None),
        "longest_first": ([1, 9, 9, 5, 1, 2, 3, 7, 8, 2, 3, 1, 2, 3], 3, 5, 50, None),
        "overlaps_the_end": ([7, 7, 7, 7], 2, 10, 50, None),
        "no_match": ([1, 2, 3, 4, 5], 3, 5, 50, None),
        "ends_at_eos": ([5, 1, 2, 7, 0, 8, 1, 2], 2, 5, 50, [0]),
        "eos_at_once": ([5, 1, 2, 0, 8, 7, 2, 9, 1, 2], 2, 5, 50, [0]),
        "several_eos": ([4, 1, 6, 7, 3, 8, 1], 1, 6, 50, [9, 3, 7]),
        "one_token_left": ([1, 2, 3, 1], 2, 4, 5, None),
        "room_for_two": ([1, 2, 3, 1], 2, 4, 6, None),
        "longer_than_max_length": ([9, 1, 2, 3, 4, 1, 2, 5, 1, 2], 2, 6, 5, None),
        "one_token": ([4], 2, 3, 50, None),
        "two_equal": ([4, 4], 3, 3, 50, None),
        "ngram_as_long_as_prompt": ([6, 6, 2, 6, 6], 9, 2, 50, None),
    }
    for i in range(6):
        rng = generator(args.seed, f"{op}/random{i}")
        tokens = torch.randint(0, 3, (20 + 10 * i,), generator=rng).tolist()
        table[f"random{i}"] = (tokens, 1 + i, 3 + i, 100, [2] if i % 2 else None)
    for name, (tokens, ngram, outputs, length, eos) in table.items():
        def run(x):
            lookup = PromptLookupCandidateGenerator(
                eos_token_id=None if eos is None else torch.tensor(eos), num_output_tokens=outputs,
                max_matching_ngram_size=ngram, max_length=length)
            return {"candidate_ids": lookup.get_candidates(x["input_ids"])[0]}

        params = {"eos_token_id": eos, "max_length": length, "max_matching_ngram_size": ngram, "num_output_tokens": outputs}
        case(args, op, name, params, f"{HF} PromptLookupCandidateGenerator", {"input_ids": torch.tensor([tokens])}, run, exact=True)


def assisted_greedy(args):
    op = "sampling.search.assisted_greedy"
    table = {  # order, vocabulary, prompt, new tokens, drafted tokens, likeness of the assistant, more settings
        "alike": (2, 7, 3, 14, 4, 0.3, {}), "unlike": (2, 6, 2, 9, 3, 3.0, {}), "same": (1, 9, 2, 12, 5, 0.0, {}),
        "one_at_a_time": (2, 5, 1, 8, 1, 1.0, {}), "draft_longer_than_room": (2, 6, 3, 5, 20, 0.3, {}),
        "ends": (2, 6, 2, 20, 4, 0.3, {"eos_token_id": 3}), "penalty": (2, 8, 4, 12, 4, 0.5, {"repetition_penalty": 1.3}),
        "penalty_and_end": (2, 6, 3, 16, 3, 0.5, {"repetition_penalty": 0.8, "eos_token_id": 2}),
        "one_new_token": (1, 5, 2, 1, 4, 0.5, {}),
    }
    for name, (order, vocab, prompt, new, drafted, spread, more) in table.items():
        for attempt in range(200):
            rng = generator(args.seed, f"{op}/{name}/{attempt}")
            target = torch.randn(*[vocab] * (order + 1), generator=rng)
            assistant = target + spread * torch.randn(target.shape, generator=rng)
            ids = torch.randint(0, vocab, (1, prompt), generator=rng)
            shared = {"do_sample": False, "max_new_tokens": new, "pad_token_id": 0} | more

            def run(x):
                small = CachedTable(x["assistant_table"].float()).eval()
                small.generation_config = GenerationConfig(
                    num_assistant_tokens=drafted, num_assistant_tokens_schedule="constant", assistant_confidence_threshold=0.0)
                config = GenerationConfig(**shared)
                out = CachedTable(x["table"].float()).eval().generate(
                    x["input_ids"], attention_mask=torch.ones_like(x["input_ids"]), generation_config=config, assistant_model=small)
                return {"sequences": out}

            inputs = {"assistant_table": assistant, "input_ids": ids, "table": target}
            length = run(inputs)["sequences"].shape[1] - prompt
            if "eos_token_id" not in more or 3 < length < new:
                break  # ends neither at once nor because of the limit
        else:
            raise AssertionError(name)
        # the assistant changes how many passes there are, not what comes out
        plain = CachedTable(target).eval().generate(ids, attention_mask=torch.ones_like(ids), generation_config=GenerationConfig(**shared))
        assert torch.equal(plain, run(inputs)["sequences"])
        params = {"max_new_tokens": new, "num_assistant_tokens": drafted, "order": order, "pad_token_id": 0, "schedule": "constant"} | more
        case(args, op, name, params, f"{HF} GenerationMixin.generate (assisted, greedy) on table models", inputs, run, exact=True)


def write(args):
    residual(args)
    verify(args)
    prompt_lookup(args)
    assisted_greedy(args)
