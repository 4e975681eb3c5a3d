"""The word embedding -> INT8 rows, each with its own scale.

Nothing is computed in INT8, but the table, half of a small model, takes a quarter of the space. DQ stands before the Gather, where
TensorRT wants it (the table stays INT8 in its plan); for a CPU the lowering gathers first and dequantises what was gathered.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from trtbert.calibrate.qdq import array_of, dequantized_weight, producer_of
from trtbert.ops import FUSED_EMBED_LAYER_NORM
from trtbert.tasks import INPUT_IDS

_IDS_INPUT = {"Cast": 0, "ScatterElements": 2}
"""What may stand before the table: a student moves the tokens of a row to its front."""
_TABLE_INPUT = {FUSED_EMBED_LAYER_NORM.name: FUSED_EMBED_LAYER_NORM.inputs.index("word"), "Gather": 0}


@dataclass(frozen=True, kw_only=True)
class EmbeddingPlan:
    """The table that the node of `key` gathers from, in INT8."""

    key: str
    label: str = "word embedding"

    def apply(self, graph: ir.Graph) -> None:
        node = producer_of(graph, self.key)
        index = _TABLE_INPUT[node.op_type]
        table = node.inputs[index]
        assert table is not None
        node.replace_input_with(index, dequantized_weight(graph, table, axis=0, before=node))


def plan_embeddings(graph: ir.Graph) -> EmbeddingPlan | None:
    """The fused embeddings, or the Gather of the input ids where they are not fused; None where there is neither."""
    for node in graph:
        if node.op_type == FUSED_EMBED_LAYER_NORM.name or (node.op_type == "Gather" and _reads_ids(node)):
            table = node.inputs[_TABLE_INPUT[node.op_type]]
            if table is not None and table.const_value is not None and array_of(table).dtype == np.float32 and array_of(table).ndim == 2:
                return EmbeddingPlan(key=str(node.outputs[0].name))
    return None


def _reads_ids(node: ir.Node) -> bool:
    ids = node.inputs[1]
    while ids is not None and (made := ids.producer()) is not None and made.op_type in _IDS_INPUT:
        ids = made.inputs[_IDS_INPUT[made.op_type]]
    return ids is not None and ids.is_graph_input() and ids.name == INPUT_IDS
