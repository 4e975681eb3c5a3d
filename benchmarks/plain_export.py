"""Export an encoder with torch.onnx alone, as the documentation of PyTorch shows it: the baseline of the other scripts."""

import argparse
import warnings
from pathlib import Path

import torch
from transformers import AutoModel
from transformers.utils import logging

NAMES = ["input_ids", "attention_mask", "token_type_ids"]


class LastHiddenState(torch.nn.Module):
    """int64 [batch, sequence] inputs by name -> float32 [batch, sequence, hidden]."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> torch.Tensor:
        hidden_BSD: torch.Tensor = self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        return hidden_BSD


def export(model: Path, output: Path, exporter: str) -> None:
    """`exporter` is dynamo (the default of torch, with SDPA attention) or torchscript (with eager attention)."""
    attention = {"dynamo": "sdpa", "torchscript": "eager"}[exporter]
    module = LastHiddenState(AutoModel.from_pretrained(model, add_pooling_layer=False, attn_implementation=attention)).eval()
    example = tuple(torch.ones((2, 16), dtype=torch.long) for _ in NAMES)
    names = {"input_names": NAMES, "output_names": ["last_hidden_state"]}
    if exporter == "dynamo":
        dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
        torch.onnx.export(module, example, output, dynamo=True, dynamic_shapes=(dims,) * len(NAMES), verbose=False, **names)
        return
    axes = {name: {0: "batch", 1: "sequence"} for name in [*NAMES, "last_hidden_state"]}
    torch.onnx.export(module, example, output, dynamo=False, dynamic_axes=axes, **names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/plain_export.py my-model/ my-model.onnx")
    parser.add_argument("model", type=Path, help="model folder")
    parser.add_argument("output", type=Path, help=".onnx file to write")
    parser.add_argument("--exporter", choices=("dynamo", "torchscript"), default="dynamo")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    export(arguments.model, arguments.output, arguments.exporter)


if __name__ == "__main__":
    main()
