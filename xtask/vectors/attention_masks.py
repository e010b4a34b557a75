"""What the generators of attention share: which keys a query sees, and the names of the libraries."""

import torch
import transformers

TORCH = f"torch {torch.__version__.split('+')[0]}"
TRANSFORMERS = f"transformers {transformers.__version__}"


def visible(causal, seq, kv_seq, left=None, right=None):
    """True where query i may attend to key j. A window without a causal mask is at the bottom right."""
    i, j = torch.arange(seq)[:, None], torch.arange(kv_seq)[None, :]
    distance = j - (i if causal == "top_left" else i + kv_seq - seq)
    mask = torch.ones(seq, kv_seq, dtype=torch.bool) if causal is None else distance <= 0
    if left is not None:
        mask &= -left <= distance
    if right is not None:
        mask &= distance <= right
    return mask
