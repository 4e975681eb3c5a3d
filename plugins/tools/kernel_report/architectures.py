"""What a multiprocessor of each architecture holds, and so how many warps of a kernel it keeps resident.

Limits: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"; rules of allocation: cuda_occupancy.h, against
which tests/plugins/test_occupancy.py holds them.
"""

from dataclasses import dataclass

WARP_SIZE = 32
REGISTERS = 65536
REGISTER_UNIT = 256
"""A warp gets its registers in units of so many."""
PARTITIONS = 4
"""Each has a quarter of the registers, for its own warps."""


@dataclass(frozen=True)
class Multiprocessor:
    warps: int
    blocks: int
    shared: int
    """Bytes of shared memory."""
    shared_unit: int
    shared_reserved: int
    """Bytes that the system takes for each block."""


ARCHITECTURES = {
    70: Multiprocessor(warps=64, blocks=32, shared=96 << 10, shared_unit=256, shared_reserved=0),
    75: Multiprocessor(warps=32, blocks=16, shared=64 << 10, shared_unit=256, shared_reserved=0),
    80: Multiprocessor(warps=64, blocks=32, shared=164 << 10, shared_unit=128, shared_reserved=1 << 10),
    86: Multiprocessor(warps=48, blocks=16, shared=100 << 10, shared_unit=128, shared_reserved=1 << 10),
    89: Multiprocessor(warps=48, blocks=24, shared=100 << 10, shared_unit=128, shared_reserved=1 << 10),
    90: Multiprocessor(warps=64, blocks=32, shared=228 << 10, shared_unit=128, shared_reserved=1 << 10),
    100: Multiprocessor(warps=64, blocks=32, shared=228 << 10, shared_unit=128, shared_reserved=1 << 10),
    120: Multiprocessor(warps=48, blocks=24, shared=100 << 10, shared_unit=128, shared_reserved=1 << 10),
}


def occupancy(architecture: int, *, threads: int, registers: int, shared: int) -> float:
    """The share of a multiprocessor's warps that blocks of so many threads fill, each thread with its registers, each block with
    its bytes of shared memory."""
    limits = ARCHITECTURES[architecture]
    warps = -(-threads // WARP_SIZE)
    warp_registers = _round_up(max(registers, 1) * WARP_SIZE, REGISTER_UNIT)
    by_registers = REGISTERS // PARTITIONS // warp_registers * PARTITIONS // warps
    block_shared = _round_up(shared + limits.shared_reserved, limits.shared_unit)
    by_shared = limits.shared // block_shared if block_shared else limits.blocks
    blocks = min(limits.warps // warps, by_registers, by_shared, limits.blocks)
    return blocks * warps / limits.warps


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
