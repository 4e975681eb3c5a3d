"""The occupancies of the report are those of NVIDIA's cuda_occupancy.h."""

import itertools
import shutil
import subprocess
from pathlib import Path

import pytest

from plugins.tools.kernel_report.architectures import ARCHITECTURES, occupancy

THREADS = (32, 64, 96, 128, 160, 192, 256, 384, 512, 1024)
REGISTERS = (16, 24, 32, 33, 40, 48, 56, 63, 64)
SHARED = (0, 8, 32, 1000, 8191, 8192, 9216, 16384, 24000, 32768, 40000, 49152)


def _include() -> Path:
    nvcc = shutil.which("nvcc")
    found = [Path("/usr/local/cuda/include"), *([Path(nvcc).resolve().parents[1] / "include"] if nvcc else [])]
    for folder in found:
        if (folder / "cuda_occupancy.h").exists():
            return folder
    pytest.skip(f"cuda_occupancy.h is in none of {', '.join(map(str, found))}; install the CUDA toolkit")


def _blocks(cases: list[tuple[int, int, int, int]], folder: Path) -> list[int]:
    """What cuda_occupancy.h says of (architecture, threads, registers, bytes of shared memory)."""
    program = folder / "occupancy"
    source = Path(__file__).with_name("occupancy.cpp")
    subprocess.run(["g++", "-std=c++17", "-O1", "-Wall", "-Werror", "-isystem", _include(), source, "-o", program], check=True)
    lines = []
    for architecture, threads, registers, shared in cases:
        of = ARCHITECTURES[architecture]
        lines.append(f"{architecture} {of.warps} {of.blocks} {of.shared} {of.shared_reserved} {threads} {registers} {shared}")
    answers = subprocess.run([program], input="\n".join(lines), capture_output=True, text=True, check=True).stdout.split()
    assert set(answers[::2]) == {"0"}
    return [int(blocks) for blocks in answers[1::2]]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_occupancy_is_that_of_cuda_occupancy_h(architecture: int, tmp_path: Path) -> None:
    cases = [(architecture, *sizes) for sizes in itertools.product(THREADS, REGISTERS, SHARED)]
    expected = [
        blocks * threads / 32 / ARCHITECTURES[architecture].warps
        for (_, threads, _, _), blocks in zip(cases, _blocks(cases, tmp_path), strict=True)
    ]
    found = [occupancy(architecture, threads=threads, registers=registers, shared=shared) for _, threads, registers, shared in cases]
    wrong = [(case, f, e) for case, f, e in zip(cases, found, expected, strict=True) if f != e]
    assert wrong == []


def test_a_block_that_does_not_fit_gives_nothing() -> None:
    assert occupancy(75, threads=128, registers=32, shared=(64 << 10) + 1) == 0.0


def test_by_hand() -> None:
    """A100: 40 registers a thread are 1280 a warp, 12 warps in a quarter of the registers, 48 in all, 12 blocks of 4."""
    assert occupancy(80, threads=128, registers=40, shared=0) == 48 / 64
