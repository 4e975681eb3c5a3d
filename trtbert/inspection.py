"""What an .onnx file holds, and what the rewrite stage would make of it: the lines that `trtbert inspect` prints."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir

from trtbert.errors import TrtbertError
from trtbert.export.onnx_file import open_onnx, read_onnx, to_opset
from trtbert.export.onnx_interface import name_inputs, rename_inputs
from trtbert.ops import DOMAIN
from trtbert.rewrite import rewrite


def describe_onnx(path: Path) -> list[str]:
    """Opsets, inputs, outputs, weights, nodes by type, and the fusions. Raises InputError for a file that is no ONNX model."""
    model = open_onnx(path)
    graph = model.graph
    lines = [
        "opset " + ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in graph.opset_imports.items()),
        f"made by {model.producer_name or 'unknown'} {model.producer_version or ''}".rstrip(),
        *(f"input  {_describe(value)}" for value in graph.inputs if value.name not in graph.initializers),
        *(f"output {_describe(value)}" for value in graph.outputs),
        *_weights(graph),
    ]
    lines += _node_counts(graph)
    if any(node.domain == DOMAIN for node in graph):
        return [*lines, "fused  already: the trtbert nodes above carry their own definitions"]
    return [*lines, *_fusions(path)]


def node_counts(path: Path) -> list[str]:
    """The nodes of an .onnx file by type, the most frequent first."""
    return _node_counts(open_onnx(path).graph)


def _node_counts(graph: ir.Graph) -> list[str]:
    counts = Counter(f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in graph.all_nodes())
    return [f"nodes  {op} x {count}" for op, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def _describe(value: ir.Value) -> str:
    return f"{value.name} {value.dtype} {value.shape}"


def _weights(graph: ir.Graph) -> Iterator[str]:
    sizes: Counter[str] = Counter()
    for value in graph.initializers.values():
        if value.const_value is not None:
            sizes[str(value.const_value.dtype)] += value.const_value.nbytes
    for dtype, size in sizes.most_common():
        yield f"weights {dtype} {size / 1e6:.1f} MB"


def _fusions(path: Path) -> list[str]:
    """What a compilation would fuse, and where it would not and why."""
    try:
        model, _ = read_onnx(path)
        rename_inputs(model, name_inputs(model))
        rewritten = rewrite(to_opset(model), architecture="", num_layers=None, allow_unfused=True)
    except TrtbertError as error:
        return [f"fusions none: {error}"]
    fused = [f"would fuse {op} x {count}" for op, count in rewritten.fusions.items()]
    return fused + [f"would not fuse {miss.rule} at node {miss.node!r}: {miss.reason}" for miss in rewritten.unfused]
