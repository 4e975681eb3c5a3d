"""One export of each family for all tests: it is what takes the time here."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.models import make_checkpoint
from trtbert.config import CompileConfig
from trtbert.export import Source, load_source
from trtbert.tasks import Task

TASK_OF: dict[str, Task] = {
    "albert": "fill-mask",
    "bert": "text-classification",
    "camembert": "token-classification",
    "deberta-v2": "token-classification",
    "distilbert": "question-answering",
    "electra": "feature-extraction",
    "modernbert": "text-classification",
    "mpnet": "sentence-similarity",
    "roberta": "text-ranking",
    "xlm-roberta": "feature-extraction",
}
"""Every family and every task once."""


@pytest.fixture(scope="session")
def export_family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Source]]:
    """The family's name -> its checkpoint folder (with the package files under `out`) and its export."""
    made: dict[str, tuple[Path, Source]] = {}

    def export(architecture: str) -> tuple[Path, Source]:
        if architecture not in made:
            folder = tmp_path_factory.mktemp(architecture)
            make_checkpoint(folder, architecture, task=TASK_OF[architecture])
            task = "text-ranking" if TASK_OF[architecture] == "text-ranking" else "auto"
            made[architecture] = folder, load_source(folder, CompileConfig(task=task), folder / "out")
        return made[architecture]

    return export
