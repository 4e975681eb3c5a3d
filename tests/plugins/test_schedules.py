"""Every kernel gives the same bits in whatever order its threads run: where one depends on the order, a barrier is missing."""

from pathlib import Path

import pytest

from tests.plugins.schedules import SCHEDULES, drive


@pytest.fixture(scope="module")
def driver(emulated: Path) -> Path:
    return emulated / "tests/plugins/driver/kernel_driver"


@pytest.fixture(scope="module")
def in_order(driver: Path) -> dict[str, str]:
    return drive(driver, "in order")


def test_every_op_is_driven(in_order: dict[str, str]) -> None:
    assert {name.split()[0] for name in in_order} == {"gelu", "skip", "embed", "attention"}
    assert {name.split()[1] for name in in_order if name.startswith("attention")} == {"padded", "packed"}


@pytest.mark.parametrize("schedule", [name for name in SCHEDULES if name != "in order"])
def test_the_bits_are_those_of_threads_in_order(driver: Path, in_order: dict[str, str], schedule: str) -> None:
    found = drive(driver, schedule)
    assert found.keys() == in_order.keys()
    different = [name for name in found if found[name] != in_order[name]]
    assert not different, f"{len(different)} of {len(found)} cases differ, such as {different[:5]}"
