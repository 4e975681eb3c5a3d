"""A tokenizer and an engine together: texts -> the rows of the model's outputs, in batches, without their padding."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Encoding

from trtbert.config import Profile, Target
from trtbert.data import Text
from trtbert.package import ModelFacts
from trtbert.predictor.batches import (
    BATCH_TOKENS_CPU,
    BATCH_TOKENS_GPU,
    MAX_TOKENS_CPU,
    MAX_TOKENS_GPU,
    Batch,
    Shape,
    first_shape,
    longest_length,
    plan_batches,
)
from trtbert.predictor.job import Job
from trtbert.predictor.tokens import load_tokenizer, make_feeds, tokenize
from trtbert.runtime import Array, Runtime
from trtbert.tasks import TASKS

_MAX_OUTPUT_VALUES = 2**26
"""Most numbers in one output of a batch (256 MiB): a large vocabulary makes smaller batches."""


class Encoder:
    """Holds no state between calls; may be used from several threads."""

    def __init__(
        self, facts: ModelFacts, runtime: Runtime, *, tokenizer: Path, profiles: Sequence[Profile] = (), target: Target = "cpu"
    ) -> None:
        """`tokenizer` is the tokenizer.json; `profiles` are those of the engine, none for one that takes every shape."""
        self.facts = facts
        self.runtime = runtime
        self._profiles = profiles
        self.max_length = longest_length(self._profiles, self.facts.max_length)
        is_cut = self.facts.task != "question-answering"  # There, long contexts are cut into windows.
        self.tokenizer = load_tokenizer(tokenizer, max_length=self.max_length if is_cut else None)
        self._is_per_token = "sequence" in TASKS[self.facts.task].shape
        self.max_tokens = MAX_TOKENS_CPU if target == "cpu" else MAX_TOKENS_GPU
        """Of one batch, padding included."""
        self.batch_tokens = BATCH_TOKENS_CPU if target == "cpu" else BATCH_TOKENS_GPU
        """What a batch costs besides them."""
        if self._is_per_token:
            widths = [size for output in self.facts.outputs for size in output.shape[2:] if isinstance(size, int)]
            self.max_tokens = min(self.max_tokens, _MAX_OUTPUT_VALUES // math.prod(widths))

    def tokenize(self, texts: Sequence[Text]) -> list[Encoding]:
        return tokenize(self.tokenizer, texts)

    def run(self, job: Job) -> list[Any]:
        """The answers of a job, one for each of its texts."""
        kept: list[Any] = [None] * len(job.encodings)
        for index, row in self.rows(job.encodings):
            kept[index] = job.take(index, row)
        return job.finish(kept)

    def plan(self, lengths: Sequence[int], *, min_length: int = 1) -> list[Batch]:
        """The batches that texts of these lengths, in tokens, run in."""
        return plan_batches(lengths, self._profiles, max_tokens=self.max_tokens, min_length=min(min_length, self.max_length))

    def first_shape(self, num_texts: int, length: int) -> Shape:
        """Of the first batch of texts that are padded to `length`."""
        return first_shape(num_texts, min(length, self.max_length), self._profiles, max_tokens=self.max_tokens)

    def rows(self, encodings: Sequence[Encoding], *, min_length: int = 1) -> Iterator[tuple[int, dict[str, Array]]]:
        """The index of each encoding with its row of every output, batch by batch; per-token outputs come without padding.

        Texts are padded to the longest of their batch, or to `min_length` where the model takes that.

        A row is a view of its batch: copy what is to outlive the loop.
        """
        lengths = [len(encoding) for encoding in encodings]
        for batch in self.plan(lengths, min_length=min_length):
            members = [encodings[index] for index in batch.indices]
            outputs = self.runtime.run(make_feeds(members, self.facts, length=batch.length, num_rows=batch.num_rows))
            for row, index in enumerate(batch.indices):
                tokens = slice(lengths[index])
                yield index, {name: output[row, tokens] if self._is_per_token else output[row] for name, output in outputs.items()}
