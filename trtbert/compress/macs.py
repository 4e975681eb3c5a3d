"""A model -> its parameters, and the multiplications and additions (MACs) of one text.

MACs are those of the matrix products: what is added, normalised or looked up for each element is left out.
"""

from typing import Any

from torch import nn

from trtbert.checkpoint.students.models import Student
from trtbert.checkpoint.successors import num_pairs
from trtbert.compress.layers import encoder_layers
from trtbert.compress.students_macs import student_macs


def count_parameters(model: nn.Module) -> int:
    """Of all tensors, one that is shared counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: Any, *, length: int) -> int:
    """Of a text of `length` tokens: every linear layer on what it sees, and the two products of attention.

    A linear layer behind the encoder of a classifier sees one token, every other all of them; ALBERT's layer runs as often as
    config.num_hidden_layers says.
    """
    if isinstance(model, Student):
        return student_macs(model, length=length)
    layers = encoder_layers(model)
    repeats = model.config.num_hidden_layers if model.config.model_type == "albert" else 1
    total, inside = 0, set[nn.Module]()
    for layer in layers:
        linears = [module for module in layer.module.modules() if isinstance(module, nn.Linear)]
        inside |= set(linears)
        weights = sum(linear.in_features * linear.out_features for linear in linears)
        total += repeats * (length * weights + 2 * num_pairs(model.config, length) * layer.num_heads * layer.head_size)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module not in inside:
            total += module.in_features * module.out_features * (1 if _sees_one_token(model, name) else length)
    return total


def _sees_one_token(model: Any, name: str) -> bool:
    return "pooler" in name or (type(model).__name__.endswith("ForSequenceClassification") and "embeddings" not in name)
