"""Every method on the command line: its own flags and those of training do not get in each other's way."""

import pytest

from trtbert import cli
from trtbert.compress import METHODS
from trtbert.config import TrainingConfig


@pytest.mark.parametrize("name", METHODS)
def test_the_flags_of_a_method(name: str) -> None:
    arguments = ["compress", "model", "-o", "smaller", "--method", name]
    assert cli._parser(arguments).parse_args(arguments).method == name


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.is_trained])
def test_no_option_has_the_name_of_one_of_training(name: str) -> None:
    assert METHODS[name].options.model_fields.keys() & TrainingConfig.model_fields.keys() == set()
