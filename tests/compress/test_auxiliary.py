"""Several tasks on one model: whose gradients go where, how tasks mix, what a folder keeps, and students of such teachers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.compress.models import classified, tagged, tiny
from trtbert.checkpoint.auxiliary import AUXILIARY_HEADS
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import Checkpoint, read_checkpoint, write_checkpoint
from trtbert.compress.auxiliary import Tasks, read_tasks
from trtbert.compress.batches import collate
from trtbert.compress.finetune import FinetuneOptions, finetune
from trtbert.compress.method import Job
from trtbert.compress.students import StudentOptions, student
from trtbert.config import TrainingConfig
from trtbert.data import read_examples
from trtbert.errors import InputError, UnsupportedError

TRAINING = TrainingConfig(batch_size=8, max_steps=4, learning_rate=1e-2)
FAMILIES = ("bert", "roberta", "distilbert", "electra", "mpnet", "albert")


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """A task of two classes, of 20 texts."""
    path = tmp_path / "animals.csv"
    rows = [f"the {'cat' if index % 2 else 'museum'} {'red ' * (index % 3)},{'beast' if index % 2 else 'thing'}" for index in range(20)]
    path.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    return path


def job(checkpoint: Checkpoint, **options: Any) -> Job:
    return Job(checkpoint=checkpoint, **({"labelled": classified(10), "training": TRAINING} | options))


def tasks_of(folder: Path, animals: Path, architecture: str = "bert") -> Tasks:
    torch.manual_seed(0)
    return read_tasks(job(tiny(folder, architecture)), [animals], {})


def test_all_examples_of_all_tasks_are_items(tmp_path: Path, animals: Path) -> None:
    tasks = tasks_of(tmp_path / "model", animals)
    assert [item.label[0] for item in tasks.items] == [0] * 10 + [1] * 20
    assert {item.label[1] for item in tasks.items[10:]} == {0, 1}
    assert {name: head.labels for name, head in tasks.heads.items()} == {"animals": ("beast", "thing")}


@pytest.mark.parametrize("architecture", FAMILIES)
def test_a_head_gets_no_gradient_from_another_task(architecture: str, tmp_path: Path, animals: Path) -> None:
    tasks = tasks_of(tmp_path / "model", animals, architecture)
    own, other = [name for name, _ in tasks.checkpoint.model.named_parameters() if "classifier" in name][-1], tasks.heads["animals"].linear
    for number, items in enumerate((tasks.items[:8], tasks.items[-8:])):
        trained = tasks.trained()
        trained.zero_grad(set_to_none=False)
        for parameter in trained.parameters():
            parameter.grad = torch.zeros_like(parameter)
        tasks.label_losses(collate(tasks.checkpoint, items)).mean().backward()
        gradients = [dict(tasks.checkpoint.model.named_parameters())[own].grad, other.weight.grad]
        assert [bool(gradient.abs().max() > 0) for gradient in gradients if gradient is not None] == [number == 0, number == 1]
        assert tasks.checkpoint.model.get_input_embeddings().weight.grad.abs().max() > 0


def test_losses_of_a_mixed_batch_are_those_of_its_tasks_alone(tmp_path: Path, animals: Path) -> None:
    tasks = tasks_of(tmp_path / "model", animals)
    mixed = [*tasks.items[:3], *tasks.items[-4:]]
    whole = tasks.label_losses(collate(tasks.checkpoint, mixed))
    parts = [tasks.label_losses(collate(tasks.checkpoint, items)) for items in (mixed[:3], mixed[3:])]
    assert torch.allclose(whole, torch.cat(parts), atol=1e-5)
    own = torch.nn.functional.cross_entropy(
        tasks.checkpoint.model(**collate(tasks.checkpoint, mixed[:3]).inputs).logits,
        torch.tensor([item.label[1] for item in mixed[:3]]),
        reduction="none",
    )
    assert torch.allclose(whole[:3], own, atol=1e-5)


@torch.no_grad()
def test_answers_are_compared_with_the_teachers_of_their_own_task(tmp_path: Path, animals: Path) -> None:
    tasks, taught = tasks_of(tmp_path / "model", animals), read_tasks(job(tiny(tmp_path / "teacher", seed=1)), [animals], {})
    batch = collate(tasks.checkpoint, [*tasks.items[:3], *tasks.items[-4:]])
    (own, other), (own_taught, other_taught) = tasks.logits(batch), taught.logits(batch)
    expected = torch.cat([(own - own_taught)[:3].square().sum(-1), (other - other_taught)[3:].square().sum(-1)])
    torch.testing.assert_close(tasks.teaching_losses(taught, batch), expected)


def test_a_folder_keeps_the_heads(tmp_path: Path, animals: Path) -> None:
    checkpoint = tiny(tmp_path / "model")
    result = finetune(job(checkpoint), FinetuneOptions(auxiliary=(animals,))).checkpoint
    with quiet():
        write_checkpoint(result, tmp_path / "out")
        again = read_checkpoint(tmp_path / "out")
    assert again.labels == checkpoint.labels
    assert again.auxiliary["animals"].labels == ("beast", "thing")
    assert torch.equal(again.auxiliary["animals"].linear.weight, result.auxiliary["animals"].linear.weight)
    resumed = read_tasks(job(again), [animals], again.auxiliary)
    assert resumed.heads["animals"] is again.auxiliary["animals"]
    (tmp_path / "out" / AUXILIARY_HEADS).write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read"), quiet():
        read_checkpoint(tmp_path / "out")


def test_several_tasks_are_learnt(tmp_path: Path, animals: Path) -> None:
    training = TrainingConfig(batch_size=10, epochs=25, learning_rate=5e-3)
    result = finetune(job(tiny(tmp_path / "model"), labelled=classified(30), training=training), FinetuneOptions(auxiliary=(animals,)))
    tasks = read_tasks(job(result.checkpoint), [animals], result.checkpoint.auxiliary)
    with torch.no_grad():
        logits = tasks.logits(collate(tasks.checkpoint, tasks.items))
    for number in (0, 1):
        right = [logits[number][row].argmax() == item.label[1] for row, item in enumerate(tasks.items) if item.label[0] == number]
        assert sum(map(bool, right)) >= 0.9 * len(right)


def test_a_student_learns_all_tasks_of_its_teacher(tmp_path: Path, animals: Path) -> None:
    teacher = finetune(job(tiny(tmp_path / "model")), FinetuneOptions(auxiliary=(animals,))).checkpoint
    options = StudentOptions(kind="attentive-bilstm", embedding_size=16, hidden_size=10, auxiliary=(animals,))
    theirs = read_tasks(job(teacher), [animals], teacher.auxiliary)

    def trained(num_steps: int) -> Tasks:
        training = TRAINING.model_copy(update={"max_steps": num_steps, "epochs": 30})
        result = student(job(tiny(tmp_path / "model"), teacher=teacher, training=training), options)
        assert result.facts["stages"][0]["tasks"] == ["text-classification", "animals"]
        return read_tasks(job(result.checkpoint), [animals], result.checkpoint.auxiliary)

    @torch.no_grad()
    def distance(ours: Tasks) -> float:
        return float(ours.teaching_losses(theirs, collate(ours.checkpoint, ours.items)).mean())

    ours = trained(60)
    assert distance(ours) < 0.5 * distance(trained(1))
    shared = sum(p.numel() for p in ours.checkpoint.model.parameters())
    assert sum(p.numel() for p in ours.trained().parameters()) == shared + ours.heads["animals"].linear.weight.numel() + 2


def test_what_does_not_fit_is_said(tmp_path: Path, animals: Path) -> None:
    model = tmp_path / "model"
    with pytest.raises(InputError, match="no head for animals; it has for no other task"):
        student(job(tiny(model)), StudentOptions(auxiliary=(animals,)))
    with pytest.raises(InputError, match="loss mse"):
        student(job(tiny(model)), StudentOptions(auxiliary=(animals,), loss="kl"))
    with pytest.raises(InputError, match="Rename the files"):
        finetune(job(tiny(model)), FinetuneOptions(auxiliary=(animals, animals)))
    with pytest.raises(UnsupportedError, match="text-classification"):
        finetune(job(tiny(tmp_path / "tagger", task="token-classification"), labelled=tagged(8)), FinetuneOptions(auxiliary=(animals,)))
    several = tmp_path / "several.jsonl"
    several.write_text('{"text": "a cat", "label": ["a", "b"]}\n', encoding="utf-8")
    assert len(read_examples(several, "text-classification", labels=("a", "b"))[0].label) == 2
    with pytest.raises(InputError, match="no label or several"):
        finetune(job(tiny(model)), FinetuneOptions(auxiliary=(several,)))
