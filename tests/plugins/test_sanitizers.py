"""The kernels under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer: no buffer of the driver has a byte to spare."""

import pytest

from tests.plugins.schedules import drive
from tests.plugins.variants import variant

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("schedule", ["in order", "depth first", "random 1"])
def test_no_access_outside_a_buffer_and_nothing_undefined(schedule: str) -> None:
    assert drive(variant("address").driver, schedule)


@pytest.mark.parametrize("schedule", ["in order", "random 1"])
def test_no_data_race(schedule: str) -> None:
    assert drive(variant("thread").driver, schedule)
