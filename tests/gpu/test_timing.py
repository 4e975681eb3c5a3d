"""Times of kernels and engines by a clock that the test moves, on a stand-in for the CUDA runtime."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.gpu import benchmarks
from tests.gpu.host_cuda import HostCuda
from tests.gpu.tools import ROOT
from trtbert.errors import MissingRuntimeError, UnsupportedError

SMALL = {"HIDDEN": 16, "FFN": 32, "HEADS": 2, "HEAD_SIZE": 8, "WORDS": 20, "ROWS_BS": (2, 16), "ATTENTION_BS": ((2, 8),)}


@pytest.fixture
def cuda() -> HostCuda:
    return HostCuda(bytes_per_second=100e9)


def test_the_bandwidth_is_that_of_the_copy(cuda: HostCuda) -> None:
    gpu = benchmarks.load("gpu").Gpu(cuda)
    card = gpu.card()
    assert card.bytes_per_second == pytest.approx(100e9)
    assert (card.name, card.compute_capability, card.num_multiprocessors, card.clock_hz) == ("Stand-in", 86, 10, 1e9)
    assert len(cuda.memory) == 1, "only the scratch memory is kept"


def test_work_is_timed_piece_by_piece_after_a_warm_up(cuda: HostCuda) -> None:
    gpu = benchmarks.load("gpu").Gpu(cuda)
    calls = []

    def work(milliseconds: float) -> None:
        calls.append(milliseconds)
        cuda.milliseconds += milliseconds

    before = cuda.milliseconds
    assert gpu.times([lambda: work(0.5), lambda: work(2.0)]) == pytest.approx([0.5, 2.0])
    assert calls == [0.5, 2.0, 0.5, 2.0]
    assert cuda.milliseconds > before + 5.0, "the GPU is kept busy while the work is queued"
    assert gpu.stream() == gpu.stream() == 77


def test_an_error_of_the_gpu_ends_the_timing(cuda: HostCuda) -> None:
    gpu = benchmarks.load("gpu").Gpu(cuda)
    cuda.failing["cudaEventSynchronize"] = "cudaErrorLaunchFailure"
    with pytest.raises(Exception, match="cudaErrorLaunchFailure"):
        gpu.times([lambda: None])


def test_a_kernel_is_timed_and_judged(cuda: HostCuda) -> None:
    """The launches are real calls with real parameters, of a library that only moves the clock."""
    kernel_times, tables, Timing = benchmarks.load("kernel_times"), benchmarks.load("plugin_tables"), benchmarks.load("contenders").Timing
    gpu = benchmarks.load("gpu").Gpu(cuda)
    card = gpu.card()
    found: list[tuple[Any, Any, Any]] = []
    for case in small_cases(kernel_times):
        recorder = recorder_of(kernel_times, cuda, seconds=4 * case.work.num_bytes / card.bytes_per_second)
        timing = kernel_times.measure(case, recorder, gpu)
        assert len(cuda.memory) == 1 and not recorder.launches
        assert timing.percentile(50) == pytest.approx(4e3 * case.work.num_bytes / card.bytes_per_second)
        found.append((case, timing, None))
    found[0] = (*found[0][:2], Timing(rounds=[[2 * found[0][1].percentile(50)]]))
    lines = tables.kernel_table(found, card).splitlines()
    assert len(lines) == 2 + len(found) and len({line.count("|") for line in lines}) == 1
    cells = [cell.strip() for cell in lines[2].split("|")[1:-1]]
    assert cells[0] == "FusedBiasGelu" and cells[5:11] == ["25", "25%", "-", "-", "memory", "25%"]
    assert cells[-1] == "0.50" and lines[3].endswith("| - | - |")


def small_cases(kernel_times: Any) -> list[Any]:
    """All cases of a GPU, on sizes that an emulation could run."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "HIDDEN": 16,
            "FFN": 32,
            "HEADS": 2,
            "HEAD_SIZE": 8,
            "WORDS": 20,
            "ROWS_BS": (2, 16),
            "ATTENTION_BS": ((2, 8),),
        }.items():
            patch.setattr(kernel_times, name, value)
        cases = list(kernel_times.cases(86))
        assert {case.kernel for case in cases} == {"FusedBiasGelu", "FusedSkipLayerNorm", "FusedEmbedLayerNorm", "FusedQkvAttention"}
        assert {case.dtype for case in cases} == {"fp32", "fp16", "bf16", "int8"}
        assert {case.dtype for case in kernel_times.cases(70)} == {"fp32", "fp16"}
        made = [(case, case.make()) for case in cases]
    return [SimpleNamespace(**vars(case) | {"make": lambda call=call: call}) for case, call in made]


def recorder_of(kernel_times: Any, cuda: HostCuda, *, seconds: float) -> Any:
    def launch(dtype: Any, params: Any, stream: None) -> int:
        cuda.milliseconds += seconds * 1e3
        return 0

    recorder = kernel_times.LaunchRecorder.__new__(kernel_times.LaunchRecorder)
    recorder._library = SimpleNamespace(
        **{f"trtbert_fused_{name}": launch for name in ("bias_gelu", "skip_layer_norm", "embed_layer_norm", "qkv_attention")}
    )
    recorder.device, recorder.launches, recorder._blocks = benchmarks.load("gpu").Device(cuda), [], []
    return recorder


class Runtime:
    """Answers with the sums of its feeds times a factor; its engine takes some milliseconds."""

    def __init__(self, cuda: HostCuda, milliseconds: float, factor: float = 1.0) -> None:
        self.cuda, self.milliseconds, self.factor = cuda, milliseconds, factor
        self.inputs = (SimpleNamespace(name="input_ids"), SimpleNamespace(name="attention_mask"))
        self.is_refusing = False
        self.streams: set[int] = set()
        self._context = self

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        assert set(feeds) == {"input_ids", "attention_mask"}
        ids_BS, mask_BS = feeds["input_ids"], feeds["attention_mask"]
        return {"embedding": np.stack([(ids_BS * mask_BS).sum(1), self.factor * mask_BS.sum(1)], 1).astype(np.float32)}

    def execute_async_v3(self, stream: int) -> bool:
        self.streams.add(stream)
        self.cuda.milliseconds += self.milliseconds
        return not self.is_refusing


def test_engines_are_timed_in_turn(cuda: HostCuda) -> None:
    engine_times, tables = benchmarks.load("engine_times"), benchmarks.load("plugin_tables")
    gpu = benchmarks.load("gpu").Gpu(cuda)
    runtimes = {name: Runtime(cuda, milliseconds) for name, milliseconds in zip(engine_times.LOWERINGS, (2.0, 1.5, 1.0), strict=True)}
    batches = list(engine_times.batches(32))
    times = {batch: engine_times.race(runtimes, batch, gpu, precision="fp16", rounds=3) for batch in batches}
    assert runtimes["native"].streams == {gpu.stream()}
    for row in times.values():
        assert [timing.gpu.num_runs for timing in row.values()] == [30, 30, 30] == [timing.wall.num_runs for timing in row.values()]
        assert [timing.gpu.percentile(50) for timing in row.values()] == pytest.approx([2.0, 1.5, 1.0])
    lines = tables.engine_table(times).splitlines()
    assert len(lines) == 2 + 3 * len(batches)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:5]]
    assert [(row[0], row[2], row[3], row[-1]) for row in cells] == [
        ("1 x 16", "native", "2.000", "1.00"),
        ("1 x 16", "plugin", "1.500", "0.75"),
        ("1 x 16", "plugin, packed", "1.000", "0.50"),
    ]
    assert "| mixed lengths |" in lines[-1]


def test_what_is_timed() -> None:
    batches = list(benchmarks.load("engine_times").batches(384))
    assert [(b.num_rows, b.length) for b in batches if not b.is_mixed] == [(n, s) for n in (1, 8, 32) for s in (16, 64, 128, 384)]
    assert [(b.num_rows, b.length) for b in batches if b.is_mixed] == [(n, s) for n in (8, 32) for s in (128, 384)]
    masks = [batch.feeds()["attention_mask"] for batch in batches]
    assert [mask.all() for mask in masks] == [not batch.is_mixed for batch in batches]
    assert (np.sort(masks[-1], 1)[:, ::-1] == masks[-1]).all(), "padding is on the right"


def test_engines_that_differ_are_not_compared(cuda: HostCuda) -> None:
    engine_times, gpu = benchmarks.load("engine_times"), benchmarks.load("gpu").Gpu(cuda)
    runtimes = {"native": Runtime(cuda, 1.0), "plugin": Runtime(cuda, 1.0, factor=1e6)}
    batch = next(engine_times.batches(32))
    with pytest.raises(RuntimeError, match=r"'plugin' does not compute the same: the smallest cosine of its answer is 0\.\d+"):
        engine_times.race(runtimes, batch, gpu, precision="fp16", rounds=1)
    runtimes["native"].is_refusing = True
    with pytest.raises(RuntimeError, match="TensorRT could not enqueue"):
        engine_times.race(runtimes, batch, gpu, precision="fp16", rounds=1)


def test_mixed_lengths() -> None:
    lengths = benchmarks.load("kernel_times").mixed_lengths(32, 384)
    assert (lengths[0], lengths[-1], len(lengths)) == (48, 384, 32) and lengths == sorted(lengths)
    assert 1 - np.mean(lengths) / 384 == pytest.approx(0.44, abs=0.01)


def test_tables_are_markdown() -> None:
    assert benchmarks.load("plugin_tables").markdown(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_modules_are_importable_no_longer_than_needed() -> None:
    """benchmarks/plugins.py would hide the folder plugins/."""
    assert not [path for path in sys.path if Path(path).name == "benchmarks"]


def test_the_script_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a GPU, without the library, and for a precision that the GPU does not have."""
    with benchmarks.importable():
        spec = importlib.util.spec_from_file_location("plugins_benchmark", ROOT / "benchmarks" / "plugins.py")
        assert spec is not None and spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
    monkeypatch.setattr(script, "gpu_target", lambda: None)
    with pytest.raises(MissingRuntimeError, match="no GPU to time plugins on"):
        script.checked_target(None)
    monkeypatch.setattr(script, "gpu_target", lambda: "sm75")
    monkeypatch.setattr(script, "library_path", lambda target: tmp_path / "library.so")
    with pytest.raises(MissingRuntimeError, match=r"library\.so is not there; build it: python -m tests\.gpu\.library"):
        script.checked_target(None)
    (tmp_path / "library.so").touch()
    assert script.checked_target(["fp16", "int8"]) == "sm75"
    with pytest.raises(UnsupportedError, match="bf16 needs sm80"):
        script.checked_target(["bf16"])
