"""Test vectors of quant: states of single layers, and whole checkpoints, as bitsandbytes and transformers save them on the CPU.

Library versions: torch 2.15.0, bitsandbytes 0.50.2, transformers 5.23.0, safetensors 0.8.0 (see requirements.txt).

`checkpoint_base/` is a small model that is not quantized, `checkpoint_dir/<case>/` what transformers makes of it, with
`expected.safetensors`: each quantized weight under its name as the library dequantizes it.
"""

import contextlib
import json
import shutil

import bitsandbytes
import bitsandbytes.functional as F
import torch
import transformers
from common import arguments, generator, save, tolerance
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

BNB = f"bitsandbytes {bitsandbytes.__version__}"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "uint8": torch.uint8,
          "int8": torch.int8, "float64": torch.float64}

# name -> (d_out, d_in, block, dtype, nested, storage, bias)
LAYERS = {
    "plain": (6, 16, 64, "float32", False, "uint8", True),
    "nested": (12, 40, 32, "float32", True, "uint8", True),
    "nested_twice": (270, 32, 32, "bfloat16", True, "uint8", False),
    "odd": (5, 7, 64, "float32", False, "uint8", False),
    "odd_nested": (7, 11, 32, "float16", True, "uint8", True),
    "one_scale": (4, 8, 64, "float32", True, "uint8", False),
    "one": (1, 1, 64, "float32", False, "uint8", False),
    "zeros": (3, 30, 64, "float32", True, "uint8", False),
    "tiny": (4, 32, 64, "float32", True, "uint8", False),
    "small": (4, 32, 64, "float32", True, "uint8", False),  # its offset has an exponent of one digit
    "as_bfloat16": (8, 16, 64, "bfloat16", False, "bfloat16", False),
    "as_float16": (8, 16, 32, "float16", True, "float16", True),
    "as_float32": (8, 16, 64, "float32", True, "float32", False),
    "as_float64": (8, 16, 64, "float32", False, "float64", False),
    "as_int8": (3, 6, 64, "float32", False, "int8", False),
    "block_128": (9, 16, 128, "bfloat16", True, "uint8", False),
    "block_256": (9, 32, 256, "float16", False, "uint8", False),
    "block_512": (9, 64, 512, "bfloat16", True, "uint8", False),
    "block_1024": (17, 64, 1024, "float16", True, "uint8", False),
    "block_2048": (33, 64, 2048, "bfloat16", False, "uint8", False),
    "block_4096": (65, 64, 4096, "bfloat16", True, "uint8", False),
}


def layers(args):
    op = "quant.linear4bit.state_dict"
    for label, (d_out, d_in, block, dtype, nested, storage, has_bias) in LAYERS.items():
        for quant_type in ("nf4", "fp4") if label != "nested_twice" else ("nf4",):
            name = f"{quant_type}_{label}"
            rng = generator(args.seed, f"{op}/{name}")
            weight = torch.randn([d_out, d_in], generator=rng) * 0.5
            if label == "zeros":
                weight.zero_()
            elif label == "tiny":
                weight *= 1e-12
            elif label == "small":
                weight *= 1e-6
            weight = weight.to(DTYPES[dtype])
            bias = torch.randn([d_out], generator=rng) if has_bias else None
            inputs = {"weight": weight, "x": torch.randn([2, 3, d_in], generator=rng),
                      "dout": torch.randn([2, 3, d_out], generator=rng)}
            module = bitsandbytes.nn.Linear4bit(
                d_in, d_out, bias=has_bias, compute_dtype=torch.float32, compress_statistics=nested,
                quant_type=quant_type, quant_storage=DTYPES[storage],
            )
            # The module has no argument for the block size; its weight has.
            module.weight = bitsandbytes.nn.Params4bit(
                weight.clone(), requires_grad=False, quant_type=quant_type, blocksize=block,
                compress_statistics=nested, quant_storage=DTYPES[storage], module=module,
            )
            if has_bias:
                inputs["bias"] = bias
                module.bias.data = bias.clone()
            module = module.to("cpu")
            state = {k: v.clone() for k, v in module.state_dict().items()}
            # With a single axis of an even length the library would add another axis.
            back = F.dequantize_4bit(module.weight.data, module.weight.quant_state).reshape(weight.shape)
            x = inputs["x"].clone().requires_grad_()
            y = module(x)
            outputs = {f"state.{k}": v for k, v in state.items()} | {"dequantised": back, "y_library": y.detach()}

            def product(wide, back=back, has_bias=has_bias):
                y = wide["x"] @ back.to(wide["x"].dtype).T
                return {"y": y + wide["bias"] if has_bias else y, "dx": wide["dout"] @ back.to(wide["x"].dtype)}

            wide = {k: v.double() for k, v in inputs.items()}
            single, double = product({k: v.float() for k, v in inputs.items()}), product(wide)
            rtol, atol = tolerance(single, double) if label not in ("zeros", "tiny", "small") else (2e-6, 1e-6)
            params = {"blocksize": block, "compress_statistics": nested, "dtype": dtype, "in_features": d_in,
                      "out_features": d_out, "quant_storage": storage, "quant_type": quant_type}
            tensors = {f"in.{k}": v for k, v in inputs.items()}
            tensors |= {f"out.{k}": v for k, v in (outputs | single).items()}
            metadata = {"op": op, "params": json.dumps(params, sort_keys=True), "rtol": f"{rtol:g}",
                        "atol": f"{atol:g}", "source": f"{BNB} Linear4bit.state_dict, dequantize_4bit, CPU"}
            path = args.out / "linear4bit.state_dict" / f"{name}.safetensors"
            save(path, tensors, metadata)
            print(f"{path.parent.name}/{name}: {path.stat().st_size} bytes")


CHECKPOINTS = {
    "nf4_nested_shards": (dict(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                               bnb_4bit_compute_dtype=torch.bfloat16), "4KB"),
    "fp4_as_bfloat16": (dict(load_in_4bit=True, bnb_4bit_quant_storage=torch.bfloat16), "5GB"),
    "int8": (dict(load_in_8bit=True, llm_int8_threshold=4.0), "5GB"),
    "int8_shards": (dict(load_in_8bit=True, llm_int8_skip_modules=["lm_head", "down_proj"]), "4KB"),
}


def checkpoints(args):
    base = args.out / "checkpoint_base"
    shutil.rmtree(base, ignore_errors=True)
    config = LlamaConfig(
        vocab_size=24, hidden_size=32, intermediate_size=40, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    rng = generator(args.seed, "quant.checkpoint_dir")
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=rng) * 0.2)
    model.save_pretrained(base)
    for case, (options, shard) in CHECKPOINTS.items():
        folder = args.out / "checkpoint_dir" / case
        shutil.rmtree(folder, ignore_errors=True)
        config = BitsAndBytesConfig(**options)
        quantized = AutoModelForCausalLM.from_pretrained(base, quantization_config=config, device_map="cpu")
        quantized.save_pretrained(folder, max_shard_size=shard)
        (folder / "generation_config.json").unlink(missing_ok=True)
        expected = {}
        for name, module in quantized.named_modules():
            if isinstance(module, bitsandbytes.nn.Linear4bit):
                expected[f"{name}.weight"] = F.dequantize_4bit(module.weight.data, module.weight.quant_state)
            elif isinstance(module, bitsandbytes.nn.Linear8bitLt):
                expected[f"{name}.weight"] = F.int8_vectorwise_dequant(module.weight.data, module.weight.SCB)
        save(folder / "expected.safetensors", expected, {"source": f"{BNB}, transformers {transformers.__version__}"})
        print(f"checkpoint_dir/{case}: {sum(p.stat().st_size for p in folder.iterdir())} bytes")
    (base / "generation_config.json").unlink(missing_ok=True)
    # Readable by everybody, whatever the mode that the library gives new files.
    for path in [*base.iterdir(), *(args.out / "checkpoint_dir").glob("*/*")]:
        with contextlib.suppress(OSError):
            path.chmod(0o644)


def write(args):
    transformers.utils.logging.disable_progress_bar()
    layers(args)
    checkpoints(args)


if __name__ == "__main__":
    write(arguments("quant"))
