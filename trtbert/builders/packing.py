"""Turn a fused model into one that computes no padding: tokens are gathered before the embedding, and spread again before the head.

    mask [B,S]                      ->  where_T2, cu_seqlens [B+1]
    ids [B,S]                       ->  GatherND -> [1,T] -> FusedEmbedLayerNorm -> hidden [T,D]
    FusedQkvAttention(qkv, mask)    ->  FusedPackedQkvAttention(qkv, cu_seqlens)
    what is computed row by row     ->  the same, on [T,...]
    the first that is not           ->  reads ScatterND(zeros [B,S,...], where_T2, hidden [T,...])

Inputs and outputs of the model stay as they are; what an output holds at a padded position is undefined, as it is without packing.

Legend: B batch, S sequence, T tokens that are not padding, D hidden.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from trtbert.bodies import add_functions
from trtbert.builders.lowering import fused_nodes
from trtbert.builders.plugin_limits import why_no_plugin
from trtbert.builders.row_wise import is_row_wise, reads_fixed_position
from trtbert.config import Target
from trtbert.errors import UnsupportedError
from trtbert.ops import FUSED_EMBED_LAYER_NORM, FUSED_PACKED_QKV_ATTENTION, FUSED_QKV_ATTENTION
from trtbert.package import TokenizerFacts

TOKENS = ir.SymbolicDim("tokens")


@dataclass(frozen=True)
class Packed:
    """The packed model; `takes_left_padding` is False where its head reads a fixed position, which then has to be a token."""

    model: ir.Model
    takes_left_padding: bool


def pack(model: ir.Model) -> Packed:
    """A packed copy of `model`, with the bodies of its fused nodes; the weights are shared.

    Raises UnsupportedError for a model whose embeddings or attention are not fused, or whose attention has a bias.
    """
    packed = model.clone()
    embedding, mask = _embedding(packed), _mask(packed)
    packing = _Packing(packed.graph, mask)
    packing.pack_embedding(embedding)
    for node in list(packed.graph):
        if any(value in packing.rows for value in node.inputs):
            packing.visit(node)
    packing.unpack_outputs()
    packed.graph.sort()  # the mask may be made after the embedding
    add_functions(packed)
    return Packed(packed, takes_left_padding=not packing.has_fixed_position)


def check_packable(model: ir.Model, target: Target, tokenizer: TokenizerFacts) -> None:
    """Raise UnsupportedError, before any other work, where `--packed` cannot give what the model gives."""
    packed = pack(model)
    for node in fused_nodes(packed.model):
        if node.op_type == FUSED_PACKED_QKV_ATTENTION.name and (reason := why_no_plugin(node, target)) is not None:
            raise UnsupportedError(f"--packed: no plugin takes attention {node.name!r}: {reason}; compile it without --packed")
    if tokenizer.padding_side == "left" and not packed.takes_left_padding:
        raise UnsupportedError(
            "--packed: the head reads the first position of every text, and the tokenizer puts the padding there, which is not "
            "computed; compile it without --packed"
        )


def _embedding(model: ir.Model) -> ir.Node:
    found = [node for node in fused_nodes(model) if node.op_type == FUSED_EMBED_LAYER_NORM.name]
    if len(found) != 1:
        raise UnsupportedError(f"--packed needs the embeddings fused, and this model has {len(found)} FusedEmbedLayerNorm; leave it out")
    return found[0]


def _mask(model: ir.Model) -> ir.Value:
    attentions = [node for node in fused_nodes(model) if node.op_type == FUSED_QKV_ATTENTION.name]
    biased = [node for node in attentions if len(node.inputs) > 2]
    if biased:
        raise UnsupportedError(
            f"--packed: attention {biased[0].name!r} has a relative-position bias, which the packed plugin does not take; "
            "compile it without --packed"
        )
    masks = {node.inputs[1] for node in attentions}
    mask = masks.pop() if len(masks) == 1 else None
    if mask is None:
        raise UnsupportedError("--packed needs fused attention with one padding mask for all layers; compile it without --packed")
    return mask


class _Packing:
    """The graph, where its tokens are, and which of its values are rows [T,...] by now."""

    def __init__(self, graph: ir.Graph, mask: ir.Value) -> None:
        self.graph, self.mask = graph, mask
        self.rows: set[ir.Value | None] = set()
        self.has_fixed_position = False
        self._padded: dict[ir.Value, ir.Value] = {}
        self._tape = ir.tape.Tape()
        is_kept_BS = self._op("Cast", mask, to=ir.DataType.BOOL)
        self.where_T2 = self._op("Transpose", self._op("NonZero", is_kept_BS))
        kept_BS = self._op("Cast", is_kept_BS, to=ir.DataType.INT32)
        ends_B = self._op("CumSum", self._op("ReduceSum", kept_BS, self._constant([1]), keepdims=0), self._constant(0))
        start = self._constant([0], ir.DataType.INT32)
        self.cu_seqlens = self._op("Concat", start, ends_B, dtype=ir.DataType.INT32, shape=[None], axis=0)
        graph.insert_before(graph[0], self._taken())

    def pack_embedding(self, node: ir.Node) -> None:
        names = FUSED_EMBED_LAYER_NORM.inputs + FUSED_EMBED_LAYER_NORM.optional_inputs
        shape_BS = self._op("Shape", self.mask)
        for index, (name, value) in enumerate(zip(names, node.inputs, strict=False)):
            if name.endswith("_ids") and value is not None:
                ids_BS = self._op("Expand", value, shape_BS) if name == "position_ids" else value
                ids_T = self._op("GatherND", ids_BS, self.where_T2)
                node.replace_input_with(index, self._op("Unsqueeze", ids_T, self._constant([0]), dtype=value.dtype, shape=[1, TOKENS]))
        self.graph.insert_before(node, self._taken())
        hidden_BSD = node.outputs[0]
        width = list(hidden_BSD.shape or ())[2:]
        hidden_TD = self._op("Squeeze", hidden_BSD, self._constant([0]), dtype=hidden_BSD.dtype, shape=[TOKENS, *width])
        ir.convenience.replace_all_uses_with(hidden_BSD, hidden_TD, replace_graph_outputs=True)
        hidden_BSD.name, hidden_TD.name = f"{hidden_BSD.name}_1TD", hidden_BSD.name
        squeeze = hidden_TD.producer()
        assert squeeze is not None
        squeeze.replace_input_with(0, hidden_BSD)
        hidden_BSD.shape = ir.Shape([1, TOKENS, *width])
        self.graph.insert_after(node, self._taken())
        self.rows.add(hidden_TD)

    def visit(self, node: ir.Node) -> None:
        """Let a node that reads rows compute rows, or read them spread over [B,S] again."""
        if not is_row_wise(node, self.rows):
            for index, value in enumerate(node.inputs):
                if value is not None and value in self.rows:
                    node.replace_input_with(index, self._unpacked(value))
            self.has_fixed_position |= reads_fixed_position(node)
            return
        if node.op_type == FUSED_QKV_ATTENTION.name:
            node.op_type = FUSED_PACKED_QKV_ATTENTION.name
            node.replace_input_with(1, self.cu_seqlens)
        for value in node.outputs:
            value.shape = None if value.shape is None else ir.Shape([TOKENS, *list(value.shape)[2:]])
            self.rows.add(value)

    def unpack_outputs(self) -> None:
        for index, value in enumerate(list(self.graph.outputs)):
            if value in self.rows:
                unpacked = self._unpacked(value)
                value.name, unpacked.name = f"{value.name}_rows", value.name
                self.graph.outputs[index] = unpacked

    def _unpacked(self, value: ir.Value) -> ir.Value:
        if value not in self._padded:
            assert value.dtype is not None
            sizes = self._op("Concat", self._op("Shape", self.mask), self._op("Shape", value, start=1), axis=0)
            zero = ir.tensor(np.zeros(1, value.dtype.numpy()), dtype=value.dtype)
            zeros = self._op("ConstantOfShape", sizes, dtype=value.dtype, value=zero)
            shape = None if value.shape is None or self.mask.shape is None else [*self.mask.shape, *list(value.shape)[1:]]
            self._padded[value] = self._op("ScatterND", zeros, self.where_T2, value, dtype=value.dtype, shape=shape)
            producer = value.producer()
            assert producer is not None
            self.graph.insert_after(producer, self._taken())
        return self._padded[value]

    def _op(
        self,
        name: str,
        *inputs: ir.Value,
        dtype: ir.DataType | None = None,
        shape: Sequence[int | ir.SymbolicDim | None] | None = None,
        **attributes: int | ir.TensorProtocol,
    ) -> ir.Value:
        """The result of a new node, which `_taken` hands over."""
        value = self._tape.op(name, inputs, attributes)
        value.type = None if dtype is None else ir.TensorType(dtype)
        value.shape = None if shape is None else ir.Shape(shape)
        return value

    def _constant(self, value: npt.ArrayLike, dtype: ir.DataType = ir.DataType.INT64) -> ir.Value:
        return self._op("Constant", value=ir.tensor(np.asarray(value, dtype.numpy()), dtype=dtype))

    def _taken(self) -> Sequence[ir.Node]:
        """The nodes since the last call, to be put into the graph."""
        nodes, self._tape = self._tape.nodes, ir.tape.Tape()
        return nodes
