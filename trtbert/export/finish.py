"""A graph that gives raw outputs (logits, hidden states) -> a Source: head, names, types, metadata and facts."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from trtbert.checkpoint import hf_config
from trtbert.checkpoint.heads import Activation, Step, append_head, run_head
from trtbert.export.mask_count import clamp_mask_counts
from trtbert.export.source import Array, Feeds, Source
from trtbert.package import ModelFacts, TensorFacts, TokenizerFacts
from trtbert.tasks import ATTENTION_MASK, TASKS, Task
from trtbert.version import __version__

MIN_IR_VERSION = 10


@dataclass(frozen=True, kw_only=True)
class Raw:
    """A graph without its head, and an independent run of the same model."""

    model: ir.Model
    """Int32 inputs named as in `trtbert.tasks`; outputs in the order of RAW_OUTPUTS."""
    run: Callable[[Feeds], Sequence[Array]]
    """int32 inputs [B,S] by name -> the same outputs as `model`, in its order."""
    width: int
    """Size of the last axis of the first output, 0 where that is the sequence."""
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
    own_activation: hf_config.Activation | None = None,
) -> Source:
    """Append `head` and the activation of a classifier (unless the graph has its `own_activation`), and describe the result."""
    labels = hf_config.labels_of(raw.options, raw.width) if task in hf_config.CLASSIFIERS else ()
    activation = own_activation or hf_config.activation_of(task, raw.options, raw.width)
    if activation != "none" and own_activation is None:
        head = (*head, Activation(activation))
    clamp_mask_counts(raw.model)
    outputs = _name_outputs(raw.model, task, head, raw.width)
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


def _name_outputs(model: ir.Model, task: Task, head: tuple[Step, ...], width: int) -> tuple[TensorFacts, ...]:
    names, shape = TASKS[task].outputs, _output_shape(task, head, width)
    for value, name in zip(model.graph.outputs, names, strict=True):
        if len(names) == 1:
            append_head(model, head, output=name)
        else:
            value.name = name
    for value in model.graph.outputs:
        value.shape, value.type = ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
    return tuple(TensorFacts(name=name, dtype="float32", shape=shape) for name in names)


def _output_shape(task: Task, head: tuple[Step, ...], width: int) -> tuple[int | str, ...]:
    for step in head:
        width = step.output_size(width)
    shape = TASKS[task].shape
    return shape if shape[-1] == "sequence" else (*shape[:-1], width)


def _describe(model: ir.Model, facts: ModelFacts) -> None:
    model.ir_version = max(model.ir_version or 0, MIN_IR_VERSION)
    model.producer_name, model.producer_version = "trtbert", __version__
    model.metadata_props.update({"task": facts.task, "labels": json.dumps(facts.labels)})


def _reference(raw: Raw, task: Task, head: tuple[Step, ...]) -> Callable[[Feeds], Feeds]:
    def reference(feeds: Feeds) -> Feeds:
        outputs = raw.run(feeds)
        mask_BS = feeds[ATTENTION_MASK]
        return {name: run_head(head, output, mask_BS) for name, output in zip(TASKS[task].outputs, outputs, strict=True)}

    return reference
