"""Package folders -> the models that are served, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trtbert.errors import PackageError
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
    """Each has run once: what a runtime puts off until then is done, on a GPU seconds of it. Raises what `trtbert.load` does."""
    models = {name: Model(name, load(path, threads=threads)) for name, path in packages.items()}
    for name, model in models.items():
        try:
            list(model.encoder.rows(model.encoder.tokenize(["A text to begin with."])))
        except Exception as error:  # Runtimes raise what they like.
            raise PackageError(f"{packages[name]} loads and does not run: {error}. `trtbert verify` says more.") from error
    return models
