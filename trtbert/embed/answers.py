"""Which columns a package reads, and the columns that its answers become.

Legend: n rows, D embedding width, L labels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from trtbert.embed.config import EmbedConfig
from trtbert.embed.json_columns import json_field, json_text
from trtbert.errors import ConfigError, InputError
from trtbert.package import ModelFacts
from trtbert.tasks import Task

_TEXTS: dict[Task, tuple[str, str | None]] = {"question-answering": ("question", "context"), "text-ranking": ("text", "text_pair")}
"""The columns of the texts where no option names them, those of the Open Inference Protocol; of the other tasks: text."""
_TAKE_PAIRS: tuple[Task, ...] = ("question-answering", "text-classification", "text-ranking")


def text_columns(config: EmbedConfig, task: Task) -> tuple[str, ...]:
    """The column of the texts, and of a pair that of the second ones. ConfigError for a pair that the task does not take."""
    if config.pair_column is not None and task not in _TAKE_PAIRS:
        raise ConfigError(
            f"{task} reads single texts: leave --pair-column {config.pair_column} out. Pairs are for {', '.join(_TAKE_PAIRS)}."
        )
    text, pair = _TEXTS.get(task, ("text", None))
    chosen = tuple(name for name in (config.text_column or text, config.pair_column or pair) if name is not None)
    if len(set(chosen)) < len(chosen):
        raise ConfigError(f"The texts and their pairs cannot both be in the column {chosen[0]!r}; name another with --pair-column.")
    return chosen


def answer_fields(facts: ModelFacts, config: EmbedConfig, schema: pa.Schema) -> list[pa.Field]:
    """The columns that come after those of the input. InputError where the input has one of these names."""
    named = {
        "sentence-similarity": [pa.field("embedding", _vector(facts))],
        "text-ranking": [pa.field("score", pa.float32() if facts.outputs[0].shape[-1] == 1 else _vector(facts))],
        "text-classification": [pa.field("label", pa.string()), pa.field("score", pa.float32())],
    }.get(facts.task, [json_field("answer")])
    fields = [field.with_name(config.prefix + field.name) for field in named]
    if taken := [field.name for field in fields if field.name in schema.names]:
        raise InputError(
            f"The input has a column {taken[0]!r} already, the name of an answer's; rename the answers, for example with --prefix model_"
        )
    return fields


def answer_columns(answers: Sequence[Any], task: Task, fields: Sequence[pa.Field]) -> list[pa.Array]:
    """The predictor's answers for n rows."""
    if task == "text-classification":
        return [pa.array([answer[key] for answer in answers], field.type) for key, field in zip(("label", "score"), fields, strict=True)]
    if task in ("sentence-similarity", "text-ranking"):
        flat = pa.array(np.asarray(answers, np.float32).reshape(-1))
        return [flat if pa.types.is_floating(fields[0].type) else pa.FixedSizeListArray.from_arrays(flat, type=fields[0].type)]
    return [pa.array([json_text(_plain(answer)) for answer in answers], pa.string())]


def _vector(facts: ModelFacts) -> pa.DataType:
    """float32 [D] or [L]."""
    width = facts.outputs[0].shape[-1]
    return pa.list_(pa.float32(), width) if isinstance(width, int) else pa.list_(pa.float32())


def _plain(answer: Any) -> Any:
    return answer.tolist() if hasattr(answer, "tolist") else answer
