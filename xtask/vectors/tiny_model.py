"""Token ids of the committed tokenizer file, by Hugging Face's tokenizers and transformers.

Library versions: tokenizers 0.23.3, transformers 5.23.0 (see requirements.txt).

Reads `data/tokenizer.json` of the crate, writes `tokenizer/ids.json`: texts with their ids and with what the ids decode
to; or an error where the library refuses a text. Both libraries must agree. No text here has the name of a control token,
which these libraries would find in it.
"""

import json
import pathlib
import random

import tokenizers
import transformers
from common import arguments

TEXTS = [
    "",
    "\n",
    " ",
    "  two  spaces \n\n and lines\n",
    "现有鸡兔22只,共有48只脚,请问鸡比兔多了几只?",
    "鸡兔同笼，共35个头，94只脚。鸡、兔各有几只？",
    "设鸡有x只，兔有22-x只。\n2x+4*(22-x)=48\nx=20",
    "朝辞白帝彩云间，千里江陵一日还。\n两岸猿声啼不住，轻舟已过万重山。",
    "- 积极主动\n- 乐观向上",
    "There are 22 chickens and rabbits with 48 feet. How many of each?",
    "philosophy, gossip and <s> | [MASK] <|user> <|assistant|",
    "!\"#$%&'()*+,-./0123456789:;<=>?@[\\]^_`{|}~",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "7×8÷2！",
]
REFUSED = ["鸡\t兔", "é", "饕餮", "鸡🐔"]
CONTROL = ["[PAD]", "[gMASK]", "sop", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]


def main():
    args = arguments("tiny-model")
    path = pathlib.Path(__file__).resolve().parents[2] / "crates" / "tiny-model" / "data" / "tokenizer.json"
    plain = tokenizers.Tokenizer.from_file(str(path))
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
    vocabulary = plain.get_vocab()
    ordinary = sorted(token for token in vocabulary if token not in CONTROL)
    draw = random.Random(args.seed)
    texts = TEXTS + ["".join(draw.choices(ordinary, k=24)) for _ in range(6)]

    cases = []
    for text in texts:
        ids = plain.encode(text, add_special_tokens=False).ids
        assert ids == fast.encode(text, add_special_tokens=False), text
        decoded = plain.decode(ids, skip_special_tokens=True)
        assert decoded == fast.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False), text
        cases.append({"text": text, "ids": ids, "decoded": decoded})
    for text in REFUSED:
        try:
            plain.encode(text, add_special_tokens=False)
        except Exception as error:
            cases.append({"text": text, "error": str(error)})
        else:
            raise AssertionError(f"{text!r} should be refused")

    control = {name: plain.token_to_id(name) for name in CONTROL}
    for name, number in control.items():
        assert plain.encode(name).ids == [number], name
        assert plain.decode([number], skip_special_tokens=True) == ""
        assert fast.decode([number], skip_special_tokens=False) == name
    source = f"tokenizers {tokenizers.__version__}, transformers {transformers.__version__}"
    rows = ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in cases)
    out = args.out / "tokenizer" / "ids.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    names = json.dumps(control)
    out.write_text(f'{{\n "source": "{source}",\n "control_tokens": {names},\n "cases": [\n{rows}\n ]\n}}\n')
    print(f"{out}: {len(cases)} cases")


if __name__ == "__main__":
    main()
