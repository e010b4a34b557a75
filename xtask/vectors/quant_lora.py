"""Test vectors of quant: products with packed weights and a low-rank update of them, as PEFT computes them on layers of bitsandbytes.

Library versions: torch 2.15.0, bitsandbytes 0.50.2, peft 0.21.2 (see requirements.txt).
"""

import json

import bitsandbytes
import bitsandbytes.functional as F
import peft
import torch
from common import arguments, generator, save, tolerance
from peft import LoraConfig

SOURCE = f"peft {peft.__version__} lora.bnb.Linear4bit on bitsandbytes {bitsandbytes.__version__}, CPU"

# name -> (d_out, d_in, rows of x, block, quant_type, nested, rank, alpha, rank-stabilized)
CASES = {
    "one_row": (12, 64, 1, 64, "nf4", False, 4, 8, False),
    "few_rows": (7, 40, 3, 32, "nf4", True, 2, 16, False),
    "many_rows": (10, 24, 6, 64, "nf4", True, 3, 6, True),
    "fp4": (9, 11, 5, 64, "fp4", False, 1, 1, False),
    "rank_above": (3, 5, 2, 64, "nf4", False, 8, 16, True),
}


class Model(torch.nn.Module):
    is_loaded_in_4bit = True

    def __init__(self, layer):
        super().__init__()
        self.layer = layer


def write(args):
    op = "quant.linear4bit.lora"
    for name, (d_out, d_in, seq, block, quant_type, nested, rank, alpha, stabilized) in CASES.items():
        rng = generator(args.seed, f"{op}/{name}")
        weight = torch.randn([d_out, d_in], generator=rng) * 0.5
        inputs = {
            "weight": weight, "x": torch.randn([seq, d_in], generator=rng), "dout": torch.randn([seq, d_out], generator=rng),
            "lora_A": torch.randn([rank, d_in], generator=rng) * 0.5, "lora_B": torch.randn([d_out, rank], generator=rng) * 0.5,
        }
        layer = bitsandbytes.nn.Linear4bit(
            d_in, d_out, bias=False, compute_dtype=torch.float32, compress_statistics=nested, quant_type=quant_type
        )
        layer.weight = bitsandbytes.nn.Params4bit(
            weight.clone(), requires_grad=False, quant_type=quant_type, blocksize=block, compress_statistics=nested, module=layer
        )
        config = LoraConfig(r=rank, lora_alpha=alpha, use_rslora=stabilized, target_modules=["layer"])
        model = peft.get_peft_model(Model(layer.to("cpu")), config)
        adapted = model.base_model.model.layer
        assert type(adapted).__module__ == "peft.tuners.lora.bnb", type(adapted)
        a, b = adapted.lora_A["default"].weight, adapted.lora_B["default"].weight
        with torch.no_grad():
            a.copy_(inputs["lora_A"])
            b.copy_(inputs["lora_B"])
        x = inputs["x"].clone().requires_grad_()
        y = adapted(x)
        dx, da, db = torch.autograd.grad(y, [x, a, b], inputs["dout"])
        single = {"y": y.detach(), "dx": dx, "dlora_A": da, "dlora_B": db}
        scaling = adapted.scaling["default"]
        base = adapted.get_base_layer().weight
        back = F.dequantize_4bit(base.data, base.quant_state).reshape(weight.shape)

        wide = {k: v.double() for k, v in inputs.items()}
        merged = back.double() + scaling * wide["lora_B"] @ wide["lora_A"]
        both = scaling * wide["dout"].T @ wide["x"]
        double = {"y": wide["x"] @ merged.T, "dx": wide["dout"] @ merged, "dlora_A": wide["lora_B"].T @ both,
                  "dlora_B": both @ wide["lora_A"].T}
        rtol, atol = tolerance(single, double)
        params = {"blocksize": block, "compress_statistics": nested, "lora_alpha": alpha, "quant_type": quant_type, "r": rank,
                  "scaling": scaling, "use_rslora": stabilized}
        tensors = {f"in.{k}": v for k, v in inputs.items()}
        tensors |= {f"out.{k}": v for k, v in (single | {"dequantised": back}).items()}
        metadata = {"op": op, "params": json.dumps(params, sort_keys=True), "rtol": f"{rtol:g}", "atol": f"{atol:g}", "source": SOURCE}
        path = args.out / op.split(".", 1)[1] / f"{name}.safetensors"
        save(path, tensors, metadata)
        print(f"{path.parent.name}/{name}: {path.stat().st_size} bytes, rtol {rtol:g}, atol {atol:g}")


if __name__ == "__main__":
    write(arguments("quant"))
