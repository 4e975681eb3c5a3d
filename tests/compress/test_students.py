"""Method `student`: the schedule of stages and what each leaves alone, the SVD, the alignment of words, losses, and the whole way."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import trtbert
from tests.compress.models import classified, tagged, tiny
from tests.models import LABELS
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import Checkpoint, read_checkpoint, write_checkpoint
from trtbert.compress.batches import NO_LABEL, collate, encode_examples
from trtbert.compress.macs import count_macs
from trtbert.compress.method import Job, Result
from trtbert.compress.new_texts import new_texts
from trtbert.compress.students import StudentOptions, build, compressed, student
from trtbert.compress.students_training import Distiller, Stage, groups, plan, run_stage
from trtbert.compress.transfer import transfer_items, with_choice
from trtbert.config import TrainingConfig
from trtbert.data import Example
from trtbert.errors import InputError, TrainingError, UnsupportedError
from trtbert.tasks import Task

SMALL: dict[str, Any] = {"embedding_size": 16, "hidden_size": 10}
TRAINING = TrainingConfig(batch_size=8, max_steps=3, learning_rate=1e-2)
ALL = ("head", "layer 1", "layer 0", "embeddings")


def job(checkpoint: Checkpoint, **options: Any) -> Job:
    labelled = tagged(12) if checkpoint.task == "token-classification" else classified(12)
    return Job(checkpoint=checkpoint, **({"labelled": labelled, "training": TRAINING} | options))


def distiller(checkpoint: Checkpoint, **options: Any) -> Distiller:
    chosen = StudentOptions(**(SMALL | {"kind": "bilstm", "num_layers": 2} | options))
    made = build(checkpoint, checkpoint, chosen, seed=0)
    return Distiller(checkpoint=checkpoint.with_model(made), teacher=checkpoint, loss=chosen.loss, temperature=chosen.temperature)


def snapshot(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_the_stages_of_the_paper_in_their_order() -> None:
    unfrozen = [("head",), ("head", "layer 1"), ("head", "layer 1", "layer 0"), ALL]
    expected = [("representation", ALL[1:]), *(("logits", names) for names in unfrozen), *(("labels", names) for names in unfrozen)]
    assert [(stage.loss, stage.trained) for stage in plan(ALL, "stagewise", "mse", has_labels=True)] == expected
    assert [(stage.loss, stage.trained) for stage in plan(ALL, "stagewise", "kl", has_labels=False)] == expected[:5]
    assert plan(ALL, "stagewise", "mse", has_labels=False, has_projection=True)[0] == Stage("representation", ALL)
    assert plan(ALL, "joint", "mse", has_labels=True) == (Stage("logits", ALL),)
    assert plan(ALL, "joint", "kl", has_labels=True) == (Stage("labels and logits", ALL),)


def test_the_parts_hold_every_parameter_once(tmp_path: Path) -> None:
    made = distiller(tiny(tmp_path, task="token-classification"), kind="cnn-bilstm").student
    parts = groups(made)
    assert tuple(parts) == ALL
    assert sorted(id(p) for part in parts.values() for p in part) == sorted(id(p) for p in made.parameters())
    table = made.get_input_embeddings().weight
    assert not any(p is table for part in groups(made, has_embeddings=False).values() for p in part)


@pytest.mark.parametrize("trained", [("head",), ("head", "layer 1"), ALL])
@pytest.mark.parametrize("loss", ["logits", "labels"])
def test_what_is_frozen_stays_bitwise(loss: Any, trained: tuple[str, ...], tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    made = distiller(checkpoint)
    parts, before, of_teacher = groups(made.student), snapshot(made.student), snapshot(checkpoint.model)
    items = encode_examples(made.checkpoint, classified(12))
    assert len(run_stage(job(checkpoint), made, parts, Stage(loss, trained), items, name="a stage")) == 3
    names = {id(p): name for name, p in made.student.named_parameters()}
    moved = {names[id(p)] for part in trained for p in parts[part]}
    for name, tensor in made.student.state_dict().items():
        assert torch.equal(tensor, before[name]) == (name not in moved), name
    assert all(torch.equal(tensor, of_teacher[name]) for name, tensor in checkpoint.model.state_dict().items())


def test_a_stage_by_stage_run_says_what_it_did(tmp_path: Path) -> None:
    result = student(job(tiny(tmp_path)), StudentOptions(**SMALL, num_layers=2, schedule="stagewise"))
    stages = result.facts["stages"]
    assert [(stage["loss"], tuple(stage["trained"])) for stage in stages] == [
        (stage.loss, stage.trained) for stage in plan(ALL, "stagewise", "mse", has_labels=True)
    ]
    assert all(stage["steps"] == 3 for stage in stages)
    assert all(p.requires_grad for p in result.checkpoint.model.parameters())
    assert result.facts["student"] == {"kind": "bilstm", "embedding_size": 16, "hidden_size": 10, "num_layers": 2}


def test_frozen_embeddings_stay_the_compressed_table(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    table = compressed(checkpoint.model.get_input_embeddings().weight.detach(), 16)
    for schedule in ("joint", "stagewise"):
        result = student(job(checkpoint), StudentOptions(**SMALL, schedule=schedule, freeze_embeddings=True))
        assert torch.equal(result.checkpoint.model.get_input_embeddings().weight, table)
        assert all("embeddings" not in stage["trained"] for stage in result.facts["stages"])


@pytest.mark.parametrize("rank", [1, 7, 20])
def test_svd_loses_the_squares_of_the_singular_values_it_leaves_out(rank: int) -> None:
    torch.manual_seed(0)
    table = torch.randn(50, 20, dtype=torch.float64).float()
    kept = compressed(table, rank)
    assert kept.shape == (50, rank)
    values = torch.linalg.svdvals(table.double())
    # The best that a table of this rank can be turned back into is its projection of the whole one.
    back = kept.double() @ torch.linalg.lstsq(kept.double(), table.double()).solution
    assert float((table.double() - back).square().sum()) == pytest.approx(float(values[rank:].square().sum()), rel=1e-5, abs=1e-6)
    assert torch.allclose(torch.linalg.svdvals(kept).double(), values[:rank], rtol=1e-5)


def test_only_the_first_piece_of_a_word_is_compared(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, task="token-classification")
    text = "My sister Xyzzyqw moved from Lisbon to Toronto."
    (item,) = transfer_items(checkpoint, job(checkpoint, labelled=(), texts=[text]))
    encoding = checkpoint.tokenizer.fast.backend_tokenizer.encode(text)
    starts = [len(" ".join(text.split()[:index])) + (index > 0) for index in range(len(text.split()))]
    firsts = [i for i, (first, last) in enumerate(encoding.offsets) if last > first and first in starts]
    assert [i for i, label in enumerate(item.label) if label != NO_LABEL] == firsts
    assert len(firsts) == len(text.split()) < len(encoding.ids) - 2, "some words have several pieces"

    made = distiller(checkpoint)
    batch = collate(made.checkpoint, [item])
    before = made.logits(batch)
    at_word, elsewhere = (0, firsts[2]), (0, next(i for i in range(firsts[0], firsts[-1]) if i not in firsts))
    for place, is_compared in ((at_word, True), (elsewhere, False)):
        assert torch.equal(shifted(made, place).logits(batch), before) != is_compared


def shifted(made: Distiller, place: tuple[int, int]) -> Distiller:
    """The same with a student whose logits differ at one token."""

    class Shifted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.config = made.student, made.student.config

        def forward(self, **inputs: torch.Tensor) -> Any:
            outputs = self.inner(**inputs)
            outputs.logits[place] += 1
            return outputs

    return replace(made, checkpoint=made.checkpoint.with_model(Shifted()))


def test_the_choice_of_the_teacher_becomes_the_label(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path / "texts")
    texts = [example.text for example in classified(9)]
    made = distiller(checkpoint)
    items = made.pseudo_labelled(transfer_items(checkpoint, job(checkpoint, labelled=(), texts=texts)), 4)
    assert len(items) == 9
    with torch.no_grad():
        assert all(checkpoint.model(**collate(checkpoint, [item]).inputs).logits.argmax() == item.label for item in items)

    tagger = tiny(tmp_path / "tags", task="token-classification")
    (item,) = transfer_items(tagger, job(tagger, labelled=(), texts=["red Xyzzyqw"]))
    chosen = with_choice(item, list(range(100, 100 + len(item.label))))
    assert [tag - 100 if tag != NO_LABEL else NO_LABEL for tag in chosen.label] == [
        index if mark != NO_LABEL else NO_LABEL for index, mark in enumerate(item.label)
    ]


@pytest.mark.parametrize("loss", ["mse", "kl"])
def test_a_student_that_answers_as_its_teacher_has_no_loss(loss: Any, tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    batch = collate(checkpoint, encode_examples(checkpoint, classified(4)))
    same = Distiller(checkpoint=checkpoint, teacher=checkpoint, loss=loss, temperature=2.0)
    assert same.logits(batch).item() == pytest.approx(0, abs=1e-6)


def test_the_losses_by_hand(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    batch = collate(checkpoint, encode_examples(checkpoint, classified(4)))
    made = distiller(checkpoint, loss="kl", temperature=2.0)
    with torch.no_grad():
        theirs, ours = checkpoint.model(**batch.inputs).logits, made.student(batch.inputs["input_ids"], batch.mask).logits
        p, q = (theirs / 2).softmax(-1), (ours / 2).softmax(-1)
        assert float(made.logits(batch)) == pytest.approx(4 * float((p * (p / q).log()).sum() / 4), rel=1e-4)
        assert float(replace(made, loss="mse").logits(batch)) == pytest.approx(float((theirs - ours).square().sum() / 4), rel=1e-5)


def test_a_sentence_with_no_token_is_left_out(tmp_path: Path) -> None:
    """A batch of nothing but that has no mean loss."""
    checkpoint = tiny(tmp_path, task="token-classification")
    empty = Example("\u200b", ("O",), ("\u200b",))
    one_by_one = TrainingConfig(batch_size=1, epochs=1)
    options = StudentOptions(**SMALL, kind="cnn-bilstm", loss="kl")
    result = student(job(checkpoint, labelled=[*tagged(2), empty], training=one_by_one), options)
    assert [stage["steps"] for stage in result.facts["stages"]] == [2]
    with pytest.raises(InputError, match=r"no example has an answer, or a word with a token, within 128 tokens\. Raise max_length, or"):
        student(job(checkpoint, labelled=[empty], training=one_by_one), options)


def test_labels_and_logits_have_their_weights(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path)
    made = replace(distiller(checkpoint, loss="kl", dropout=0.0), soft_weight=3.0)
    items = encode_examples(made.checkpoint, classified(12))
    batch = collate(made.checkpoint, items)
    with torch.no_grad():
        expected = float(made.labels(batch) + 3 * made.logits(batch))
    one_step = job(checkpoint, training=TrainingConfig(max_steps=1, batch_size=12))
    (loss,) = run_stage(one_step, made, groups(made.student), Stage("labels and logits", ALL), items, name="a stage")
    assert loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("kind", "task", "loss"),
    [
        ("bilstm", "text-classification", "mse"),
        ("attentive-bilstm", "text-classification", "kl"),
        ("cnn-bilstm", "token-classification", "kl"),
        ("bilstm", "sentence-similarity", "mse"),
    ],
)
def test_training_lowers_the_loss(kind: str, task: Task, loss: str, tmp_path: Path) -> None:
    checkpoint, texts = tiny(tmp_path, task=task), [example.text for example in classified(24)]
    training = TRAINING.model_copy(update={"max_steps": 20, "epochs": 20.0})
    options, modes = StudentOptions(**SMALL, kind=kind, loss=loss), set[bool]()
    checkpoint.model.train()  # as a caller may have it: with dropout its answers would be noise
    unlabelled = job(
        checkpoint,
        labelled=(),
        texts=texts,
        training=training,
        on_step=lambda *_: modes.add(checkpoint.model.training),
    )
    trained = student(unlabelled, options).checkpoint
    assert modes == {False}
    losses = []
    for model in (build(checkpoint, checkpoint, options, seed=0), trained.model):
        made = Distiller(checkpoint=checkpoint.with_model(model), teacher=checkpoint, loss=options.loss)
        items = transfer_items(checkpoint, unlabelled)
        batch = collate(made.checkpoint, made.pseudo_labelled(items, 8) if loss == "kl" else items)
        with torch.no_grad():
            losses.append(float(made.logits(batch) + (made.labels(batch) if loss == "kl" else 0)))
    assert losses[1] < losses[0]


def test_two_runs_are_the_same_and_a_finished_one_is_read_back(tmp_path: Path) -> None:
    def run(state: Path | None) -> Result:
        checkpoint = tiny(tmp_path / "teacher")
        return student(job(checkpoint, state=state), StudentOptions(**SMALL, schedule="stagewise"))

    first, second, again = run(tmp_path / "state"), run(None), run(tmp_path / "state")
    for name, tensor in first.checkpoint.model.state_dict().items():
        assert torch.equal(tensor, second.checkpoint.model.state_dict()[name])
        assert torch.equal(tensor, again.checkpoint.model.state_dict()[name])
    assert first.facts == again.facts


def test_the_best_epoch_is_kept_where_there_is_a_score(tmp_path: Path) -> None:
    scores = iter([90.0, 1.0, 3.0, 2.0])  # the first is the teacher's
    training = TrainingConfig(batch_size=12, epochs=3.0, learning_rate=1e-2)
    student(job(tiny(tmp_path), training=training, evaluate=lambda _model: next(scores)), StudentOptions(**SMALL))
    assert next(scores, None) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "kind", "task"), [("bert", "cnn-bilstm", "token-classification"), ("mpnet", "bilstm", "sentence-similarity")]
)
def test_from_a_teacher_to_a_package(architecture: str, kind: str, task: Task, tmp_path: Path) -> None:
    teacher = tiny(tmp_path / "teacher", architecture, task)
    texts = [example.text for example in classified(12)]
    result = student(job(teacher, labelled=(), texts=texts), StudentOptions(**SMALL, kind=kind))
    write_checkpoint(result.checkpoint, tmp_path / "student")
    with quiet():
        read = read_checkpoint(tmp_path / "student")
    batch = collate(read, transfer_items(read, job(read, labelled=(), texts=texts)))
    with torch.no_grad():
        assert torch.equal(read.model(**batch.inputs)[0], result.checkpoint.model(**batch.inputs)[0])
    package = trtbert.compile(tmp_path / "student", tmp_path / "package")
    answers = trtbert.load(package.path).predict(texts[:2])
    assert len(answers) == 2 and package.manifest.model.labels == LABELS.get(task, ())


@pytest.mark.parametrize(
    ("task", "options", "error", "message"),
    [
        (
            "question-answering",
            {},
            UnsupportedError,
            "The student bilstm has no head for question-answering; it has for text-classification",
        ),
        ("sentence-similarity", {"kind": "cnn-bilstm"}, UnsupportedError, "The student cnn-bilstm has no head for sentence-similarity"),
        ("sentence-similarity", {"loss": "kl"}, InputError, "the teacher gives none .sentence-similarity.. Use --loss mse"),
        (
            "text-classification",
            {"embedding_size": 49},
            InputError,
            "have 48 directions, so SVD cannot give 49 .* or use --embedding random",
        ),
    ],
)
def test_what_a_student_cannot_be(task: Task, options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        student(job(tiny(tmp_path, task=task), labelled=(), texts=["a cat"]), StudentOptions(**options))


def test_a_number_has_no_probabilities(tmp_path: Path) -> None:
    """Of a single logit the softmax is 1 whatever it is, so there would be no loss."""
    checkpoint = tiny(tmp_path, id2label={0: "LABEL_0"}, label2id={"LABEL_0": 0})
    with pytest.raises(InputError, match=r"the teacher gives none \(regression\). Use --loss mse"):
        student(job(checkpoint, labelled=(), texts=["a cat"]), StudentOptions(**SMALL, loss="kl"))


def test_a_teacher_that_does_not_fit(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path / "bert")
    wrong = {
        "another task": (
            tiny(tmp_path / "tagger", task="token-classification"),
            "The teacher is one for token-classification",
        ),
        "another vocabulary": (tiny(tmp_path / "roberta", "roberta"), "Student and teacher have different tokenizers"),
        "a student": (distiller(checkpoint).checkpoint, "The teacher is a student itself"),
    }
    for teacher, message in wrong.values():
        with pytest.raises(InputError, match=message):
            student(job(checkpoint, teacher=teacher), StudentOptions(**SMALL))


def test_without_any_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are none: give a file with --texts, or labelled examples with --data"):
        student(job(tiny(tmp_path), labelled=()), StudentOptions(**SMALL))


def test_macs_by_hand(tmp_path: Path) -> None:
    """Embeddings of 16, states of 10 a direction, two layers; texts of 7 tokens."""
    lstms = 8 * 10 * (16 + 10) + 8 * 10 * (20 + 10)
    expected = {
        ("bilstm", "text-classification"): 7 * lstms + 20 * 200 + 200 * 3,
        ("bilstm", "sentence-similarity"): 7 * (lstms + 20 * 48),
        ("attentive-bilstm", "text-classification"): 7 * (lstms + 20 * 20 + 20 + 20) + 20 * 3,
        ("cnn-bilstm", "token-classification"): 7 * (lstms + 8 * 10 * 128 + 16 * 3 * 16 * 128 + 20 * 5),
    }
    for (kind, task), count in expected.items():
        made = distiller(tiny(tmp_path / task, task=task), kind=kind)  # type: ignore[arg-type]
        assert count_macs(made.student, length=7) == count


def test_states_are_compared_with_the_last_of_the_teacher(tmp_path: Path) -> None:
    checkpoint = tiny(tmp_path, num_hidden_layers=3)
    made, projection = distiller(checkpoint), torch.nn.Linear(20, 48)
    batch = collate(made.checkpoint, encode_examples(made.checkpoint, classified(6)))
    kept = batch.mask != 0
    with torch.no_grad():
        expected = checkpoint.model(**batch.inputs, output_hidden_states=True).hidden_states[3][kept]
        states = made.student.encoder()(**batch.inputs).last_hidden_state[kept]
        assert made.representation(batch, projection) == pytest.approx(float((projection(states) - expected).square().mean()), rel=1e-5)


def test_a_teacher_at_chance_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not better than chance"):
        student(job(tiny(tmp_path), evaluate=lambda _model: 33.4), StudentOptions(**SMALL))


@pytest.mark.parametrize("loss", ["mse", "kl"])
def test_changed_texts_are_answered_too(loss: str, tmp_path: Path) -> None:
    """With mse each text counts once and its changed ones after it; with kl the labelled ones are there already, with their labels."""
    items: list[int] = []

    def count(_what: str, _done: int, total: int) -> None:
        items.append(total)

    training = TrainingConfig(batch_size=1, epochs=1, max_length=32)
    words = ["museum", "opens", "morning", "engineer", "closes", "afternoon"]
    labels = LABELS["text-classification"]
    labelled = [Example(f"the {a} and {b} of nine", (labels[0],)) for a in words for b in words]
    checkpoint = tiny(tmp_path)
    options = StudentOptions(**SMALL, loss=loss, augment=2)
    added = len(new_texts(Job(checkpoint=checkpoint, labelled=labelled, training=training), options))
    student(job(checkpoint, labelled=labelled, training=training, on_step=count), options)
    assert added > 36 and set(items) == {36 + added}
