"""The inputs and outputs of a foreign graph -> the names, types and order that every compiled model has."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from trtbert.errors import InputError, UnsupportedError
from trtbert.tasks import ATTENTION_MASK, INPUT_IDS, INPUTS, TASKS, TOKEN_TYPE_IDS, Task

_INPUT_NAMES = {
    INPUT_IDS: ("input_ids", "input", "ids", "tokens", "input_word_ids"),
    ATTENTION_MASK: ("attention_mask", "input_mask", "mask"),
    TOKEN_TYPE_IDS: ("token_type_ids", "segment_ids", "input_type_ids"),
}
_HIDDEN = ("last_hidden_state", "token_embeddings", "hidden_states")
_LOGITS = ("logits", "scores", "probabilities", "output")
_CACHE = re.compile(r"past|present|cache|decoder")


def user_inputs(model: ir.Model) -> list[ir.Value]:
    """The inputs that a caller gives: old files list their weights as inputs too."""
    return [value for value in model.graph.inputs if value.name not in model.graph.initializers]


def name_inputs(model: ir.Model) -> dict[str, ir.Value]:
    """Our name -> input, for each input of `model`.

    Raises UnsupportedError for what is not a text encoder, InputError for names that mean nothing to us and for fixed dimensions.
    """
    values = user_inputs(model)
    names = [value.name or "" for value in values]
    if cached := [name for name in names if _CACHE.search(name)]:
        raise UnsupportedError(
            f"The .onnx file is a decoder: it takes {', '.join(cached[:3])}. Only encoders, which see the whole text at once, are "
            "supported."
        )
    named = {_our_name(name): value for name, value in zip(names, values, strict=True)}
    if INPUT_IDS not in named:
        raise UnsupportedError(f"The .onnx file is no text encoder: it takes {', '.join(names)}, and no {INPUT_IDS}.")
    if unknown := [name for name in names if _our_name(name) not in INPUTS]:
        raise InputError(
            f"The .onnx file takes {', '.join(unknown)}, which trtbert cannot fill; allowed are {', '.join(INPUTS)}. Export it "
            "again without."
        )
    if len(named) < len(names):
        raise InputError(f"The inputs {', '.join(names)} cannot be told apart. Name them {', '.join(INPUTS)} in the export.")
    if ATTENTION_MASK not in named:
        raise UnsupportedError(
            f"The .onnx file takes {', '.join(names)}, but no {ATTENTION_MASK}: padding would change its answers. Export it again with one."
        )
    for value in values:
        _check_dynamic(value)
    return {name: named[name] for name in INPUTS if name in named}


def _our_name(name: str) -> str:
    plain = re.sub(r"[.:]\d+$", "", name).lower()
    return next((ours for ours, known in _INPUT_NAMES.items() if plain in known), plain)


def _check_dynamic(value: ir.Value) -> None:
    if value.shape is None:
        return
    dims = [dim if isinstance(dim, int) else str(dim.value or "?") for dim in value.shape]
    if len(dims) != 2:
        raise InputError(f"The input {value.name!r} has shape {dims}; it must be [batch, sequence]. Export the model again.")
    fixed = [f"{axis} to {dim}" for axis, dim in zip(("batch", "sequence"), dims, strict=True) if isinstance(dim, int)]
    if fixed:
        raise InputError(
            f"The input {value.name!r} is fixed in {' and '.join(fixed)}, and the graph may count on it. "
            "Export the model again with batch and sequence dynamic (dynamic_axes or dynamic_shapes)."
        )


def rename_inputs(model: ir.Model, named: Mapping[str, ir.Value]) -> None:
    """Give `model` int32 inputs named "batch" x "sequence"; a Cast restores the type the graph was exported with."""
    casts = []
    for name, old in named.items():
        dtype = old.dtype or ir.DataType.INT64
        old.name = f"{name}_{dtype.name.lower()}"
        new = ir.Value(name=name, shape=ir.Shape(("batch", "sequence")), type=ir.TensorType(ir.DataType.INT32))
        if dtype == ir.DataType.INT32:
            ir.convenience.replace_all_uses_with(old, new)
        else:
            casts.append(ir.node("Cast", [new], {"to": dtype}, name=f"{name}_cast"))
            casts[-1].outputs[0].name = old.name
            casts[-1].outputs[0].type = ir.TensorType(dtype)
            casts[-1].outputs[0].shape = ir.Shape(("batch", "sequence"))
            ir.convenience.replace_all_uses_with(old, casts[-1].outputs[0])
        model.graph.inputs.remove(old)
        model.graph.inputs.append(new)
    for value in list(model.graph.inputs):
        if value.name not in named:
            model.graph.inputs.remove(value)  # a weight that an old file lists as an input
    first = model.graph[0]
    for cast in casts:
        model.graph.insert_before(first, cast)


@dataclass(frozen=True, kw_only=True)
class Output:
    """An output of a foreign graph, as it was seen when the file ran on [2,3] and [3,5] tokens."""

    name: str
    shape: tuple[int | str, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def width(self) -> int:
        return self.shape[-1] if self.shape and isinstance(self.shape[-1], int) else 0

    def __str__(self) -> str:
        return f"{self.name} {list(self.shape)}"


def infer_task(
    outputs: Sequence[Output], architectures: Sequence[str], *, has_pooling: bool, is_cross_encoder: bool, vocab_size: int
) -> Task:
    """The task of a foreign graph from its outputs, and from config.json where there is one."""
    plain = {output.name: output for output in outputs}
    if {"start_logits", "end_logits"} <= plain.keys():
        return "question-answering"
    if "sentence_embedding" in plain:
        return "sentence-similarity"
    if any(name in plain for name in _HIDDEN):
        return "sentence-similarity" if has_pooling else "feature-extraction"
    named = next((t for t, facts in TASKS.items() for a in architectures if facts.head_suffix and a.endswith(facts.head_suffix)), None)
    if is_cross_encoder and named == "text-classification":
        return "text-ranking"
    if named:
        return named
    first = outputs[0]
    if first.name in _LOGITS and first.width:
        if first.rank == 2:
            return "text-classification"
        return "fill-mask" if first.width >= vocab_size else "token-classification"
    raise InputError(
        f"The outputs {', '.join(map(str, outputs))} do not tell the task. Name it with --task (one of {', '.join(TASKS)}), "
        "or put the model's config.json beside its tokenizer."
    )


def choose_outputs(outputs: Sequence[Output], task: Task) -> tuple[Output, ...]:
    """The outputs that `task` needs, in its order; InputError where the graph does not give them."""
    if task == "question-answering":
        spans = [o for o in outputs if o.shape == ("batch", "sequence")]
        by_name = {o.name: o for o in spans}
        if {"start_logits", "end_logits"} <= by_name.keys():
            return by_name["start_logits"], by_name["end_logits"]
        if len(spans) == 2:
            return spans[0], spans[1]
        raise _missing(outputs, task, "start_logits and end_logits of [batch, sequence]")
    if task == "sentence-similarity" and (pooled := next((o for o in outputs if o.name == "sentence_embedding" and o.rank == 2), None)):
        return (pooled,)
    rank = len(TASKS[task].shape) if task != "sentence-similarity" else 3
    names = _HIDDEN if task in ("sentence-similarity", "feature-extraction") else _LOGITS
    fitting = [o for o in outputs if o.rank == rank and o.width and o.name != "pooler_output"]
    best = next((o for name in names for o in fitting if o.name == name), None)
    if best is None and len(fitting) == 1 and fitting[0].name not in (*_HIDDEN, *_LOGITS):
        best = fitting[0]
    if best is None:
        raise _missing(outputs, task, f"{names[0]} of {rank} dimensions, the last of them fixed")
    return (best,)


def _missing(outputs: Sequence[Output], task: Task, needed: str) -> InputError:
    return InputError(
        f"{task} needs {needed}, but the file gives {', '.join(map(str, outputs))}. Choose another --task, or export the model "
        "with its head."
    )


def own_activation(value: ir.Value) -> Literal["softmax", "sigmoid"] | None:
    """The activation that the graph itself ends in."""
    node = value.producer()
    while node is not None and node.op_type in ("Identity", "Cast"):
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    if node is None or node.op_type not in ("Softmax", "Sigmoid"):
        return None
    return "softmax" if node.op_type == "Softmax" else "sigmoid"


def keep_outputs(model: ir.Model, chosen: Sequence[Output]) -> None:
    """Leave only `chosen`, in that order, as float32 values of the shapes that were seen; what nothing needs any more goes."""
    by_name = {value.name: value for value in model.graph.outputs}
    model.graph.outputs.clear()
    for output in chosen:
        value = by_name[output.name]
        value.shape = ir.Shape(output.shape)
        model.graph.outputs.append(value)


def num_embedding_rows(model: ir.Model) -> int | None:
    """Rows of the table that input_ids look up, or None where it is not found."""
    for node, index in _readers_of_ids(model):
        if node.op_type == "Gather" and index == 1 and (rows := _num_rows(node.inputs[0])):
            return rows
    return None


def num_positions(model: ir.Model) -> int | None:
    """Longest input that the position table allows, found by its name; None where there is none of such a name."""
    tables = [value for name, value in model.graph.initializers.items() if "position_embeddings" in name]
    rows = next((rows for value in tables if (rows := _num_rows(value))), None)
    return None if rows is None else rows - _first_position(model)


def _first_position(model: ir.Model) -> int:
    """0, or the padding id + 1 where positions are counted from the ids that are not padding, as RoBERTa does."""
    for node, _ in _readers_of_ids(model):
        if node.op_type == "Equal":
            padding = next((v.const_value for v in node.inputs if v is not None and v.const_value is not None), None)
            if padding is not None and padding.size == 1:
                return int(padding.numpy().item()) + 1
    return 0


def _readers_of_ids(model: ir.Model) -> Iterator[tuple[ir.Node, int]]:
    """Every node that reads input_ids, and as which input."""
    pending = [next(value for value in model.graph.inputs if value.name == INPUT_IDS)]
    while pending:
        for node, index in pending.pop().uses():
            if node.op_type in ("Cast", "Identity"):
                pending.append(node.outputs[0])
            yield node, index


def _num_rows(table: ir.Value | None) -> int | None:
    shape = table.const_value.shape.numpy() if table is not None and table.const_value is not None else ()
    return int(shape[0]) if len(shape) == 2 else None
