"""One graph of each family for all tests of this folder; what takes the time here is the export of those that are no foreign files."""

import json
from collections.abc import Callable

import onnx_ir as ir
import pytest

from tests.fixtures.make_foreign import FOREIGN
from tests.models import make_checkpoint
from tests.rewrite.foreign import import_and_rewrite
from trtbert.config import CompileConfig
from trtbert.export import load_source
from trtbert.rewrite import rewrite
from trtbert.tasks import Task

TASK_OF: dict[str, Task] = {
    "albert": "fill-mask",
    "bert": "text-classification",
    "deberta-v2": "token-classification",
    "modernbert": "fill-mask",
    "mpnet": "sentence-similarity",
}
"""Exported: two layers, 48 wide, FFN of 80."""
FILE_OF = {
    "distilbert": "distilbert-question-answering-relu-eager-opset13.onnx",
    "electra": "electra-eager-opset15.onnx",
    "roberta": "roberta-token-classification-sdpa-opset14.onnx",
}
"""Imported: two layers, 16 wide, FFN of 20."""
FAMILIES = tuple(sorted(TASK_OF.keys() | FILE_OF.keys()))


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ir.Model]:
    """The family's name -> its fused graph, which is the same one for all tests: do not change it."""
    made: dict[str, ir.Model] = {}

    def model(architecture: str) -> ir.Model:
        if architecture not in made:
            folder = tmp_path_factory.mktemp(architecture)
            if architecture in FILE_OF:
                name = FILE_OF[architecture]
                facts = json.loads((FOREIGN / "files.json").read_text())[name]
                made[architecture] = import_and_rewrite(FOREIGN / name, facts, folder).rewritten.model
            else:
                checkpoint = make_checkpoint(folder / "model", architecture, task=TASK_OF[architecture])
                source = load_source(checkpoint, CompileConfig(), folder / "out")
                made[architecture] = rewrite(source.model, architecture=architecture, num_layers=2).model
        return made[architecture]

    return model


@pytest.fixture(scope="session")
def shared_layers(tmp_path_factory: pytest.TempPathFactory) -> ir.Model:
    """ALBERT of a foreign file: its two layers share their weights. Do not change it."""
    name = "albert-eager-opset16.onnx"
    facts = json.loads((FOREIGN / "files.json").read_text())[name]
    return import_and_rewrite(FOREIGN / name, facts, tmp_path_factory.mktemp("shared")).rewritten.model
