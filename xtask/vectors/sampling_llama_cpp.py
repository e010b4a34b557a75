"""Test vectors of sampling from llama.cpp: its samplers, called through the C functions that llama-cpp-python brings along.

Run by sampling.py, and by itself with the same arguments. llama-cpp-python 0.3.36 (see ../peers/requirements.txt) is compiled on installation
and is not needed for anything else, so without it these files are left as they are, and a line says so.

No case hangs on rounding: what decides keeps a distance from its threshold, and all logits of a row differ unless a case is about equals.
Masked tokens are left out of the list that llama.cpp gets, as its own filters leave them out.
"""

import ctypes
import importlib.util
import struct
import sys

import torch
from common import arguments, case, generator

INF = float("inf")
PACKAGE = "llama_cpp"


def available():
    return importlib.util.find_spec(PACKAGE) is not None


class Sampler:
    """A sampler of llama.cpp, and rows as it wants them."""

    def __init__(self, kind, *settings):
        import llama_cpp

        self.lib = llama_cpp
        self.pointer = getattr(llama_cpp, f"llama_sampler_init_{kind}")(*settings)
        assert self.pointer

    def accept(self, tokens):
        for token in tokens:
            self.lib.llama_sampler_accept(self.pointer, int(token))

    def apply(self, row):
        """The list that is left: pairs of id and logit, and the index that was chosen (-1 if none was)."""
        pairs = [(i, x) for i, x in enumerate(row.tolist()) if x > -INF]
        data = (self.lib.llama_token_data * len(pairs))(*[self.lib.llama_token_data(i, x, 0.0) for i, x in pairs])
        array = self.lib.llama_token_data_array(data, len(pairs), -1, False)
        self.lib.llama_sampler_apply(self.pointer, ctypes.byref(array))
        left = [(array.data[i].id, array.data[i].logit) for i in range(array.size)]
        return left, array.selected

    def row(self, row):
        """What becomes of a row."""
        out = torch.full_like(row, -INF)
        for token, logit in self.apply(row)[0]:
            out[token] = logit
        return out

    def floats(self, offset, count):
        """Numbers of its state; where they are is checked by whoever asks."""
        return struct.unpack(f"{count}f", ctypes.string_at(self.pointer.contents.ctx + offset, 4 * count))

    def close(self):
        self.lib.llama_sampler_free(self.pointer)


def dry_sampler(multiplier, base, allowed_length, last_n, breakers):
    """DRY with breakers as token ids: a function of llama.cpp's own tests, which takes C++ vectors (three pointers each)."""
    sampler = Sampler("dry", None, multiplier, base, allowed_length, last_n, None, 0)
    if not breakers:
        return sampler
    sampler.close()
    buffers = [(ctypes.c_int32 * len(b))(*b) for b in breakers]
    inner = (ctypes.c_void_p * (3 * len(breakers)))()
    for i, buffer in enumerate(buffers):
        start = ctypes.addressof(buffer)
        inner[3 * i: 3 * i + 3] = [start, start + ctypes.sizeof(buffer), start + ctypes.sizeof(buffer)]
    start = ctypes.addressof(inner)
    outer = (ctypes.c_void_p * 3)(start, start + ctypes.sizeof(inner), start + ctypes.sizeof(inner))
    function = sampler.lib.llama_cpp._lib._Z30llama_sampler_init_dry_testingffiiRKSt6vectorIS_IiSaIiEESaIS1_EE
    function.restype = type(sampler.pointer)
    function.argtypes = [ctypes.c_float, ctypes.c_float, ctypes.c_int32, ctypes.c_int32, ctypes.c_void_p]
    sampler.pointer = function(multiplier, base, allowed_length, last_n, ctypes.addressof(outer))
    return sampler


def source(args, name):
    import llama_cpp

    return f"llama-cpp-python {llama_cpp.__version__} llama_sampler_{name}"


def scores(rng, batch, vocab, spread=2.0, hidden=0):
    """Random logits at least 1e-3 apart, `hidden` of them -inf in each row."""
    rows = []
    while len(rows) < batch:
        row = spread * torch.randn(vocab, generator=rng)
        if vocab == 1 or row.sort().values.diff().min() > 1e-3:
            row[torch.randperm(vocab, generator=rng)[:hidden]] = -INF
            rows.append(row)
    return torch.stack(rows)


def each_row(make, double=None):
    """`function` for `case`: llama.cpp in float32; where there is a formula in float64, that tells how far to trust it."""

    def function(x):
        logits = x["logits"]
        if logits.dtype == torch.float64 and double is not None:
            return {"logits": torch.stack([double(row, ids) for row, ids in zip(logits, x["input_ids"])])}
        rows = []
        for row, ids in zip(logits.float(), x["input_ids"]):
            sampler = make()
            sampler.accept(ids)
            rows.append(sampler.row(row))
            sampler.close()
        return {"logits": torch.stack(rows)}

    return function


def clear(values, bound, relative=1e-3):
    return bool(((values - bound).abs() > relative * abs(bound)).all())


def find(make, good):
    """The first of many random inputs on which nothing hangs on rounding."""
    for attempt in range(1000):
        inputs = make(attempt)
        if all(good(row) for row in inputs["logits"].double()):
            return inputs
    raise AssertionError("no clear input")


def penalties(args):
    op = "sampling.processor.penalties"
    table = {  # last n, repetition, frequency, presence, batch, vocabulary, tokens, hidden
        "all_three": (64, 1.3, 0.25, 0.5, 3, 9, 12, 0), "presence": (64, 1.0, 0.0, 0.75, 2, 7, 10, 0),
        "frequency": (64, 1.0, 0.4, 0.0, 2, 7, 10, 0), "negative": (64, 0.8, -0.25, -0.5, 2, 7, 10, 0),
        "last_five": (5, 1.2, 0.3, 0.6, 3, 6, 15, 0), "last_one": (1, 1.5, 1.0, 1.0, 2, 6, 8, 0),
        "off": (64, 1.0, 0.0, 0.0, 2, 6, 8, 0), "last_none": (0, 1.5, 1.0, 1.0, 2, 6, 8, 0),
        "masked": (64, 1.3, 0.25, 0.5, 2, 9, 12, 4), "more_than_there_is": (50, 1.1, 0.2, 0.1, 2, 5, 3, 0),
        "same_token": (20, 1.5, 0.5, 0.25, 1, 4, 30, 0),
    }
    for name, (last_n, repetition, frequency, presence, batch, vocab, seq, hidden) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        ids = torch.randint(0, 1 if name == "same_token" else vocab, (batch, seq), generator=rng)

        def double(row, ids):
            out = row.clone()
            window = ids.tolist()[max(0, len(ids) - last_n):]
            for token in set(window):
                x = out[token]
                x = x * repetition if x <= 0 else x / repetition
                out[token] = x - window.count(token) * frequency - presence
            return out

        make = lambda: Sampler("penalties", vocab, last_n, repetition, frequency, presence)
        params = {"last_n": last_n, "repetition_penalty": repetition, "frequency_penalty": frequency, "presence_penalty": presence}
        inputs = {"input_ids": ids, "logits": scores(rng, batch, vocab, 2.0, hidden)}
        case(args, op, name, params, source(args, "init_penalties"), inputs, each_row(make, double), atol_floor=1e-6)


def logit_bias(args):
    op = "sampling.processor.logit_bias"
    table = {  # biases, batch, vocabulary, hidden
        "some": ([[1, 2.5], [4, -1.25]], 3, 7, 0), "ban": ([[0, -INF], [3, 1.0]], 2, 6, 0), "none": ([], 2, 5, 0),
        "same_token_twice": ([[2, 1.5], [2, 0.25]], 2, 5, 0), "beyond_vocabulary": ([[9, 4.0], [1, -3.0]], 2, 5, 0),
        "openai_ends": ([[0, 100.0], [1, -100.0]], 2, 5, 0), "masked": ([[0, 5.0], [1, 5.0], [2, 5.0], [3, 5.0]], 2, 8, 4),
    }
    import llama_cpp

    for name, (biases, batch, vocab, hidden) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        pairs = (llama_cpp.llama_logit_bias * len(biases))(*[llama_cpp.llama_logit_bias(t, b) for t, b in biases])

        def double(row, ids):
            out = row.clone()
            for token, bias in biases:
                if token < len(out):
                    out[token] += bias
            return out

        make = lambda: Sampler("logit_bias", vocab, len(biases), pairs)
        inputs = {"input_ids": torch.randint(0, vocab, (batch, 2), generator=rng), "logits": scores(rng, batch, vocab, 2.0, hidden)}
        params = {"logit_bias": [[t, "-inf" if b == -INF else b] for t, b in biases]}
        case(args, op, name, params, source(args, "init_logit_bias"), inputs, each_row(make, double), atol_floor=1e-6)


def dynamic_temperature(args):
    op = "sampling.processor.dynamic_temperature"
    table = {  # temperature, range, exponent, batch, vocabulary, spread, hidden
        "usual": (1.0, 0.5, 1.0, 3, 11, 1.5, 0), "square": (0.8, 0.3, 2.0, 2, 9, 1.5, 0), "root": (1.2, 0.7, 0.5, 2, 9, 1.5, 0),
        "exponent_zero": (1.0, 0.5, 0.0, 2, 6, 1.0, 0), "range_zero": (0.7, 0.0, 1.0, 2, 6, 2.0, 0),
        "range_beyond_zero": (0.5, 1.5, 1.0, 2, 8, 1.0, 0), "sure": (1.0, 0.75, 1.0, 2, 6, 12.0, 0),
        "masked": (1.0, 0.5, 1.0, 2, 12, 1.5, 5), "one_left": (1.0, 0.5, 1.0, 2, 5, 1.0, 4), "all_equal": (1.0, 0.25, 1.5, 2, 6, 0.0, 0),
        "one_token": (0.5, 0.25, 1.0, 2, 1, 1.0, 0),
    }
    for name, (temperature, width, exponent, batch, vocab, spread, hidden) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        logits = torch.full((batch, vocab), 1.5) if spread == 0.0 else scores(rng, batch, vocab, spread, hidden)

        def double(row, ids):
            n = int((row > -INF).sum())
            if width == 0.0:
                return row / temperature
            if n == 1:
                return row
            p = row.softmax(-1)
            entropy = -(p * p.clamp(min=1e-300).log()).sum()
            low = max(0.0, temperature - width)
            share = entropy / torch.tensor(float(n), dtype=torch.float64).log()
            return row / (low + (temperature + width - low) * share**exponent)

        make = lambda: Sampler("temp_ext", temperature, width, exponent)
        inputs = {"input_ids": torch.randint(0, vocab, (batch, 2), generator=rng), "logits": logits}
        params = {"temperature": temperature, "range": width, "exponent": exponent}
        case(args, op, name, params, source(args, "init_temp_ext"), inputs, each_row(make, double), atol_floor=1e-6)


def filters(args):
    op = "sampling.processor.top_n_sigma"
    table = {  # n, batch, vocabulary, spread, hidden
        "one": (1.0, 3, 17, 2.0, 0), "half": (0.5, 2, 15, 2.0, 0), "two": (2.0, 3, 21, 2.0, 0), "huge": (50.0, 2, 9, 2.0, 0),
        "masked": (1.0, 2, 16, 2.0, 6), "one_left": (0.5, 2, 6, 1.0, 5), "all_equal": (1.0, 1, 6, 0.0, 0), "one_token": (1.0, 2, 1, 1.0, 0),
    }
    for name, (n, batch, vocab, spread, hidden) in table.items():
        def make_inputs(attempt):
            rng = generator(args.seed, f"{op}/{name}/{attempt}")
            logits = torch.full((batch, vocab), 0.25) if spread == 0.0 else scores(rng, batch, vocab, spread, hidden)
            return {"input_ids": torch.randint(0, vocab, (batch, 2), generator=rng), "logits": logits}

        def good(row):
            row = row[row > -INF]
            sigma = row.std(correction=0)
            return sigma == 0 or bool(((row.max() - n * sigma - row).abs() > 1e-3).all())

        make = lambda: Sampler("top_n_sigma", n)
        case(args, op, name, {"n": n}, source(args, "init_top_n_sigma"), find(make_inputs, good), each_row(make), exact=True)

    op = "sampling.processor.xtc"
    table = {  # probability, threshold, at least, batch, vocabulary, spread, hidden
        "usual": (1.0, 0.1, 1, 3, 11, 1.0, 0), "low_threshold": (1.0, 0.02, 1, 2, 13, 1.0, 0), "high_threshold": (1.0, 0.3, 1, 3, 7, 0.5, 0),
        "nothing_likely": (1.0, 0.5, 1, 2, 9, 0.5, 0), "off_by_threshold": (1.0, 0.6, 1, 2, 5, 1.0, 0), "off": (0.0, 0.1, 1, 2, 9, 1.0, 0),
        "at_least_more": (1.0, 0.1, 6, 2, 8, 1.0, 0), "at_least_enough": (1.0, 0.1, 3, 2, 12, 1.0, 0), "masked": (1.0, 0.1, 1, 2, 12, 1.0, 5),
        "one_left": (1.0, 0.1, 1, 2, 5, 1.0, 4), "one_token": (1.0, 0.1, 1, 2, 1, 1.0, 0), "threshold_zero": (1.0, 0.0, 1, 2, 6, 1.0, 0),
    }
    for name, (probability, threshold, least, batch, vocab, spread, hidden) in table.items():
        def make_inputs(attempt):
            rng = generator(args.seed, f"{op}/{name}/{attempt}")
            return {"input_ids": torch.randint(0, vocab, (batch, 2), generator=rng), "logits": scores(rng, batch, vocab, spread, hidden)}

        make = lambda: Sampler("xtc", probability, threshold, least, 1)
        good = lambda row: threshold == 0.0 or clear(row.softmax(-1), threshold)
        params = {"probability": probability, "threshold": threshold, "min_tokens_to_keep": least}
        case(args, op, name, params, source(args, "init_xtc"), find(make_inputs, good), each_row(make), exact=True)


def dry(args):
    op = "sampling.processor.dry"
    table = {  # multiplier, base, allowed, last n, breakers, batch, vocabulary, tokens, kinds of tokens, hidden
        "usual": (0.8, 1.75, 2, 64, [], 3, 8, 30, 3, 0), "allowed_one": (0.5, 2.0, 1, 64, [], 2, 8, 20, 4, 0),
        "allowed_zero": (0.5, 2.0, 0, 64, [], 2, 6, 12, 4, 0), "last_twelve": (0.8, 1.75, 2, 12, [], 3, 8, 40, 3, 0),
        "base_one": (1.0, 1.0, 2, 64, [], 2, 6, 20, 2, 0), "off": (0.0, 1.75, 2, 64, [], 2, 6, 20, 2, 0),
        "last_none": (0.8, 1.75, 2, 0, [], 2, 6, 20, 2, 0), "short_text": (0.8, 1.75, 4, 64, [], 2, 6, 4, 2, 0),
        "breaker": (0.8, 1.75, 1, 64, [[0]], 4, 8, 30, 3, 0), "long_breakers": (0.8, 1.75, 1, 64, [[0, 1], [0, 1, 2], [2, 2]], 4, 8, 40, 3, 0),
        "many_breakers": (0.8, 1.75, 1, 64, [[3], [0, 2], [4, 4, 4]], 4, 8, 40, 5, 0), "clamped": (0.001, 3.0, 2, 200, [], 1, 4, 120, 1, 0),
        "masked": (0.8, 1.75, 2, 64, [], 2, 9, 30, 3, 4), "huge_base": (1.0, 1e30, 1, 64, [], 1, 6, 12, 2, 0),
    }
    for name, (multiplier, base, allowed, last_n, breakers, batch, vocab, seq, kinds, hidden) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        inputs = {"input_ids": torch.randint(0, kinds, (batch, seq), generator=rng), "logits": scores(rng, batch, vocab, 2.0, hidden)}
        make = lambda: dry_sampler(multiplier, base, allowed, last_n, breakers)
        params = {"multiplier": multiplier, "base": base, "allowed_length": allowed, "last_n": last_n, "breakers": breakers}
        # one power and one difference in float32
        out = case(args, op, name, params, source(args, "init_dry"), inputs, each_row(make), fixed=(2e-6, 2e-6))
        off = name in ("off", "last_none", "short_text")
        assert torch.equal(out["logits"], inputs["logits"]) == off, name


def mirostat(args):
    """Several steps of one sequence. The tokens are llama.cpp's, by its own generator; the state after each is read from its memory."""
    op = "sampling.select.mirostat"
    table = {  # version, tau, eta, estimate, vocabulary, steps, hidden
        "2_usual": (2, 3.0, 0.1, 0, 40, 12, 0), "2_fast": (2, 2.0, 0.8, 0, 25, 12, 0), "2_low": (2, 0.2, 0.3, 0, 12, 10, 0),
        "2_masked": (2, 2.0, 0.3, 0, 20, 8, 8), "2_one_token": (2, 2.0, 0.3, 0, 1, 4, 0), "1_usual": (1, 3.0, 0.1, 100, 60, 12, 0),
        "1_fast": (1, 2.0, 0.8, 100, 30, 12, 0), "1_few": (1, 2.5, 0.3, 5, 40, 10, 0), "1_masked": (1, 2.0, 0.3, 100, 30, 8, 10),
    }
    for name, (version, tau, eta, estimate, vocab, steps, hidden) in table.items():
        def make():
            if version == 1:
                return Sampler("mirostat", vocab, 7, tau, eta, estimate), 12
            return Sampler("mirostat_v2", 7, tau, eta), 8

        for attempt in range(1000):
            rng = generator(args.seed, f"{op}/{name}/{attempt}")
            logits = scores(rng, steps, vocab, 1.5, hidden)
            sampler, at = make()
            assert sampler.floats(at, 2) == struct.unpack("2f", struct.pack("2f", tau, eta))
            mu_at = at + (12 if version == 1 else 8)
            assert sampler.floats(mu_at, 1)[0] == struct.unpack("f", struct.pack("f", 2 * tau))[0]
            tokens, states, rows, good = [], [], [], True
            for row in logits:
                mu = sampler.floats(mu_at, 1)[0]
                left, chosen = sampler.apply(row)
                out = torch.full_like(row, -INF)
                for token, logit in left:
                    out[token] = logit
                rows.append(out)
                tokens.append(left[chosen][0])
                states.append(sampler.floats(mu_at, 1)[0])
                alive = row[row > -INF].double().sort(descending=True).values
                p = alive.softmax(-1)
                if version == 2:
                    good = good and clear(-p.log2(), mu, 1e-3)
                elif len(alive) > 1:
                    i = torch.arange(1, min(estimate, len(p)), dtype=torch.float64)
                    t, b = ((i + 1) / i).log(), (p[: len(i)] / p[1: len(i) + 1]).log()
                    s = (t * b).sum() / (t * t).sum()
                    k = (((s - 1) * 2.0**mu) / (1 - vocab ** (1 - s))) ** (1 / s)
                    good = good and abs(s - 1) > 0.05 and abs(k - k.round()) > 1e-2
                    assert len(left) == max(1, min(int(k), len(alive))) or not good
            sampler.close()
            if good:
                break
        else:
            raise AssertionError(name)
        inputs = {"logits": logits, "tokens": torch.tensor(tokens)}
        outputs = {"logits": torch.stack(rows), "mu": torch.tensor(states)}
        params = {"version": version, "tau": tau, "eta": eta} | ({"n_estimate": estimate} if version == 1 else {})
        # the state is a sum of twelve surprises at most, each with the error of a softmax and a logarithm
        case(args, op, name, params, source(args, f"init_mirostat{'_v2' if version == 2 else ''}"), inputs, lambda x: outputs, fixed=(1e-5, 1e-5))


def adaptive_p(args):
    op = "sampling.select.adaptive_p"
    table = {  # target, decay, vocabulary, steps, hidden
        "usual": (0.3, 0.9, 12, 10, 0), "no_memory": (0.5, 0.0, 8, 6, 0), "low": (0.02, 0.5, 20, 8, 0), "high": (1.0, 0.8, 6, 8, 0),
        "zero": (0.0, 0.8, 6, 8, 0), "masked": (0.3, 0.9, 12, 6, 5), "one_token": (0.3, 0.9, 1, 3, 0),
    }
    state_at = 16 + 5000  # after four numbers of 4 bytes and the generator
    for name, (target, decay, vocab, steps, hidden) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        logits = scores(rng, steps, vocab, 1.5, hidden)
        sampler = Sampler("adaptive_p", target, decay, 7)
        weight = 1 / (1 - struct.unpack("f", struct.pack("f", decay))[0])
        found = sampler.floats(state_at, 2)
        assert abs(found[0] - target * weight) < 1e-4 and abs(found[1] - weight) < 1e-4, found
        tokens, states, rows, sums = [], [], [], [target / (1 - decay), 1 / (1 - decay)]
        truth = []
        for row in logits:
            left, chosen = sampler.apply(row)
            out = torch.full_like(row, -INF)
            for token, logit in left:
                out[token] = logit
            rows.append(out)
            tokens.append(left[chosen][0])
            sampler.accept(tokens[-1:])
            states.append(sampler.floats(state_at, 2))
            p = row.double().softmax(-1)
            preferred = min(max(2 * target - sums[0] / sums[1], 0.0), 1.0)
            d = (p - preferred).abs() / 0.3
            truth.append(torch.where(row > -INF, 5 - 10 * d * d / (1 + d), -INF))
            sums = [p[tokens[-1]].item() + decay * sums[0], 1 + decay * sums[1]]
        sampler.close()
        inputs = {"logits": logits, "tokens": torch.tensor(tokens)}
        single = {"logits": torch.stack(rows), "weighted_sum": torch.tensor(states)[:, 0], "total_weight": torch.tensor(states)[:, 1]}
        wide = {k: v.double() for k, v in single.items()} | {"logits": torch.stack(truth)}
        params = {"target": target, "decay": decay}
        run = lambda x: wide if x["logits"].dtype == torch.float64 else single
        # the curve multiplies errors of probabilities by up to 10 / 0.3
        case(args, op, name, params, source(args, "init_adaptive_p"), inputs, run, fixed=(2e-5, 2e-5))


CHAIN = ["penalties", "top_n_sigma", "top_k", "top_p", "min_p", "temperature"]


def chain(args):
    op = "sampling.chain.llama_cpp"
    table = {  # settings, batch, vocabulary, spread
        "defaults": ({"top_k": 40, "top_p": 0.95, "min_p": 0.05, "temperature": 0.8}, 3, 60, 2.0),
        "temperature_is_last": ({"top_p": 0.8, "temperature": 0.5}, 3, 12, 1.0), "top_k_exact": ({"top_k": 3}, 2, 9, 2.0),
        "top_k_more_than_vocabulary": ({"top_k": 99, "temperature": 1.5}, 2, 9, 2.0), "top_k_of_ties": ({"top_k": 2}, 2, 6, 0.0),
        "top_p_of_top_k": ({"top_k": 5, "top_p": 0.6}, 3, 20, 1.0), "min_p_first": ({"min_p": 0.2, "temperature": 1.3}, 3, 15, 1.0),
        "temperature_only": ({"temperature": 0.3}, 2, 10, 2.0), "hot": ({"top_k": 10, "top_p": 0.9, "min_p": 0.1, "temperature": 3.0}, 3, 30, 1.0),
        "one_token": ({"top_k": 1, "top_p": 0.1, "min_p": 0.9, "temperature": 2.0}, 2, 11, 1.0),
        "penalties_first": ({"last_n": 8, "repetition_penalty": 1.3, "frequency_penalty": 0.2, "presence_penalty": 0.4, "top_k": 6, "top_p": 0.8,
                             "min_p": 0.05, "temperature": 0.7}, 3, 12, 1.0),
        "top_n_sigma_before_top_k": ({"top_n_sigma": 1.2, "top_k": 8, "top_p": 0.9, "temperature": 0.9}, 3, 40, 2.0),
        "wide": ({"top_k": 40, "top_p": 0.95, "min_p": 0.02, "temperature": 0.9}, 1, 300, 2.0),
    }

    def samplers(settings, vocab):
        yield "penalties", lambda: Sampler("penalties", vocab, settings.get("last_n", 64), settings.get("repetition_penalty", 1.0),
                                           settings.get("frequency_penalty", 0.0), settings.get("presence_penalty", 0.0))
        if "top_n_sigma" in settings:
            yield "top_n_sigma", lambda: Sampler("top_n_sigma", settings["top_n_sigma"])
        if "top_k" in settings:
            yield "top_k", lambda: Sampler("top_k", settings["top_k"])
        if "top_p" in settings:
            yield "top_p", lambda: Sampler("top_p", settings["top_p"], 1)
        if "min_p" in settings:
            yield "min_p", lambda: Sampler("min_p", settings["min_p"], 1)
        if "temperature" in settings:
            yield "temperature", lambda: Sampler("temp", settings["temperature"])

    for name, (settings, batch, vocab, spread) in table.items():
        def run(x):
            rows = []
            for row, ids in zip(x["logits"].float(), x["input_ids"]):
                for _, make in samplers(settings, vocab):
                    sampler = make()
                    sampler.accept(ids)
                    row = sampler.row(row)
                    sampler.close()
                rows.append(row)
            return {"logits": torch.stack(rows)}

        def good(row, ids):
            for kind, make in samplers(settings, vocab):
                alive = row[row > -INF].double()
                p = alive.sort(descending=True).values.softmax(-1)
                if kind == "top_n_sigma" and not clear(alive - alive.max(), -settings["top_n_sigma"] * alive.std(correction=0).item()):
                    return False
                if kind == "top_p" and not clear(p.cumsum(-1)[:-1], settings["top_p"]):
                    return False
                if kind == "min_p" and not clear(p / p[0], settings["min_p"]):
                    return False
                sampler = make()
                sampler.accept(ids)
                row = sampler.row(row)
                sampler.close()
            return True

        for attempt in range(1000):
            rng = generator(args.seed, f"{op}/{name}/{attempt}")
            ids = torch.randint(0, vocab, (batch, 9), generator=rng)
            logits = scores(rng, batch, vocab, spread) if spread else torch.tensor([[1.0, 3, 2, 3, 3, 0], [2.0, 2, 2, 2, 2, 2]])
            if all(good(row, i) for row, i in zip(logits, ids)):
                break
        else:
            raise AssertionError(name)
        if name == "top_k_of_ties":
            # llama.cpp keeps two of the largest, but which is up to its sort; ours are the lowest ids.
            assert [sorted(token for token, _ in Sampler("top_k", 2).apply(row)[0]) for row in logits] == [[1, 3], [0, 1]]
        params = settings | {"order": [kind for kind in CHAIN if kind == "penalties" or kind in settings]}
        # one division, or a few operations of the penalties
        case(args, op, name, params, source(args, "apply of a chain in the default order"), {"input_ids": ids, "logits": logits}, run,
             fixed=(1e-6, 1e-6) if "last_n" in settings else (3e-7, 0.0))


def generate(args):
    """Writes the files, or says why not."""
    if not available():
        print("sampling_llama_cpp: llama-cpp-python is not installed; the vectors of llama.cpp stay as they are "
              "(pip install --requirement xtask/peers/requirements.txt)", file=sys.stderr)
        return
    penalties(args)
    logit_bias(args)
    dynamic_temperature(args)
    filters(args)
    dry(args)
    mirostat(args)
    adaptive_p(args)
    chain(args)


if __name__ == "__main__":
    generate(arguments("sampling"))
