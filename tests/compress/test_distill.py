"""Method `distill`: what is recorded and matched, what is trained, and pairs of models that do not fit."""

import json
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch.nn import functional

from tests.compress.models import classified, tagged, tiny
from tests.models import make_model
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import Checkpoint, read_checkpoint, write_checkpoint
from trtbert.compress import losses
from trtbert.compress.attention import grouped_model
from trtbert.compress.batches import collate, encode_examples, encode_texts
from trtbert.compress.capture import captured, scores
from trtbert.compress.depth import choose_layers
from trtbert.compress.distill import (
    DistillOptions,
    _collate,
    _final,
    _items,
    _Pair,
    _tinybert,
    answers_loss,
    distill,
    map_layers,
)
from trtbert.compress.layers import encoder_layers
from trtbert.compress.method import Job
from trtbert.compress.objectives import task_losses
from trtbert.compress.slicing import keep_layers, slice_model
from trtbert.compress.teachers import check_better_than_chance
from trtbert.compress.word_masking import with_masked_words
from trtbert.config import TrainingConfig
from trtbert.data import Example
from trtbert.errors import InputError, TrainingError, UnsupportedError
from trtbert.tasks import Task

TRAINING = TrainingConfig(epochs=4, batch_size=8, learning_rate=1e-3)


def student_of(teacher: Checkpoint) -> Checkpoint:
    with quiet():
        return teacher.with_model(keep_layers(teacher.model, teacher.task, choose_layers(teacher.model.config.num_hidden_layers, 2, "x")))


def state(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in checkpoint.model.state_dict().items()}


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "mpnet", "roberta", "electra", "albert"])
def test_what_is_recorded(architecture: str, tmp_path: Path) -> None:
    """The hidden states are those that transformers gives, and the answers stay the same."""
    checkpoint = tiny(tmp_path, architecture)
    batch = collate(checkpoint, encode_texts(checkpoint, ["The museum opens at nine.", "red"]))
    expected = checkpoint.model(**batch.inputs, output_hidden_states=True)
    with captured(checkpoint.model) as record:
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
    with captured(checkpoint.model) as record:
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
    student, before, modes = student_of(teacher), state(teacher), set[bool]()
    labelled = classified(24) if task == "text-classification" else tagged(24)
    options = DistillOptions(loss=loss, relation_heads=3, intermediate_epochs=4)

    def distance() -> float:
        batch = collate(student, encode_examples(student, labelled))
        with torch.no_grad():
            return float(
                (student.model(**batch.inputs).logits - teacher.model(**batch.inputs).logits)[batch.labels != -100].square().mean()
            )

    untrained = distance()
    teacher.model.train()  # as a caller may have it: with dropout its answers would be noise
    job = Job(
        checkpoint=student,
        teacher=teacher,
        labelled=labelled,
        training=TRAINING,
        on_step=lambda *_: modes.add(teacher.model.training),
    )
    with quiet():
        result = distill(job, options)
    assert modes == {False}
    assert distance() < 0.7 * untrained
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.model.state_dict().items())
    assert set(result.checkpoint.model.state_dict()) <= set(before), "projections stay out"


ONE_STEP = TrainingConfig(max_steps=1, batch_size=64, learning_rate=1e-3)
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def pair_without_dropout(folder: Path) -> tuple[Checkpoint, Checkpoint]:
    """A student of 3 layers whose weights are nobody's, and a teacher of 6."""
    teacher = tiny(folder / "teacher", num_hidden_layers=6, **NO_DROPOUT)
    other = tiny(folder / "student", num_hidden_layers=3, seed=1, **NO_DROPOUT)
    return teacher.with_model(other.model), teacher


@torch.no_grad()
def inside(checkpoint: Checkpoint, batch: Any) -> tuple[Any, list[tuple[torch.Tensor, ...]]]:
    """The hidden states as transformers gives them, and q, k and v of each layer."""
    hidden = checkpoint.model(**batch.inputs, output_hidden_states=True).hidden_states
    parts = [(layer.query(x), layer.key(x), layer.value(x)) for layer, x in zip(encoder_layers(checkpoint.model), hidden, strict=False)]
    return hidden, parts


def test_tinybert_compares_embeddings_and_matched_layers(tmp_path: Path) -> None:
    student, teacher = pair_without_dropout(tmp_path)
    batch = collate(student, encode_examples(student, classified(12)))
    (ours, own), (theirs, other) = inside(student, batch), inside(teacher, batch)
    expected = losses.hidden_mse(ours[0], theirs[0], batch.mask)
    for layer, matched in ((0, 1), (1, 3), (2, 5)):
        expected += losses.hidden_mse(ours[layer + 1], theirs[matched + 1], batch.mask)
        pairs = (scores(q, k, 16) for q, k, _ in (own[layer], other[matched]))
        expected += losses.attention_mse(*pairs, batch.mask)
    options = DistillOptions(loss="tinybert", intermediate_epochs=1)
    facts = distill(Job(checkpoint=student, teacher=teacher, labelled=classified(12), training=ONE_STEP), options).facts
    assert facts["intermediate_loss"] == pytest.approx(float(expected), rel=1e-4)


def test_minilm_compares_the_last_layers(tmp_path: Path) -> None:
    student, teacher = pair_without_dropout(tmp_path)
    batch = collate(student, encode_examples(student, classified(12)))
    (_, own), (_, other) = inside(student, batch), inside(teacher, batch)
    expected = sum(float(losses.relation(a, b, batch.mask, 4)) for a, b in zip(own[-1], other[-1], strict=True))
    options = DistillOptions(loss="minilm", intermediate_epochs=1, relation_heads=4)
    facts = distill(Job(checkpoint=student, teacher=teacher, labelled=classified(12), training=ONE_STEP), options).facts
    assert facts["intermediate_loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("token", ["cls", "mean"])
def test_patient_leaves_the_last_layers_out(token: str, tmp_path: Path) -> None:
    student, teacher = pair_without_dropout(tmp_path)
    batch = collate(student, encode_examples(student, classified(12)))
    (ours, _), (theirs, _) = inside(student, batch), inside(teacher, batch)

    def vector(hidden: torch.Tensor) -> torch.Tensor:
        return hidden[:, 0] if token == "cls" else (hidden * batch.mask[:, :, None]).sum(1) / batch.mask.sum(1, keepdim=True)

    with torch.no_grad():
        answers = losses.hinton(student.model(**batch.inputs).logits, teacher.model(**batch.inputs).logits, 1.0)
    matched = ((0, 1), (1, 3))
    patient = losses.patient([vector(ours[a + 1]) for a, _ in matched], [vector(theirs[b + 1]) for _, b in matched])
    options = DistillOptions(loss="patient", beta=3.0, token=token)
    facts = distill(Job(checkpoint=student, teacher=teacher, labelled=classified(12), training=ONE_STEP), options).facts
    assert facts["last_loss"] == pytest.approx(float(answers + 3 * patient), rel=1e-4)


@pytest.mark.parametrize("loss", ["hinton", "mse"])
def test_answers_of_questions(loss: str, tmp_path: Path) -> None:
    teacher, other = (tiny(tmp_path / name, task="question-answering", seed=seed, **NO_DROPOUT) for seed, name in enumerate("ab"))
    texts = [("Who?", "A young engineer named Peter Novak works for Acme in Berlin."), ("Where?", "In the museum.")]
    batch = collate(teacher, encode_texts(teacher, texts))
    student = teacher.with_model(other.model)
    with torch.no_grad():
        ours, theirs = student.model(**batch.inputs), teacher.model(**batch.inputs)
    parts = []
    for name in ("start_logits", "end_logits"):
        if loss == "mse":
            parts.append((ours[name] - theirs[name])[batch.mask != 0].square().mean())
        else:
            log_ours, log_theirs = ((x[name].masked_fill(batch.mask == 0, -1e30) / 3).log_softmax(-1) for x in (ours, theirs))
            parts.append(9 * (log_theirs.exp() * (log_theirs - log_ours)).sum(-1).mean())
    options = DistillOptions(loss=loss, temperature=3.0)
    facts = distill(Job(checkpoint=student, teacher=teacher, texts=texts, training=ONE_STEP), options).facts
    assert facts["last_loss"] == pytest.approx(float(torch.stack(parts).mean()), rel=1e-4)


@torch.no_grad()
def answered(folder: Path, task: Task, examples: list[Example], **options: Any) -> tuple[float, Any, Any, Any]:
    """The loss of the answers, those of the student, those of the teacher, and the batch."""
    teacher, other = (tiny(folder / name, task=task, seed=seed) for seed, name in enumerate("ab"))
    student = teacher.with_model(other.model)
    batch = collate(student, encode_examples(student, examples))
    ours, theirs = student.model(**batch.inputs), teacher.model(**batch.inputs)
    return float(answers_loss(student, ours, theirs, batch, DistillOptions(**options))), ours, theirs, batch


def test_tags_are_compared_at_the_first_piece_of_each_word(tmp_path: Path) -> None:
    words = ("Extraordinarily", "red", "uncharacteristically")
    found, ours, theirs, batch = answered(tmp_path, "token-classification", [Example(" ".join(words), ("O", "B-PER", "O"), words)])
    is_first = batch.labels != -100
    assert is_first.sum() == 3 < batch.mask.sum() - 2
    assert found == pytest.approx(float(losses.hinton(ours.logits[is_first], theirs.logits[is_first], 1.0)), rel=1e-4)


def test_embeddings_are_compared_by_their_squared_distance(tmp_path: Path) -> None:
    found, ours, theirs, batch = answered(tmp_path, "sentence-similarity", [Example(("red cat", "the blue one"), 0.5)])
    means = [(x.last_hidden_state * batch.mask[:, :, None]).sum(1) / batch.mask.sum(1, keepdim=True) for x in (ours, theirs)]
    assert found == pytest.approx(float((2 - 2 * functional.cosine_similarity(*means)).mean()), rel=1e-4)


def test_a_single_number_is_compared_as_it_is(tmp_path: Path) -> None:
    found, ours, theirs, _ = answered(tmp_path, "text-ranking", [Example(("red?", "the red cat"), 1.0), Example(("red?", "blue"), 0.0)])
    assert found == pytest.approx(float((ours.logits - theirs.logits).square().mean()), rel=1e-4) and found > 0


def test_predictions_of_tinybert_at_a_temperature(tmp_path: Path) -> None:
    found, ours, theirs, _ = answered(tmp_path, "text-classification", classified(4), loss="tinybert", temperature=3.0)
    expected = -((theirs.logits / 3).softmax(-1) * (ours.logits / 3).log_softmax(-1)).sum(-1).mean()
    assert found == pytest.approx(float(expected), rel=1e-4)


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


@torch.no_grad()
def test_the_projections_of_a_student_of_another_width(tmp_path: Path) -> None:
    """One for the embeddings, and one for the states of all layers."""
    teacher = tiny(tmp_path / "teacher", num_hidden_layers=4)
    student = narrow_student(tmp_path, teacher)
    batch = collate(student, encode_examples(student, classified(12)))
    with ExitStack() as stack:
        pair = _Pair.of(student, teacher, DistillOptions(loss="tinybert"), stack)
        found = _tinybert(pair, batch)
    (ours, own), (theirs, other) = inside(student, batch), inside(teacher, batch)
    expected = losses.hidden_mse(pair.trained["embedding_projection"](ours[0]), theirs[0], batch.mask)
    for layer, matched in ((0, 1), (1, 3)):
        expected += losses.hidden_mse(pair.trained["projection"](ours[layer + 1]), theirs[matched + 1], batch.mask)
        expected += losses.attention_mse(scores(*own[layer][:2], 8), scores(*other[matched][:2], 16), batch.mask)
    torch.testing.assert_close(found, expected)


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


def test_labels_count_in_a_batch_that_has_texts_too(tmp_path: Path) -> None:
    """With alpha 0 two labelled texts of four have half the weight, and the teacher's answers the other half."""
    teacher = tiny(tmp_path, num_hidden_layers=4)
    student, options = student_of(teacher), DistillOptions(alpha=0.0)
    items = [*encode_examples(student, classified(2)), *encode_texts(student, ["red cat", "the blue"])]
    batch, named = _collate(student, items), collate(student, items[:2])
    assert batch.labels is None and len(batch.inputs["input_ids"]) == 4
    with ExitStack() as stack, torch.no_grad():
        pair = _Pair.of(student, teacher, options, stack)
        found = _final(options)(pair, batch)
        answers = answers_loss(student, *pair.run(batch), batch, options)
        expected = 0.5 * answers + 0.5 * task_losses(student, named).mean()
    torch.testing.assert_close(found, expected)


def test_pairs_of_an_embedder_beside_texts(tmp_path: Path) -> None:
    """A batch of both has a row for each text, and both texts of a pair of texts are learnt."""
    teacher = tiny(tmp_path, task="sentence-similarity", num_hidden_layers=4)
    pairs = [Example(("red cat", "the blue one"), 0.5)]
    items = _items(Job(checkpoint=teacher, labelled=pairs, texts=["the cat", ("red", "blue")]), DistillOptions())
    assert [len(item.ids) for item in items] == [2, 1, 1, 1]
    for mixed in (items, items[::-1]):
        assert len(_collate(teacher, mixed).inputs["input_ids"]) == 5
    job = Job(checkpoint=student_of(teacher), teacher=teacher, labelled=pairs * 12, texts=["the cat"] * 12, training=TRAINING)
    assert distill(job, DistillOptions(alpha=0.5)).facts["items"] == 24


def test_the_triple_loss(tmp_path: Path) -> None:
    """DistilBERT's parts by their formulas, on one batch of masked words: 5 : 2 : 1, up to a factor."""
    teacher = tiny(tmp_path, task="fill-mask", num_hidden_layers=4)
    student, options = student_of(teacher), DistillOptions(loss="distilbert", alpha=5 / 7, beta=1 / 7, temperature=2.0)
    batch = _collate(student, encode_texts(student, ["rain per sea at the end of rain", "sea"] * 8))
    with ExitStack() as stack, torch.no_grad():
        pair = _Pair.of(student, teacher, options, stack)
        torch.manual_seed(0)
        found = _final(options)(pair, batch)
        torch.manual_seed(0)
        masked = with_masked_words(student, batch)
        ours, theirs = pair.run(masked)
        hidden = pair.inside_student.hidden_BSD[-1], pair.inside_teacher.hidden_BSD[-1]
    is_token, is_word = batch.mask != 0, masked.labels != -100
    soft = functional.kl_div((ours.logits[is_token] / 2).log_softmax(-1), (theirs.logits[is_token] / 2).softmax(-1), reduction="batchmean")
    words = functional.cross_entropy(ours.logits[is_word], masked.labels[is_word])
    directions = functional.cosine_embedding_loss(hidden[0][is_token], hidden[1][is_token], torch.ones(int(is_token.sum())))
    torch.testing.assert_close(7 * found, 5.0 * 4 * soft + 2.0 * words + 1.0 * directions)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_a_masked_language_model_learns(alpha: float, tmp_path: Path) -> None:
    teacher = tiny(tmp_path, task="fill-mask", num_hidden_layers=4)
    job = Job(checkpoint=student_of(teacher), teacher=teacher, texts=["rain per sea", "the end of sea"] * 8, training=TRAINING)
    assert distill(job, DistillOptions(loss="distilbert", alpha=alpha)).facts["steps"] == 8


def test_a_killed_run_masks_the_same_words(tmp_path: Path) -> None:
    """What is drawn in a step comes from the number of the step: a run that goes on ends with the same weights."""
    teacher = tiny(tmp_path / "model", task="fill-mask", num_hidden_layers=4)
    texts, training = ["rain per sea at the end"] * 12, TrainingConfig(epochs=2, batch_size=4, save_every=1)

    def run(folder: str, kill_at: int | None = None) -> dict[str, torch.Tensor]:
        def on_step(_what: str, done: int, _total: int) -> None:
            if done == kill_at:
                raise KeyboardInterrupt

        student = student_of(teacher)
        job = Job(checkpoint=student, teacher=teacher, texts=texts, training=training, state=tmp_path / folder, on_step=on_step)
        distill(job, DistillOptions(loss="distilbert", alpha=0.5))
        return state(student)

    expected = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("killed", kill_at=4)
    resumed = run("killed")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in expected.items())


def test_augmented_texts_have_no_labels(tmp_path: Path) -> None:
    teacher = tiny(tmp_path / "teacher", num_hidden_layers=4)
    job = Job(checkpoint=teacher, labelled=classified(5), texts=["the red rain and the sea per rain"])
    plain, more = _items(job, DistillOptions()), _items(job, DistillOptions(augment=6))
    assert [item.ids for item in more[: len(plain)]] == [item.ids for item in plain]
    assert len(plain) < len(more) <= 7 * len(plain) and all(item.label is None for item in more[5:])
    mask = teacher.tokenizer.fast.mask_token_id
    assert any(mask in item.ids[0] for item in more)
    tiny(tmp_path / "guesser", task="fill-mask")
    guessed = _items(job, DistillOptions(augment=6, augment_model=tmp_path / "guesser"))
    assert len(plain) < len(guessed) and not any(mask in item.ids[0] for item in guessed)


@pytest.mark.parametrize(("num_labels", "score", "is_good"), [(2, 54.0, False), (2, 66.0, True), (3, 39.0, False), (3, 45.0, True)])
def test_how_much_better_than_chance_a_teacher_must_be(num_labels: int, score: float, is_good: bool, tmp_path: Path) -> None:
    names = ("negative", "neutral", "positive")[:num_labels]
    options = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    teacher = tiny(tmp_path, **options)
    with nullcontext() if is_good else pytest.raises(TrainingError, match="not better than chance"):
        check_better_than_chance(Job(checkpoint=teacher, evaluate=lambda _model: score), teacher)


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
    teacher.model.config.problem_type = "multi_label_classification"
    with pytest.raises(InputError, match="problem_type is single_label_classification and the teacher's multi_label_classification, so"):
        distill(Job(checkpoint=student, teacher=teacher, labelled=classified(8)), DistillOptions())


def test_no_embedding_to_learn(tmp_path: Path) -> None:
    teacher = tiny(tmp_path, num_hidden_layers=4)
    with pytest.raises(UnsupportedError, match="Loss hidden is of models that give embeddings, and this is one for text-classification"):
        distill(Job(checkpoint=student_of(teacher), teacher=teacher, labelled=classified(8)), DistillOptions(loss="hidden"))


def test_heads_that_cannot_be_compared(tmp_path: Path) -> None:
    teacher = tiny(tmp_path, num_hidden_layers=4)
    student = student_of(teacher)
    with quiet():
        pruned = student.with_model(slice_model(student.model, student.task, heads=[[0, 1], [0, 1, 2]]))
    job = Job(checkpoint=pruned, teacher=teacher, labelled=classified(8))
    with pytest.raises(UnsupportedError, match=r"layer 0 of the student has 2 heads and layer 1 of the teacher 3. Use loss minilm"):
        distill(job, DistillOptions(loss="tinybert"))


def test_heads_that_share_keys(tmp_path: Path) -> None:
    teacher = tiny(tmp_path, num_hidden_layers=4, num_attention_heads=4)
    student = student_of(teacher)
    with quiet():
        shared = student.with_model(grouped_model(student.model, student.task, 1))
    job = Job(checkpoint=shared, teacher=teacher, labelled=classified(8), training=TRAINING)
    with pytest.raises(UnsupportedError, match=r"tinybert compares the scores of each head, and these heads share keys"):
        distill(job, DistillOptions(loss="tinybert"))
    with pytest.raises(InputError, match="The 12 columns of the student's last keys do not divide into 8 relation heads"):
        distill(job, DistillOptions(loss="minilm", relation_heads=8))
    assert distill(job, DistillOptions(loss="minilm", relation_heads=4)).facts["steps"] == 4


def test_several_labels_a_text_at_a_temperature(tmp_path: Path) -> None:
    """T^2 times the binary cross-entropy of logits / T, so that the size of the gradient stays."""
    options = NO_DROPOUT | {"problem_type": "multi_label_classification"}
    teacher, other = (tiny(tmp_path / name, seed=seed, **options) for seed, name in enumerate("ab"))
    student, texts = teacher.with_model(other.model), [example.text for example in classified(12)]
    batch = collate(teacher, encode_texts(teacher, texts))
    with torch.no_grad():
        ours, theirs = (checkpoint.model(**batch.inputs).logits / 3 for checkpoint in (student, teacher))
    share = theirs.sigmoid()
    expected = -9 * (share * ours.sigmoid().log() + (1 - share) * (1 - ours.sigmoid()).log()).mean()
    job = Job(checkpoint=student, teacher=teacher, texts=texts, training=ONE_STEP)
    assert distill(job, DistillOptions(temperature=3.0)).facts["last_loss"] == pytest.approx(float(expected), rel=1e-4)
