"""Sinusoidal and learned positions.

Library versions: torch 2.15.0, transformers 5.23.0 (see requirements.txt).

Each table comes from a module of transformers. The float64 run behind its tolerance is the formula of the paper, since
the modules choose their precision themselves: what is measured is how far the library's angles are off.
"""

import torch
import transformers
from common import case, generator, gradients
from transformers.models.conditional_detr import modeling_conditional_detr
from transformers.models.m2m_100 import modeling_m2m_100
from transformers.models.marian import modeling_marian
from transformers.models.opt import modeling_opt
from transformers.models.roberta import modeling_roberta
from transformers.models.rt_detr import modeling_rt_detr
from transformers.models.speecht5 import modeling_speecht5
from transformers.models.whisper import modeling_whisper
from transformers.models.xlm import modeling_xlm

HF = f"transformers {transformers.__version__} models"


def marian(positions, dim, base, padding):
    """Half-split, 2i/d, float64 inside. Takes a padding index and does nothing with it."""
    return modeling_marian.MarianSinusoidalPositionalEmbedding(positions, dim).create_weight()


def m2m_100(positions, dim, base, padding):
    """Half-split, i/(d/2-1), float32 inside, a row of zeros for the padding."""
    return modeling_m2m_100.M2M100SinusoidalPositionalEmbedding.get_embedding(positions, dim, padding)


def whisper(positions, dim, base, padding):
    """Half-split, i/(d/2-1), float32 inside, any base."""
    return modeling_whisper.sinusoids(positions, dim, base)


def rt_detr(positions, dim, base, padding):
    """Half-split, 2i/d, float64 inside, any base: the part of the column in an image of one row."""
    return modeling_rt_detr.build_2d_sinusoidal_position_embedding(1, positions, 2 * dim, base)[:, dim:]


def xlm(positions, dim, base, padding):
    """Interleaved, 2i/d, float64 inside."""
    return modeling_xlm.create_sinusoidal_embeddings(positions, dim, torch.empty(positions, dim))


def speecht5(positions, dim, base, padding):
    """Interleaved, 2i/d, float32 inside."""
    return modeling_speecht5.SpeechT5ScaledPositionalEncoding(0.0, dim, positions).pe[0]


def conditional_detr(positions, dim, base, padding):
    """Interleaved, 2i/d, float32 inside, any base. It multiplies positions by 2 pi, so they are divided by it."""
    place = torch.arange(positions, dtype=torch.float64)[:, None] / (2 * torch.pi)
    return modeling_conditional_detr.encode_sinusoidal_position_embedding(place, dim, base).float()


SOURCES = {
    marian: ("marian.modeling_marian.MarianSinusoidalPositionalEmbedding.create_weight", "half_split", "2i/d"),
    m2m_100: ("m2m_100.modeling_m2m_100.M2M100SinusoidalPositionalEmbedding.get_embedding", "half_split", "i/(d/2-1)"),
    whisper: ("whisper.modeling_whisper.sinusoids", "half_split", "i/(d/2-1)"),
    rt_detr: ("rt_detr.modeling_rt_detr.build_2d_sinusoidal_position_embedding", "half_split", "2i/d"),
    xlm: ("xlm.modeling_xlm.create_sinusoidal_embeddings", "interleaved", "2i/d"),
    speecht5: ("speecht5.modeling_speecht5.SpeechT5ScaledPositionalEncoding", "interleaved", "2i/d"),
    conditional_detr: ("conditional_detr.modeling_conditional_detr.encode_sinusoidal_position_embedding", "interleaved",
                       "2i/d"),
}


def formula(positions, dim, base, padding, layout, exponent):
    """The table in float64."""
    half = dim // 2 if exponent == "i/(d/2-1)" else (dim + 1) // 2
    i = torch.arange(half, dtype=torch.float64)
    power = i / (half - 1) if exponent == "i/(d/2-1)" else 2 * i / dim
    angle = torch.arange(positions, dtype=torch.float64)[:, None] / base**power
    table = torch.zeros(positions, dim, dtype=torch.float64)
    n_cosines = dim // 2
    if layout == "half_split":
        table[:, :half], table[:, half : half + n_cosines] = angle.sin(), angle.cos()[:, :n_cosines]
    else:
        table[:, 0::2], table[:, 1::2] = angle.sin(), angle.cos()[:, :n_cosines]
    if padding is not None:
        table[padding] = 0
    return table


def sinusoidal(args):
    op = "posenc.sinusoidal.table"
    # name: function, positions, dim, base, padding index
    table = {
        "marian": (marian, 11, 8, 10000.0, None),
        "marian_odd": (marian, 9, 7, 10000.0, None),
        "marian_one_feature": (marian, 5, 1, 10000.0, None),
        "fairseq_padding": (m2m_100, 9, 10, 10000.0, 1),
        "fairseq_odd": (m2m_100, 8, 7, 10000.0, None),
        "fairseq_odd_padding": (m2m_100, 7, 5, 10000.0, 3),
        "fairseq_smallest": (m2m_100, 6, 4, 10000.0, 0),
        "fairseq_long": (m2m_100, 300, 6, 10000.0, 1),
        "whisper": (whisper, 12, 12, 10000.0, None),
        "whisper_base": (whisper, 9, 6, 500.0, None),
        "half_split_base": (rt_detr, 13, 6, 77.0, None),
        "half_split_large_base": (rt_detr, 7, 16, 1e6, None),
        "interleaved": (xlm, 11, 16, 10000.0, None),
        "interleaved_odd": (xlm, 6, 9, 10000.0, None),
        "interleaved_two": (xlm, 40, 2, 10000.0, None),
        "interleaved_single": (speecht5, 20, 12, 10000.0, None),
        "interleaved_base": (conditional_detr, 10, 8, 20.0, None),
    }
    for name, (function, positions, dim, base, padding) in table.items():
        source, layout, exponent = SOURCES[function]

        def run(x):
            if run.first:
                run.first = False
                return {"table": function(positions, dim, base, padding)}
            return {"table": formula(positions, dim, base, padding, layout, exponent)}

        run.first = True
        params = {"base": base, "dim": dim, "exponent": exponent, "layout": layout, "padding_idx": padding,
                  "positions": positions}
        case(args, op, name, params, f"{HF}.{source}", {}, run)


def learned(args):
    op = "posenc.learned.embed"
    ones = torch.ones
    # name: attention mask, past, rows of the table without the offset, width
    table = {
        "plain": (ones(2, 5, dtype=torch.int64), 0, 6, 4),
        "left_padding": (torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]]), 0, 5, 3),
        "right_padding": (torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]]), 0, 5, 3),
        "holes": (torch.tensor([[1, 0, 1, 0, 1, 1]]), 0, 6, 5),
        "all_padding": (torch.tensor([[0, 0, 0], [1, 1, 0]]), 0, 3, 2),
        "past": (torch.tensor([[0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]]), 4, 7, 4),
        "past_one_step": (torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0]]), 3, 4, 7),
        "one_feature": (ones(4, 9, dtype=torch.int64), 0, 9, 1),
    }
    source = f"{HF}.opt.modeling_opt.OPTLearnedPositionalEmbedding"
    for name, (mask, past, rows, width) in table.items():
        module = modeling_opt.OPTLearnedPositionalEmbedding(rows, width)
        rng = generator(args.seed, f"{op}/{name}")
        inputs = {"attention_mask": mask,
                  "table": torch.randn(rows + module.offset, width, generator=rng),
                  "dout": torch.randn(mask.shape[0], mask.shape[1] - past, width, generator=rng)}

        def run(x):
            def forward(y):
                return {"out": torch.func.functional_call(module, {"weight": y["table"]}, (y["attention_mask"], past))}

            outputs, grads = gradients(forward, x, ["table"], {"out": x["dout"]})
            return outputs | {"dtable": grads["table"]}

        params = {"convention": "opt: cumsum(mask)*mask - 1 + 2", "offset": module.offset, "past": past}
        case(args, op, name, params, source, inputs, run)


def position_ids(args):
    op = "posenc.learned.position_ids"
    # name: token ids, padding index, past
    table = {
        "roberta": ([[5, 6, 7, 1, 1], [8, 9, 1, 1, 1]], 1, 0),
        "left_padding": ([[1, 1, 5, 6], [1, 7, 8, 9]], 1, 0),
        "holes": ([[0, 4, 0, 0, 2, 3]], 0, 0),
        "past": ([[5, 6, 1], [1, 7, 8]], 1, 4),
        "past_one_step": ([[12], [3]], 3, 250),
        "all_padding": ([[1, 1, 1]], 1, 2),
        "other_padding_idx": ([[1, 1, 500, 7], [500, 500, 500, 1]], 500, 0),
    }
    function = modeling_roberta.RobertaEmbeddings.create_position_ids_from_input_ids
    source = f"{HF}.roberta.modeling_roberta.RobertaEmbeddings.create_position_ids_from_input_ids"
    for name, (ids, padding, past) in table.items():
        params = {"convention": "roberta: padding_idx + count of non-pad tokens", "padding_idx": padding, "past": past}
        inputs = {"input_ids": torch.tensor(ids)}
        case(args, op, name, params, source, inputs,
             lambda x: {"positions": function(x["input_ids"], padding, past)}, exact=True)


def run(args):
    """Every case of this file."""
    sinusoidal(args)
    learned(args)
    position_ids(args)
