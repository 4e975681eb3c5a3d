"""Let Polygraphy's CPU reference runner run the graph in a build kit: our ops by trtbert.ops, the standard ones by onnx.reference.

Polygraphy finds `register_references` by the entry point `polygraphy.run.plugins`:

    polygraphy run KIT/model.onnx --pluginref --val-range [0,1]

In Python, call it before `PluginRefRunner(...)` is activated.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.reference
import onnx_graphsurgeon as gs
from polygraphy.backend.pluginref.references import OP_REGISTRY, register

from trtbert.ops import PLUGIN_OPS, Array

Reference = Callable[..., Sequence[Array]]


def register_references() -> list[Any]:
    """Register a reference for each plugin and each standard op that has none; gives no argument groups, as Polygraphy asks for."""
    for op in PLUGIN_OPS.values():
        register(op.name)(_fused(op.reference))
    for name in {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""} - OP_REGISTRY.keys():
        OP_REGISTRY[name] = _standard
    return []


def _fused(reference: Callable[..., Array]) -> Reference:
    def run(attributes: Mapping[str, Any], *inputs: Array | None) -> Sequence[Array]:
        """Computed in float64; the result has the type of the float inputs, or INT8."""
        result = reference(*inputs, **attributes)
        dtype = next(x.dtype for x in inputs if x is not None and x.dtype.kind not in "iu")
        return [result if result.dtype == np.int8 else result.astype(dtype)]

    return run


def _standard(node: gs.Node, tensors: Mapping[str, Array]) -> dict[str, Array]:
    feeds = {
        tensor.name: tensor.values if isinstance(tensor, gs.Constant) else tensors[tensor.name] for tensor in node.inputs if tensor.name
    }
    proto = gs.exporters.onnx_exporter.OnnxExporter.export_node(node)
    results = onnx.reference.ReferenceEvaluator(proto).run(None, feeds)
    return {tensor.name: result for tensor, result in zip(node.outputs, results, strict=True)}
