"""The torch modules of students: padding changes nothing, the graph equals torch, and a saved one reads back and compiles."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

import trtbert
from tests.compress.models import tiny
from tests.models import LABELS
from tests.numerics import relative_error
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import Checkpoint, read_checkpoint, write_checkpoint
from trtbert.checkpoint.students import StudentConfig, student_class
from trtbert.checkpoint.students.embeddings import character_table
from trtbert.checkpoint.students.models import AttentionPooling, Encoded, Student, front
from trtbert.config import CompileConfig
from trtbert.errors import InputError, UnsupportedError
from trtbert.tasks import TASKS, Task

KINDS: list[tuple[str, Task]] = [
    ("cnn-bilstm", "token-classification"),
    ("cnn-bilstm", "text-classification"),
    ("bilstm", "text-classification"),
    ("bilstm", "token-classification"),
    ("bilstm", "sentence-similarity"),
    ("attentive-bilstm", "text-classification"),
]
LONGEST = 40
"""Tokens of the longest row that a package is tried on."""


def make_student(kind: str, task: Task, *, vocab_size: int = 320, seed: int = 0, **options: Any) -> Student:
    """Two layers, in evaluation mode, with biases and embeddings large enough for a mistake to show."""
    names = LABELS.get(task, ())
    sizes: dict[str, Any] = {"vocab_size": vocab_size, "embedding_size": 12, "hidden_size": 10, "num_hidden_layers": 2}
    sizes |= {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}} if names else {"output_size": 48}
    if kind == "cnn-bilstm":
        sizes |= {"num_characters": 20, "piece_length": 6, "char_filters": 8}
    config = StudentConfig(
        **{"kind": kind, "max_position_embeddings": 130, "fc_size": 7 * (kind == "bilstm" and task == "text-classification")}
        | sizes
        | options
    )
    torch.manual_seed(seed)
    model = student_class(task)(config).eval()
    characters = model.encoder().embeddings.characters
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
        if characters is not None:
            characters.table_VC.copy_(torch.randint(0, 20, characters.table_VC.shape))
    return model


def padded(padding: str, *, longest: int = 9, vocab_size: int = 320) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of 1, 2, ... tokens in one batch."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, vocab_size, (longest, longest), generator=generator)
    mask = torch.ones(longest, longest, dtype=torch.int64).tril()
    if padding == "left":
        mask = mask.flip(1)
    elif padding == "holes":
        mask = mask[:, torch.randperm(longest, generator=generator)]
    return ids, mask


@pytest.mark.parametrize("padding", ["right", "left", "holes"])
@pytest.mark.parametrize(("kind", "task"), KINDS)
def test_padding_changes_nothing(kind: str, task: Task, padding: str) -> None:
    model = make_student(kind, task)
    ids, mask = padded(padding)
    with torch.no_grad():
        batch = model(ids, mask)[0]
        for row in range(len(ids)):
            kept = mask[row] != 0
            alone = model(ids[row][kept][None], mask[row][kept][None])[0][0]
            together = batch[row] if task == "text-classification" else batch[row][kept]
            assert torch.allclose(together, alone, atol=1e-6)


def test_a_row_of_padding_alone_is_finite() -> None:
    for kind, task in KINDS:
        assert make_student(kind, task)(torch.ones(2, 3, dtype=torch.int64), torch.tensor([[0, 0, 0], [1, 1, 0]]))[0].isfinite().all()


def test_outputs_have_the_names_of_transformers_and_types_are_not_read() -> None:
    ids, mask = padded("right")
    for kind, task in KINDS:
        model = make_student(kind, task)
        outputs = model(input_ids=ids, attention_mask=mask, token_type_ids=torch.ones_like(ids))
        assert list(outputs) == ["last_hidden_state" if task == "sentence-similarity" else "logits"]
        assert torch.equal(outputs[0], model(ids, mask)[0])


def test_the_kept_tokens_go_to_the_front_in_their_order() -> None:
    mask = torch.tensor([[0, 1, 0, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    assert front(mask).tolist() == [[3, 0, 4, 1, 2], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]


def test_attention_weights_sum_to_one_and_are_zero_on_padding() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([1, 3, 5])
    _, weights = AttentionPooling(6)(Encoded(torch.randn(3, 5, 6), torch.randn(3, 6), lengths))
    assert torch.allclose(weights.sum(1), torch.ones(3), atol=1e-6)
    for row, length in enumerate(lengths.tolist()):
        assert (weights[row, :length] > 0).all() and (weights[row, length:] == 0).all()


def test_characters_of_pieces_have_ids_by_piece() -> None:
    table, count = character_table(["", "ab", "##a", "abcdef"], 4)
    assert count == 8 and table.shape == (4, 4) and table.dtype == torch.int32
    number = {character: index for index, character in enumerate("#abcdef", 1)}
    assert table[0].tolist() == [0] * 4 and table[1].tolist() == [number["a"], number["b"], 0, 0]
    assert table[2].tolist() == [number["#"], number["#"], number["a"], 0] and table[3].tolist() == [number[c] for c in "abcd"]


def saved(folder: Path, kind: str, task: Task, architecture: str = "bert") -> tuple[Checkpoint, Path]:
    """A student in the place of a tiny transformer, and the folder it was written to."""
    teacher = tiny(folder / "teacher", architecture, task)
    model = make_student(kind, task, vocab_size=teacher.model.get_input_embeddings().num_embeddings)
    write_checkpoint(teacher.with_model(model), folder / "student")
    return teacher.with_model(model), folder / "student"


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta"])
@pytest.mark.parametrize(("kind", "task"), KINDS[::2])
def test_a_saved_student_reads_back_the_same(kind: str, task: Task, architecture: str, tmp_path: Path) -> None:
    checkpoint, folder = saved(tmp_path, kind, task, architecture)
    with quiet():
        read = read_checkpoint(folder)
    ids, mask = padded("right", vocab_size=100)
    assert read.task == task and read.max_length == checkpoint.max_length
    assert read.tokenizer.fast.get_vocab() == checkpoint.tokenizer.fast.get_vocab()
    assert not read.model.training and torch.equal(read.model(ids, mask)[0], checkpoint.model(ids, mask)[0])


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "task"), [KINDS[i] for i in (0, 2, 4, 5)])
def test_a_package_for_the_cpu_answers_as_torch(kind: str, task: Task, tmp_path: Path) -> None:
    checkpoint, folder = saved(tmp_path, kind, task)
    package = trtbert.compile(folder, tmp_path / "package", dump=tmp_path / "dump")
    manifest = package.manifest
    assert manifest.model.architecture == "trtbert-student" and manifest.model.num_layers == 2
    assert set(manifest.fusions.values()) == {0} and all(stage.is_passed for stage in manifest.verification.stages)
    nodes = [node for node in ir.load(tmp_path / "dump" / "02-rewrite.onnx").graph if node.op_type == "LSTM"]
    assert len(nodes) == 2 and all(node.inputs[4] is not None for node in nodes), "the lengths of the rows are given"
    assert all(node.inputs[i].const_value is not None for node in nodes for i in (1, 2, 3)), "the weights are in ONNX's order"
    predictor = trtbert.load(package.path)
    for padding in ("right", "left", "holes"):
        ids, mask = padded(padding, longest=LONGEST)
        actual = predictor.runtime.run({"input_ids": ids.numpy().astype(np.int32), "attention_mask": mask.numpy().astype(np.int32)})
        with torch.no_grad():
            expected = answers(checkpoint.model(ids, mask)[0], mask, task)
        assert relative_error(actual[TASKS[task].outputs[0]], expected.numpy()) <= 1e-5
    assert len(predictor.predict(["The museum opens at nine.", "Who?"])) == 2


def answers(raw: torch.Tensor, mask: torch.Tensor, task: Task) -> torch.Tensor:
    if task != "sentence-similarity":
        return raw.softmax(-1)
    return torch.nn.functional.normalize((raw * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True), dim=-1)


@pytest.mark.slow
@pytest.mark.tensorrt
def test_an_engine_of_tensorrt_rtx(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed: pip install 'trtbert[tensorrt-rtx]'")
    _, folder = saved(tmp_path, "cnn-bilstm", "text-classification")
    package = trtbert.compile(folder, tmp_path / "package", CompileConfig(target="sm80", runtime="tensorrt-rtx"))
    assert (package.path / "model.plan").stat().st_size > 50_000
    assert all(stage.is_passed for stage in package.manifest.verification.stages)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "transformer"}, "kind"),
        ({"fc_size": -1}, "fc_size of a bilstm must be from 0 to"),
        ({"kind": "cnn-bilstm"}, "num_characters of a cnn-bilstm must be from 1 to"),
        ({"dropout": 1.5}, "dropout must be a share from 0 to less than 1, got 1.5"),
        ({"hidden_size": 0}, "hidden_size must be a whole number from 1 to"),
        ({"num_hidden_layers": 3}, "num_hidden_layers is 3, but the file holds 2 layers"),
        ({"hidden_size": 11}, "config.json disagrees with the weights"),
    ],
)
def test_a_config_that_does_not_fit(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    _, folder = saved(tmp_path, "bilstm", "text-classification")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=message), quiet():
        read_checkpoint(folder)


def test_a_task_without_a_head(tmp_path: Path) -> None:
    _, folder = saved(tmp_path, "bilstm", "text-classification")
    with pytest.raises(UnsupportedError, match="has no head for question-answering; it has for text-classification"), quiet():
        read_checkpoint(folder, task="question-answering")


def test_labels_of_its_own_for_a_student(tmp_path: Path) -> None:
    _, folder = saved(tmp_path, "bilstm", "text-classification")
    with quiet():
        read = read_checkpoint(folder, new_labels=("a", "b"))
    assert read.labels == ("a", "b") and read.model.classifier.out_features == 2
