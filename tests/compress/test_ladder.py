"""The ladder of shapes: its costs are those of the models that its steps make, they fall, and every step can be done."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.compress.models import classified, tiny
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import Checkpoint
from trtbert.compress import METHODS
from trtbert.compress.attention import grouped_model
from trtbert.compress.ladder import LADDER, Shape, shapes
from trtbert.compress.layers import encoder_layers
from trtbert.compress.macs import count_macs
from trtbert.compress.method import Job
from trtbert.compress.slicing import slice_model
from trtbert.errors import UnsupportedError

LENGTH = 20
MODELS: dict[str, dict[str, Any]] = {
    "6 layers of 12 heads": {"num_hidden_layers": 6, "hidden_size": 48, "num_attention_heads": 12, "intermediate_size": 192},
    "12 layers of 12 heads": {"num_hidden_layers": 12, "hidden_size": 24, "num_attention_heads": 12, "intermediate_size": 96},
    "4 layers of 4 heads": {"num_hidden_layers": 4, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 128},
    "odd": {"num_hidden_layers": 5, "hidden_size": 45, "num_attention_heads": 5, "intermediate_size": 77},
    "narrow": {"num_hidden_layers": 3, "intermediate_size": 40},
    "one head": {"num_hidden_layers": 3, "num_attention_heads": 1, "hidden_size": 16, "intermediate_size": 7},
    "one layer": {"num_hidden_layers": 1},
    "two neurons": {"num_hidden_layers": 2, "intermediate_size": 2},
}


def made(checkpoint: Checkpoint, shape: Shape) -> Any:
    """The model that the steps of a shape make."""
    for step in shape.steps:
        method = METHODS[step["method"]]
        options = {name: value for name, value in step.items() if name != "method"}
        options |= {"num_texts": 1, "steps": 1} if "sparsity" in step else {}
        checkpoint = method.run(Job(checkpoint=checkpoint, labelled=classified(3)), method.options(**options)).checkpoint
    return checkpoint.model


def check(checkpoint: Checkpoint) -> list[Shape]:
    with quiet():
        found = shapes(checkpoint, LENGTH)
        for shape in found:
            model = made(checkpoint, shape)
            layers = encoder_layers(model)
            assert count_macs(model, length=LENGTH) == shape.macs
            assert model.config.num_hidden_layers == shape.layers
            assert (sum(layer.num_heads for layer in layers), sum(layer.width for layer in layers)) == (shape.heads, shape.neurons)
    whole = count_macs(checkpoint.model, length=LENGTH)
    assert all(larger.macs >= smaller.macs for larger, smaller in pairwise(found)) and all(shape.macs < whole for shape in found)
    assert [shape.share for shape in found] == [shape.macs / whole for shape in found]
    assert len({(shape.layers, shape.heads, shape.neurons) for shape in found}) == len(found)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_the_costs_are_those_of_the_models(name: str, tmp_path: Path) -> None:
    found = check(tiny(tmp_path, **MODELS[name]))
    alike = {"odd": 2, "narrow": 2, "one head": 2, "one layer": 6, "two neurons": 4}
    assert len(found) == len(LADDER) - alike.get(name, 0)


@pytest.mark.parametrize("architecture", ["albert", "distilbert", "electra", "mpnet"])
def test_of_every_family(architecture: str, tmp_path: Path) -> None:
    assert len(check(tiny(tmp_path, architecture, num_hidden_layers=4))) == len(LADDER)


def test_of_a_model_whose_layers_differ(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, num_hidden_layers=4)
    heads, neurons = [[0], [0, 1, 2], [1, 2], [0, 2]], [range(width) for width in (16, 24, 40, 80)]
    with quiet():
        pruned = checkpoint.with_model(slice_model(checkpoint.model, checkpoint.task, heads=heads, neurons=neurons))
    assert check(pruned)


def test_the_order_depends_on_the_model(tmp_path: Path) -> None:
    """All layers with fewer heads and half of their neurons cost less than two thirds of the layers, which are whole."""
    with quiet():
        found = shapes(tiny(tmp_path, **MODELS["6 layers of 12 heads"] | {"hidden_size": 384, "intermediate_size": 1536}), 32)
    assert [shape.sizes["layers"] for shape in found] == [6, 4, 6, 3, 4, 2, 3, 2]
    assert [shape.share for shape in found] == pytest.approx([0.750, 0.667, 0.533, 0.500, 0.357, 0.334, 0.269, 0.177], abs=1e-3)


def test_a_shape_is_within_one_that_has_no_less_of_anything() -> None:
    shape = Shape(layers=2, heads=6, neurons=80, macs=1000, share=0.5, steps=())
    assert shape.is_within(shape)
    for name in ("layers", "heads", "neurons"):
        larger = replace(shape, **{name: getattr(shape, name) + 1})
        assert shape.is_within(larger) and not larger.is_within(shape)


def test_nothing_can_go(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path / "least", num_hidden_layers=1, num_attention_heads=1, hidden_size=16, intermediate_size=1)
    assert shapes(checkpoint, LENGTH) == []
    with pytest.raises(UnsupportedError, match="The layers of 'modernbert' cannot be compressed by parts; choose one of albert, bert"):
        shapes(tiny(tmp_path / "modern", "modernbert"), LENGTH)
    checkpoint = tiny(tmp_path / "model")
    with quiet():
        grouped = checkpoint.with_model(grouped_model(checkpoint.model, checkpoint.task, 1))
    with pytest.raises(UnsupportedError, match="its heads cannot be removed"):
        shapes(grouped, LENGTH)
