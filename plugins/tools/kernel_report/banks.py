"""The machine code of a kernel -> how its accesses to shared memory conflict, by cuxray, which follows addresses lane by lane.

An access of w bytes is served in groups of 32, 16 or 8 lanes (w = up to 4, 8, 16); its ways are the most different words that one bank
has to give to a group, 1 being none in conflict. What cuxray cannot follow is counted as untraced, never as free of conflicts. Three
things are done better here than cuxray 0.6.0 does them: blocks end at branches, so that no value of a register flows along a
branch that was taken before it was written; division of lane numbers by a constant is exact; and indices are taken as not negative.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from cuxray.analyze import access, dataflow
from cuxray.analyze import lanevalue as lanes
from cuxray.parse import sass

_ENDS_A_BLOCK = {"BRA", "BRX", "BREAK", "CALL", "EXIT", "JMP", "RET", "WARPSYNC"}
_MAYBE_SHARED = re.compile(r"LDS|STS|LD\b|ST\b")
"""Generic loads and stores too, which may go anywhere."""
_PLACES = re.compile(r"(?:^\s*//## File .*\n)+", re.MULTILINE)
_step = dataflow.step


@dataclass(frozen=True)
class Conflicts:
    ways: dict[str, int]
    """Instructions by "OPCODE ways place", as in "STS.64 2 attention_half.cuh:99"."""
    untraced: dict[str, int]
    """Instructions by "OPCODE reason"."""


def conflicts(disassembly: str, threads: dict[str, int], *, all_warps: bool) -> dict[str, Conflicts]:
    """By mangled name. `disassembly` is what nvdisasm -c -gi prints, `threads` the block size of the kernels to look at. One warp stands
    for all where their addresses differ by the same for every lane: where lane numbers are divided by powers of two alone."""
    functions = sass.parse_gi(_PLACES.sub(_own_place, disassembly)).functions
    return {name: _conflicts(functions[name], count, range(count // 32 if all_warps else 1)) for name, count in threads.items()}


def _conflicts(function: sass.Function, threads: int, warps: range) -> Conflicts:
    _end_blocks_at_branches(function)
    ways: dict[int, tuple[str, int, str]] = {}
    untraced: dict[int, tuple[str, str]] = {}
    for warp in warps:
        found = _analyse(function, threads, warp)
        for entry in found["accesses"]:
            if entry["space"] == "shared":
                most = max(entry["conflict_ways"], ways[entry["addr"]][1] if entry["addr"] in ways else 0)
                ways[entry["addr"]] = entry["opcode"], most, f"{Path(entry['file'] or '?').name}:{entry['line']}"
        untraced |= {
            entry["addr"]: (entry["opcode"], entry["reason"]) for entry in found["unanalyzed"] if _MAYBE_SHARED.match(entry["opcode"])
        }
    return Conflicts(ways=_counted(ways), untraced=_counted(untraced))


def _counted(by_address: Mapping[int, tuple[object, ...]]) -> dict[str, int]:
    return dict(sorted(Counter(" ".join(map(str, what)) for what in by_address.values()).items()))


def _own_place(markers: re.Match[str]) -> str:
    """Of the lines that an instruction was inlined through, the innermost of a kernel, not of a helper."""
    lines = markers[0].splitlines(keepends=True)
    return next((line for line in lines if re.match(r'\s*//## File "[^"]*/kernels/', line)), lines[0])


def _end_blocks_at_branches(function: sass.Function) -> None:
    label, piece = None, 0
    for instruction in function.instructions:
        if instruction.block != label:
            label, piece = instruction.block, 0
        instruction.block = f"{label}#{piece}" if piece else label
        if instruction.opcode.split(".")[0] in _ENDS_A_BLOCK:
            piece += 1


def _analyse(function: sass.Function, threads: int, warp: int) -> dict[str, list[dict[str, Any]]]:
    """cuxray's analysis for one warp of the block."""
    with _Replaced(dataflow, "step", _better_step), _Replaced(lanes, "tid_vectors", lambda _: _thread_indices(warp)):
        found: dict[str, list[dict[str, Any]]] = access.analyze_accesses(function, (threads, 1, 1))
    return found


class _Replaced:
    """A function of a module, replaced within a block."""

    def __init__(self, module: ModuleType, name: str, function: object) -> None:
        self.module, self.name, self.function, self.original = module, name, function, getattr(module, name)

    def __enter__(self) -> None:
        setattr(self.module, self.name, self.function)

    def __exit__(self, *_: object) -> None:
        setattr(self.module, self.name, self.original)


def _thread_indices(warp: int) -> dict[str, lanes.Value]:
    return {"x": lanes.pure(range(32 * warp, 32 * warp + 32)), "y": lanes.const(0), "z": lanes.const(0)}


def _better_step(instruction: sass.Instruction, state: dataflow.State, tids: dict[str, lanes.Value]) -> None:
    better = [] if instruction.predicate else _better(instruction, state)
    if not better:
        _step(instruction, state, tids)
    register = instruction.operands.split(",")[0].split(".")[0]
    for offset, value in enumerate(better):
        state.set(dataflow._next_reg(register, offset), value)


def _better(instruction: sass.Instruction, state: dataflow.State) -> list[lanes.Value]:
    """What the four instructions that cuxray gives up on write to their register and those after it; nothing for any other."""
    operands = [operand.strip() for operand in instruction.operands.split(",")]
    values = [dataflow._operand_value(operand, state) for operand in operands[1:4]]
    opcode = instruction.opcode.removesuffix(".U32")
    if opcode in ("IMAD.HI", "IMAD.WIDE") and operands[3:] == ["RZ"] and all(value.kind == lanes.PURE for value in values):
        products = _products(values[0], values[1], is_signed=opcode == instruction.opcode)
        high = lanes.pure([product >> 32 for product in products])
        return [lanes.pure(products), high] if opcode == "IMAD.WIDE" else [high]
    if opcode == "SHF.R.S32.HI" and operands[1:3] == ["RZ", "0x1f"] and values[2].kind == lanes.MIXED:
        return [lanes.const(0)]
    if opcode == "LOP3.LUT" and operands[3:5] == ["RZ", "0xc0"]:
        return _rounded_down(values[0], values[1])
    return []


def _products(a: lanes.Value, b: lanes.Value, *, is_signed: bool) -> list[int]:
    def number(bits: int) -> int:
        return bits - (1 << 32) if is_signed and bits >> 31 else bits

    return [number(x) * number(y) for x, y in zip(a.vec, b.vec, strict=True)]


def _rounded_down(value: lanes.Value, mask: lanes.Value) -> list[lanes.Value]:
    """value & mask where the mask clears the lowest bits alone and the unknown part of the value has none of these."""
    if value.kind != lanes.MIXED or not mask.is_scalar:
        return []
    unit = mask.scalar & -mask.scalar
    if mask.scalar < 1 << 29 or mask.scalar + unit not in (1 << 30, 1 << 31, 1 << 32) or value.ualign < unit.bit_length() - 1:
        return []
    return [lanes.Value(lanes.MIXED, tuple(lane - lane % unit for lane in value.vec), ctaid=value.ctaid, ualign=unit.bit_length() - 1)]
