"""TensorRT-RTX, which needs no GPU to build, takes the graphs: for Turing, where it refuses every FP32 GEMM."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import onnx_ir as ir
import pytest

from tests.precision.encoder import batch, encoder
from tests.precision.lint import inlined
from trtbert.precision import convert

pytestmark = [
    pytest.mark.tensorrt,
    pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs the extra tensorrt-rtx"),
]

# In a process of its own: TensorRT-RTX can abort, or spoil the process for the next build.
BUILD = """
import sys
import tensorrt_rtx as trt
logger = trt.Logger(trt.Logger.ERROR)
builder = trt.Builder(logger)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
parser = trt.OnnxParser(network, logger)
if not parser.parse_from_file(sys.argv[1]):
    sys.exit("\\n".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
config = builder.create_builder_config()
config.num_compute_capabilities = 1
config.set_compute_capability(getattr(trt.ComputeCapability, sys.argv[2]), 0)
profile = builder.create_optimization_profile()
for i in range(network.num_inputs):
    profile.set_shape(network.get_input(i).name, (1, 1), (2, 8), (4, 16))
config.add_optimization_profile(profile)
sys.exit(builder.build_serialized_network(network, config) is None)
"""


def build(model: ir.Model, folder: Path, capability: str) -> subprocess.CompletedProcess[str]:
    ir.save(inlined(model), folder / "model.onnx")
    command = [sys.executable, "-c", BUILD, str(folder / "model.onnx"), capability]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("factors", [{}, {"up": 1e6}, {"q": 1e4, "k": 1e4, "v": 1e6}], ids=str)
def test_fp16_builds_for_turing(factors: dict[str, float], tmp_path: Path) -> None:
    done = build(convert(encoder(**factors), "fp16", [batch()]).model, tmp_path, "SM75")
    assert done.returncode == 0, done.stdout + done.stderr


def test_bf16_builds_for_ampere(tmp_path: Path) -> None:
    done = build(convert(encoder(), "bf16", []).model, tmp_path, "SM80")
    assert done.returncode == 0, done.stdout + done.stderr


def test_fp32_is_refused_for_turing(tmp_path: Path) -> None:
    assert build(encoder(), tmp_path, "SM75").returncode != 0
