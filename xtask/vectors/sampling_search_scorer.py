"""Test vectors of the beam searches of transformers 4: diverse groups and constraints (4.49), and the length rule with the prompt (4.30).

Not run by `cargo xtask vectors generate`: it needs environments of its own, with requirements-transformers-4.49.txt and
requirements-transformers-4.30.txt. `python sampling_search_scorer.py` writes the files of the version that it finds.

No case hangs on rounding (see `sampling_search.py`), or on accidents of the library: the padding id is no likely token, because groups that
are done count it as chosen; no constraint of several phrases branches after its first token, because copies of its state share a list; and
enough beams fulfill all constraints at the end, because else others may be returned although a hypothesis fulfills them.
"""

import sys

import torch
import transformers
from common import arguments, case, generator
from sampling_search import NOISE, TOLERANCE, GivenDraws, early, settings_of
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

HF = f"transformers {transformers.__version__}"
CONSTRAINTS = transformers.__version__.startswith("4.49")
assert CONSTRAINTS or transformers.__version__.startswith("4.30"), HF
if CONSTRAINTS:
    from transformers import GenerationMixin
    from transformers.generation import ConstrainedBeamSearchScorer, DisjunctiveConstraint, PhrasalConstraint
    BASES = (PreTrainedModel, GenerationMixin)
else:
    BASES = (PreTrainedModel,)


class FellBack(Exception):
    """Not enough beams fulfill all constraints at the end."""


class TableModel(*BASES):
    """Logits are rows of a table, chosen by the last id (order 1) or the last two (order 2, 0 before the first)."""

    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, table):
        config = PretrainedConfig()
        config.vocab_size = table.shape[-1]
        super().__init__(config)
        self.table = torch.nn.Parameter(table.clone(), requires_grad=False)
        self.generation_config = GenerationConfig()

    def can_generate(self):
        return True

    def prepare_inputs_for_generation(self, input_ids, **kwargs):
        return {"input_ids": input_ids}

    def forward(self, input_ids, attention_mask=None, **kwargs):
        if self.table.dim() == 2:
            return CausalLMOutput(logits=self.table[input_ids])
        before = torch.nn.functional.pad(input_ids, (1, 0))[:, :-1]
        return CausalLMOutput(logits=self.table[before, input_ids])


def generate(x, settings, **more):
    model = TableModel(x["table"].float()).eval()
    config = GenerationConfig(use_cache=False, return_dict_in_generate=True, output_scores=True, **({"do_sample": False} | settings))
    return model.generate(x["input_ids"], attention_mask=torch.ones_like(x["input_ids"]), generation_config=config, **more)


def inputs(rng, shape, pad):
    order, vocab, batch, prompt = shape
    table = 2.0 * torch.randn(*[vocab] * (order + 1), generator=rng)
    table[..., pad] -= 20.0
    ids = torch.randint(0, vocab - 1, (batch, prompt), generator=rng)
    return {"input_ids": ids + (ids >= pad).long(), "table": table}


def write(args, op, name, shape, numbers, params, run, extra, make=lambda rng: {}):
    """The first case that is the same under noise and passes the check."""
    for attempt in range(400):
        rng = generator(args.seed, f"{op}/{name}/{attempt}")
        x = inputs(rng, shape, numbers[4]) | make(rng)
        noisy = [x | {"table": x["table"] + NOISE * torch.randn(x["table"].shape, generator=rng)} for _ in range(5)]
        try:
            out = run(x)
            if extra(x, out) and all(torch.equal(run(y)["sequences"], out["sequences"]) for y in noisy):
                break
        except FellBack:
            pass
    else:
        raise AssertionError(name)
    case(args, op, name, params, f"{HF} GenerationMixin.generate on a table model", x, run, fixed=TOLERANCE)


def outputs(out):
    return {"sequences": out.sequences, "sequences_scores": out.sequences_scores}


def beam(args):
    op = "sampling.search.beam"
    length = "generated tokens only" if CONSTRAINTS else "prompt and generated tokens, without a stop token"
    table = {  # order, vocabulary, batch, prompt; beams, returned, new tokens, end ids, padding, early stopping, length penalty
        "heuristic": ((2, 8, 3, 3), (3, 3, 8, [2], 5, False, 1.0)),
        "when_full": ((2, 8, 2, 5), (3, 2, 8, [2], 5, True, 0.7)),
        "never": ((2, 8, 3, 4), (4, 3, 8, [2], 5, "never", 1.5)),
        "short": ((2, 8, 2, 3), (3, 3, 8, [2], 5, False, -0.8)),
        "no_stop_id": ((1, 7, 2, 4), (3, 3, 5, None, 5, False, 1.0)),
    }
    for name, (shape, numbers) in table.items():
        settings = settings_of(*numbers)
        name = ("scorer_" if CONSTRAINTS else "whole_") + name
        params = settings | {"order": shape[0], "length_rule": length, "bookkeeping": "scorer"}
        run = lambda x: outputs(generate(x, settings))
        worth = lambda x, out: early(out["sequences"], shape[3], numbers[3])
        write(args, op, name, shape, numbers, params, run, worth)


def beam_sample(args):
    op = "sampling.search.beam_sample"
    table = {  # order, vocabulary, batch, prompt; beams, returned, new tokens, end ids, padding, early stopping, length penalty
        "scorer": ((2, 14, 3, 2), (3, 3, 8, [2], 5, False, 1.0)),
        "scorer_stop_ids": ((2, 16, 2, 2), (4, 4, 8, [2, 9], 5, True, 0.0)),
    }
    multinomial = torch.multinomial
    for name, (shape, numbers) in table.items():
        settings = settings_of(*numbers)
        draws = max(2, 1 + len(numbers[3])) * numbers[0]

        def run(x):
            torch.multinomial = GivenDraws(x["uniforms"])
            try:
                return outputs(generate(x, settings | {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}))
            finally:
                torch.multinomial = multinomial

        params = settings | {"order": shape[0], "length_rule": "generated tokens only", "bookkeeping": "scorer", "draws": "successive inverse CDF"}
        if len(numbers[3]) > 1:
            params["ends_with"] = "the first of eos_token_id, whichever came"
        worth = lambda x, out: early(out["sequences"], shape[3], numbers[3])
        make = lambda rng: {"uniforms": torch.rand(numbers[2], shape[2], draws, generator=rng)}
        write(args, op, name, shape, numbers, params, run, worth, make)


def group_beam(args):
    op = "sampling.search.group_beam"
    table = {  # order, vocabulary, batch, prompt; beams, returned, new tokens, end ids, padding, early stopping, length penalty; groups, penalty
        "two_groups": ((2, 8, 2, 2), (4, 4, 6, [2], 5, False, 1.0), 2, 0.5),
        "three_groups": ((2, 9, 2, 2), (6, 6, 7, [2], 5, False, 0.0), 3, 1.2),
        "beams_alone": ((2, 9, 3, 2), (4, 4, 7, [2], 5, True, 1.0), 4, 0.8),
        "strong": ((1, 12, 2, 1), (4, 4, 5, None, 5, False, 1.0), 2, 10.0),
        "weak": ((2, 8, 2, 3), (4, 3, 8, [2], 5, "never", 0.5), 2, 0.05),
        "stop_ids": ((2, 10, 2, 2), (6, 4, 8, [2, 7], 5, False, 1.0), 2, 0.7),
    }
    for name, (shape, numbers, groups, penalty) in table.items():
        settings = settings_of(*numbers)
        grouped = settings | {"num_beam_groups": groups, "diversity_penalty": penalty}
        params = grouped | {"order": shape[0], "length_rule": "generated tokens only", "bookkeeping": "scorer"}
        if numbers[3] and len(numbers[3]) > 1:
            params["ends_with"] = "the first of eos_token_id, whichever came"
        run = lambda x: outputs(generate(x, grouped))
        differs = lambda x, out: out["sequences"].shape != (plain := generate(x, settings).sequences).shape or not torch.equal(out["sequences"], plain)
        worth = lambda x, out: differs(x, out) and early(out["sequences"], shape[3], numbers[3])
        write(args, op, name, shape, numbers, params, run, worth)


def constrained_beam(args):
    op = "sampling.search.constrained_beam"
    table = {  # order, vocabulary, batch, prompt; beams, returned, new tokens, end ids, padding, early stopping, length penalty; constraints
        "one_token": ((2, 8, 2, 2), (3, 1, 6, [2], 5, False, 1.0), [[[4]]]),
        "phrase": ((2, 8, 2, 2), (4, 2, 7, [2], 5, False, 1.0), [[[4, 6]]]),
        "two_phrases": ((2, 9, 2, 2), (5, 1, 8, [2], 5, False, 0.0), [[[4, 6]], [[7, 1, 3]]]),
        "any_of": ((2, 9, 2, 2), (4, 1, 7, [2], 5, "never", 1.0), [[[4, 6], [3, 1, 8]]]),
        "phrase_and_any_of": ((2, 9, 2, 3), (6, 2, 8, [2], 5, False, 1.0), [[[7, 3]], [[1], [8, 4]]]),
        "broken_off": ((1, 8, 3, 2), (4, 2, 8, [2], 5, False, 1.0), [[[4, 4, 6]], [[1, 4]]]),
        "no_stop_id": ((2, 8, 2, 2), (4, 1, 6, None, 5, False, 1.0), [[[3, 6, 1]]]),
        "in_the_prompt": ((1, 6, 6, 6), (3, 1, 6, [2], 5, True, 0.5), [[[4]], [[3]]]),
    }
    for name, (shape, numbers, constraints) in table.items():
        settings = settings_of(*numbers)
        params = settings | {"order": shape[0], "length_rule": "generated tokens only", "bookkeeping": "scorer", "constraints": constraints,
                             "rule": "transformers"}

        class Scorer(ConstrainedBeamSearchScorer):
            def finalize(self, input_ids, *more, **names):
                for row, hypotheses in enumerate(self._beam_hyps):
                    beams = input_ids[row * self.num_beams:(row + 1) * self.num_beams].tolist()
                    complete = sum(self.check_completes_constraints(beam) for beam in beams)
                    if not self._done[row] and complete < self.num_beam_hyps_to_keep:
                        raise FellBack
                return super().finalize(input_ids, *more, **names)

        transformers.generation.utils.ConstrainedBeamSearchScorer = Scorer

        def run(x):
            objects = [PhrasalConstraint(c[0]) if len(c) == 1 else DisjunctiveConstraint(c) for c in constraints]
            return outputs(generate(x, settings, constraints=objects))

        def worth(x, out):
            plain = generate(x, settings).sequences
            return plain.shape != out["sequences"].shape or not torch.equal(out["sequences"], plain)

        write(args, op, name, shape, numbers, params, run, worth)


def main():
    args = arguments("sampling")
    transformers.logging.set_verbosity_error()
    beam(args)
    if CONSTRAINTS:
        beam_sample(args)
        group_beam(args)
        constrained_beam(args)


if __name__ == "__main__":
    sys.exit(main())
