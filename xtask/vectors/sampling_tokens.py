"""Test vectors of the processors that look at the tokens so far: penalties, forbidden, forced and allowed tokens, lengths."""

import torch
from common import case, generator
from sampling_scores import HF, INF, scores
from transformers.generation.logits_process import (
    EncoderNoRepeatNGramLogitsProcessor, EncoderRepetitionPenaltyLogitsProcessor, ExponentialDecayLengthPenalty,
    ForcedBOSTokenLogitsProcessor, ForcedEOSTokenLogitsProcessor, MinLengthLogitsProcessor, MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor, NoRepeatNGramLogitsProcessor, PrefixConstrainedLogitsProcessor, RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor, SuppressTokensAtBeginLogitsProcessor, SuppressTokensLogitsProcessor)


def cases(args, op, build, table, exact=True, acts=()):
    """Cases: params, batch, vocabulary, tokens so far, and perhaps hidden logits or the tokens themselves.

    `build(params, inputs)` makes the processor anew for each run. In the cases named in `acts` it must change something.
    """
    op = f"sampling.processor.{op}"
    for name, (params, batch, vocab, seq, *rest) in table.items():
        hidden = rest[0] if rest and isinstance(rest[0], int) else 0
        for attempt in range(200):
            rng = generator(args.seed, f"{op}/{name}/{attempt}")
            inputs = {"input_ids": torch.randint(0, vocab, (batch, seq), generator=rng), "logits": scores(rng, batch, vocab, 3.0, hidden)}
            if op.startswith("sampling.processor.encoder"):
                inputs["encoder_input_ids"] = torch.randint(0, vocab, (batch // (2 if "beams" in name else 1), 8), generator=rng)
            for given in rest:
                if isinstance(given, dict):
                    inputs |= {key: torch.tensor(value) for key, value in given.items()}
            run = lambda x: {"logits": build(params, x)(x["input_ids"], x["logits"])}
            changed = (run(inputs)["logits"] != inputs["logits"]).any(-1)
            if name not in acts or changed.all():
                break
        else:
            raise AssertionError(f"{op}/{name}")
        source = f"{HF} {type(build(params, inputs)).__name__}"
        case(args, op, name, params, source, inputs, run, exact=exact, fixed=None if exact else (3e-7, 1e-7))


def penalties(args):
    def build(params, x):
        ignore = params["prompt_ignore_length"]
        ignore = torch.tensor(ignore) if isinstance(ignore, list) else ignore
        return RepetitionPenaltyLogitsProcessor(params["penalty"], prompt_ignore_length=ignore)

    setting = lambda penalty, ignore=None: {"penalty": penalty, "prompt_ignore_length": ignore}
    cases(args, "repetition_penalty", build, {
        "usual": (setting(1.3), 3, 9, 6), "reward": (setting(0.6), 2, 7, 5), "one": (setting(1.0), 2, 5, 4),
        "masked": (setting(1.7), 2, 8, 6, 3),
        "one_token": (setting(2.0), 2, 1, 3), "ignore_first": (setting(1.4, 4), 3, 12, 7), "ignore_all": (setting(1.4, 5), 2, 6, 5),
        "ignore_more_than_all": (setting(1.4, 9), 2, 6, 5), "ignore_by_row": (setting(1.4, [0, 3, 6]), 3, 12, 6),
        "beyond_vocabulary": (setting(1.5), 1, 4, 5, {"input_ids": [[0, 9, 2, 4, 0]]}),
        "zeros": (setting(1.5), 1, 4, 3, {"logits": [[0.0, -0.0, 1.0, -1.0]], "input_ids": [[0, 1, 2]]}),
    }, exact=False)

    source = lambda params, x: EncoderRepetitionPenaltyLogitsProcessor(params["penalty"], x["encoder_input_ids"])
    cases(args, "encoder_repetition_penalty", source, {
        "usual": ({"penalty": 1.3}, 3, 12, 4), "away": ({"penalty": 0.7}, 2, 12, 4), "one": ({"penalty": 1.0}, 2, 5, 2),
        "masked": ({"penalty": 1.5}, 2, 12, 3, 5), "two_beams": ({"penalty": 1.2}, 4, 12, 3),
    }, exact=False)


def repeats(args):
    build = lambda params, x: NoRepeatNGramLogitsProcessor(params["ngram_size"])
    cases(args, "no_repeat_ngram", build, {
        "unigrams": ({"ngram_size": 1}, 2, 12, 6), "bigrams": ({"ngram_size": 2}, 3, 4, 9), "trigrams": ({"ngram_size": 3}, 2, 3, 20),
        "as_long_as_all": ({"ngram_size": 5}, 2, 3, 5), "longer_than_all": ({"ngram_size": 6}, 2, 3, 5),
        "masked": ({"ngram_size": 2}, 2, 5, 14, 2),
        "one_repeated": ({"ngram_size": 3}, 1, 4, 5, {"input_ids": [[2, 2, 2, 2, 2]]}),
        "equal_at_exact_length": ({"ngram_size": 3}, 1, 4, 3, {"input_ids": [[1, 1, 1]]}),
        "beyond_vocabulary": ({"ngram_size": 2}, 1, 4, 5, {"input_ids": [[1, 7, 1, 2, 1]]}),
    }, acts=("unigrams", "bigrams", "trigrams", "masked", "one_repeated"))

    source = lambda params, x: EncoderNoRepeatNGramLogitsProcessor(params["ngram_size"], x["encoder_input_ids"])
    cases(args, "encoder_no_repeat_ngram", source, {
        "unigrams": ({"ngram_size": 1}, 2, 12, 3), "bigrams": ({"ngram_size": 2}, 3, 5, 3), "trigrams": ({"ngram_size": 3}, 2, 3, 4),
        "one_token_earlier": ({"ngram_size": 3}, 2, 3, 2), "too_early": ({"ngram_size": 4}, 2, 3, 2),
        "longer_than_source": ({"ngram_size": 9}, 2, 3, 9),
        "two_beams": ({"ngram_size": 2}, 4, 5, 3),
    }, acts=("unigrams", "bigrams", "trigrams", "one_token_earlier", "two_beams"))


def sequences(args):
    biases = [[[5], 1.5], [[2, 3, 6], -2.0], [[3, 6], 0.75], [[1, 2, 3, 7], 4.0]]
    build = lambda params, x: SequenceBiasLogitsProcessor(params["sequence_bias"])
    cases(args, "sequence_bias", build, {
        "all_of_them": ({"sequence_bias": biases}, 1, 9, 3, {"input_ids": [[1, 2, 3]]}),
        "single_only": ({"sequence_bias": biases}, 2, 9, 3, {"input_ids": [[0, 1, 1], [5, 5, 5]]}),
        "some": ({"sequence_bias": biases}, 3, 9, 4, {"input_ids": [[0, 0, 2, 3], [3, 1, 0, 3], [2, 1, 2, 3]]}),
        "too_short": ({"sequence_bias": biases}, 2, 9, 1, {"input_ids": [[3], [1]]}), "masked": ({"sequence_bias": biases}, 2, 9, 3, 4),
        "twice": ({"sequence_bias": [[[1], 2.0], [[0, 1], 0.5], [[1], -1.0], [[0, 1], 0.25]]}, 1, 4, 2, {"input_ids": [[2, 0]]}),
        "exactly_as_long": ({"sequence_bias": [[[1, 2, 0], 3.0]]}, 1, 4, 2, {"input_ids": [[1, 2]]}),
    }, exact=False)

    words = [[5], [2, 3, 6], [3, 0], [1, 2, 3, 7]]
    build = lambda params, x: NoBadWordsLogitsProcessor(params["bad_words_ids"], params["eos_token_id"])
    setting = lambda words, eos=None: {"bad_words_ids": words, "eos_token_id": eos}
    cases(args, "bad_words", build, {
        "all_of_them": (setting(words), 1, 9, 3, {"input_ids": [[1, 2, 3]]}),
        "single_only": (setting(words), 2, 9, 3, {"input_ids": [[0, 1, 1], [5, 5, 5]]}),
        "some": (setting(words), 3, 9, 4, {"input_ids": [[0, 0, 2, 3], [3, 1, 0, 3], [2, 1, 2, 3]]}),
        "too_short": (setting(words), 2, 9, 1, {"input_ids": [[3], [1]]}),
        "end_is_not_bad": (setting([[5], [4], [1, 4]], [4, 2]), 2, 9, 2, {"input_ids": [[0, 0], [0, 1]]}),
        "masked": (setting(words), 2, 9, 3, 4),
    })


def lengths(args):
    eos = {"eos_token_id": [2]}
    build = lambda params, x: MinLengthLogitsProcessor(params["min_length"], params["eos_token_id"])
    cases(args, "min_length", build, {
        "too_short": (eos | {"min_length": 5}, 2, 6, 4), "just_long_enough": (eos | {"min_length": 4}, 2, 6, 4),
        "two_ends": ({"eos_token_id": [2, 4], "min_length": 9}, 2, 6, 4),
        "beyond_vocabulary": ({"eos_token_id": [2, 40], "min_length": 9}, 2, 6, 4),
        "nothing": (eos | {"min_length": 0}, 2, 6, 1), "masked": (eos | {"min_length": 7}, 2, 6, 4, 3),
    })
    build = lambda params, x: MinNewTokensLengthLogitsProcessor(params["prompt_length"], params["min_new_tokens"], params["eos_token_id"])
    cases(args, "min_new_tokens", build, {
        "too_few": (eos | {"min_new_tokens": 2, "prompt_length": 3}, 2, 6, 4),
        "enough": (eos | {"min_new_tokens": 1, "prompt_length": 3}, 2, 6, 4),
        "none_yet": (eos | {"min_new_tokens": 1, "prompt_length": 4}, 2, 6, 4),
        "two_ends": ({"eos_token_id": [0, 5], "min_new_tokens": 3, "prompt_length": 2}, 2, 6, 4),
        "nothing": (eos | {"min_new_tokens": 0, "prompt_length": 4}, 2, 6, 4),
    })
    build = lambda params, x: ExponentialDecayLengthPenalty((params["start"], params["factor"]), params["eos_token_id"], params["prompt_length"])
    setting = lambda start, factor, prompt, ids=(2,): {"start": start, "factor": factor, "prompt_length": prompt, "eos_token_id": list(ids)}
    cases(args, "exponential_decay_length", build, {
        "late": (setting(2, 1.3, 3), 3, 6, 9), "just_after": (setting(2, 1.5, 3), 2, 6, 6), "at_start": (setting(2, 1.5, 3), 2, 6, 5),
        "before": (setting(4, 1.5, 3), 2, 6, 5), "draws_out": (setting(1, 0.8, 2), 2, 6, 7),
        "two_ends": (setting(0, 1.1, 2, (2, 4)), 2, 6, 7),
        "end_is_masked": (setting(0, 1.4, 1), 2, 4, 5, {"logits": [[1.0, 2.0, -INF, 0.5], [1.0, 2.0, -1.5, 0.5]]}),
        "zero": (setting(0, 1.4, 1), 1, 4, 5, {"logits": [[1.0, 2.0, 0.0, 0.5]]}),
    }, exact=False)


def given_tokens(args):
    build = lambda params, x: ForcedBOSTokenLogitsProcessor(params["bos_token_id"])
    cases(args, "forced_bos", build, {
        "after_one": ({"bos_token_id": 3}, 3, 6, 1), "after_two": ({"bos_token_id": 3}, 2, 6, 2),
        "all_masked": ({"bos_token_id": 0}, 2, 5, 1, 5),
    })
    build = lambda params, x: ForcedEOSTokenLogitsProcessor(params["max_length"], params["eos_token_id"])
    cases(args, "forced_eos", build, {
        "room_for_one": ({"eos_token_id": [2], "max_length": 5}, 3, 6, 4),
        "room_for_two": ({"eos_token_id": [2], "max_length": 6}, 2, 6, 4),
        "no_room": ({"eos_token_id": [2], "max_length": 4}, 2, 6, 4), "two_ends": ({"eos_token_id": [2, 5], "max_length": 5}, 2, 6, 4),
        "all_masked": ({"eos_token_id": [1], "max_length": 3}, 2, 4, 2, 4),
    })
    build = lambda params, x: SuppressTokensLogitsProcessor(params["tokens"])
    cases(args, "suppress", build, {
        "some": ({"tokens": [0, 5, 8]}, 2, 10, 3), "one": ({"tokens": [2]}, 2, 5, 1), "beyond_vocabulary": ({"tokens": [2, 99]}, 2, 5, 1),
        "masked": ({"tokens": [1, 3]}, 2, 7, 2, 4), "all": ({"tokens": [0, 1, 2]}, 1, 3, 2),
    })
    build = lambda params, x: SuppressTokensAtBeginLogitsProcessor(params["tokens"], params["begin_index"])
    cases(args, "begin_suppress", build, {
        "at_begin": ({"tokens": [1, 2], "begin_index": 3}, 2, 7, 3), "before": ({"tokens": [1, 2], "begin_index": 3}, 2, 7, 2),
        "after": ({"tokens": [1, 2], "begin_index": 3}, 2, 7, 4), "masked": ({"tokens": [1, 2], "begin_index": 1}, 2, 7, 1, 3),
    })

    def build(params, x):
        allowed = lambda batch_item, tokens: params["allowed_by_batch_item"][batch_item]
        return PrefixConstrainedLogitsProcessor(allowed, params["num_beams"])

    def setting(allowed, beams):
        return {"allowed_by_batch_item": allowed, "num_beams": beams, "rule": "reset to 0 only if every beam of the batch item is unsatisfiable"}

    dead, alive = [-INF, 1.0, -INF, 2.0], [0.5, 1.0, -INF, 2.0]
    cases(args, "prefix_allowed", build, {
        "plain": (setting([[1, 4], [2, 3, 6]], 1), 2, 8, 3), "beams": (setting([[1, 4], [2, 3, 6]], 3), 6, 8, 3),
        "all": (setting([[2, 0, 1, 3]], 2), 2, 4, 3),
        "masked": (setting([[0, 1, 2, 3, 4], [3, 4, 5, 6, 7]], 1), 2, 8, 3, 4), "repeated": (setting([[3, 1, 3]], 1), 1, 5, 2),
        "unsatisfiable": (setting([[0, 2], [0, 2]], 1), 2, 4, 3, {"logits": [dead, alive]}),
        "one_beam_unsatisfiable": (setting([[0, 2], [2]], 2), 4, 4, 3, {"logits": [dead, alive, dead, alive]}),
        "all_beams_unsatisfiable": (setting([[0, 2], [1]], 2), 4, 4, 3, {"logits": [dead, dead, dead, alive]}),
    })


def run(args):
    penalties(args)
    repeats(args)
    sequences(args)
    lengths(args)
    given_tokens(args)
