"""What every kernel has to keep to, from the compiler's output alone; each breach is a sentence."""

import re
from collections.abc import Callable, Iterable

from plugins.tools.kernel_report.kernel import Kernel, ways_of

ATTENTION = "fused_qkv_attention"
OCCUPANCY = {ATTENTION: 0.25}
"""Smallest share of resident warps by op; of the others ELEMENTWISE_OCCUPANCY."""
ELEMENTWISE_OCCUPANCY = 0.5
WAYS = 2
"""Most lanes that may wait for one bank, in attention."""
TRACED = 0.5
"""Smallest share of the accesses to shared memory whose addresses have to be known for that."""
SPILLS = ("LDL", "STL")
"""Opcodes that read and write local memory."""
GENERIC = r"(LD|ST)(\.|$)"
"""Opcodes that find out only when they run whether an address is of shared or of global memory."""
TENSOR_CORES = {"fp16": (70, "HMMA"), "bf16": (80, "HMMA"), "int8": (75, "IMMA")}
"""Type of the products -> since which architecture which instruction has to be there."""


def breaches(kernels: Iterable[Kernel]) -> list[str]:
    """Every breach of every gate, each with the kernel, the architecture, what was found and what is allowed."""
    return [f"{kernel.label}: {breach}" for kernel in kernels for gate in GATES if (breach := gate(kernel))]


def spills(kernel: Kernel) -> str | None:
    if not kernel.spill_stores and not kernel.spill_loads:
        return None
    return f"spills {kernel.spill_stores} bytes and reads {kernel.spill_loads} back; allowed is none: use fewer registers or larger bounds"


def local_memory(kernel: Kernel) -> str | None:
    accesses = sum(kernel.count(opcode) for opcode in SPILLS)
    if not kernel.stack and not accesses:
        return None
    return f"has {kernel.stack} bytes of stack and {accesses} accesses to local memory; allowed is none: index no array by a variable"


def launch_bounds(kernel: Kernel) -> str | None:
    return None if kernel.threads else "has no __launch_bounds__; every kernel needs them, for its occupancy to be known"


def occupancy(kernel: Kernel) -> str | None:
    needed = OCCUPANCY.get(kernel.source, ELEMENTWISE_OCCUPANCY)
    if not kernel.threads or kernel.occupancy >= needed:
        return None
    return (
        f"has an occupancy of {kernel.occupancy:.0%} with {kernel.threads} threads of {kernel.registers} registers and "
        f"{kernel.shared} bytes of shared memory; allowed is {needed:.0%} or more"
    )


def named_types(kernel: Kernel) -> str | None:
    if kernel.product_type if kernel.source == ATTENTION else kernel.types:
        return None
    return f"does not tell its type by its name; {ATTENTION} needs attention_{{float,half,int8}}_kernel<...>, others a type in <...>"


def tensor_cores(kernel: Kernel) -> str | None:
    if kernel.source != ATTENTION or kernel.product_type not in TENSOR_CORES:
        return None
    since, opcode = TENSOR_CORES[kernel.product_type]
    if kernel.architecture < since or kernel.count(opcode):
        return None
    return f"has no {opcode}; {kernel.product_type} products must be on tensor cores since sm_{since}"


def emptiness(kernel: Kernel) -> str | None:
    since = TENSOR_CORES.get(kernel.product_type or "", (0, ""))[0]
    if not kernel.is_empty or kernel.architecture < since:
        return None
    return f"reads and writes nothing; allowed is that only below sm_{since}"


def wide_accesses(kernel: Kernel) -> str | None:
    """Of a kernel that moves more than one element at a time, as the first number in its name says; INT8 moves in fewer bytes."""
    found = re.search(r"\b\d+\b", kernel.name)
    if kernel.source == ATTENTION or found is None or found[0] == "1":
        return None
    needed = ("LDG",) if "int8" in kernel.types else ("LDG", "STG")
    missing = [opcode for opcode in needed if not kernel.count(rf"{opcode}\..*128")]
    return f"has no {' and no '.join(missing)} of 128 bits; a kernel of vectors needs them" if missing else None


def bank_conflicts(kernel: Kernel) -> str | None:
    if kernel.ways <= WAYS:
        return None
    found = [(*key.split(), count) for key, count in kernel.conflicts.items() if ways_of(key) > WAYS]
    worst = ", ".join(f"{count} x {opcode} {ways}-way at {place}" for opcode, ways, place, count in found)
    return f"has bank conflicts in shared memory: {worst}; allowed is {WAYS}-way"


def untraced_accesses(kernel: Kernel) -> str | None:
    if not kernel.conflicts or kernel.traced >= TRACED:
        return None
    return f"has {kernel.traced:.0%} of its accesses to shared memory traced; {TRACED:.0%} or more are needed: {dict(kernel.untraced)}"


def generic_accesses(kernel: Kernel) -> str | None:
    if not kernel.count(GENERIC):
        return None
    return f"has {kernel.count(GENERIC)} generic loads and stores (LD, ST); allowed is none: let the compiler see which memory it is"


GATES: tuple[Callable[[Kernel], str | None], ...] = (
    spills,
    local_memory,
    launch_bounds,
    occupancy,
    named_types,
    tensor_cores,
    emptiness,
    generic_accesses,
    wide_accesses,
    bank_conflicts,
    untraced_accesses,
)
