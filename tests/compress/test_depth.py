"""Method `depth`: which layers stay, and LayerDrop's draws."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from tests.compress.models import classified, tiny
from trtbert.checkpoint.quiet import quiet
from trtbert.compress.batches import collate, encode_texts
from trtbert.compress.depth import DepthOptions, _outputs, choose_layers, layer_drop, select_depth
from trtbert.compress.layers import encoder_layers
from trtbert.compress.method import Job
from trtbert.config import TrainingConfig
from trtbert.errors import InputError, UnsupportedError


@pytest.mark.parametrize(
    ("total", "count", "strategy", "expected"),
    [
        (12, 6, "every-other", [1, 3, 5, 7, 9, 11]),
        (6, 3, "every-other", [1, 3, 5]),
        (12, 6, "distilbert", [0, 2, 4, 7, 9, 11]),
        (6, 3, "distilbert", [0, 2, 5]),
        (6, 1, "distilbert", [5]),
        (6, 4, "every-other", [0, 2, 3, 5]),
        (6, 6, "every-other", [0, 1, 2, 3, 4, 5]),
        (6, 2, "last", [4, 5]),
        (6, 2, "first", [0, 1]),
    ],
)
def test_the_layers_of_a_strategy(total: int, count: int, strategy: str, expected: list[int]) -> None:
    assert choose_layers(total, count, strategy) == expected


@pytest.mark.parametrize("options", [{"num_layers": 2}, {"strategy": "list", "layers": (0, 2)}, {"strategy": "search", "num_layers": 2}])
def test_the_result_has_the_layers(options: dict[str, object], tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, num_hidden_layers=3)
    with quiet():
        result = select_depth(Job(checkpoint=checkpoint, labelled=classified(6)), DepthOptions(**options))
    assert result.facts["of"] == 3 and len(result.facts["layers"]) == 2 == len(encoder_layers(result.checkpoint.model))
    for new, old in enumerate(result.facts["layers"]):
        assert torch.equal(encoder_layers(result.checkpoint.model)[new].up.weight, encoder_layers(checkpoint.model)[old].up.weight)


def test_the_search_leaves_out_the_layer_that_does_nothing(tmp_path: Path) -> None:
    """A layer whose sub-layers add nothing is the first to go."""
    checkpoint = tiny(tmp_path, num_hidden_layers=4)
    idle = encoder_layers(checkpoint.model)[1]
    with torch.no_grad():
        for linear in (idle.out, idle.down):
            linear.weight.zero_()
            linear.bias.zero_()
    with quiet():
        result = select_depth(Job(checkpoint=checkpoint, labelled=classified(6)), DepthOptions(strategy="search", num_layers=3))
    assert result.facts["layers"] == [0, 2, 3]


def test_padding_has_no_say_in_the_search(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, task="token-classification")
    items = encode_texts(checkpoint, ["red", "the blue cat in the museum"])
    (found,) = _outputs(checkpoint, checkpoint.model, items)
    assert len(found) == sum(item.length for item in items) < 2 * items[1].length


def test_layers_are_dropped_as_often_as_asked(tmp_path: Path) -> None:
    """Over 2,000 passes of 3 layers each is dropped with a share of 0.2, +- 3 standard errors; in evaluation none is."""
    checkpoint = tiny(tmp_path, num_hidden_layers=3)
    layers = encoder_layers(checkpoint.model)
    batch = collate(checkpoint, encode_texts(checkpoint, ["red"]))
    for module in checkpoint.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    skipped = torch.zeros(3)
    torch.manual_seed(0)
    with layer_drop(layers, 0.2), torch.no_grad():
        whole = checkpoint.model(**batch.inputs).logits
        checkpoint.model.train()
        ran = [layer.module.register_forward_hook(_counter(skipped, index), with_kwargs=True) for index, layer in enumerate(layers)]
        for _ in range(2000):
            checkpoint.model(**batch.inputs)
        for handle in ran:
            handle.remove()
        checkpoint.model.eval()
        torch.testing.assert_close(checkpoint.model(**batch.inputs).logits, whole)
    assert (skipped / 2000 - 0.2).abs().max() < 3 * (0.2 * 0.8 / 2000) ** 0.5


def _counter(skipped: torch.Tensor, index: int) -> object:
    def hook(_module: object, inputs: tuple[torch.Tensor, ...], options: dict[str, torch.Tensor], output: object) -> None:
        before = inputs[0] if inputs else options["hidden_states"]
        skipped[index] += (output[0] if isinstance(output, tuple) else output) is before

    return hook


def test_one_layer_always_runs(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    batch = collate(checkpoint, encode_texts(checkpoint, ["red"]))
    skipped = torch.zeros(2)
    checkpoint.model.train()
    with layer_drop(encoder_layers(checkpoint.model), 0.999), torch.no_grad():
        for index, layer in enumerate(encoder_layers(checkpoint.model)):
            layer.module.register_forward_hook(_counter(skipped, index), with_kwargs=True)
        for _ in range(50):
            checkpoint.model(**batch.inputs)
    assert skipped.sum() == 50


def test_training_with_layer_drop(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    training = TrainingConfig(epochs=1, batch_size=8)
    with quiet():
        result = select_depth(
            Job(checkpoint=checkpoint, labelled=classified(16), training=training), DepthOptions(num_layers=1, layer_drop=0.5)
        )
    assert "known to help little" in result.notes[0]
    with pytest.raises(InputError, match="layer_drop trains the model, and there are no labelled examples"):
        select_depth(Job(checkpoint=checkpoint), DepthOptions(num_layers=1, layer_drop=0.5))


def test_layers_that_there_are_not(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3 layers cannot be kept of 2"):
        select_depth(Job(checkpoint=tiny(tmp_path)), DepthOptions(num_layers=3))
    with pytest.raises(ValidationError, match="give `num_layers`, or with `strategy` list the `layers` themselves"):
        DepthOptions()
    with pytest.raises(ValidationError, match="give `num_layers`"):
        DepthOptions(strategy="list", layers=(0,), num_layers=1)


def test_layers_that_are_one_cannot_be_dropped(tmp_path: Path) -> None:
    job = Job(checkpoint=tiny(tmp_path, "albert"), labelled=classified(8))
    with quiet(), pytest.raises(UnsupportedError, match="The layers of albert are one, which LayerDrop cannot leave out"):
        select_depth(job, DepthOptions(num_layers=1, layer_drop=0.5))
