"""A package folder -> an object that answers for texts, in the shapes of `transformers.pipeline`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from trtbert.data import Text
from trtbert.errors import InputError, UnsupportedError
from trtbert.package import Manifest, Package, open_package
from trtbert.predictor.answers import answers_job, examples_from
from trtbert.predictor.embeddings import embeddings_job, features_job, ranking_job
from trtbert.predictor.encoder import Encoder
from trtbert.predictor.entities import entities_job
from trtbert.predictor.job import Job
from trtbert.predictor.labels import labels_job
from trtbert.predictor.masked_words import masks_job
from trtbert.predictor.options import check_options
from trtbert.runtime import Array, Runtime, open_runtime
from trtbert.tasks import Task

_TASKS: dict[Task, Callable[..., Job]] = {
    "text-classification": labels_job,
    "token-classification": entities_job,
    "question-answering": answers_job,
    "feature-extraction": features_job,
    "sentence-similarity": embeddings_job,
    "fill-mask": masks_job,
    "text-ranking": ranking_job,
}
_PAIR_KEYS = {"question-answering": ("question", "context")}
_CHUNK = 2048
"""Texts that are tokenized and sorted together: bounds the memory of a long stream of texts."""


class Predictor:
    """Answers for texts with one package; may be used from several threads."""

    def __init__(self, package: Package, runtime: Runtime) -> None:
        self.package = package
        self.runtime = runtime
        manifest = package.manifest
        self.encoder = Encoder(
            manifest.model, runtime, tokenizer=package.tokenizer_path, profiles=manifest.profiles, target=manifest.target
        )
        self._task = package.manifest.model.task

    @property
    def manifest(self) -> Manifest:
        return self.package.manifest

    def predict(self, texts: Any = None, **options: Any) -> Any:
        """Answers for any iterable of texts, in its order; for a single text, what a list of it would hold.

        A text is a string; for text-classification also a pair (text, text_pair) or {"text", "text_pair"}, for text-ranking always
        such a pair, for question-answering (question, context) or {"question", "context"} (or the keywords question= and context=).
        The answers and the options are those of `transformers.pipeline` for the package's task; sentence-similarity gives an
        array [n,D] and text-ranking an array [n]. A text longer than the model takes is cut, a long context is read in windows.
        Raises InputError for a text that cannot be used, ConfigError for an unknown or wrong option.
        """
        function = _TASKS[self._task]
        if self._task == "question-answering":
            texts = examples_from(texts, options.pop("question", None), options.pop("context", None))
        check_options(self._task, function, options)
        is_single = self._is_single(texts)
        results: list[Any] = []
        for chunk in _chunks(self._texts([texts] if is_single else texts)):
            results += self.encoder.run(function(self.encoder, chunk, **options))
        if is_single and not (self._task == "text-classification" and isinstance(texts, str) and "top_k" not in options):
            return results[0]  # A lone text classified without top_k comes in a list from `transformers`, so here too.
        return self._stacked(results)

    def job(self, texts: Sequence[Any], **options: Any) -> Job:
        """What `predict(texts, **options)` has the engine run, for a caller that batches several jobs together; raises as it does."""
        function = _TASKS[self._task]
        check_options(self._task, function, options)
        return function(self.encoder, list(self._texts(texts)), **options)

    def encode(self, texts: str | Iterable[str]) -> Array:
        """The embeddings float32 [n,D] of texts, or [D] of one; UnsupportedError for a package of another task."""
        if self._task != "sentence-similarity":
            raise UnsupportedError(
                f"This package is compiled for {self._task} and gives no sentence embeddings; "
                "compile the model with --task sentence-similarity."
            )
        return np.asarray(self.predict(texts))

    def _stacked(self, results: list[Any]) -> Any:
        if self._task not in ("sentence-similarity", "text-ranking"):
            return results
        width = self.manifest.model.outputs[0].shape[-1]
        empty = (0,) if self._task == "text-ranking" else (0, width if isinstance(width, int) else 0)
        return np.stack(results) if results else np.empty(empty, np.float32)

    def _is_single(self, texts: Any) -> bool:
        is_pair = self._task == "text-ranking" and isinstance(texts, (tuple, list)) and len(texts) == 2 and isinstance(texts[0], str)
        return isinstance(texts, (str, Mapping)) or is_pair

    def _texts(self, texts: Any) -> Iterator[Text]:
        if isinstance(texts, (bytes, bytearray)) or not isinstance(texts, Iterable):
            raise InputError(f"predict takes a text or an iterable of texts, got {type(texts).__name__}.")
        return (self._text(index, text) for index, text in enumerate(texts))

    def _text(self, index: int, text: Any) -> Text:
        """A string, or a pair of strings where the task reads pairs; InputError names what came."""
        needs_pair = self._task in ("text-ranking", "question-answering")
        if isinstance(text, str) and not needs_pair:
            return text
        keys = _PAIR_KEYS.get(self._task, ("text", "text_pair"))
        pair = tuple(text.get(key) for key in keys) if isinstance(text, Mapping) and text.keys() <= set(keys) else text
        if isinstance(pair, (tuple, list)) and (needs_pair or self._task == "text-classification"):
            if len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], str):
                return pair[0], pair[1]
            if not needs_pair and len(pair) == 2 and isinstance(pair[0], str) and pair[1] is None:
                return pair[0]
        wanted = f"a pair ({', '.join(keys)}) of strings" if needs_pair else "a string"
        raise InputError(f"Text {index} must be {wanted}, got {_kind(text)}.")


def load(path: Path | str, *, threads: int | None = None) -> Predictor:
    """Open a package and its engine; `threads` bounds the threads of one inference on a CPU.

    Raises PackageError when the package is not whole, UnsupportedError or MissingRuntimeError when it does not fit this machine.
    """
    package = open_package(path)
    return Predictor(package, open_runtime(package, threads=threads))


def _chunks(texts: Iterator[Text]) -> Iterator[list[Text]]:
    while chunk := list(islice(texts, _CHUNK)):
        yield chunk


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dict with the keys {sorted(map(str, value))}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {[type(item).__name__ for item in value]}"
    return type(value).__name__
