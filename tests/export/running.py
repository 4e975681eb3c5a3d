"""A Source -> its graph in ONNX Runtime, and batches to compare it with its reference on."""

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from tests.numerics import assert_close
from trtbert.export import Feeds, Source
from trtbert.package import ModelFacts

SHAPES = ((1, 1, "whole"), (2, 7, "right"), (3, 17, "left"), (2, 20, "nothing"))
"""Batch, tokens, and which side of the last row is padding ("nothing": the whole row)."""


def batches(facts: ModelFacts, *, vocabulary_size: int) -> Iterator[Feeds]:
    """int32 feeds [B,S] with padding ids where the mask is 0."""
    generator = np.random.default_rng(0)
    for batch, length, padding in SHAPES:
        ids = generator.integers(5, vocabulary_size, (batch, length), dtype=np.int32)
        mask = np.ones((batch, length), np.int32)
        half = length // 2
        mask[-1, {"whole": slice(0), "right": slice(half, None), "left": slice(half), "nothing": slice(None)}[padding]] = 0
        types = np.broadcast_to(np.arange(length, dtype=np.int32) > half, ids.shape).astype(np.int32)
        feeds = {
            "input_ids": np.where(mask, ids, facts.tokenizer.pad_token_id).astype(np.int32),
            "attention_mask": mask,
            "token_type_ids": types,
        }
        yield {tensor.name: feeds[tensor.name] for tensor in facts.inputs}


def run_graph(model: ir.Model, feeds: Feeds) -> Feeds:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def assert_graph_equals_reference(source: Source, *, vocabulary_size: int) -> None:
    """Interface, then numbers: on one token, right and left padding, and a row that is padding throughout."""
    graph = source.model.graph
    assert source.model.opset_imports[""] == 23
    assert [(v.name, v.dtype) for v in graph.inputs] == [(t.name, ir.DataType.INT32) for t in source.facts.inputs]
    assert [(v.name, v.dtype) for v in graph.outputs] == [(t.name, ir.DataType.FLOAT) for t in source.facts.outputs]
    for feeds in batches(source.facts, vocabulary_size=vocabulary_size):
        actual, expected = run_graph(source.model, feeds), source.reference(feeds)
        sizes = dict(zip(("batch", "sequence"), feeds["input_ids"].shape, strict=True))
        for tensor in source.facts.outputs:
            assert list(actual[tensor.name].shape) == [sizes.get(str(dim), dim) for dim in tensor.shape]
            assert expected[tensor.name].dtype == np.float32
            assert_close(actual[tensor.name], expected[tensor.name])
