"""Every layer of every family fuses in files that torch's own exporter wrote with transformers 5, eager and SDPA, and that are right."""

from pathlib import Path

import pytest

from tests.fixtures.make_foreign import SIZES, TOLERANCE, Foreign, export_dynamo, largest_error
from tests.rewrite.foreign import assert_answers_like_the_file, assert_every_layer_is_fused, import_and_rewrite
from tests.tiny_tokenizers import FAMILIES

ONE_LAYER = {"num_hidden_layers": 1}
FILES = (
    Foreign(architecture="bert", attention="eager", opset=18),
    Foreign(architecture="bert", attention="sdpa", options=ONE_LAYER, opset=23),
    Foreign(architecture="roberta", attention="eager", opset=20),
    Foreign(architecture="roberta", attention="sdpa", options=ONE_LAYER, opset=18),
    Foreign(architecture="xlm-roberta", attention="eager", opset=23),
    Foreign(architecture="xlm-roberta", attention="sdpa", options=ONE_LAYER, opset=22),
    Foreign(architecture="camembert", attention="eager", opset=19),
    Foreign(architecture="camembert", attention="sdpa", options=ONE_LAYER, opset=23),
    Foreign(architecture="distilbert", attention="eager", opset=23),
    Foreign(architecture="distilbert", attention="sdpa", options=ONE_LAYER, opset=20),
    Foreign(architecture="electra", attention="eager", opset=18),
    Foreign(architecture="electra", attention="sdpa", options=ONE_LAYER, opset=23),
    Foreign(architecture="albert", attention="eager", opset=21),
    Foreign(architecture="albert", attention="sdpa", options=ONE_LAYER, opset=23),
    Foreign(architecture="mpnet", attention="eager", opset=18),
)


@pytest.mark.slow
@pytest.mark.parametrize("foreign", FILES, ids=lambda foreign: foreign.name)
def test_every_layer_is_fused(foreign: Foreign, tmp_path: Path) -> None:
    model = export_dynamo(tmp_path / foreign.name, foreign)
    assert largest_error(tmp_path / foreign.name, model) <= TOLERANCE
    reserved = FAMILIES[foreign.architecture].num_reserved_positions
    facts = {
        "architecture": foreign.architecture,
        "task": foreign.task,
        "options": foreign.options,
        "num_heads": [SIZES["num_attention_heads"]] * model.config.num_hidden_layers,
        "head_size": SIZES["hidden_size"] // SIZES["num_attention_heads"],
        "hidden_size": SIZES["hidden_size"],
        "vocabulary_size": model.config.vocab_size,
        "max_length": SIZES["max_position_embeddings"] - reserved,
    }
    imported = import_and_rewrite(tmp_path / foreign.name, facts, tmp_path / "tokenizer")
    assert_every_layer_is_fused(imported)
    assert_answers_like_the_file(imported)
