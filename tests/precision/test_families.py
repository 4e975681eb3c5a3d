"""Families that stay partly unfused: every GEMM in half, positions exact, masks finite."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from tests.models import make_checkpoint
from tests.precision.encoder import Array, cosine, run, run_half
from tests.precision.lint import problems
from trtbert.config import CompileConfig
from trtbert.export import load_source
from trtbert.precision import convert
from trtbert.rewrite import rewrite

FAMILIES = ("deberta-v2", "modernbert")


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ir.Model:
    folder: Path = tmp_path_factory.mktemp(request.param)
    checkpoint = make_checkpoint(folder / "model", request.param, task="token-classification")
    source = load_source(checkpoint, CompileConfig(), folder / "tokenizer")
    return rewrite(source.model, architecture=request.param, num_layers=2).model


def feed(size: int = 4, length: int = 40) -> dict[str, Array]:
    mask = np.ones((size, length), np.int32)
    mask[0, 6:], mask[1, :4] = 0, 0
    return {"input_ids": np.random.default_rng(size).integers(5, 50, (size, length), dtype=np.int32), "attention_mask": mask}


@pytest.mark.parametrize("precision,lowest", [("fp16", 0.9999), ("bf16", 0.999)])
def test_it_answers_the_same(model: ir.Model, precision: str, lowest: float) -> None:
    converted = convert(model, precision, [feed()])
    assert problems(converted.model) == []
    assert cosine(run_half(converted.model, feed())[0], run(model, feed())[0]) >= lowest
    masked = feed()
    masked["attention_mask"][2:] = 0
    assert np.isfinite(run_half(converted.model, masked)[0]).all()


def test_every_gemm_may_explode(model: ir.Model) -> None:
    exploding = model.clone()
    for node in list(exploding.graph):
        weight = node.inputs[1] if node.op_type in ("MatMul", "Gemm") else None
        if weight is not None and weight.const_value is not None and weight.const_value.numpy().ndim == 2:
            value = exploding.graph.initializers[str(weight.name)]
            value.const_value = ir.tensor(weight.const_value.numpy() * np.float32(100), name=weight.name)
    converted = convert(exploding, "fp16", [feed()])
    assert sum("times 2^-" in note for note in converted.notes) >= 2
    assert problems(converted.model) == []
    assert np.isfinite(run_half(converted.model, feed())[0]).all()
