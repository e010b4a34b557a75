"""Test vectors of the processors that look at logits only: filters by probability, guidance, the
tournament of a watermark, and what replaces invalid numbers.

No case hangs on rounding: a filter keeps the same tokens with a bound that is 0.1 % smaller or larger (`clear`).
"""

import torch
from common import case, generator
from sampling_scores import HF, INF, clear, scores
from transformers.generation.logits_process import (
    ClassifierFreeGuidanceLogitsProcessor, EpsilonLogitsWarper, EtaLogitsWarper, InfNanRemoveLogitsProcessor, MinPLogitsWarper,
    SynthIDTextWatermarkLogitsProcessor, TopHLogitsWarper, TypicalLogitsWarper, UnbatchedClassifierFreeGuidanceLogitsProcessor)
from transformers.modeling_outputs import CausalLMOutput

TIES = [[1.0, 3, 2, 3, 2, 2, 0, -1, 2], [3.0, 3, 3, 3, 1, 0, 2, 3, 3], [0.0, 0, 0, 0, 0, 0, 0, 0, 0]]


def filters(args, op, kind, table):
    """Cases of a filter: settings, batch, vocabulary, spread, hidden logits, or the logits themselves."""
    for name, (settings, batch, vocab, spread, hidden, *given) in table.items():
        processor = kind(**settings)
        for attempt in range(500):
            rng = generator(args.seed, f"{op}/{name}/{attempt}")
            logits = torch.tensor(given[0]) if given else scores(rng, batch, vocab, spread, hidden)
            ids = torch.randint(0, vocab, (batch, 3), generator=rng)
            if clear(processor, ids, logits):
                break
        else:
            raise AssertionError(f"{op}/{name}")
        run = lambda x: {"logits": processor(x["input_ids"], x["logits"])}
        case(args, op, name, settings, f"{HF} {kind.__name__}", {"input_ids": ids, "logits": logits}, run, exact=True)


def probabilities(args):
    def table(name, values, least=True):
        common = lambda value, n: {name: value} | ({"min_tokens_to_keep": n} if least else {})
        low, middle, high = values
        rows = {
            "little": (common(low, 1), 3, 15, 2.0, 0), "middle": (common(middle, 1), 3, 15, 2.0, 0),
            "much": (common(high, 1), 3, 13, 1.0, 0),
            "masked": (common(middle, 1), 2, 13, 2.0, 6), "one_left": (common(middle, 1), 2, 6, 2.0, 5),
            "one_token": (common(middle, 1), 2, 1, 1.0, 0),
            "wide": (common(middle, 1), 1, 211, 2.5, 0), "ties": (common(middle, 1), 3, 9, 0.0, 0, TIES),
        }
        if least:
            rows |= {
                "at_least": (common(high, 4), 2, 10, 3.0, 0), "at_least_of_masked": (common(high, 5), 2, 8, 2.0, 5),
                "at_least_all": (common(high, 12), 2, 8, 2.0, 0), "at_least_of_little": (common(low, 3), 2, 10, 3.0, 0),
            }
        return rows

    filters(args, "sampling.processor.min_p", MinPLogitsWarper, table("min_p", (0.01, 0.2, 0.7)) | {
        "nothing": ({"min_p": 0.0, "min_tokens_to_keep": 1}, 2, 9, 2.0, 0)})
    filters(args, "sampling.processor.epsilon", EpsilonLogitsWarper, table("epsilon", (0.003, 0.08, 0.6)))
    filters(args, "sampling.processor.eta", EtaLogitsWarper, table("epsilon", (0.002, 0.09, 0.7)))
    filters(args, "sampling.processor.typical", TypicalLogitsWarper, table("mass", (0.1, 0.6, 0.95)))
    top_h = table("top_h", (0.1, 0.4, 0.9), least=False)
    del top_h["ties"]  # which of equals stay is left open there
    filters(args, "sampling.processor.top_h", TopHLogitsWarper, top_h | {
        "beyond_one_hundred": ({"top_h": 0.99}, 1, 140, 0.5, 0)})


def invalid(args):
    op = "sampling.processor.inf_nan_remove"
    nan = float("nan")
    table = {
        "finite": [[1.0, -2.0, 0.5], [0.0, -0.0, 3e38]], "nan": [[nan, 1.0, -2.0, nan]], "infinite": [[INF, 1.0, -INF], [-INF, -INF, -INF]],
        "mixed": [[nan, INF, -INF, 1.5, -3e38], [INF, INF, nan, -INF, 0.0]],
    }
    for name, rows in table.items():
        logits = torch.tensor(rows)
        inputs = {"input_ids": torch.zeros(len(rows), 2, dtype=torch.int64), "logits": logits}
        run = lambda x: {"logits": InfNanRemoveLogitsProcessor()(x["input_ids"], x["logits"])}
        case(args, op, name, {}, f"{HF} InfNanRemoveLogitsProcessor", inputs, run, exact=True)


def guidance(args):
    table = {  # scale, batch, vocabulary, hidden in both
        "usual": (1.5, 2, 11, 0), "strong": (7.0, 3, 8, 0), "one": (1.0, 2, 6, 0), "less_than_one": (0.4, 2, 9, 0), "none": (0.0, 2, 5, 0),
        "away": (-1.0, 1, 7, 0), "one_token": (2.0, 2, 1, 0), "large": (3.0, 1, 9, 0),
    }
    for name, (scale, batch, vocab, _) in table.items():
        op = "sampling.processor.cfg"
        rng = generator(args.seed, f"{op}/{name}")
        spread = 40.0 if name == "large" else 2.0
        inputs = {"input_ids": torch.randint(0, vocab, (batch, 3), generator=rng), "logits": scores(rng, batch, vocab, spread),
                  "unconditional_logits": scores(rng, batch, vocab, spread)}

        def run(x):
            model = lambda ids, **kwargs: CausalLMOutput(logits=x["unconditional_logits"][:, None])
            processor = UnbatchedClassifierFreeGuidanceLogitsProcessor(scale, model, unconditional_ids=x["input_ids"])
            return {"logits": processor(x["input_ids"], x["logits"])}

        case(args, op, name, {"guidance_scale": scale, "log_softmax": True}, f"{HF} UnbatchedClassifierFreeGuidanceLogitsProcessor", inputs,
             run, atol_floor=2e-5 if name == "large" else 2e-6)
        if scale <= 1:
            continue
        op = "sampling.processor.cfg_batched"
        rng = generator(args.seed, f"{op}/{name}")
        inputs = {"input_ids": torch.randint(0, vocab, (batch, 3), generator=rng), "logits": scores(rng, 2 * batch, vocab, spread)}
        run = lambda x: {"logits": ClassifierFreeGuidanceLogitsProcessor(scale)(x["input_ids"], x["logits"])}
        params = {"guidance_scale": scale, "layout": "first half conditional, second half unconditional", "log_softmax": False}
        case(args, op, name, params, f"{HF} ClassifierFreeGuidanceLogitsProcessor", inputs, run, atol_floor=2e-5 if name == "large" else 2e-6)


def tournaments(args):
    op = "sampling.processor.synthid_tournament"
    table = {  # rounds, batch, vocabulary, spread
        "one_round": (1, 2, 9, 2.0), "four_rounds": (4, 3, 8, 1.5), "ten_rounds": (10, 2, 12, 1.0), "all_win": (3, 2, 5, 2.0),
        "none_wins": (3, 2, 5, 2.0), "one_token": (5, 2, 1, 1.0),
    }
    for name, (depth, batch, vocab, spread) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        coins = torch.randint(0, 2, (batch, vocab, depth), generator=rng)
        if name in ("all_win", "none_wins"):
            coins = torch.full_like(coins, int(name == "all_win"))
        inputs = {"coins": coins, "logits": scores(rng, batch, vocab, spread)}

        def run(x):
            processor = SynthIDTextWatermarkLogitsProcessor(5, [1], 16, 0, 4, "cpu")
            return {"logits": processor.update_scores(x["logits"], x["coins"])}

        case(args, op, name, {}, f"{HF} SynthIDTextWatermarkLogitsProcessor.update_scores", inputs, run, atol_floor=2e-6)


def run(args):
    probabilities(args)
    invalid(args)
    guidance(args)
    tournaments(args)
