"""What `ptxas -v` prints -> the registers, stack, spills and shared memory of each kernel."""

import re
from dataclasses import dataclass

_PROPERTIES = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for 'sm_\w+'\n"
    r"ptxas info\s+: Function properties for \w+\n"
    r"\s+(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads\n"
    r"ptxas info\s+: Used (?P<registers>\d+) registers(?P<rest>.*)"
)


@dataclass(frozen=True)
class Resources:
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int


def resources(log: str) -> dict[str, Resources]:
    """By mangled name. Raises ValueError where the log tells of kernels in words that this function does not know."""
    found = {match["name"]: _of(match) for match in _PROPERTIES.finditer(log)}
    announced = set(re.findall(r"Compiling entry function '(\w+)'", log))
    if announced != set(found):
        raise ValueError(f"ptxas -v describes {sorted(announced - set(found))} in another form than expected:\n{log[:2000]}")
    return found


def _of(match: re.Match[str]) -> Resources:
    shared = re.search(r"(\d+) bytes smem", match["rest"])
    numbers = {key: int(match[key]) for key in ("registers", "stack", "stores", "loads")}
    return Resources(
        registers=numbers["registers"],
        stack=numbers["stack"],
        spill_stores=numbers["stores"],
        spill_loads=numbers["loads"],
        shared=int(shared[1]) if shared else 0,
    )
