"""Test vectors of sampling: temperature, top-k, top-p, the chain of all processors, and greedy search over table models.

The other processors are in `sampling_filters.py` (they look at logits) and `sampling_tokens.py` (at the tokens so far).
Searches by beams are in `sampling_search.py`.

Library versions: torch 2.15.0, transformers 5.23.0 (see requirements.txt).

No case hangs on rounding: the cumulative probabilities of top-p stay away from the threshold, and the winners of
greedy search lead by a margin or tie exactly (then the lowest id wins).
"""

import sampling_filters
import sampling_tokens
import sampling_speculative
import sampling_llama_cpp
import sampling_search
import torch
import transformers
from common import arguments, case, generator
from sampling_scores import HF, INF, clear, scores
from transformers import GenerationConfig, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.generation.logits_process import (
    LogitNormalization, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)
from transformers.modeling_outputs import CausalLMOutput

class TableModel(PreTrainedModel, GenerationMixin):
    """Logits are rows of a table, chosen by the last id (order 1) or the last two (order 2, 0 before the first)."""

    config_class = PreTrainedConfig
    main_input_name = "input_ids"

    def __init__(self, table):
        config = PreTrainedConfig()
        config.vocab_size = table.shape[-1]
        super().__init__(config)
        self.table = torch.nn.Parameter(table.clone(), requires_grad=False)

    def prepare_inputs_for_generation(self, input_ids, **kwargs):
        return {"input_ids": input_ids}

    def forward(self, input_ids, attention_mask=None, **kwargs):
        if self.table.dim() == 2:
            return CausalLMOutput(logits=self.table[input_ids])
        before = torch.nn.functional.pad(input_ids, (1, 0))[:, :-1]
        return CausalLMOutput(logits=self.table[before, input_ids])


def clear_of_threshold(logits, top_p):
    """Every partial sum that decides keeps a distance from 1 - top_p."""
    sums = logits.double().sort(dim=-1).values.softmax(-1).cumsum(-1)[..., :-1]
    return bool(((sums - (1 - top_p)).abs() > 1e-2 * min(top_p, 1 - top_p) + 1e-6).all())


def processors(args):
    op = "sampling.processor.temperature"
    for name, value, batch, vocab, hidden in [("sharper", 0.7, 2, 11, 0), ("flatter", 2.5, 1, 17, 0), ("one", 1.0, 2, 5, 0),
                                              ("very_sharp", 0.01, 2, 7, 0), ("masked", 0.3, 2, 9, 4), ("one_token", 0.5, 3, 1, 0)]:
        rng = generator(args.seed, f"{op}/{name}")
        inputs = {"input_ids": torch.randint(0, vocab, (batch, 4), generator=rng), "logits": scores(rng, batch, vocab, 3.0, hidden)}
        run = lambda x: {"logits": TemperatureLogitsWarper(value)(x["input_ids"], x["logits"])}
        # one division, or a product with the reciprocal
        case(args, op, name, {"temperature": value}, f"{HF} TemperatureLogitsWarper", inputs, run, fixed=(3e-7, 0.0))

    op = "sampling.processor.top_k"
    table = {  # k, at least, batch, vocabulary, hidden
        "three": (3, 1, 2, 11, 0), "one": (1, 1, 3, 8, 0), "all": (6, 1, 2, 6, 0), "more_than_vocabulary": (50, 1, 2, 7, 0),
        "at_least_more": (2, 5, 2, 9, 0), "masked": (4, 1, 2, 10, 7), "masked_less": (3, 1, 2, 10, 5),
        "ties_at_edge": (3, 1, 3, 9, 0), "all_equal": (2, 1, 1, 6, 0),
    }
    for name, (k, least, batch, vocab, hidden) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        logits = scores(rng, batch, vocab, 3.0, hidden)
        if name == "ties_at_edge":
            logits = torch.tensor([[1.0, 5, 2, 4, 2, 2, 0, -1, 2], [3.0, 3, 3, 3, 1, 0, 2, 3, 3], [0.0, -0.0, 1, 2, 0, -3, -4, 5, -0.0]])
        elif name == "all_equal":
            logits = torch.full((batch, vocab), 0.25)
        inputs = {"input_ids": torch.randint(0, vocab, (batch, 3), generator=rng), "logits": logits}
        run = lambda x: {"logits": TopKLogitsWarper(k, min_tokens_to_keep=least)(x["input_ids"], x["logits"])}
        case(args, op, name, {"min_tokens_to_keep": least, "ties": "kept", "top_k": k}, f"{HF} TopKLogitsWarper", inputs, run, exact=True)

    op = "sampling.processor.top_p"
    table = {  # p, at least, batch, vocabulary, spread, hidden
        "most": (0.9, 1, 3, 12, 2.0, 0), "half": (0.5, 1, 3, 15, 1.0, 0), "little": (0.05, 1, 2, 9, 1.0, 0),
        "nearly_all": (0.995, 1, 2, 31, 2.0, 0), "all": (1.0, 1, 2, 7, 1.0, 0), "at_least": (0.2, 4, 2, 10, 3.0, 0),
        "masked": (0.8, 1, 2, 13, 2.0, 6), "at_least_of_masked": (0.3, 5, 2, 8, 2.0, 5), "one_token": (0.4, 1, 2, 1, 1.0, 0),
        "wide": (0.95, 1, 1, 211, 2.0, 0),
    }
    for name, (p, least, batch, vocab, spread, hidden) in table.items():
        for attempt in range(100):
            rng = generator(args.seed, f"{op}/{name}/{attempt}")
            logits = scores(rng, batch, vocab, spread, hidden)
            if p == 1.0 or clear_of_threshold(logits, p):
                break
        else:
            raise AssertionError(name)
        inputs = {"input_ids": torch.randint(0, vocab, (batch, 3), generator=rng), "logits": logits}
        run = lambda x: {"logits": TopPLogitsWarper(p, min_tokens_to_keep=least)(x["input_ids"], x["logits"])}
        out = case(args, op, name, {"min_tokens_to_keep": least, "top_p": p}, f"{HF} TopPLogitsWarper", inputs, run, exact=True)
        assert torch.equal(run({k: v.double() if k == "logits" else v for k, v in inputs.items()})["logits"].float(), out["logits"])

    op = "sampling.processor.log_softmax"
    for name, batch, vocab, spread, hidden in [("plain", 2, 13, 2.0, 0), ("masked", 2, 9, 2.0, 4), ("one_left", 2, 6, 1.0, 5),
                                               ("large", 1, 8, 80.0, 0)]:
        rng = generator(args.seed, f"{op}/{name}")
        inputs = {"input_ids": torch.randint(0, vocab, (batch, 2), generator=rng), "logits": scores(rng, batch, vocab, spread, hidden)}
        run = lambda x: {"logits": LogitNormalization()(x["input_ids"], x["logits"])}
        case(args, op, name, {}, f"{HF} LogitNormalization", inputs, run, atol_floor=2e-5 if spread > 10 else 1e-6)


def chain(args):
    op = "sampling.chain.huggingface"
    table = {  # settings, batch, vocabulary
        "temperature_top_k_top_p": ({"do_sample": True, "temperature": 0.7, "top_k": 8, "top_p": 0.9}, 3, 19),
        "top_p_after_top_k": ({"do_sample": True, "temperature": 1.0, "top_k": 4, "top_p": 0.6}, 2, 13),
        "hot_top_p": ({"do_sample": True, "temperature": 1.8, "top_k": 0, "top_p": 0.7}, 2, 17),
        "top_k_only": ({"do_sample": True, "top_k": 3}, 2, 9),
        "top_p_one": ({"do_sample": True, "temperature": 0.5, "top_p": 1.0}, 2, 7),
        "temperature_only": ({"do_sample": True, "temperature": 1.3}, 1, 11),
        "greedy_ignores_all": ({"do_sample": False, "temperature": 0.7, "top_k": 2, "top_p": 0.5}, 2, 10),
        "nothing": ({"do_sample": True}, 2, 6),
        "one_beam": ({"do_sample": True, "num_beams": 1, "temperature": 0.8, "top_k": 1, "top_p": 0.1}, 2, 12),
        "beams_keep_two": ({"do_sample": True, "num_beams": 3, "temperature": 0.8, "top_k": 1, "top_p": 0.1}, 3, 12),
        "beams_keep_eos_plus_one": ({"do_sample": True, "num_beams": 2, "top_k": 5, "top_p": 0.05, "eos_token_id": [1, 2]}, 2, 14),
    }
    more = {  # settings, batch, vocabulary, tokens so far, tokens of the prompt
        "all_filters": ({"do_sample": True, "temperature": 0.9, "top_h": 0.95, "top_k": 40, "top_p": 0.98, "min_p": 0.01, "typical_p": 0.9,
                         "epsilon_cutoff": 0.02, "eta_cutoff": 0.02}, 3, 60, 3, 3),
        "all_filters_of_beams": ({"do_sample": True, "num_beams": 2, "top_k": 2, "top_p": 0.1, "min_p": 0.9, "typical_p": 0.1,
                                  "epsilon_cutoff": 0.6, "eta_cutoff": 0.6, "eos_token_id": [1, 2]}, 2, 20, 3, 3),
        "min_p_after_temperature": ({"do_sample": True, "temperature": 2.0, "min_p": 0.3}, 2, 15, 3, 3),
        "typical_after_top_p": ({"do_sample": True, "top_p": 0.8, "typical_p": 0.5}, 3, 15, 3, 3),
        "epsilon": ({"do_sample": True, "epsilon_cutoff": 0.05, "renormalize_logits": True}, 2, 15, 3, 3),
        "eta": ({"do_sample": True, "eta_cutoff": 0.1}, 2, 15, 3, 3),
        "top_h": ({"do_sample": True, "top_h": 0.5}, 2, 15, 3, 3),
        "greedy_penalties": ({"do_sample": False, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "bad_words_ids": [[4], [1, 2]],
                              "temperature": 0.5, "renormalize_logits": True}, 3, 9, 12, 5),
        "penalty_then_filters": ({"do_sample": True, "repetition_penalty": 1.5, "no_repeat_ngram_size": 3, "temperature": 0.8, "top_p": 0.7},
                                 2, 8, 14, 4),
        "too_short": ({"min_length": 8, "min_new_tokens": 4, "eos_token_id": [1, 3]}, 2, 7, 6, 5),
        "long_enough": ({"min_length": 6, "min_new_tokens": 1, "eos_token_id": 1}, 2, 7, 6, 5),
        "no_end_no_minimum": ({"min_length": 8}, 2, 7, 6, 5),
        "forced_end": ({"forced_eos_token_id": 3, "max_length": 7, "bad_words_ids": [[3]], "renormalize_logits": True}, 2, 6, 6, 2),
        "end_not_forced_yet": ({"forced_eos_token_id": 3, "max_length": 9}, 2, 6, 6, 2),
        "forced_then_suppressed": ({"forced_eos_token_id": [3, 5], "max_length": 7, "suppress_tokens": [5, 0]}, 2, 6, 6, 2),
        "suppressed": ({"do_sample": True, "suppress_tokens": [5], "begin_suppress_tokens": [0, 2], "top_k": 3}, 2, 9, 4, 4),
        "begin_is_over": ({"begin_suppress_tokens": [0, 2]}, 2, 9, 5, 4),
        "forced_begin": ({"forced_bos_token_id": 4, "begin_suppress_tokens": [0, 2]}, 2, 9, 1, 1),
        "after_forced_begin": ({"forced_bos_token_id": 4, "begin_suppress_tokens": [0, 2]}, 2, 9, 2, 1),
        "longer_and_longer": ({"exponential_decay_length_penalty": [2, 1.2], "eos_token_id": [1, 4]}, 2, 7, 9, 4),
        "biased": ({"sequence_bias": [[[2], 1.5], [[1, 0], -2.0], [[0, 1, 3], 4.0]], "repetition_penalty": 1.2}, 3, 5, 7, 2),
        "source": ({"encoder_repetition_penalty": 1.4, "encoder_no_repeat_ngram_size": 2, "repetition_penalty": 1.2}, 2, 8, 5, 1),
        "invalid_then_temperature": ({"do_sample": True, "bad_words_ids": [[2], [0, 1]], "remove_invalid_values": True, "temperature": 1.5,
                                      "top_k": 4}, 2, 8, 4, 4),
        "everything": ({"do_sample": True, "sequence_bias": [[[2], 1.5], [[1, 0], -2.0]], "repetition_penalty": 1.2, "no_repeat_ngram_size": 2,
                        "bad_words_ids": [[4], [1, 2], [3]], "min_length": 9, "min_new_tokens": 3, "eos_token_id": [3],
                        "exponential_decay_length_penalty": [1, 1.1], "suppress_tokens": [5], "temperature": 0.8, "top_k": 9, "top_p": 0.95,
                        "min_p": 0.02, "renormalize_logits": True}, 3, 16, 8, 6),
    }
    for name, (settings, batch, vocab, *lengths) in (table | more).items():
        seq, prompt = lengths or (3, 3)
        plain = {k: v for k, v in settings.items() if k not in ("max_length", "min_length", "min_new_tokens")}
        config = GenerationConfig(**plain)
        for key in settings.keys() - plain.keys():  # together they draw a warning, and nothing else
            setattr(config, key, settings[key])
        eos = settings.get("eos_token_id")
        config._eos_token_tensor = None if eos is None else torch.tensor(eos if isinstance(eos, list) else [eos])
        model = TableModel(torch.zeros(vocab, vocab))
        for attempt in range(500):
            rng = generator(args.seed, f"{op}/{name}/{attempt}")
            logits = scores(rng, batch, vocab, 2.0)
            ids = torch.randint(0, vocab, (batch, seq), generator=rng)
            source = torch.randint(0, vocab, (batch, 6), generator=rng) if "encoder" in " ".join(settings) else None
            chain = model._get_logits_processor(generation_config=config, input_ids_seq_length=prompt, device="cpu", model_kwargs={},
                                                encoder_input_ids=source)
            now, good, acted = logits.double(), True, True
            for processor in chain:
                if isinstance(processor, TopPLogitsWarper):
                    finite = now.masked_fill(now == -INF, -1e30)
                    good = good and clear_of_threshold(finite, processor.top_p)
                good = good and clear(processor, ids, now)
                before, now = now, processor(ids, now)
                if "NGram" in type(processor).__name__ or "BadWords" in type(processor).__name__:
                    acted = acted and not torch.equal(before, now)
            if good and acted:
                break
        else:
            raise AssertionError(name)
        inputs = {"input_ids": ids, "logits": logits} | ({} if source is None else {"encoder_input_ids": source})
        run = lambda x: {"logits": chain(x["input_ids"], x["logits"])}
        params = settings | {"order": [type(processor).__name__ for processor in chain]}
        if name in more:
            params["prompt_length"] = prompt
        # where log-softmax or a penalty cancels, an absolute error remains
        tolerance = (3e-7, 0.0) if name in table else (2e-6, 2e-6)
        case(args, op, name, params, f"{HF} GenerationMixin._get_logits_processor", inputs, run, fixed=tolerance)


def endings(table, ids, new, eos):
    """How many rows of a greedy search meet an end id before the last step."""
    count = 0
    for row in ids.tolist():
        row = [0] + row
        for _ in range(new - 1):
            scores_now = table[row[-1]] if table.dim() == 2 else table[row[-2], row[-1]]
            row.append(int(scores_now.argmax()))
            if row[-1] in (eos if isinstance(eos, list) else [eos]):
                count += 1
                break
    return count


def greedy(args):
    op = "sampling.search.greedy"
    table = {  # order, vocabulary, batch, prompt, new tokens, end ids, padding id
        "order1": (1, 9, 2, 3, 8, None, 0), "order2": (2, 7, 3, 2, 9, None, 0), "order2_prompt_of_one": (2, 6, 2, 1, 7, None, 5),
        "order1_eos": (1, 8, 4, 2, 10, 3, 0), "order2_eos_list": (2, 6, 5, 3, 12, [2, 4], 5), "eos_at_once": (1, 5, 2, 1, 6, 3, 1),
        "eos_is_padding": (2, 6, 4, 2, 10, [1], 1), "one_new_token": (1, 4, 1, 5, 1, 3, 0), "ties": (1, 6, 3, 2, 5, None, 0),
    }
    for name, (order, vocab, batch, prompt, new, eos, pad) in table.items():
        for attempt in range(200):
            rng = generator(args.seed, f"{op}/{name}/{attempt}")
            tab = torch.randn(*[vocab] * (order + 1), generator=rng)
            ids = torch.randint(0, vocab, (batch, prompt), generator=rng)
            if name == "eos_at_once":
                tab[:, 3] = 9.0
            elif name == "ties":
                tab = tab.round()
                assert ((tab == tab.max(-1, keepdim=True).values).sum(-1) > 1).any()
            if eos is None or batch == 1 or name == "eos_at_once" or 0 < endings(tab, ids, new, eos) < batch:
                break  # some rows end early and some do not
        else:
            raise AssertionError(name)
        settings = {"max_new_tokens": new, "pad_token_id": pad}
        if eos is not None:
            settings["eos_token_id"] = eos

        def run(x):
            # one precision is enough: the search only compares
            model = TableModel(x["table"].float()).eval()
            model.generation_config = GenerationConfig()
            config = GenerationConfig(do_sample=False, num_beams=1, use_cache=False, return_dict_in_generate=True,
                                      output_logits=True, **settings)
            result = model.generate(x["input_ids"], attention_mask=torch.ones_like(x["input_ids"]), generation_config=config)
            logits = torch.stack(result.logits, dim=1)
            assert logits.shape[:2] == (batch, result.sequences.shape[1] - prompt)
            finished = torch.zeros(batch, dtype=torch.bool)
            for step in range(logits.shape[1]):  # the search, written out
                best = logits[:, step].max(-1).values
                first = (logits[:, step] == best[:, None]).int().argmax(-1)
                want = torch.where(finished, pad, first)
                assert torch.equal(want, result.sequences[:, prompt + step])
                if eos is not None:
                    finished |= torch.isin(want, torch.tensor(eos))
            return {"sequences": result.sequences, "step_logits": logits}

        case(args, op, name, settings | {"order": order}, f"{HF} GenerationMixin.generate (greedy) on a table model",
             {"input_ids": ids, "table": tab}, run, exact=True)
    greedy_processors(args)


def greedy_processors(args):
    """With processors: inputs for which each of them changes the text, and the text is the same under noise."""
    op = "sampling.search.greedy"
    table = {  # order, vocabulary, batch, prompt, new tokens, end ids, padding id; processors
        "repetition_penalty": (1, 9, 2, 3, 9, 3, 0, {"repetition_penalty": 1.5}),
        "no_repeat_ngram": (1, 6, 3, 4, 10, None, 0, {"no_repeat_ngram_size": 3}),
        "bad_words": (1, 8, 2, 3, 9, 3, 0, {"bad_words_ids": [[3], [1, 5], [2, 2]]}),
        "min_new_tokens": (1, 7, 4, 2, 9, [2, 4], 5, {"min_new_tokens": 4}),
        "forced_end": (2, 8, 2, 2, 6, 3, 0, {"forced_eos_token_id": 3}),
        "exponential_decay": (1, 9, 3, 2, 12, 3, 0, {"exponential_decay_length_penalty": [3, 1.4]}),
        "several": (2, 9, 3, 3, 12, [2, 7], 5, {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "bad_words_ids": [[1], [5, 6]],
                                                 "min_new_tokens": 3, "exponential_decay_length_penalty": [6, 1.6]}),
    }
    for name, (order, vocab, batch, prompt, new, eos, pad, processors) in table.items():
        settings = {"max_new_tokens": new, "pad_token_id": pad} | ({} if eos is None else {"eos_token_id": eos})

        def run(x, processors=processors):
            model = TableModel(x["table"].float()).eval()
            model.generation_config = GenerationConfig()
            lists = {k: tuple(v) if k.startswith("exp") else v for k, v in processors.items()}
            config = GenerationConfig(do_sample=False, num_beams=1, use_cache=False, return_dict_in_generate=True, output_logits=True,
                                      **settings, **lists)
            result = model.generate(x["input_ids"], attention_mask=torch.ones_like(x["input_ids"]), generation_config=config)
            return {"sequences": result.sequences, "step_logits": torch.stack(result.logits, dim=1)}

        def is_good(x, rng):
            out = run(x)["sequences"]
            left_out = [{k: v for k, v in processors.items() if k != name} for name in processors]
            noisy = [x | {"table": x["table"] + 1e-4 * torch.randn(x["table"].shape, generator=rng)} for _ in range(5)]
            return all(not torch.equal(run(x, some)["sequences"], out) for some in left_out) \
                and all(torch.equal(run(y)["sequences"], out) for y in noisy)

        for attempt in range(300):
            rng = generator(args.seed, f"{op}/processors/{name}/{attempt}")
            x = {"input_ids": torch.randint(0, vocab, (batch, prompt), generator=rng),
                 "table": 2.0 * torch.randn(*[vocab] * (order + 1), generator=rng)}
            if is_good(x, rng):
                break
        else:
            raise AssertionError(name)
        case(args, op, name, settings | processors | {"order": order}, f"{HF} GenerationMixin.generate (greedy) on a table model", x, run,
             exact=True)


def main():
    args = arguments("sampling")
    transformers.logging.set_verbosity_error()
    processors(args)
    sampling_filters.run(args)
    sampling_tokens.run(args)
    chain(args)
    greedy(args)
    sampling_speculative.write(args)
    sampling_llama_cpp.generate(args)
    sampling_search.run(args, TableModel)


if __name__ == "__main__":
    main()
