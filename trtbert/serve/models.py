"""Package folders -> the models that are served, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trtbert.predictor import Encoder, Predictor, load
from trtbert.tasks import Task


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded package under its name; one that was loaded anew is another model."""

    name: str
    predictor: Predictor

    @property
    def encoder(self) -> Encoder:
        return self.predictor.encoder

    @property
    def task(self) -> Task:
        return self.predictor.manifest.model.task

    @property
    def width(self) -> int:
        """Numbers in the answer for one text, or one token: the last dimension of the outputs."""
        size = self.predictor.manifest.model.outputs[0].shape[-1]
        return size if isinstance(size, int) else 1


def load_models(packages: Mapping[str, Path], threads: int) -> dict[str, Model]:
    """Raises what `trtbert.load` does."""
    return {name: Model(name, load(path, threads=threads)) for name, path in packages.items()}
