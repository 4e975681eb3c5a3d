"""A foreign .onnx file (TorchScript or dynamo, opsets 11 to 23) -> the same graph as a checkpoint would give."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime

from trtbert.architectures import ARCHITECTURES
from trtbert.checkpoint import hf_config
from trtbert.checkpoint.heads import Step
from trtbert.checkpoint.json_file import read_object
from trtbert.checkpoint.modules import has_pooling, max_seq_length
from trtbert.checkpoint.sentence_transformers import sentence_head
from trtbert.checkpoint.tokenizer import (
    Tokenizer,
    has_tokenizer,
    read_tokenizer,
    write_tokenizer,
)
from trtbert.checkpoint.weights import sha256_of
from trtbert.config import CompileConfig
from trtbert.errors import InputError, UnsupportedError
from trtbert.export import onnx_interface
from trtbert.export.finish import Raw, finish
from trtbert.export.onnx_file import read_onnx, to_opset
from trtbert.export.onnx_interface import Output
from trtbert.export.source import Array, Feeds, Source
from trtbert.tasks import INPUT_IDS, Task

_PROBES = ((2, 3), (3, 5))
"""Batch and tokens of the two runs that show which dimension of an output is which."""


def load_foreign(path: Path, config: CompileConfig, tokenizer_output: Path) -> Source:
    """Import the file `path`; see `trtbert.export.load_source`."""
    folder = _tokenizer_folder(path, config)
    options = _read_options(folder, path.parent)
    model, files = read_onnx(path)
    named = onnx_interface.name_inputs(model)
    tokenizer = read_tokenizer(folder)
    runner = _Runner(path, {name: value.name or "" for name, value in named.items()})
    outputs = runner.probe()
    task = config.task if config.task != "auto" else _task(outputs, options, folder, len(tokenizer.fast))
    chosen = onnx_interface.choose_outputs(outputs, task)
    runner.check_bidirectional(chosen[0])
    onnx_interface.keep_outputs(model, chosen)
    onnx_interface.rename_inputs(model, named)
    model = to_opset(model)
    num_rows = onnx_interface.num_embedding_rows(model) or options.get("vocab_size") or np.iinfo(np.int32).max
    facts = write_tokenizer(tokenizer, tokenizer_output, num_rows=num_rows)
    return finish(
        Raw(
            model=model,
            run=lambda feeds: runner.run(feeds, [output.name for output in chosen]),
            width=chosen[0].width,
            options=options,
            architecture=options["model_type"] if options.get("model_type") in ARCHITECTURES else "unknown",
            num_layers=hf_config.num_layers(options),
        ),
        task=task,
        head=_head(task, chosen[0], folder, config),
        max_length=_max_length(model, options, tokenizer, max_seq_length(folder) if task == "sentence-similarity" else None),
        tokenizer=facts,
        fingerprint={"sha256": sha256_of(files), "onnxruntime": onnxruntime.__version__},
        own_activation=onnx_interface.own_activation(model.graph.outputs[0]),
    )


def _tokenizer_folder(path: Path, config: CompileConfig) -> Path:
    """Beside the file, or one folder up where the file lies in a folder `onnx`, as on the hub."""
    if config.tokenizer is not None:
        return config.tokenizer
    beside = path.parent
    return beside.parent if beside.name == "onnx" and not has_tokenizer(beside) else beside


def _read_options(*folders: Path) -> dict[str, Any]:
    path = next((folder / "config.json" for folder in folders if (folder / "config.json").is_file()), None)
    if path is None:
        return {}
    options = read_object(path)
    hf_config.check_supported(options, has_weights=False)
    return options


def _task(outputs: Sequence[Output], options: dict[str, Any], folder: Path, vocab_size: int) -> Task:
    return onnx_interface.infer_task(
        outputs,
        options.get("architectures") or [],
        has_pooling=has_pooling(folder),
        is_cross_encoder=hf_config.is_cross_encoder(folder),
        vocab_size=vocab_size,
    )


def _head(task: Task, output: Output, folder: Path, config: CompileConfig) -> tuple[Step, ...]:
    """Nothing where the graph gives the sentence embedding itself."""
    return sentence_head(folder, config.pooling) if task == "sentence-similarity" and output.rank == 3 else ()


def _max_length(model: ir.Model, options: dict[str, Any], tokenizer: Tokenizer, max_seq_length: int | None) -> int:
    limits = {
        "max_position_embeddings in config.json": hf_config.max_positions(options),
        "The position table of the .onnx file": onnx_interface.num_positions(model),
        "model_max_length in tokenizer_config.json": tokenizer.max_length,
        "max_seq_length in sentence_bert_config.json": max_seq_length,
    }
    longest = hf_config.longest_input(limits)
    if longest is None:
        raise InputError(
            "The longest input of the model is not known: put its config.json beside the tokenizer, or set model_max_length in "
            "tokenizer_config.json."
        )
    return longest


class _Runner:
    """The untouched file in ONNX Runtime, fed by our names."""

    def __init__(self, path: Path, names: dict[str, str]) -> None:
        self.names = names
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no base class but Exception
            raise InputError(f"ONNX Runtime cannot load {path.name}: {_first_line(error)}. Export the model again.") from error
        self.types = {value.name: _NUMPY_TYPES.get(value.type, np.int64) for value in self.session.get_inputs()}

    def run(self, feeds: Feeds, outputs: Sequence[str] | None = None) -> list[Array]:
        given = {self.names[name]: value.astype(self.types[self.names[name]]) for name, value in feeds.items()}
        try:
            results: list[Array] = self.session.run(outputs, given)
        except Exception as error:
            shape = list(feeds[INPUT_IDS].shape)
            advice = next((advice for part, advice in _ADVICE.items() if part in str(error)), "Export the model again.")
            raise InputError(f"The .onnx file itself fails on input_ids of shape {shape}: {_first_line(error)}. {advice}") from error
        return results

    def probe(self) -> tuple[Output, ...]:
        """Names and true shapes of all outputs; what the file declares is often wrong."""
        small, large = (self.run(self._ones(*size)) for size in _PROBES)
        names = [value.name for value in self.session.get_outputs()]
        return tuple(Output(name=n, shape=_symbolic(a.shape, b.shape)) for n, a, b in zip(names, small, large, strict=True))

    def check_bidirectional(self, output: Output) -> None:
        """UnsupportedError where the first token does not see the last one: a causal decoder, or no encoder at all."""
        if "sequence" not in output.shape or self._sees(output, -1, seen_from=0):
            return
        if self._sees(output, 0, seen_from=-1):
            raise UnsupportedError(
                f"The .onnx file is a causal decoder: the first token of {output.name} does not depend on the last one. "
                "Only encoders, which see the whole text at once, are supported."
            )
        raise UnsupportedError(
            f"The .onnx file is no encoder: in {output.name} neither the first token depends on the last one, nor the last on the first. "
            "Only encoders, in which every token sees the whole text, are supported."
        )

    def _sees(self, output: Output, changed: int, *, seen_from: int) -> bool:
        """Whether another id at one position shows at another."""
        feeds = self._ones(*_PROBES[1])
        others = {name: value.copy() for name, value in feeds.items()}
        others[INPUT_IDS][:, changed] = 3
        before, after = (self.run(f, [output.name])[0][:, seen_from] for f in (feeds, others))
        return not np.array_equal(before, after)

    def _ones(self, batch: int, length: int) -> Feeds:
        feeds = {name: np.ones((batch, length), np.int32) for name in self.names}
        feeds[INPUT_IDS] += 1
        if "token_type_ids" in feeds:
            feeds["token_type_ids"][:] = 0
        return feeds


_ADVICE = {
    "RotaryEmbedding": "torch writes this op of opset 23 without its batch: export with opset 18 to 22, or give the checkpoint.",
}
"""Parts of the messages of known faults of exporters."""
_NUMPY_TYPES: dict[str, type[np.generic]] = {
    "tensor(bool)": np.bool_,
    "tensor(float)": np.float32,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _symbolic(small: Sequence[int], large: Sequence[int]) -> tuple[int | str, ...]:
    (batch_a, length_a), (batch_b, length_b) = _PROBES
    dims = {(batch_a, batch_b): "batch", (length_a, length_b): "sequence"}
    return tuple(a if a == b else dims.get((a, b), "?") for a, b in zip(small, large, strict=True))
