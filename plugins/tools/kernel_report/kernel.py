"""What the compiler made of one kernel for one architecture."""

import dataclasses
import re
from collections.abc import Mapping

from plugins.tools.kernel_report import architectures

TYPES = {"float": "fp32", "__half": "fp16", "__nv_bfloat16": "bf16", "signed char": "int8"}
"""C++ types -> what the report calls them."""


@dataclasses.dataclass(frozen=True)
class Kernel:
    source: str
    """The .cu file without its ending, which is the op."""
    architecture: int
    name: str
    """Demangled, without parameters and without namespaces."""
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int
    threads: int
    """Of its largest block, from __launch_bounds__; 0 where it has none."""
    instructions: Mapping[str, int]
    """SASS opcodes, as in LDG.E.128.CONSTANT, and how often each stands in the code."""
    conflicts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Of attention, where its shared memory was looked at: banks.Conflicts.ways."""
    untraced: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def function(self) -> str:
        return self.name.split("<")[0]

    @property
    def label(self) -> str:
        return f"{self.source}: {self.name} on sm_{self.architecture}"

    @property
    def occupancy(self) -> float:
        return architectures.occupancy(self.architecture, threads=self.threads, registers=self.registers, shared=self.shared)

    @property
    def types(self) -> list[str]:
        """The element types that its template arguments name."""
        return re.findall(rf"\b({'|'.join(TYPES.values())})\b", self.name)

    @property
    def product_type(self) -> str | None:
        """The type that an attention kernel multiplies, by its name: attention_half_kernel<bf16, 64>, attention_int8_kernel<bf16, 64>."""
        found = re.match(r"attention_(float|half|int8)_kernel<", self.name)
        if found is None:
            return None
        if found[1] == "half":
            return self.types[0] if self.types else None
        return {"float": "fp32", "int8": "int8"}[found[1]]

    @property
    def is_empty(self) -> bool:
        """It is for newer architectures, and the launcher refuses this one: it reads and writes nothing."""
        return self.count(r"LD|ST") == 0

    @property
    def head_size(self) -> int | None:
        """Of an attention kernel: the number at the end of its template arguments."""
        found = re.search(r"(\d+)>$", self.name)
        return int(found[1]) if found and self.product_type else None

    @property
    def ways(self) -> int:
        """Of its worst access to shared memory: 1 is free of bank conflicts, 0 not looked at."""
        return max((ways_of(key) for key in self.conflicts), default=0)

    @property
    def traced(self) -> float:
        """The share of its accesses to shared memory whose addresses are known."""
        known, unknown = sum(self.conflicts.values()), sum(self.untraced.values())
        return known / (known + unknown) if known + unknown else 0.0

    def count(self, pattern: str) -> int:
        """Instructions whose opcode begins as the regular expression says."""
        return sum(number for opcode, number in self.instructions.items() if re.match(pattern, opcode))


def ways_of(key: str) -> int:
    """Of "STS.64 2 attention_half.cuh:99": 2."""
    return int(key.split()[1])


def short_name(demangled: str) -> str:
    """`void trtbert::(anonymous namespace)::f<__half, 8>(int)` -> `f<fp16, 8>`."""
    name = _without_parameters(demangled.removeprefix("void "))
    name = name.replace("(anonymous namespace)::", "").replace("trtbert::", "")
    name = re.sub(r"\((?:int|bool|unsigned int|long)\)(\d+)", r"\1", name)
    for spelled, short in TYPES.items():
        name = re.sub(rf"\b{spelled}\b", short, name)
    return name


def _without_parameters(signature: str) -> str:
    """The list in brackets at the end is left out; brackets inside the name, as of an anonymous namespace, stay."""
    if not signature.endswith(")"):
        return signature
    depth = 0
    for position in range(len(signature) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(signature[position], 0)
        if depth == 0:
            return signature[:position]
    return signature
