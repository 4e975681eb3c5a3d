"""Method `distill`: what is recorded and matched, what is trained, and pairs of models that do not fit."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tests.compress.models import classified, tagged, tiny
from tests.models import make_model
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import Checkpoint, read_checkpoint, write_checkpoint
from trtbert.compress.batches import collate, encode_examples, encode_texts
from trtbert.compress.capture import captured, scores
from trtbert.compress.depth import choose_layers
from trtbert.compress.distill import DistillOptions, distill, map_layers
from trtbert.compress.layers import encoder_layers
from trtbert.compress.method import Job
from trtbert.compress.slicing import keep_layers, slice_model
from trtbert.config import TrainingConfig
from trtbert.errors import InputError, TrainingError, UnsupportedError
from trtbert.tasks import Task

TRAINING = TrainingConfig(epochs=4, batch_size=8, learning_rate=1e-3)


def student_of(teacher: Checkpoint) -> Checkpoint:
    with quiet():
        return teacher.with_model(keep_layers(teacher.model, teacher.task, choose_layers(teacher.model.config.num_hidden_layers, 2, "x")))


def state(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in checkpoint.model.state_dict().items()}


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "mpnet", "roberta", "electra"])
def test_what_is_recorded(architecture: str, tmp_path: Path) -> None:
    """The hidden states are those that transformers gives, and the answers stay the same."""
    checkpoint = tiny(tmp_path, architecture)
    batch = collate(checkpoint, encode_texts(checkpoint, ["The museum opens at nine.", "red"]))
    expected = checkpoint.model(**batch.inputs, output_hidden_states=True)
    with captured(encoder_layers(checkpoint.model)) as record:
        found = checkpoint.model(**batch.inputs)
        found = checkpoint.model(**batch.inputs)
    assert torch.equal(found.logits, expected.logits)
    assert len(record.hidden_BSD) == 3 and len(record.query_BSD) == len(record.key_BSD) == len(record.value_BSD) == 2
    for ours, theirs in zip(record.hidden_BSD, expected.hidden_states, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_scores_are_those_of_the_model(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    checkpoint.model.set_attn_implementation("eager")
    batch = collate(checkpoint, encode_texts(checkpoint, ["The museum opens at nine."]))
    layers = encoder_layers(checkpoint.model)
    with captured(layers) as record:
        attentions = checkpoint.model(**batch.inputs, output_attentions=True).attentions
    for index, attention in enumerate(attentions):
        torch.testing.assert_close(scores(record.query_BSD[index], record.key_BSD[index], 16).softmax(-1), attention)


def test_layers_that_belong_together() -> None:
    assert map_layers(3, 12, "uniform") == [(0, 3), (1, 7), (2, 11)]
    assert map_layers(3, 12, "last") == [(0, 9), (1, 10), (2, 11)]
    assert map_layers(2, 2, "uniform") == [(0, 0), (1, 1)]
    with pytest.raises(InputError, match="The student has 4 layers, more than the teacher's 3"):
        map_layers(4, 3, "uniform")


@pytest.mark.parametrize("loss", ["hinton", "mse", "distilbert", "tinybert", "patient", "minilm"])
@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_the_student_learns_and_the_teacher_stays(loss: str, task: Task, tmp_path: Path) -> None:
    teacher = tiny(tmp_path, task=task, num_hidden_layers=4)
    student, before = student_of(teacher), state(teacher)
    labelled = classified(24) if task == "text-classification" else tagged(24)
    options = DistillOptions(loss=loss, relation_heads=3, intermediate_epochs=4)

    def distance() -> float:
        batch = collate(student, encode_examples(student, labelled))
        with torch.no_grad():
            return float(
                (student.model(**batch.inputs).logits - teacher.model(**batch.inputs).logits)[batch.labels != -100].square().mean()
            )

    untrained = distance()
    with quiet():
        result = distill(Job(checkpoint=student, teacher=teacher, labelled=labelled, training=TRAINING), options)
    assert distance() < 0.7 * untrained
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.model.state_dict().items())
    assert set(result.checkpoint.model.state_dict()) <= set(before), "projections stay out"


def test_a_student_of_another_width(tmp_path: Path) -> None:
    """TinyBERT: 24 columns and 3 heads beside 48 and 3; the projections are trained and then thrown away."""
    teacher = tiny(tmp_path / "teacher", num_hidden_layers=4)
    student = narrow_student(tmp_path, teacher)
    job = Job(checkpoint=student, teacher=teacher, labelled=classified(24), training=TRAINING, state=tmp_path / "state")
    result = distill(job, DistillOptions(loss="tinybert", intermediate_epochs=20))
    with safe_open(tmp_path / "state" / "intermediate" / "state.safetensors", framework="pt") as file:
        losses = json.loads(file.metadata()["facts"])["losses"]
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    assert not any("projection" in name for name in result.checkpoint.model.state_dict())


def narrow_student(folder: Path, teacher: Checkpoint) -> Checkpoint:
    size = {"hidden_size": 24, "vocab_size": teacher.model.config.vocab_size, "num_attention_heads": 3, "intermediate_size": 40}
    model = make_model("bert", task=teacher.task, **size)
    with quiet():
        write_checkpoint(teacher.with_model(model), folder / "student")
        return read_checkpoint(folder / "student")


def test_embeddings_and_texts_without_labels(tmp_path: Path) -> None:
    teacher = tiny(tmp_path, task="sentence-similarity", num_hidden_layers=4)
    texts = [example.text for example in classified(24)]
    result = distill(Job(checkpoint=student_of(teacher), teacher=teacher, texts=texts, training=TRAINING), DistillOptions())
    assert result.facts["items"] == 24 and result.facts["last_loss"] < 0.5


def test_labels_and_texts_together(tmp_path: Path) -> None:
    teacher = tiny(tmp_path, num_hidden_layers=4)
    job = Job(
        checkpoint=student_of(teacher), teacher=teacher, labelled=classified(10), texts=["red cat", "the blue"] * 5, training=TRAINING
    )
    assert distill(job, DistillOptions(alpha=0.5)).facts["items"] == 20


def test_the_ends_of_alpha(tmp_path: Path) -> None:
    """With alpha 0 the teacher does not matter at all."""
    teacher, other = tiny(tmp_path / "a", num_hidden_layers=4), tiny(tmp_path / "a", num_hidden_layers=4)
    with torch.no_grad():
        other.model.classifier.bias += torch.tensor([5.0, 0, 0])
    found = []
    for alpha in (0.0, 1.0):
        for taught in (teacher, other):
            job = Job(checkpoint=student_of(teacher), teacher=taught, labelled=classified(16), training=TRAINING)
            found.append(distill(job, DistillOptions(alpha=alpha)).facts["last_loss"])
    assert found[0] == found[1] and found[2] != found[3]


def test_a_teacher_that_knows_nothing(tmp_path: Path) -> None:
    teacher = tiny(tmp_path, num_hidden_layers=4)
    job = Job(checkpoint=student_of(teacher), teacher=teacher, labelled=classified(8), evaluate=lambda _model: 34.0)
    with pytest.raises(TrainingError, match=r"The teacher scores 34.00 on the evaluation data, which is not better than chance \(33.33\)"):
        distill(job, DistillOptions())


def test_pairs_that_do_not_fit(tmp_path: Path) -> None:
    teacher = tiny(tmp_path / "teacher", num_hidden_layers=4)
    student = student_of(teacher)
    with pytest.raises(InputError, match="distill needs a teacher: give its folder with --teacher"):
        distill(Job(checkpoint=student, labelled=classified(8)), DistillOptions())
    with pytest.raises(InputError, match="distill needs texts to ask the teacher about"):
        distill(Job(checkpoint=student, teacher=teacher), DistillOptions())
    with pytest.raises(InputError, match="have different tokenizers"):
        distill(Job(checkpoint=student, teacher=tiny(tmp_path / "roberta", "roberta"), labelled=classified(8)), DistillOptions())
    with pytest.raises(InputError, match="The 48 columns of the student's last queries do not divide into 5 relation heads"):
        distill(Job(checkpoint=student, teacher=teacher, labelled=classified(8)), DistillOptions(loss="minilm", relation_heads=5))
    other = tiny(tmp_path / "teacher")
    other.model.config.id2label = {0: "yes", 1: "no", 2: "maybe"}
    with pytest.raises(InputError, match="Student and teacher have different labels"):
        distill(Job(checkpoint=student, teacher=other, labelled=classified(8)), DistillOptions())


def test_heads_that_cannot_be_compared(tmp_path: Path) -> None:
    teacher = tiny(tmp_path, num_hidden_layers=4)
    student = student_of(teacher)
    with quiet():
        pruned = student.with_model(slice_model(student.model, student.task, heads=[[0, 1], [0, 1, 2]]))
    job = Job(checkpoint=pruned, teacher=teacher, labelled=classified(8))
    with pytest.raises(UnsupportedError, match=r"layer 0 of the student has 2 heads and layer 1 of the teacher 3. Use loss minilm"):
        distill(job, DistillOptions(loss="tinybert"))
