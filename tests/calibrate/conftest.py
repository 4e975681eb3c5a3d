"""One export of each family for all tests of this folder: it is what takes the time here."""

from collections.abc import Callable

import onnx_ir as ir
import pytest

from tests.models import make_checkpoint
from trtbert.config import CompileConfig
from trtbert.export import load_source
from trtbert.rewrite import rewrite
from trtbert.tasks import Task

TASK_OF: dict[str, Task] = {
    "albert": "fill-mask",
    "bert": "text-classification",
    "deberta-v2": "token-classification",
    "distilbert": "question-answering",
    "electra": "feature-extraction",
    "modernbert": "fill-mask",
    "mpnet": "sentence-similarity",
    "roberta": "text-ranking",
}
"""Every task once; two layers, 48 wide, FFN of 80."""


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ir.Model]:
    """The family's name -> its fused graph, which is the same one for all tests: do not change it."""
    made: dict[str, ir.Model] = {}

    def model(architecture: str) -> ir.Model:
        if architecture not in made:
            folder = tmp_path_factory.mktemp(architecture)
            checkpoint = make_checkpoint(folder / "model", architecture, task=TASK_OF[architecture])
            task = "text-ranking" if TASK_OF[architecture] == "text-ranking" else "auto"
            source = load_source(checkpoint, CompileConfig(task=task), folder / "out")
            made[architecture] = rewrite(source.model, architecture=architecture, num_layers=2).model
        return made[architecture]

    return model
