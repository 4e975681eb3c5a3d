"""The graph executed on small inputs, every intermediate kept: what a rule proposes is proved on these numbers.

Exporters write one formula in many ways. A rule therefore finds the pieces by walking the graph, and then shows that they
compute what the fused op computes: `probe[value]` holds the value's array in each of several small runs.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import helper
from onnx.reference import ReferenceEvaluator

from trtbert.errors import UnsupportedError
from trtbert.ops import OPSET
from trtbert.rewrite.walk import Miss, constant
from trtbert.tasks import ATTENTION_MASK, INPUT_IDS, INPUTS, TOKEN_TYPE_IDS

Array = npt.NDArray[Any]
logger = logging.getLogger(__name__)

# Batch, length and masks differ from run to run, and no two dimensions of a run are equal: a swapped axis shows. No row is
# wholly masked: what a model computes there is not defined.
_MASKS = (
    np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 0, 1, 1]], np.int32),
    np.array([[0, 0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]], np.int32),
)


def run_node(node: ir.Node, inputs: Sequence[Array | None]) -> list[Array]:
    """The outputs of one standard ONNX node."""
    if node.op_type == "MatMul":
        return [_matmul(*(np.asarray(array) for array in inputs))]
    if node.op_type == "GatherElements":
        return [_gather_elements(*(np.asarray(array) for array in inputs), axis=node.attributes.get_int("axis", 0))]
    feeds = {str(value.name): np.asarray(array) for value, array in zip(node.inputs, inputs, strict=True) if value is not None}
    # A model, not the bare node: ops that ONNX defines by a function (Gelu) need the types of their inputs.
    types = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in feeds.items()}
    typed = [helper.make_tensor_value_info(name, types[name], array.shape) for name, array in feeds.items()]
    outputs = [onnx.ValueInfoProto(name=value.name) for value in node.outputs]
    graph = helper.make_graph([ir.serde.serialize_node(node)], "node", typed, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    return list(ReferenceEvaluator(model).run(None, feeds))


def _matmul(a: Array, b: Array) -> Array:
    """As numpy's, but a weight is multiplied once for all rows: many small products are slow in its BLAS."""
    if a.ndim < 3 or b.ndim != 2:
        return np.asarray(a @ b)
    return np.asarray(a.reshape(-1, a.shape[-1]) @ b).reshape(*a.shape[:-1], b.shape[1])


def _gather_elements(data: Array, indices: Array, *, axis: int) -> Array:
    """As ONNX defines it: off the axis, the indices may cover a part of the data (the reference of onnx wants all of it)."""
    part = tuple(slice(None) if i == axis % data.ndim else slice(size) for i, size in enumerate(indices.shape))
    return np.take_along_axis(data[part], indices, axis)


class Probe(Mapping[ir.Value, tuple[Array, ...]]):
    """Arrays of every value of a graph, one for each small run."""

    def __init__(self, graph: ir.Graph) -> None:
        runs = [_run(graph, feeds) for feeds in _feeds(graph)]
        # What lies in a branch that only some runs took is left out.
        self._arrays = {value: tuple(run[value] for run in runs) for value in runs[0] if all(value in run for run in runs)}

    def __getitem__(self, value: ir.Value) -> tuple[Array, ...]:
        """Raises Miss for a value that could not be computed."""
        array = constant(value)
        if array is not None:
            return (array,) * len(_MASKS)
        if value not in self._arrays:
            raise Miss(f"{value.name!r} depends on a loop, or on an op that onnx's reference does not compute")
        return self._arrays[value]

    def __iter__(self) -> Any:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def alias(self, new: ir.Value, old: ir.Value) -> None:
        """`new` was proved equal to `old`."""
        if old in self._arrays:
            self._arrays[new] = self._arrays[old]

    def scalar(self, value: ir.Value) -> float | None:
        """The number that `value` holds in every run, None if it is no single constant number."""
        if value not in self._arrays and constant(value) is None:
            return None
        arrays = self[value]
        if any(a.size != 1 for a in arrays) or len({float(a.reshape(())) for a in arrays}) != 1:
            return None
        return float(arrays[0].reshape(()))


def _feeds(graph: ir.Graph) -> Iterable[dict[str, Array]]:
    types = {value.name: value.dtype for value in graph.inputs}
    unknown = set(types) - set(INPUTS)
    if unknown:
        raise UnsupportedError(f"The graph has the inputs {sorted(map(str, unknown))}; an encoder has only {list(INPUTS)}.")
    num_types = min((rows for v in graph.inputs if v.name == TOKEN_TYPE_IDS for rows in _table_rows(v)), default=2)
    for seed, mask in enumerate(_MASKS):
        rng = np.random.default_rng(seed)
        arrays: dict[str, Array] = {
            INPUT_IDS: rng.integers(3, 12, mask.shape),
            ATTENTION_MASK: mask,
            TOKEN_TYPE_IDS: rng.integers(0, min(num_types, 2), mask.shape),
        }
        yield {name: arrays[name].astype(dtype.numpy()) for name, dtype in types.items() if name and dtype}


def _table_rows(value: ir.Value) -> Iterable[int]:
    """Rows of every table that is looked up by `value`, also behind a Cast."""
    for node, index in value.uses():
        if node.op_type == "Cast":
            yield from _table_rows(node.outputs[0])
        elif node.op_type == "Gather" and index == 1 and node.inputs[0] is not None and node.inputs[0].shape is not None:
            rows = node.inputs[0].shape[0]
            if isinstance(rows, int):
                yield rows


def _run(graph: ir.Graph, feeds: dict[str, Array]) -> dict[ir.Value, Array]:
    arrays: dict[ir.Value, Array] = {value: feeds[str(value.name)] for value in graph.inputs}
    with np.errstate(all="ignore"):  # log(0) in the buckets of a relative position, masked scores
        for node in graph:
            _run_into(arrays, node)
    return arrays


def _run_into(arrays: dict[ir.Value, Array], node: ir.Node) -> None:
    """Compute `node`, unless it is a loop or no standard op, or it cannot be computed."""
    has_subgraph = any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
    inputs = [None if v is None else arrays.get(v, constant(v)) for v in node.inputs]
    is_known = all(array is not None or v is None for array, v in zip(inputs, node.inputs, strict=True))
    if node.domain == "" and node.op_type == "If" and inputs[0] is not None:
        _run_branch(arrays, node, is_taken=bool(inputs[0].all()))
    if node.domain != "" or has_subgraph or not is_known:
        return
    try:
        outputs = run_node(node, inputs)
    except Exception as error:  # onnx's reference raises whatever numpy does
        logger.debug("Cannot compute node %s (%s): %s", node.name, node.op_type, error)
        return
    for value, array in zip(node.outputs, outputs, strict=False):
        arrays[value] = np.asarray(array)


def _run_branch(arrays: dict[ir.Value, Array], node: ir.Node, *, is_taken: bool) -> None:
    """Compute the branch of an If; it reads the values around it."""
    branch = node.attributes["then_branch" if is_taken else "else_branch"].as_graph()
    for inner in branch:
        _run_into(arrays, inner)
    for value, output in zip(node.outputs, branch.outputs, strict=True):
        array = arrays.get(output, constant(output))
        if array is not None:
            arrays[value] = array
