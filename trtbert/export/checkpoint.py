"""A Hugging Face checkpoint folder -> one ONNX graph at opset 23, by torch's dynamo exporter."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxscript.optimizer
import torch
import transformers

from trtbert.checkpoint import hf_config
from trtbert.checkpoint.read import RawModel, input_names, read_checkpoint
from trtbert.checkpoint.successors import why_unfused, window_of
from trtbert.checkpoint.tokenizer import write_tokenizer
from trtbert.config import CompileConfig
from trtbert.export.finish import Raw, finish
from trtbert.export.source import Array, Feeds, Source
from trtbert.ops import FUSED_QKV_ATTENTION, OPSET, UNFUSED
from trtbert.tasks import TOKEN_TYPE_IDS

_INPUT_EXAMPLE_LENGTH = 8


def load_checkpoint(folder: Path, config: CompileConfig, tokenizer_output: Path) -> Source:
    """Export the checkpoint in `folder`; see `trtbert.export.load_source`."""
    read = read_checkpoint(folder, task=config.task, tokenizer=config.tokenizer, pooling=config.pooling)
    model, options = read.model, read.model.config.to_dict()
    tokenizer_facts = write_tokenizer(read.tokenizer, tokenizer_output, num_rows=model.get_input_embeddings().num_embeddings)
    module = RawModel(model, read.task).eval()
    graph = _export(module, list(input_names(model)), length=_example_length(model.config, read.max_length))
    if (reason := why_unfused(model.config)) is not None:
        graph.metadata_props[UNFUSED + FUSED_QKV_ATTENTION.name] = reason
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    return finish(
        Raw(
            model=graph,
            run=_runner(module),
            width=_width(graph),
            options=options,
            architecture=model.config.model_type,
            num_layers=hf_config.num_layers(options),
        ),
        task=read.task,
        head=read.head,
        max_length=read.max_length,
        tokenizer=tokenizer_facts,
        fingerprint={"sha256": read.sha256, **versions},
    )


def _runner(module: RawModel) -> Any:
    def run(feeds: Feeds) -> list[Array]:
        tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in feeds.items()}
        with torch.inference_mode():
            return [output.numpy() for output in module(**tensors)]

    return run


def _example_length(config: Any, max_length: int) -> int:
    """Of two blocks where attention is computed in bands: the exporter takes a number of 1 for a constant."""
    return max(2, min(_INPUT_EXAMPLE_LENGTH, max_length), (window_of(config) or 0) + 1)


def _export(module: RawModel, names: list[str], *, length: int) -> ir.Model:
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
