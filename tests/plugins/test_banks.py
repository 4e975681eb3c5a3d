"""The analysis of bank conflicts finds those that were planted in conflicts.cu, and says where it does not know."""

from pathlib import Path

import pytest

from plugins.tools.kernel_report import banks, compilation, disassembly, toolchain
from plugins.tools.kernel_report.kernel import short_name, ways_of

WAYS = {
    "column_kernel<32>": 32,
    "column_kernel<34>": 2,
    "column_kernel<33>": 1,
    "wide_kernel<16>": 1,
    "wide_kernel<64>": 4,
    "fragment_kernel<64>": 8,
    "fragment_kernel<72>": 1,
    "sixths_kernel<96>": 1,
    "sixths_kernel<128>": 2,
    "unknown_kernel<1>": 1,
}
"""Worst of the accesses whose address is known, by hand: 32 banks of 4 bytes; 16 bytes a lane go in groups of eight lanes."""
ON_VOLTA = {"fragment_kernel<72>": 2}
"""Its fragments are laid out otherwise: lanes of one group read a row twice."""
ARCHITECTURES = (70, 75, 80, 90, 120)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def found(architecture: int, tmp_path_factory: pytest.TempPathFactory) -> dict[str, banks.Conflicts]:
    cubin = tmp_path_factory.mktemp("conflicts") / "conflicts.cubin"
    try:
        nvdisasm = toolchain.nvdisasm(architecture)
        compilation.compile_cubin(Path(__file__).with_name("conflicts.cu"), architecture, cubin)
    except toolchain.MissingToolchain as missing:
        pytest.skip(str(missing))
    codes = disassembly.codes(toolchain.run([nvdisasm, cubin]))
    threads = {name: code.threads for name, code in codes.items()}
    by_mangled = banks.conflicts(toolchain.run([nvdisasm, "-c", "-gi", cubin]), threads, all_warps=True)
    names = toolchain.run(["c++filt"], "\n".join(by_mangled)).splitlines()
    return dict(zip(map(short_name, names), by_mangled.values(), strict=True))


@pytest.mark.parametrize("name", WAYS)
def test_known_conflicts(name: str, architecture: int, found: dict[str, banks.Conflicts]) -> None:
    ways = [ways_of(key) for key in found[name].ways]
    expected = WAYS | ON_VOLTA if architecture == 70 else WAYS
    assert max(ways) == expected[name], found[name]


def test_what_is_not_known_is_told(found: dict[str, banks.Conflicts]) -> None:
    untraced = {name: sum(conflicts.untraced.values()) for name, conflicts in found.items()}
    assert untraced == {name: int(name == "unknown_kernel<1>") for name in WAYS}
