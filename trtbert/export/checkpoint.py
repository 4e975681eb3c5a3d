"""A Hugging Face checkpoint folder -> one ONNX graph at opset 23, by torch's dynamo exporter."""

import contextlib
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxscript.optimizer
import torch
import transformers

from trtbert.architectures import ARCHITECTURES
from trtbert.config import CompileConfig
from trtbert.errors import InputError
from trtbert.export import hf_config
from trtbert.export.finish import Raw, finish
from trtbert.export.pruned import sized_class
from trtbert.export.sentence_transformers import (
    encoder_folder,
    has_pooling,
    max_seq_length,
    sentence_head,
)
from trtbert.export.source import Array, Feeds, Source
from trtbert.export.tokenizer import read_tokenizer, write_tokenizer
from trtbert.export.weights import read_weights, sha256_of
from trtbert.ops import OPSET
from trtbert.tasks import ATTENTION_MASK, INPUT_IDS, TASKS, TOKEN_TYPE_IDS, Task

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
    with _quiet():
        model = load_model(hf, task, weights.state)
        tokenizer_facts = write_tokenizer(tokenizer, tokenizer_output, num_rows=model.get_input_embeddings().num_embeddings)
        options = hf.to_dict()
        limits = (
            hf_config.max_positions(options),
            tokenizer.max_length,
            max_seq_length(model_folder) if task == "sentence-similarity" else None,
        )
        max_length = min(limit for limit in limits if limit is not None)
        module = _RawModule(model, _RAW_OUTPUTS[task]).eval()
        names = _input_names(hf, model)
        graph = _export(module, names, max_length)
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
        fingerprint={"name": folder.resolve().name, "sha256": sha256_of(weights.files), **versions},
    )


def _task(folder: Path, hf: Any) -> Task:
    return hf_config.choose_task(
        list(hf.architectures or []), has_pooling=has_pooling(folder), is_cross_encoder=hf_config.is_cross_encoder(folder)
    )


def _tokenizer_folder(folder: Path, model_folder: Path, config: CompileConfig) -> Path:
    if config.tokenizer is not None:
        return config.tokenizer
    return folder if (folder / "tokenizer_config.json").is_file() else model_folder


def load_model(hf: Any, task: Task, state: Mapping[str, torch.Tensor]) -> Any:
    """The model of `task` with every weight from `state`; InputError names what does not fit."""
    mapping = getattr(transformers, TASKS[task].auto_class)._model_mapping
    model_class = mapping[type(hf)]
    options: dict[str, Any] = {"attn_implementation": "sdpa" if ARCHITECTURES[hf.model_type].has_sdpa else "eager"}
    if "add_pooling_layer" in inspect.signature(model_class.__init__).parameters:
        options["add_pooling_layer"] = False
    for name, value in _PLAIN_OPTIONS.items():
        setattr(hf, name, value)
    model, info = sized_class(model_class, hf, state).from_pretrained(
        None, config=hf, state_dict=dict(state), dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **options
    )
    _check_shapes(info["mismatched_keys"])
    _check_layers(info, hf_config.num_layers(hf.to_dict()) or 0)
    if missing := sorted(info["missing_keys"]):
        raise InputError(
            f"The checkpoint lacks {len(missing)} tensors that {task} needs: {', '.join(missing[:6])}{', ...' * (len(missing) > 6)}. "
            "Choose the task it was trained for with --task, or give the fine-tuned model."
        )
    return model.eval()


_PLAIN_OPTIONS: dict[str, Any] = {
    "return_dict": True,
    "output_attentions": False,
    "output_hidden_states": False,
    "use_cache": False,
    "chunk_size_feed_forward": 0,
    "reference_compile": False,
}
"""Nothing but the task's own outputs, and no tricks that change the graph."""

_CONFIG_KEYS = {
    "word_embeddings": "vocab_size",
    "tok_embeddings": "vocab_size",
    "position_embeddings": "max_position_embeddings",
    "token_type_embeddings": "type_vocab_size",
    "relative_attention_bias": "num_attention_heads or relative_attention_num_buckets",
    "rel_embeddings": "position_buckets or max_relative_positions",
    "classifier": "id2label (the number of labels)",
    "out_proj": "id2label (the number of labels)",
    "qa_outputs": "id2label (the number of labels)",
}


def _check_shapes(mismatched: Any) -> None:
    if not mismatched:
        return
    name, in_file, in_model = sorted(mismatched)[0]
    key = next((key for part, key in _CONFIG_KEYS.items() if part in name), "hidden_size, embedding_size or intermediate_size")
    raise InputError(
        f"config.json disagrees with the weights in {len(mismatched)} tensors: {name} is {tuple(in_file)} in the file, but "
        "config.json asks "
        f"for {tuple(in_model)}. Correct {key} in config.json, or use the config.json that belongs to these weights."
    )


def _check_layers(info: Mapping[str, Any], expected: int) -> None:
    numbers = [hf_config.layer_number(name) for name in info["unexpected_keys"]]
    extra = sorted({number for number in numbers if number is not None and number >= expected})
    missing = sorted({number for name in info["missing_keys"] if (number := hf_config.layer_number(name)) is not None})
    if extra:
        raise InputError(
            f"config.json disagrees with the weights: the file holds layer {extra[-1]}, but num_hidden_layers is {expected}. "
            f"Set num_hidden_layers (n_layers) to {extra[-1] + 1}, or use the config.json that belongs to these weights."
        )
    if missing and missing[-1] == expected - 1:
        example = next(name for name in sorted(info["missing_keys"]) if hf_config.layer_number(name) == missing[0])
        raise InputError(
            f"config.json disagrees with the weights: num_hidden_layers is {expected}, but the file has no {example}. "
            f"Set num_hidden_layers (n_layers) to the number in the file, or use the config.json that belongs to these weights."
        )


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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the progress bars and notes of the libraries off the terminal; our own checks say what matters."""
    log: Any = transformers.utils.logging
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    verbosity, levels, has_bar = log.get_verbosity(), [logger.level for logger in loggers], log.is_progress_bar_enabled()
    log.set_verbosity(logging.CRITICAL)
    log.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(verbosity)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if has_bar:
            log.enable_progress_bar()
