"""Every kernel on every architecture keeps to the gates, and the page about them is what the report writes now.

Needs nvcc, the tools of plugins/scripts/fetch-sass-tools, and for sm_70 those of plugins/scripts/install-sm70-toolchain.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from plugins.tools.kernel_report import compilation, gates, toolchain
from plugins.tools.kernel_report.architectures import ARCHITECTURES
from plugins.tools.kernel_report.kernel import Kernel
from plugins.tools.kernel_report.page import page

PAGE = Path(__file__).parents[2] / "docs" / "kernels.md"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=ARCHITECTURES)
def kernels(request: pytest.FixtureRequest) -> list[Kernel]:
    """Of one architecture."""
    try:
        return compilation.kernels([request.param])
    except toolchain.MissingToolchain as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize("gate", gates.GATES, ids=lambda gate: gate.__name__)
def test_every_kernel_keeps_to_the_gate(gate: Callable[[Kernel], str | None], kernels: list[Kernel]) -> None:
    breaches = [f"{kernel.label}: {breach}" for kernel in kernels if (breach := gate(kernel))]
    assert not breaches, "\n".join(breaches)


def test_every_source_type_and_head_is_there(kernels: list[Kernel]) -> None:
    """The gates say nothing of a kernel that is not there."""
    assert {kernel.source for kernel in kernels} == {file.stem for file in compilation.sources()}
    attention = [kernel for kernel in kernels if kernel.source == gates.ATTENTION and not kernel.is_empty]
    types = {"fp32"} | {name for name, (since, _) in gates.TENSOR_CORES.items() if kernels[0].architecture >= since}
    heads = {(kernel.product_type, kernel.head_size) for kernel in attention}
    assert heads == {(name, head) for name in types for _, head in heads}
    assert any(kernel.conflicts for kernel in attention), "no kernel's shared memory was looked at"


def test_the_page_is_what_the_report_writes() -> None:
    try:
        made = page(compilation.kernels(list(ARCHITECTURES)), toolchain.nvcc_release())
    except toolchain.MissingToolchain as missing:
        pytest.skip(str(missing))
    assert PAGE.exists() and PAGE.read_text() == made, "docs/kernels.md is out of date; write it anew with the command that it names"
