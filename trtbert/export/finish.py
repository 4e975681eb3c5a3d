"""A graph that gives raw outputs (logits, hidden states) -> a Source: head, names, types, metadata and facts."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from trtbert.errors import InputError
from trtbert.export import hf_config
from trtbert.export.heads import Activation, Step, append_head, run_head
from trtbert.export.source import Feeds, Source
from trtbert.package import ModelFacts, TensorFacts, TokenizerFacts
from trtbert.tasks import ATTENTION_MASK, TASKS, Task

RAW_OUTPUTS: dict[Task, tuple[str, ...]] = {
    "text-classification": ("logits",),
    "token-classification": ("logits",),
    "question-answering": ("start_logits", "end_logits"),
    "feature-extraction": ("last_hidden_state",),
    "sentence-similarity": ("last_hidden_state",),
    "fill-mask": ("logits",),
    "text-ranking": ("logits",),
}
"""What the encoder with its classifier gives before the head: names of transformers' model outputs."""

MIN_IR_VERSION = 10


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A graph without its head, and an independent run of the same model."""

    model: ir.Model
    """Int32 inputs named as in `trtbert.tasks`; outputs in the order of RAW_OUTPUTS."""
    run: Callable[[Feeds], Feeds]
    """int32 inputs [B,S] by name -> raw outputs by name."""
    options: dict[str, Any]
    """config.json, or {} where there is none."""
    architecture: str
    num_layers: int | None


def finish(
    raw: Raw,
    *,
    task: Task,
    head: tuple[Step, ...],
    max_length: int,
    tokenizer: TokenizerFacts,
    fingerprint: dict[str, str],
    is_activated: bool = False,
) -> Source:
    """Append `head` (and the activation of a classifier, unless `is_activated`), and describe the result."""
    sizes = [_last_dim(value) for value in raw.model.graph.outputs]
    labels = hf_config.labels_of(raw.options, sizes[0]) if task in hf_config.CLASSIFIERS else ()
    activation = hf_config.activation_of(task, raw.options, sizes[0])
    if activation != "none" and not is_activated:
        head = (*head, Activation(activation))
    outputs = _name_outputs(raw.model, task, head, sizes[0])
    inputs = tuple(TensorFacts(name=v.name or "", dtype="int32", shape=("batch", "sequence")) for v in raw.model.graph.inputs)
    facts = ModelFacts(
        architecture=raw.architecture,
        task=task,
        labels=labels,
        activation=activation,
        max_length=max_length,
        num_layers=raw.num_layers,
        tokenizer=tokenizer,
        inputs=inputs,
        outputs=outputs,
    )
    _describe(raw.model, facts)
    return Source(model=raw.model, facts=facts, reference=_reference(raw, task, head), fingerprint=fingerprint)


def _last_dim(value: ir.Value) -> int:
    size = value.shape[-1] if value.shape is not None and len(value.shape) else None
    return size if isinstance(size, int) else 0


def _name_outputs(model: ir.Model, task: Task, head: tuple[Step, ...], last_dim: int) -> tuple[TensorFacts, ...]:
    names, shape = TASKS[task].outputs, list(TASKS[task].shape)
    for value, name in zip(model.graph.outputs, names, strict=True):
        if len(names) == 1:
            append_head(model, head, output=name)
        else:
            value.name = name
    if shape[-1] != "sequence":
        shape[-1] = _embedding_size(head, last_dim)  # type: ignore[call-overload]
    for value in model.graph.outputs:
        value.shape, value.type = ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
    return tuple(TensorFacts(name=name, dtype="float32", shape=tuple(shape)) for name in names)


def _embedding_size(head: tuple[Step, ...], size: int) -> int:
    for step in head:
        size = step.output_size(size)
    if size == 0:
        raise InputError("The last dimension of the model's output is not a fixed number. Export it again with only batch and sequence dynamic.")
    return size


def _describe(model: ir.Model, facts: ModelFacts) -> None:
    model.ir_version = max(model.ir_version or 0, MIN_IR_VERSION)
    model.producer_name = "trtbert"
    model.metadata_props.update({"task": facts.task, "labels": json.dumps(facts.labels)})


def _reference(raw: Raw, task: Task, head: tuple[Step, ...]) -> Callable[[Feeds], Feeds]:
    def reference(feeds: Feeds) -> Feeds:
        outputs = raw.run(feeds)
        mask_BS = feeds[ATTENTION_MASK]
        names = zip(TASKS[task].outputs, RAW_OUTPUTS[task], strict=True)
        return {name: run_head(head, outputs[raw_name], mask_BS) for name, raw_name in names}

    return reference
