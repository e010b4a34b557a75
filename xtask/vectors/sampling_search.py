"""Test vectors of beam search, beam-sample and transition scores over table models. Run by `sampling.py`.

No case hangs on rounding: a model with small noise on its table finds the same sequences. Sequences that make the same transitions in
another order would tie; they are rare where the last two ids decide.
"""

import torch
import transformers
from common import case, generator
from transformers import GenerationConfig

HF = f"transformers {transformers.__version__}"
NOISE = 1e-4
TOLERANCE = (5e-6, 0.0)  # sums of up to 12 log-probabilities in float32


def settings_of(num_beams, num_return, new, eos, pad, early, penalty):
    settings = {"num_beams": num_beams, "num_return_sequences": num_return, "max_new_tokens": new, "pad_token_id": pad,
                "early_stopping": early, "length_penalty": penalty}
    return settings | ({} if eos is None else {"eos_token_id": eos})


def generate(table_model, x, settings, **more):
    model = table_model(x["table"].float()).eval()
    model.generation_config = GenerationConfig()
    config = GenerationConfig(use_cache=False, return_dict_in_generate=True, output_scores=True, **({"do_sample": False} | settings | more))
    return model.generate(x["input_ids"], attention_mask=torch.ones_like(x["input_ids"]), generation_config=config)


def found(args, op, name, shape, make, wanted):
    """Inputs for which the search is the same under noise, and is worth a file."""
    order, vocab, batch, prompt = shape
    for attempt in range(300):
        rng = generator(args.seed, f"{op}/{name}/{attempt}")
        x = {"input_ids": torch.randint(0, vocab, (batch, prompt), generator=rng),
             "table": 2.0 * torch.randn(*[vocab] * (order + 1), generator=rng)}
        x |= make(rng)
        out = wanted(x)
        noisy = [x | {"table": x["table"] + NOISE * torch.randn(x["table"].shape, generator=rng)} for _ in range(5)]
        if out is not None and all(torch.equal(wanted(y, True), out) for y in noisy):
            return x
    raise AssertionError(name)


def early(sequences, prompt, eos):
    """Rows that meet a stop id before their last place."""
    if eos is None:
        return 1
    ids = torch.tensor(eos if isinstance(eos, list) else [eos])
    return int(torch.isin(sequences[:, prompt:-1], ids).any(-1).sum())


def beam(args, table_model):
    op = "sampling.search.beam"
    table = {  # order, vocabulary, batch, prompt; beams, returned, new tokens, end ids, padding, early stopping, length penalty
        "plain": ((2, 7, 2, 3), (3, 3, 6, None, 0, False, 1.0)),
        "heuristic": ((2, 8, 3, 2), (4, 4, 9, [2], 5, False, 1.0)),
        "heuristic_no_penalty": ((2, 8, 3, 2), (4, 2, 9, [2], 5, False, 0.0)),
        "heuristic_short": ((2, 8, 2, 3), (3, 3, 9, [2], 5, False, -0.7)),
        "heuristic_long": ((2, 8, 2, 3), (3, 3, 9, [2], 5, False, 2.0)),
        "when_full": ((2, 8, 3, 2), (4, 4, 9, [2], 5, True, 1.0)),
        "when_full_no_penalty": ((1, 9, 3, 1), (3, 1, 8, [4], 1, True, 0.0)),
        "when_full_short": ((2, 7, 2, 2), (3, 2, 8, [1], 6, True, -1.5)),
        "when_full_long": ((2, 7, 2, 2), (3, 3, 8, [1], 6, True, 1.5)),
        "never": ((2, 8, 3, 2), (4, 4, 9, [2], 5, "never", 1.0)),
        "never_no_penalty": ((2, 8, 3, 2), (3, 3, 10, [2], 5, "never", 0.0)),
        "never_short": ((2, 8, 2, 2), (3, 3, 9, [2], 5, "never", -0.5)),
        "never_long": ((2, 8, 2, 2), (4, 3, 9, [2], 5, "never", 1.3)),
        "stop_ids": ((2, 9, 3, 2), (3, 3, 9, [2, 6, 8], 5, False, 1.0)),
        "stop_ids_never": ((2, 10, 3, 2), (4, 4, 9, [7, 1], 3, "never", 0.8)),
        "two_beams": ((2, 6, 4, 1), (2, 2, 12, [3], 5, False, 0.6)),
        "wide": ((1, 13, 2, 2), (9, 9, 7, [3], 1, False, 1.0)),
        "one_new_token": ((1, 8, 2, 4), (5, 3, 1, [3], 1, False, 1.0)),
        "padding_is_end": ((2, 8, 3, 2), (3, 3, 8, [2], 2, False, 1.0)),
    }
    for name, (shape, numbers) in table.items():
        settings = settings_of(*numbers)
        _, _, new, eos, pad, *_ = numbers
        prompt = shape[3]
        assert pad or eos is None  # the library fills with the first end id if the padding id is 0

        def wanted(x, noisy=False):
            out = generate(table_model, x, settings).sequences
            return out if noisy or new == 1 or early(out, prompt, eos) else None

        x = found(args, op, name, shape, lambda rng: {}, wanted)

        def run(x):
            out = generate(table_model, x, settings)
            return {"sequences": out.sequences, "sequences_scores": out.sequences_scores, "beam_indices": out.beam_indices.int()}

        params = settings | {"order": shape[0], "length_rule": "generated tokens only"}
        case(args, op, name, params, f"{HF} GenerationMixin.generate (beam search) on a table model", x, run, fixed=TOLERANCE)


def beam_processors(args, table_model):
    op = "sampling.search.beam_processors"
    table = {  # order, vocabulary, batch, prompt; beams, returned, new tokens, end ids, padding, early stopping, length penalty; processors
        "repetition_penalty": ((1, 9, 2, 3), (3, 3, 8, [2], 5, False, 1.0), {"repetition_penalty": 1.4}),
        "no_repeat_bigram": ((1, 8, 2, 2), (3, 3, 9, [2], 5, False, 1.0), {"no_repeat_ngram_size": 2}),
        "no_repeat_trigram": ((1, 6, 2, 4), (4, 2, 10, 2, 5, False, 0.0), {"no_repeat_ngram_size": 3}),
        "bad_words": ((1, 9, 2, 2), (3, 3, 7, [4], 5, False, 1.0), {"bad_words_ids": [[1], [2, 3]]}),
        "min_new_tokens": ((1, 8, 3, 2), (3, 3, 9, [1, 2], 5, False, 1.0), {"min_new_tokens": 4}),
        "forced_end": ((1, 9, 2, 2), (3, 2, 6, [2], 5, False, 1.0), {"forced_eos_token_id": 2}),
        "renormalized": ((1, 9, 2, 3), (3, 3, 8, [2], 5, False, 1.0), {"repetition_penalty": 1.3, "renormalize_logits": True}),
        "several": ((2, 9, 2, 3), (4, 4, 9, [2, 7], 5, False, 0.8),
                    {"repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "bad_words_ids": [[1], [2, 3]], "min_new_tokens": 3,
                     "renormalize_logits": True}),
    }
    for name, (shape, numbers, processors) in table.items():
        settings = settings_of(*numbers) | processors
        plain = settings_of(*numbers)

        def wanted(x, noisy=False):
            out = generate(table_model, x, settings).sequences
            return out if noisy or not torch.equal(out, generate(table_model, x, plain).sequences) else None

        x = found(args, op, name, shape, lambda rng: {}, wanted)

        def run(x):
            out = generate(table_model, x, settings)
            return {"sequences": out.sequences, "sequences_scores": out.sequences_scores}

        params = settings | {"order": shape[0]}
        case(args, op, name, params, f"{HF} GenerationMixin.generate (beam search) on a table model", x, run, fixed=TOLERANCE)


class GivenDraws:
    """Stands in for `torch.multinomial`: draws without replacement, by the inverse of what is left, at given numbers."""

    def __init__(self, uniforms):
        self.uniforms = iter(uniforms.double())  # [steps, batch, draws]

    def __call__(self, probabilities, num_samples):
        left = probabilities.double().clone()
        rows, picks = torch.arange(left.shape[0]), []
        for u in next(self.uniforms).T[:num_samples]:
            sums = left.cumsum(-1)
            picks.append((sums > (u * sums[:, -1])[:, None]).int().argmax(-1))
            left[rows, picks[-1]] = 0.0
        return torch.stack(picks, dim=1)


def beam_sample(args, table_model):
    op = "sampling.search.beam_sample"
    table = {  # order, vocabulary, batch, prompt; beams, returned, new tokens, end ids, padding, early stopping, length penalty; processors
        "plain": ((2, 12, 2, 2), (3, 3, 6, None, 0, False, 1.0), {}),
        "stop_id": ((2, 14, 3, 2), (3, 3, 8, [2], 5, False, 1.0), {}),
        "stop_ids": ((1, 17, 3, 1), (4, 2, 8, [2, 9], 5, "never", 0.5), {}),
        "when_full": ((2, 14, 3, 2), (3, 3, 9, [2], 5, True, 0.0), {}),
        "temperature": ((1, 15, 2, 3), (3, 3, 6, [2], 5, False, 1.0), {"temperature": 0.6}),
        "top_k": ((1, 15, 2, 2), (2, 2, 6, [2], 5, False, 1.0), {"temperature": 1.5, "top_k": 5}),
    }
    multinomial = torch.multinomial
    for name, (shape, numbers, processors) in table.items():
        settings = settings_of(*numbers) | {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} | processors
        num_beams, _, new, eos, *_ = numbers
        draws = max(2, 1 + len(eos or [])) * num_beams
        assert shape[1] >= draws + 1

        def run(x):
            torch.multinomial = GivenDraws(x["uniforms"])
            try:
                return generate(table_model, x, settings)
            finally:
                torch.multinomial = multinomial

        wanted = lambda x, noisy=False: (lambda out: out if noisy or early(out, shape[3], eos) else None)(run(x).sequences)
        make = lambda rng: {"uniforms": torch.rand(new, shape[2], draws, generator=rng, dtype=torch.float64).float()}
        x = found(args, op, name, shape, make, wanted)

        def outputs(x):
            out = run(x)
            return {"sequences": out.sequences, "sequences_scores": out.sequences_scores, "beam_indices": out.beam_indices.int()}

        params = settings_of(*numbers) | processors | {"order": shape[0], "length_rule": "generated tokens only", "draws": "successive inverse CDF"}
        case(args, op, name, params, f"{HF} GenerationMixin.generate (beam-sample, torch.multinomial with given numbers) on a table model", x,
             outputs, fixed=TOLERANCE)


def transition_scores(args, table_model):
    op = "sampling.search.transition_scores"
    for name, order, vocab, batch, prompt, new in [("order1", 1, 9, 3, 2, 6), ("order2", 2, 7, 2, 3, 5), ("one_row", 1, 31, 1, 1, 9)]:
        rng = generator(args.seed, f"{op}/{name}")
        inputs = {"input_ids": torch.randint(0, vocab, (batch, prompt), generator=rng),
                  "table": 3.0 * torch.randn(*[vocab] * (order + 1), generator=rng)}
        settings = {"max_new_tokens": new, "do_sample": False, "num_beams": 1, "pad_token_id": 0}
        inputs["sequences"] = generate(table_model, inputs, settings).sequences

        def run(x):
            out = generate(table_model, x, settings)
            model = table_model(x["table"].float())
            scores = tuple(s.to(x["table"].dtype) for s in out.scores)
            return {"logprobs": model.compute_transition_scores(out.sequences, scores, normalize_logits=True)}

        params = {"max_new_tokens": new, "normalize": True, "order": order}
        case(args, op, name, params, f"{HF} GenerationMixin.compute_transition_scores on a table model", inputs, run, fixed=(2e-6, 1e-7))


def run(args, table_model):
    beam(args, table_model)
    beam_processors(args, table_model)
    beam_sample(args, table_model)
    transition_scores(args, table_model)
