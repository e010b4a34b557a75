"""Test vectors of training: losses, AdamW, learning-rate schedules, gradient clipping.

Library versions: torch 2.15.0, transformers 5.23.0 (see requirements.txt).
"""

import torch
import transformers
from common import arguments, case, generator, gradients
from torch.nn.functional import cross_entropy
from transformers.loss.loss_utils import ForCausalLMLoss

TORCH = f"torch {torch.__version__.split('+')[0]}"
HF = f"transformers {transformers.__version__}"


def losses(args):
    op = "training.cross_entropy"
    source = f"{TORCH} torch.nn.functional.cross_entropy"
    # name: rows, vocabulary, reduction, smoothing, class weights, ignore index, spread of the logits, ignored share
    table = {
        "mean": (7, 11, "mean", 0.0, False, -100, 2.0, 0.3),
        "sum": (5, 13, "sum", 0.0, False, -100, 2.0, 0.3),
        "none": (6, 9, "none", 0.0, False, -100, 2.0, 0.3),
        "mean_smoothed": (8, 17, "mean", 0.1, False, -100, 3.0, 0.4),
        "sum_smoothed": (3, 5, "sum", 0.25, False, -100, 1.0, 0.0),
        "mean_weighted": (9, 7, "mean", 0.0, True, -100, 2.0, 0.3),
        "mean_weighted_smoothed": (9, 7, "mean", 0.15, True, -100, 2.0, 0.3),
        "none_weighted_smoothed": (6, 10, "none", 0.3, True, -100, 2.0, 0.4),
        "ignore_class": (10, 6, "mean", 0.0, False, 3, 2.0, 0.3),
        "one_row_one_class": (1, 1, "mean", 0.0, False, -100, 2.0, 0.0),
        "one_row": (1, 31, "mean", 0.0, False, -100, 2.0, 0.0),
        "large_logits": (6, 12, "mean", 0.0, False, -100, 60.0, 0.2),
        "sum_all_ignored": (4, 6, "sum", 0.0, False, -100, 2.0, 1.1),
        "wide": (3, 257, "mean", 0.05, False, -100, 4.0, 0.3),
    }
    for name, (rows, vocab, reduction, smoothing, weighted, ignore, spread, share) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        labels = torch.randint(0, vocab, (rows,), generator=rng)
        labels[torch.rand(rows, generator=rng) < share] = ignore
        if share < 1:
            labels[-1] = 0
        logits = torch.randn(rows, vocab, generator=rng) * spread
        if name == "large_logits":
            logits += 300.0
        inputs = {"labels": labels, "logits": logits}
        inputs["dout"] = torch.rand(rows if reduction == "none" else 1, generator=rng) - 1.3
        if weighted:
            inputs["weight"] = 0.2 + torch.rand(vocab, generator=rng)

        def run(x):
            def loss(y):
                value = cross_entropy(y["logits"], y["labels"], weight=y.get("weight"), ignore_index=ignore,
                                      reduction=reduction, label_smoothing=smoothing)
                return {"loss": value.reshape(-1)}
            outputs, grads = gradients(loss, x, ["logits"], {"loss": x["dout"]})
            return outputs | {"dlogits": grads["logits"]}

        params = {"class_weights": weighted, "ignore_index": ignore, "label_smoothing": smoothing, "reduction": reduction}
        # A loss is a difference of numbers of the size of the logits: some units in the last place of those.
        floors = (1e-5, 2e-5) if name == "large_logits" else (2e-6, 1e-6)
        case(args, op, name, params, source, inputs, run, floor=floors[0], atol_floor=floors[1])

    op = "training.causal_lm_loss"
    source = f"{HF} transformers.loss.loss_utils.ForCausalLMLoss"
    # name: batch, seq, vocabulary, items in the batch, ignore index
    table = {
        "mean": (2, 6, 13, None, -100),
        "num_items": (3, 5, 9, 7, -100),
        "num_items_large": (1, 9, 23, 40, -100),
        "ignore_zero": (2, 7, 8, None, 0),
        "two_tokens": (1, 2, 5, None, -100),
    }
    for name, (batch, seq, vocab, items, ignore) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        labels = torch.randint(1, vocab, (batch, seq), generator=rng)
        labels[torch.rand(batch, seq, generator=rng) < 0.35] = ignore
        labels[0, 0], labels[-1, -1] = 1, 2  # the first label is never a target, the last one is
        inputs = {"labels": labels, "logits": 2 * torch.randn(batch, seq, vocab, generator=rng)}

        def run(x):
            # The library casts logits to float32; in a float64 run that cast is skipped.
            logits = x["logits"].clone().requires_grad_(True)
            logits.float = lambda: logits
            loss = ForCausalLMLoss(logits, x["labels"], vocab, num_items_in_batch=items, ignore_index=ignore)
            (dlogits,) = torch.autograd.grad(loss, [logits])
            return {"loss": loss.detach().reshape(1), "dlogits": dlogits}

        params = {"ignore_index": ignore, "num_items_in_batch": items,
                  "shift": "labels move left by one, last position ignored"}
        case(args, op, name, params, source, inputs, run, atol_floor=5e-7)


def adamw(args):
    op = "training.adamw"
    source = f"{TORCH} torch.optim.AdamW (single tensor)"
    # name: shape, steps, lr, betas, eps, weight decay, options, scale of the gradients
    table = {
        "default": ((3, 5), 5, 1e-3, (0.9, 0.999), 1e-8, 1e-2, {}, 1.0),
        "no_decay": ((2, 7), 4, 1e-2, (0.9, 0.999), 1e-8, 0.0, {}, 1.0),
        "strong_decay": ((4, 3), 6, 3e-2, (0.8, 0.95), 1e-6, 0.3, {}, 0.5),
        "large_eps": ((3, 3), 4, 1e-2, (0.9, 0.99), 1e-1, 1e-2, {}, 0.05),
        "tiny_gradients": ((2, 5), 5, 1e-3, (0.9, 0.999), 1e-8, 1e-2, {}, 1e-6),
        "zero_betas": ((3, 4), 3, 1e-2, (0.0, 0.0), 1e-8, 1e-2, {}, 1.0),
        "some_zero_gradients": ((3, 4), 4, 1e-2, (0.9, 0.999), 1e-8, 1e-1, {}, 1.0),
        "one_value_one_step": ((1, 1), 1, 1e-3, (0.9, 0.999), 1e-8, 1e-2, {}, 1.0),
        "amsgrad": ((3, 5), 6, 1e-2, (0.9, 0.9), 1e-8, 1e-2, {"amsgrad": True}, 1.0),
        "maximize": ((3, 4), 4, 1e-2, (0.9, 0.999), 1e-8, 1e-2, {"maximize": True}, 1.0),
        "amsgrad_maximize": ((2, 3), 5, 5e-3, (0.7, 0.8), 1e-8, 1e-1, {"amsgrad": True, "maximize": True}, 1.0),
    }
    for name, (shape, steps, lr, betas, eps, decay, options, scale) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        grads = scale * torch.randn(steps, *shape, generator=rng)
        if options.get("amsgrad"):
            grads[0] *= 4  # the running maximum must matter
        if name == "some_zero_gradients":
            grads[:, 0] = 0
            grads[0] = 0
        inputs = {"grads": grads, "param": torch.randn(*shape, generator=rng)}

        def run(x):
            parameter = torch.nn.Parameter(x["param"].clone())
            optimizer = torch.optim.AdamW([parameter], lr=lr, betas=betas, eps=eps, weight_decay=decay,
                                          foreach=False, fused=False, **options)
            seen = []
            for grad in x["grads"]:
                parameter.grad = grad.clone()
                optimizer.step()
                seen.append(parameter.detach().clone())
            state = optimizer.state[parameter]
            outputs = {"params": torch.stack(seen), "m": state["exp_avg"], "v": state["exp_avg_sq"]}
            if options.get("amsgrad"):
                outputs["max_v"] = state["max_exp_avg_sq"]
            return outputs

        params = {"betas": list(betas), "eps": eps, "lr": lr, "steps": steps, "weight_decay": decay} | options
        # m and v may be far below 1 while the parameters are not: atol follows the smallest moment.
        case(args, op, name, params, source, inputs, run)


def schedules(args):
    op = "training.lr_schedule"
    source = f"{HF} transformers.optimization.get_scheduler with torch LambdaLR"
    table = {
        "constant": ("constant", 3e-4, None, None, {}),
        "constant_with_warmup": ("constant_with_warmup", 1e-3, 7, None, {}),
        "constant_with_warmup_zero": ("constant_with_warmup", 1e-3, 0, None, {}),
        "linear": ("linear", 5e-5, 10, 43, {}),
        "linear_no_warmup": ("linear", 2e-4, 0, 17, {}),
        "linear_all_warmup": ("linear", 2e-4, 9, 9, {}),
        "cosine": ("cosine", 1e-3, 10, 57, {}),
        "cosine_no_warmup": ("cosine", 6e-4, 0, 23, {}),
        "cosine_one_step_warmup": ("cosine", 1e-2, 1, 12, {}),
        "cosine_warmup_past_end": ("cosine", 1e-3, 8, 5, {}),
        "cosine_full_cycle": ("cosine", 1e-3, 4, 29, {"num_cycles": 1.0}),
        "cosine_quarter_cycle": ("cosine", 1e-3, 3, 31, {"num_cycles": 0.25}),
    }
    for name, (kind, base, warmup, total, options) in table.items():
        steps = torch.arange(0, (total or 20) + 9)

        def run(x):
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
            scheduler = transformers.get_scheduler(kind, optimizer, num_warmup_steps=warmup, num_training_steps=total,
                                                   scheduler_specific_kwargs=options or None)
            rates = []
            for _ in x["step"]:
                rates.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                scheduler.step()
            return {"lr_f64": torch.tensor(rates, dtype=torch.float64)}

        params = {"base_lr": base, "name": kind}
        if warmup is not None:
            params["num_warmup_steps"] = warmup
        if total is not None:
            params["num_training_steps"] = total
        if kind == "cosine":
            params["num_cycles"] = options.get("num_cycles", 0.5)
        # Pure float64: some units in the last place; near the end of a cosine 1 + cos cancels.
        case(args, op, name, params, source, {"step": steps}, run, fixed=(4e-15, 4e-16 * base))


def clipping(args):
    op = "training.clip_grad_norm"
    source = f"{TORCH} torch.nn.utils.clip_grad_norm_"
    shapes = {"grad0": (3, 4), "grad1": (5,), "grad2": (7,)}
    # name: how many gradients, max norm, norm type, scale of the gradients
    table = {
        "clips": (3, 1.0, 2.0, 1.0),
        "leaves": (3, 100.0, 2.0, 1.0),
        "one_array": (1, 0.5, 2.0, 1.0),
        "tiny": (2, 1.0, 2.0, 1e-7),
        "tiny_limit": (2, 1e-6, 2.0, 1e-6),
        "large": (2, 1.0, 2.0, 1e12),
        "zero": (2, 1.0, 2.0, 0.0),
        "max_norm_zero": (2, 0.0, 2.0, 1.0),
        "inf_norm": (3, 0.7, "inf", 1.0),
        "inf_norm_leaves": (2, 9.0, "inf", 1.0),
        "one_norm": (2, 2.0, 1.0, 1.0),
        "three_norm": (3, 0.9, 3.0, 1.0),
    }
    for name, (count, limit, kind, scale) in table.items():
        rng = generator(args.seed, f"{op}/{name}")
        inputs = {k: scale * torch.randn(*shapes[k], generator=rng) for k in list(shapes)[:count]}

        def run(x):
            leaves = {k: torch.nn.Parameter(torch.zeros_like(v)) for k, v in x.items()}
            for key, leaf in leaves.items():
                leaf.grad = x[key].clone()
            norm = torch.nn.utils.clip_grad_norm_(leaves.values(), limit, norm_type=float(kind), foreach=False)
            return {k: v.grad for k, v in leaves.items()} | {"norm": norm.reshape(1)}

        params = {"factor": "min(1, max_norm / (norm + 1e-6))", "max_norm": limit, "norm_type": kind}
        case(args, op, name, params, source, inputs, run)

    op = "training.clip_grad_value"
    source = f"{TORCH} torch.nn.utils.clip_grad_value_"
    for name, count, limit, scale in [("three", 3, 0.5, 1.0), ("one", 1, 1.5, 2.0), ("zero_limit", 2, 0.0, 1.0),
                                      ("leaves", 2, 50.0, 1.0)]:
        rng = generator(args.seed, f"{op}/{name}")
        inputs = {k: scale * torch.randn(*shapes[k], generator=rng) for k in list(shapes)[:count]}

        def run(x):
            leaves = {k: torch.nn.Parameter(torch.zeros_like(v)) for k, v in x.items()}
            for key, leaf in leaves.items():
                leaf.grad = x[key].clone()
            torch.nn.utils.clip_grad_value_(leaves.values(), limit, foreach=False)
            return {k: v.grad for k, v in leaves.items()}

        case(args, op, name, {"clip_value": limit}, source, inputs, run, exact=True)


def main():
    args = arguments("training")
    losses(args)
    adamw(args)
    schedules(args)
    clipping(args)


if __name__ == "__main__":
    main()
