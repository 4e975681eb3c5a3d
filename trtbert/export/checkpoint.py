"""A Hugging Face checkpoint folder -> one ONNX graph at opset 23, by torch's dynamo exporter."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxscript.optimizer
import torch
import transformers

from trtbert.config import CompileConfig
from trtbert.export import hf_config
from trtbert.export.finish import Raw, finish
from trtbert.export.sentence_transformers import (
    encoder_folder,
    has_pooling,
    max_seq_length,
    sentence_head,
)
from trtbert.export.source import Array, Feeds, Source
from trtbert.export.tokenizer import Tokenizer, read_tokenizer, write_tokenizer
from trtbert.export.torch_model import load_model
from trtbert.export.weights import read_weights, sha256_of
from trtbert.ops import OPSET
from trtbert.tasks import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS, Task

_RAW_OUTPUTS: dict[Task, tuple[str, ...]] = {
    "text-classification": ("logits",),
    "token-classification": ("logits",),
    "question-answering": ("start_logits", "end_logits"),
    "feature-extraction": ("last_hidden_state",),
    "sentence-similarity": ("last_hidden_state",),
    "fill-mask": ("logits",),
    "text-ranking": ("logits",),
}
"""What the encoder with its classifier gives before the head: names of transformers' model outputs."""

_INPUT_EXAMPLE_LENGTH = 8


def load_checkpoint(folder: Path, config: CompileConfig, tokenizer_output: Path) -> Source:
    """Export the checkpoint in `folder`; see `trtbert.export.load_source`."""
    model_folder = encoder_folder(folder)
    hf = hf_config.read_config(model_folder)
    task = config.task if config.task != "auto" else _task(folder, hf)
    head = sentence_head(folder, config.pooling) if task == "sentence-similarity" else ()
    tokenizer = read_tokenizer(_tokenizer_folder(folder, model_folder, config))
    weights = read_weights(model_folder)
    max_length = _max_length(hf, tokenizer, max_seq_length(model_folder) if task == "sentence-similarity" else None)
    model = load_model(hf, task, weights.state)
    tokenizer_facts = write_tokenizer(tokenizer, tokenizer_output, num_rows=model.get_input_embeddings().num_embeddings)
    module = _RawModule(model, _RAW_OUTPUTS[task]).eval()
    graph = _export(module, _input_names(hf, model), max_length)
    options = hf.to_dict()
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    return finish(
        Raw(
            model=graph,
            run=_runner(module),
            width=_width(graph),
            options=options,
            architecture=hf.model_type,
            num_layers=hf_config.num_layers(options),
        ),
        task=task,
        head=head,
        max_length=max_length,
        tokenizer=tokenizer_facts,
        fingerprint={"sha256": sha256_of(weights.files), **versions},
    )


def _task(folder: Path, hf: Any) -> Task:
    return hf_config.choose_task(
        list(hf.architectures or []), has_pooling=has_pooling(folder), is_cross_encoder=hf_config.is_cross_encoder(folder)
    )


def _tokenizer_folder(folder: Path, model_folder: Path, config: CompileConfig) -> Path:
    if config.tokenizer is not None:
        return config.tokenizer
    return folder if (folder / "tokenizer_config.json").is_file() else model_folder


def _max_length(hf: Any, tokenizer: Tokenizer, max_seq_length: int | None) -> int:
    limits = {
        "max_position_embeddings in config.json": hf_config.max_positions(hf.to_dict()),
        "model_max_length in tokenizer_config.json": tokenizer.max_length,
        "max_seq_length in sentence_bert_config.json": max_seq_length,
    }
    longest = hf_config.longest_input(limits)
    assert longest is not None  # every family has max_position_embeddings
    return longest


def _input_names(hf: Any, model: Any) -> list[str]:
    """token_type_ids only where there is more than one type to tell apart."""
    has_types = (getattr(hf, "type_vocab_size", 0) or 0) > 1 and TOKEN_TYPE_IDS in inspect.signature(model.forward).parameters
    return [INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS] if has_types else [INPUT_IDS, ATTENTION_MASK]


class _RawModule(torch.nn.Module):
    """Gives the raw outputs of a model as a plain tuple."""

    def __init__(self, model: Any, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.outputs = model, outputs

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        types = {} if token_type_ids is None else {TOKEN_TYPE_IDS: token_type_ids}
        result = self.model(input_ids=input_ids, attention_mask=attention_mask, **types)
        return tuple(result[name] for name in self.outputs)


def _runner(module: _RawModule) -> Any:
    def run(feeds: Feeds) -> list[Array]:
        tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in feeds.items()}
        with torch.inference_mode():
            return [output.numpy() for output in module(**tensors)]

    return run


def _export(module: _RawModule, names: list[str], max_length: int) -> ir.Model:
    length = max(2, min(_INPUT_EXAMPLE_LENGTH, max_length))
    example = {name: torch.ones((2, length), dtype=torch.int32) for name in names}
    if TOKEN_TYPE_IDS in example:
        example[TOKEN_TYPE_IDS].zero_()
    dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    program = torch.onnx.export(
        module,
        (),
        kwargs=example,
        input_names=names,
        output_names=list(module.outputs),
        dynamic_shapes=dict.fromkeys(names, dims),
        opset_version=OPSET,
        dynamo=True,
        # The exporter's own optimisation also makes RotaryEmbedding nodes, whose tables do not broadcast over the batch.
        optimize=False,
        verbose=False,
    )
    assert program is not None
    _name_transposed(program.model.graph)
    onnxscript.optimizer.optimize(program.model)
    return program.model


def _name_transposed(graph: ir.Graph) -> None:
    """Give a transposed weight, which is folded into a tensor of its own, the name of the checkpoint's tensor."""
    named = set[str]()
    for node in graph:
        weight = node.inputs[0] if node.op_type == "Transpose" else None
        name = f"{weight.name}.transposed" if weight is not None and weight.is_initializer() else None
        if name is not None and name not in named:  # a shared layer transposes its weight in every use
            node.outputs[0].name = name
            named.add(name)


def _width(graph: ir.Model) -> int:
    shape = graph.graph.outputs[0].shape
    size = shape[-1] if shape is not None else None
    return size if isinstance(size, int) else 0
