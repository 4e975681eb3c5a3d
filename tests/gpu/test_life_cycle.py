"""The plugins in the real TensorRT: built, serialised, and deserialised by other processes, with their library and without it."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import trtbert
from tests.gpu.test_engines import FP16, PACKED, PLUGIN, SIZES, TEXTS, cosines, trtbert_run
from tests.models import make_checkpoint
from trtbert.ops import PLUGIN_OPS
from trtbert.runtime.plugins import LIBRARY

pytestmark = pytest.mark.gpu

DESERIALIZE = """
import sys
import tensorrt as trt

plan, *libraries = sys.argv[1:]
runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
for library in libraries:
    assert runtime.get_plugin_registry().load_library(library) is not None
with open(plan, "rb") as stream:
    engine = runtime.deserialize_cuda_engine(stream.read())
print("none" if engine is None else engine.create_execution_context() is not None)
"""
CREATORS = """
import sys
import tensorrt as trt

registry = trt.Runtime(trt.Logger(trt.Logger.ERROR)).get_plugin_registry()
assert registry.load_library(sys.argv[1]) is not None
print(*(name for name in sys.argv[2:] if registry.get_creator(name, "1", "") is not None))
"""


@pytest.fixture(scope="module")
def packages(target: str, plugin_library: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two engines of one tiny model: padded and packed."""
    folder = tmp_path_factory.mktemp("life")
    model = make_checkpoint(folder / "model", "bert", task="sentence-similarity")
    made = {"padded": folder / "padded", "packed": folder / "packed"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRTBERT_PLUGINS", str(plugin_library))
        for package, how in zip(made.values(), (PLUGIN, PACKED), strict=True):
            options = ("--target", target, "--runtime", "tensorrt", *SIZES, *FP16, *how)
            done = trtbert_run("compile", model, "-o", package, *options)
            assert done.returncode == 0, done.stderr
    return made


def python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_the_registry_has_every_creator(plugin_library: Path) -> None:
    listed = python(CREATORS, plugin_library, *PLUGIN_OPS)
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.split() == list(PLUGIN_OPS)


@pytest.mark.parametrize("name", ["padded", "packed"])
def test_another_process_deserialises_it_with_the_library_alone(name: str, packages: dict[str, Path]) -> None:
    plan, library = packages[name] / "model.plan", packages[name] / LIBRARY
    with_library, without = python(DESERIALIZE, plan, library), python(DESERIALIZE, plan)
    assert with_library.stdout.split() == ["True"], with_library.stderr
    assert without.stdout.split() != ["True"], "a plan with plugins was deserialised without them"


def test_engines_live_side_by_side(packages: dict[str, Path]) -> None:
    """Two engines, one of them twice, in threads of one process: contexts share no state, and shapes change from call to call."""
    predictors = [trtbert.load(packages[name]) for name in ("padded", "packed", "padded")]
    batches = [list(TEXTS[:num]) * times for num in (1, 2, 4) for times in (1, 2)]
    expected = [predictors[0].encode(batch) for batch in batches]
    with ThreadPoolExecutor(len(predictors)) as pool:
        futures = [pool.submit(lambda p: [p.encode(batch) for _ in range(10) for batch in batches], p) for p in predictors]
        for future in futures:
            for index, answer in enumerate(future.result()):
                assert cosines(answer, expected[index % len(batches)]).min() >= 0.9999
    assert np.isfinite(np.concatenate(expected)).all()
