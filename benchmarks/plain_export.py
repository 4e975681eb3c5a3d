"""Export an encoder with torch.onnx alone, as the documentation of PyTorch shows it: the baseline of the other scripts."""

import argparse
import logging
import warnings
from pathlib import Path

import torch
from transformers import AutoModel
from transformers.utils import logging as transformers_logging

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
    outputs = ["last_hidden_state"]
    if exporter == "dynamo":
        dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
        shapes = (dims,) * len(NAMES)
        torch.onnx.export(module, example, output, input_names=NAMES, output_names=outputs, dynamic_shapes=shapes, verbose=False)
        return
    axes = {name: {0: "batch", 1: "sequence"} for name in [*NAMES, *outputs]}
    torch.onnx.export(module, example, output, input_names=NAMES, output_names=outputs, dynamic_axes=axes, dynamo=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: python benchmarks/plain_export.py my-model/ my-model.onnx")
    parser.add_argument("model", type=Path, help="model folder")
    parser.add_argument("output", type=Path, help=".onnx file to write")
    parser.add_argument("--exporter", choices=("dynamo", "torchscript"), default="dynamo")
    arguments = parser.parse_args()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    export(arguments.model, arguments.output, arguments.exporter)


if __name__ == "__main__":
    main()
