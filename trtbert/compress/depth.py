"""Method `depth`: keep some of the layers; and LayerDrop, which trains a model to do without some (Fan, Grave and Joulin, 2019)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch.nn import functional

from trtbert.checkpoint.read import RAW_OUTPUTS, Checkpoint
from trtbert.checkpoint.students import StudentConfig
from trtbert.compress.batches import Item, batches, encode_examples
from trtbert.compress.finetune import train_on_labels
from trtbert.compress.layers import Layer, encoder_layers, layer_input, with_hidden
from trtbert.compress.method import Job, Options, Result
from trtbert.compress.prune import measured_items
from trtbert.compress.slicing import keep_layers
from trtbert.errors import InputError, UnsupportedError

Strategy = Literal["every-other", "distilbert", "last", "first", "list", "search"]
_BATCH_SIZE = 32


class DepthOptions(Options):
    num_layers: int | None = Field(default=None, ge=1)
    """Layers to keep; needed but for strategy list"""
    strategy: Strategy = "every-other"
    """Which: evenly spaced up to the last one, or from the first to the last one as DistilBERT's; the last, the first, those of --layers,
    or those without which the outputs change most"""
    layers: tuple[int, ...] = ()
    """Those that strategy list keeps, from 0"""
    layer_drop: float = Field(default=0.0, ge=0, lt=1)
    """Before that, train with each layer left out with this probability; 0: do not"""
    num_texts: int = Field(default=256, ge=1)
    """Texts that strategy search compares outputs on"""

    @model_validator(mode="after")
    def _fits_together(self) -> "DepthOptions":
        if (self.strategy == "list") != bool(self.layers) or (self.strategy == "list") == (self.num_layers is not None):
            raise ValueError("give `num_layers`, or with `strategy` list the `layers` themselves")
        return self


def select_depth(job: Job, options: DepthOptions) -> Result:
    """Keep the layers that the strategy names. Raises InputError for more layers than there are, UnsupportedError for a student."""
    checkpoint, notes = job.checkpoint, []
    config = checkpoint.model.config
    if isinstance(config, StudentConfig):
        raise UnsupportedError("A student has no transformer layers to remove; train one of fewer: --method student --num-layers.")
    total = config.num_hidden_layers
    num_layers = options.num_layers or len(options.layers)
    if num_layers > total:
        raise InputError(f"{num_layers} layers cannot be kept of {total}; give a smaller num_layers.")
    if options.layer_drop and config.model_type == "albert":
        raise UnsupportedError("The layers of albert are one, which LayerDrop cannot leave out; leave layer_drop out.")
    if options.layer_drop:
        _train_with_layer_drop(job, options.layer_drop)
        notes.append("LayerDrop in finetuning alone, after pretraining without it, is known to help little")
    if options.strategy == "search":
        kept = _search(checkpoint, measured_items(job, options.num_texts, job.training.seed), num_layers, job)
    else:
        kept = list(options.layers) or choose_layers(total, num_layers, options.strategy)
    model = keep_layers(checkpoint.model, checkpoint.task, kept)
    return Result(checkpoint=checkpoint.with_model(model), notes=tuple(notes), facts={"layers": kept, "of": total})


def choose_layers(total: int, count: int, strategy: str) -> list[int]:
    """Of `total` layers the `count` first or last ones, or evenly spaced ones that end with the last: of 6 the layers 1, 3, 5.

    distilbert: evenly spaced ones that begin with the first and end with the last: of 12 the layers 0, 2, 4, 7, 9, 11.
    """
    if strategy == "first":
        return list(range(count))
    if strategy == "last":
        return list(range(total - count, total))
    if strategy == "distilbert" and count > 1:
        return [round(index * (total - 1) / (count - 1)) for index in range(count)]
    return [total * (index + 1) // count - 1 for index in range(count)]


@contextmanager
def layer_drop(layers: Sequence[Layer], probability: float) -> Iterator[None]:
    """Inside, a layer in training mode gives its input with this probability, drawn anew for each pass; one layer at least always runs."""
    dropped: list[bool] = []

    def draw(module: Any, _inputs: Any, _options: Any) -> None:
        dropped[:] = (torch.rand(len(layers)) < probability).tolist() if module.training else [False] * len(layers)
        if all(dropped):
            dropped[int(torch.randint(len(layers), ()))] = False

    def skip(index: int) -> Any:
        def hook(_module: Any, inputs: tuple[Any, ...], options: dict[str, Any], output: Any) -> Any:
            if not dropped[index]:
                return output
            return with_hidden(output, layer_input(inputs, options))

        return hook

    handles = [layers[0].module.register_forward_pre_hook(draw, with_kwargs=True)]
    handles += [layer.module.register_forward_hook(skip(index), with_kwargs=True) for index, layer in enumerate(layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _train_with_layer_drop(job: Job, probability: float) -> None:
    checkpoint = job.checkpoint
    if not job.labelled:
        raise InputError("layer_drop trains the model, and there are no labelled examples: give them with --data.")
    items = encode_examples(checkpoint, job.labelled, max_length=job.training.max_length)
    with layer_drop(encoder_layers(checkpoint.model), probability):
        train_on_labels(job, items, name="layer-drop", what="training with LayerDrop")


def _search(checkpoint: Checkpoint, items: Sequence[Item], count: int, job: Job) -> list[int]:
    """Take away one layer after the other, each time the one without which the outputs stay nearest to the whole model's."""
    kept = list(range(checkpoint.model.config.num_hidden_layers))
    expected = _outputs(checkpoint, checkpoint.model, items)
    for done in range(len(kept) - count):
        tries = [[*kept[:index], *kept[index + 1 :]] for index in range(len(kept))]
        models = (keep_layers(checkpoint.model, checkpoint.task, layers) for layers in tries)
        scores = [_similarity(_outputs(checkpoint, model, items), expected) for model in models]
        kept = tries[max(range(len(tries)), key=scores.__getitem__)]
        job.on_step("search of layers", done + 1, checkpoint.model.config.num_hidden_layers - count)
    return kept


@torch.no_grad()
def _outputs(checkpoint: Checkpoint, model: Any, items: Sequence[Item]) -> list[torch.Tensor]:
    """The raw outputs of each batch, without padding."""
    found = []
    for batch in batches(checkpoint, items, _BATCH_SIZE):
        outputs = model(**batch.inputs)
        for name in RAW_OUTPUTS[checkpoint.task]:
            is_per_token = outputs[name].shape[:2] == batch.mask.shape
            found.append(outputs[name][batch.mask != 0] if is_per_token else outputs[name])
    return found


def _similarity(actual: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """The mean cosine over the rows."""
    cosines = [
        functional.cosine_similarity(a, e, dim=-1).flatten() if a.ndim > 1 else functional.cosine_similarity(a, e, dim=0)[None]
        for a, e in zip(actual, expected, strict=True)
    ]
    return float(torch.cat(cosines).mean())
