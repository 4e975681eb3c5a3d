"""The kernels -> docs/kernels.md: a row for each family of instances and each architecture."""

from collections.abc import Callable, Iterable
from itertools import groupby

from plugins.tools.kernel_report.kernel import Kernel

COMMAND = "python -m plugins.tools.kernel_report --write docs/kernels.md"
MIX = {
    "HMMA": "HMMA",
    "IMMA": "IMMA",
    "FFMA": "FFMA",
    "LDG.128": r"LDG\.(\w+\.)*128",
    "LDG other": r"LDG(?!\.(\w+\.)*128)",
    "STG.128": r"STG\.(\w+\.)*128",
    "STG other": r"STG(?!\.(\w+\.)*128)",
    "LDS": r"LDS(\.|$)",
    "LDSM": "LDSM",
    "STS": "STS",
    "MUFU": "MUFU",
    "SHFL": "SHFL",
    "BAR": "BAR",
}
"""Column -> which opcodes it counts."""

RESOURCES = ["", "instances", "threads", "registers", "shared", "occupancy", "bank conflicts", "largest"]

INTRODUCTION = f"""# The kernels, as they were compiled

What the compilers made of every kernel in `plugins/kernels`, for every architecture: read from their output and from the machine
code, with no GPU. sm_70 is compiled by clang with CUDA 12.9 (`plugins/scripts/install-sm70-toolchain`), the others by nvcc {{nvcc}}.
`{COMMAND}`
writes this page, and `tests/plugins/test_static.py` holds it to what the command writes. What each kernel has to keep to is in
`plugins/tools/kernel_report/gates.py`.

A row stands for all instances of a kernel: its element types, widths of access, head sizes. `a..b` is the least and the most of them.

- **Registers**: of a thread. **Shared**: bytes of shared memory of a block, all of it static.
- **Occupancy**: resident warps of the multiprocessor's most, where L1 cache gives way to shared memory as far as it can.
- **Bank conflicts**, of attention: the most lanes that wait for one bank of shared memory, over the instructions whose addresses the
  analysis follows; "known" is the smallest share of them. Of the INT8 kernels, those of FP16 tensors are looked at.
- **Largest**: the instance of the lowest occupancy; among equals, of the most registers.
- No kernel spills a register, uses local memory, or has generic accesses (LD, ST).
"""


def page(kernels: Iterable[Kernel], nvcc: str) -> str:
    present = [kernel for kernel in kernels if not kernel.is_empty]
    present.sort(key=lambda kernel: (kernel.source, _family_name(kernel), kernel.architecture, kernel.name))
    sections = [_section(source, list(of)) for source, of in groupby(present, key=lambda kernel: kernel.source)]
    return "\n".join([INTRODUCTION.format(nvcc=nvcc), *sections])


def _section(source: str, kernels: list[Kernel]) -> str:
    families = [_family(list(of)) for _, of in groupby(kernels, key=_family_name)]
    return "\n".join([f"## {source}", "", *families])


def _family_name(kernel: Kernel) -> str:
    """As in attention_half_kernel<fp16>: kernels of one function, told apart by the type on the tensor cores."""
    return f"{kernel.function}<{kernel.product_type}>" if kernel.product_type else kernel.function


def _family(kernels: list[Kernel]) -> str:
    by_architecture = [list(of) for _, of in groupby(kernels, key=lambda kernel: kernel.architecture)]
    mix = [name for name, pattern in MIX.items() if any(kernel.count(pattern) for kernel in kernels)]
    resources = _table(
        ["", "instances", "threads", "registers", "shared", "occupancy", "bank conflicts", "largest"], map(_resources, by_architecture)
    )
    instructions = _table(["instructions", *mix], [_instructions(of, mix) for of in by_architecture])
    return "\n".join([f"### {_family_name(kernels[0])}", "", resources, "", instructions, ""])


def _resources(kernels: list[Kernel]) -> list[str]:
    worst = min(kernels, key=lambda kernel: (kernel.occupancy, -kernel.registers, kernel.name))
    return [
        f"sm_{kernels[0].architecture}",
        str(len(kernels)),
        _range(kernels, lambda kernel: kernel.threads),
        _range(kernels, lambda kernel: kernel.registers),
        _range(kernels, lambda kernel: kernel.shared),
        _range(kernels, lambda kernel: round(100 * kernel.occupancy)) + " %",
        _conflicts(kernels),
        f"`{worst.name}`",
    ]


def _conflicts(kernels: list[Kernel]) -> str:
    looked_at = [kernel for kernel in kernels if kernel.conflicts]
    if not looked_at:
        return ""
    return f"{max(kernel.ways for kernel in looked_at)}-way ({100 * min(kernel.traced for kernel in looked_at):.0f} % known)"


def _instructions(kernels: list[Kernel], mix: list[str]) -> list[str]:
    return [f"sm_{kernels[0].architecture}", *(_range(kernels, lambda kernel, name=name: kernel.count(MIX[name])) for name in mix)]  # type: ignore[misc]


def _range(kernels: list[Kernel], value: Callable[[Kernel], int]) -> str:
    values = sorted(map(value, kernels))
    return str(values[0]) if values[0] == values[-1] else f"{values[0]}..{values[-1]}"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
