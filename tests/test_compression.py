"""`trtbert compress`: steps, what is written, what a killed run leaves, and what is refused."""

import dataclasses
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from tests.compress.models import classified, tagged
from tests.models import make_checkpoint
from trtbert.checkpoint.quiet import quiet
from trtbert.checkpoint.read import read_checkpoint
from trtbert.cli import main
from trtbert.compress import METHODS
from trtbert.compress.layers import encoder_layers
from trtbert.compression import FACTS, compress
from trtbert.config import CompileConfig, CompressConfig
from trtbert.errors import ConfigError, InputError, UnsupportedError
from trtbert.package import open_package
from trtbert.pipeline import compile
from trtbert.predictor import load

TRAINING = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "save_every": 2}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "model", "bert", task="text-classification", num_hidden_layers=4)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.csv"
    path.write_text("text,label\n" + "".join(f"{example.text},{example.label[0]}\n" for example in classified(24)), encoding="utf-8")
    return path


def config(*steps: dict[str, Any], **options: Any) -> CompressConfig:
    return CompressConfig(steps=[{"training": TRAINING, **step} for step in steps], **options)


def test_steps_follow_each_other(model: Path, data: Path, tmp_path: Path) -> None:
    """Half of the layers, two thirds of the heads and half of the neurons, then the answers of the whole model; compiled, it answers."""
    learnt = {"method": "finetune", "training": TRAINING | {"epochs": 20, "learning_rate": 3e-3}}
    compress(model, tmp_path / "teacher", config(learnt, data=data))
    smaller = ({"method": "depth", "num_layers": 2}, {"method": "heads", "sparsity": 0.34}, {"method": "ffn", "multiple_of": 8})
    steps = (*smaller, {"method": "distill"})
    done = compress(tmp_path / "teacher", tmp_path / "small", config(*steps, data=data, eval_data=data))
    facts = json.loads((tmp_path / "small" / FACTS).read_text(encoding="utf-8"))
    assert facts == done.facts and [step["method"] for step in facts["steps"]] == ["depth", "heads", "ffn", "distill"]
    assert facts["after"]["parameters"] < facts["before"]["parameters"] and facts["after"]["macs"] < 0.4 * facts["before"]["macs"]
    assert 0 <= facts["after"]["accuracy"] <= 100 and facts["after"]["layers"] == 2
    with quiet():
        layers = encoder_layers(read_checkpoint(tmp_path / "small").model)
    assert sum(layer.num_heads for layer in layers) == 4 and sum(layer.width for layer in layers) == 80
    compile(tmp_path / "small", tmp_path / "package")
    assert load(tmp_path / "package").predict(["red cat"])[0]["label"] in ("negative", "neutral", "positive")
    assert not list(tmp_path.glob(".*")), "nothing is left beside the output"


def test_a_bare_encoder_gets_the_head_of_its_data(data: Path, tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "encoder", "bert", task="sentence-similarity")
    done = compress(model, tmp_path / "tuned", config({"method": "finetune"}, task="text-classification", data=data, eval_data=data))
    assert done.facts["after"]["accuracy"] > 30
    with quiet():
        tuned = read_checkpoint(tmp_path / "tuned")
    assert tuned.task == "text-classification" and tuned.labels == ("negative", "neutral", "positive")


def test_tags(tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "encoder", "bert")
    lines = [f"{token} {tag}" for example in tagged(12) for token, tag in [*zip(example.tokens, example.label, strict=True), ("", "")]]
    (tmp_path / "tags.conll").write_text("\n".join(lines).replace("\n \n", "\n\n"), encoding="utf-8")
    step = config({"method": "finetune"}, task="token-classification", data=tmp_path / "tags.conll", eval_data=tmp_path / "tags.conll")
    done = compress(model, tmp_path / "tuned", step)
    assert "seqeval-f1" in done.facts["after"]


def test_killing_it_changes_nothing(model: Path, data: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of training: nothing is half written, and the same command gives the same weights."""
    arguments = [
        "--method",
        "finetune",
        "--data",
        str(data),
        "--epochs",
        "15",
        "--batch-size",
        "4",
        "--learning-rate",
        "1e-3",
        "--save-every",
        "5",
    ]
    whole = tmp_path / "whole"
    assert main(["compress", str(model), "-o", str(whole), *arguments]) == 0
    command = [sys.executable, "-m", "trtbert", "compress", str(model), "-o", str(tmp_path / "killed"), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = tmp_path / ".killed.training" / "1-finetune" / "finetune" / "state.safetensors"
    deadline = time.monotonic() + 60
    while not state.is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert state.is_file() and not (tmp_path / "killed").exists(), "it was not killed in time"
    assert main(["compress", str(model), "-o", str(tmp_path / "killed"), *arguments]) == 0
    with quiet():
        first, second = (read_checkpoint(folder).model.state_dict() for folder in (whole, tmp_path / "killed"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert not list(tmp_path.glob(".killed*"))


def test_the_state_of_another_run(model: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / ".small.training").mkdir()
    (tmp_path / ".small.training" / "run.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"holds the state of a run with other options, other data or another model. Remove it"):
        compress(model, tmp_path / "small", config({"method": "finetune"}, data=data))


def stop(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@contextmanager
def killed_in(method: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setitem(METHODS, method, dataclasses.replace(METHODS[method], run=stop))
        yield


@pytest.mark.parametrize("changed", ["mine.csv", "topic.csv"])
def test_the_state_of_a_run_on_other_contents(changed: str, model: Path, data: Path, tmp_path: Path) -> None:
    """The file has its name, but not its texts any more."""
    for name in ("mine.csv", "topic.csv"):
        shutil.copyfile(data, tmp_path / name)
    steps = ({"method": "heads", "sparsity": 0.3}, {"method": "finetune", "auxiliary": [tmp_path / "topic.csv"]})
    chosen = config(*steps, data=tmp_path / "mine.csv")
    with killed_in("finetune"):
        compress(model, tmp_path / "small", chosen)
    assert (tmp_path / ".small.training" / "1-heads" / "finished").is_dir()
    (tmp_path / changed).write_text(data.read_text(encoding="utf-8").replace("red", "blue", 1), encoding="utf-8")
    with pytest.raises(InputError, match="other data"):
        compress(model, tmp_path / "small", chosen)
    shutil.copyfile(data, tmp_path / changed)
    compress(model, tmp_path / "small", chosen)
    assert not list(tmp_path.glob(".small*"))


def test_the_state_of_a_run_with_another_model_that_guesses_words(model: Path, data: Path, tmp_path: Path) -> None:
    guesser = make_checkpoint(tmp_path / "guesser", "bert", task="fill-mask")
    chosen = config({"method": "depth", "num_layers": 2}, {"method": "distill", "augment": 1, "augment_model": guesser}, data=data)
    with killed_in("distill"):
        compress(model, tmp_path / "small", chosen)
    shutil.copyfile(model / "model.safetensors", guesser / "model.safetensors")
    with pytest.raises(InputError, match="other data"):
        compress(model, tmp_path / "small", chosen)


def test_a_run_that_was_killed_writes_the_same_files(model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two steps, and after the last one."""
    chosen = config({"method": "student"}, {"method": "vocabulary"}, data=data)
    compress(model, tmp_path / "whole", chosen)
    with killed_in("vocabulary"):
        compress(model, tmp_path / "killed", chosen)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("trtbert.compression._facts", stop)
        compress(model, tmp_path / "killed", chosen)
    assert (tmp_path / ".killed.training" / "2-vocabulary" / "finished").is_dir()
    compress(model, tmp_path / "killed", chosen)
    whole, killed = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "killed"))
    assert killed == whole


def test_killed_while_compiling(model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is there, and the same call goes on with compiling it."""
    small, chosen = tmp_path / "small", config({"method": "depth", "num_layers": 2}, data=data, compile=CompileConfig())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("trtbert.compression.compile", stop)
        compress(model, small, chosen)
    written = (small / FACTS).stat().st_mtime_ns
    with pytest.raises(InputError, match="with other options"):
        compress(model, small, config({"method": "depth", "num_layers": 1}, data=data, compile=CompileConfig()))
    done = compress(model, small, chosen)
    assert (small / FACTS).stat().st_mtime_ns == written and done.facts == json.loads((small / FACTS).read_text(encoding="utf-8"))
    assert done.package is not None and (tmp_path / "small.package" / "manifest.json").is_file()
    assert not list(tmp_path.glob(".small*"))


def test_a_recipe(model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[training]\nepochs = 1\nbatch_size = 8\n\n[[step]]\nmethod = "depth"\nnum_layers = 2\n\n'
        '[[step]]\nmethod = "distill"\ntemperature = 2.0\ntraining = {epochs = 2}\n',
        encoding="utf-8",
    )
    assert main(["compress", str(model), "-o", str(tmp_path / "small"), "--recipe", str(recipe), "--data", str(data)]) == 0
    steps = json.loads((tmp_path / "small" / FACTS).read_text(encoding="utf-8"))["steps"]
    assert steps[0]["training"]["epochs"] == 1 and steps[1]["training"]["epochs"] == 2 and steps[1]["training"]["batch_size"] == 8
    printed = capsys.readouterr().out
    assert "parameters" in printed and "macs" in printed and "->" in printed


def test_a_recipe_that_compiles(model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{'the ' * index}{example.text},{example.label[0]}\n" for index, example in enumerate(classified(30))]
    data.write_text("text,label\n" + "".join(rows), encoding="utf-8")
    recipe, small, package = tmp_path / "recipe.toml", tmp_path / "small", tmp_path / "small.package"
    recipe.write_text(
        '[training]\nepochs = 1\nbatch_size = 8\n\n[[step]]\nmethod = "ffn"\n\n[[step]]\nmethod = "finetune"\n\n'
        '[compile]\nprecision = "int8"\nruntime = "onnxruntime"\ncalibration_size = 16\n',
        encoding="utf-8",
    )
    arguments = ["compress", str(model), "-o", str(small), "--recipe", str(recipe), "--data", str(data), "--batch-size", "5"]
    package.mkdir()
    (package / "mine.txt").write_text("", encoding="utf-8")
    assert main(arguments) == 2
    assert f"{package} exists already" in capsys.readouterr().err and not small.exists()
    shutil.rmtree(package)
    assert main(arguments) == 0
    assert f"wrote {package}" in capsys.readouterr().out
    quantization = open_package(package).manifest.quantization
    assert quantization is not None and Path(quantization.texts).name == data.name
    steps = json.loads((small / FACTS).read_text(encoding="utf-8"))["steps"]
    assert steps[1]["training"]["batch_size"] == 5 and steps[1]["training"]["epochs"] == 1


def test_what_cannot_be_compiled_is_still_compressed(model: Path, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("text,label\nHello there.,of another model\n", encoding="utf-8")
    how = CompileConfig(max_drop=0, precision="int8", eval_data=other)
    with pytest.raises(InputError, match=r"The compressed model itself is in .*small: .*trtbert compile .*small -o .*small.package"):
        compress(model, tmp_path / "small", config({"method": "ffn"}, data=data, compile=how))
    assert [path.name for path in tmp_path.glob("*small*")] == ["small"] and (tmp_path / "small" / FACTS).is_file()


@pytest.mark.parametrize("content", ["step = 1", '[[step]]\nmethod = "ffn"\ntraining = 1', 'compile = 1\n[[step]]\nmethod = "ffn"'])
def test_a_recipe_that_is_none(content: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.toml").write_text(content, encoding="utf-8")
    assert main(["compress", str(model), "-o", str(tmp_path / "small"), "--recipe", str(tmp_path / "recipe.toml")]) == 2
    assert "must hold one or more [[step]] tables" in capsys.readouterr().err


RECIPE = """
dat = "x.csv"
[training]
epochs = 2
[[step]]
method = "heads"
[[step]]
methods = "finetune"
[step.training]
epochs = 0
epoch = 1
[compile]
max_drop = 1
"""


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (
            RECIPE,
            (
                "recipe.toml is wrong:",
                "  step 2, method: Field required",
                "  step 2, training.epochs: Input should be greater than 0 (got 0)",
                "  step 2, training.epoch: there is no such option",
                "  compile: max_drop only matter for INT8, and precision is auto; add precision int8",
                "  dat: there is no such option; choose from step, task, data, ",
            ),
        ),
        (
            '[training]\nseed = "x"\n[[step]]\nmethod = "heads"',
            ("The table [training] of ", "  seed: Input should be a valid integer, unable to parse string as an integer (got 'x')"),
        ),
        ('[[step]]\nmethod = "heads"\nsparsity = 2', ("Step 1 (heads) is wrong:", "  sparsity: Input should be less than 1 (got 2)")),
    ],
    ids=["all over", "shared", "of the method"],
)
def test_what_is_wrong_in_a_recipe(content: str, lines: Sequence[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the step and the keys of the file."""
    (tmp_path / "recipe.toml").write_text(content, encoding="utf-8")
    assert main(["compress", str(tmp_path), "-o", str(tmp_path / "small"), "--recipe", str(tmp_path / "recipe.toml")]) == 2
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == len(lines) and all(words in line for words, line in zip(lines, shown, strict=True)), shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "depth", "--layers", "0,1"], "give --num-layers, or with --strategy list the --layers themselves"),
        (["--method", "magnitude", "--pattern", "2:4", "--embeddings"], "leave --embeddings out"),
        (["--method", "budget"], "give --target-macs or --target-latency, one of them"),
        (["--method", "distill", "--augment-model", "m"], "--augment-model guesses words for --augment"),
        (["--method", "l0", "--gates", "heads,neuron"], "--gates: Input should be 'heads', 'neurons' or 'layers' (got 'neuron')"),
        (["--search", "--tokens", "1"], "--tokens: Input should be greater than or equal to 2 (got 1)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_options_are_named_by_their_flags(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compress", str(tmp_path), "-o", str(tmp_path / "small"), *arguments]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: The command line is wrong:\n  ") and message in shown


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_own_flags(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compress", "--method", method, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')}" in shown for name in METHODS[method].options.model_fields)
    assert ("--learning-rate" in shown) == METHODS[method].is_trained


def test_a_method_that_there_is_not(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", str(model), "-o", str(tmp_path / "x"), "--method", "magic"]) == 2
    assert "There is no compression method 'magic'; choose one of:" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="choose one of heads"):
        compress(model, tmp_path / "x", config({"method": "magic"}))


@pytest.mark.parametrize("sparsity", ["0", "1", "-1"])
def test_nothing_or_everything(model: Path, data: Path, sparsity: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compress", str(model), "-o", str(tmp_path / "x"), "--method", "heads", "--sparsity", sparsity, "--data", str(data)]
    assert main(arguments) == 2
    assert "  --sparsity: Input should be" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_labels_that_the_model_has_not(model: Path, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,label\nred,angry\n", encoding="utf-8")
    with pytest.raises(InputError, match="the model has no label 'angry'"):
        compress(model, tmp_path / "x", config({"method": "finetune"}, data=tmp_path / "data.csv"))
    assert not (tmp_path / "x").exists()


def test_options_of_another_method(model: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"Step 1 \(heads\) is wrong:\n  num_layers: there is no such option; choose from sparsity, steps, "
    ):
        compress(model, tmp_path / "x", config({"method": "heads", "num_layers": 2}))


def test_an_output_that_is_there(model: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    for force in (False, True):
        with pytest.raises(InputError, match=r"exists already|so --force does not replace it"):
            compress(model, tmp_path / "mine", config({"method": "finetune"}, data=data), force=force)
    assert (tmp_path / "mine" / "file").is_file()


@pytest.mark.parametrize("output", [".", "/"])
def test_an_output_without_a_name(output: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compress", str(model), "-o", output, "--method", "depth", "--num-layers", "2"]) == 2
    assert capsys.readouterr().err == f"error: {output} cannot be the output; give a folder name.\n"


def test_an_error_before_training_leaves_no_state(model: Path, data: Path, tmp_path: Path) -> None:
    """Else the command with the right option would be refused for the state of the wrong one."""
    with pytest.raises(InputError, match="at most 8 can go"):
        compress(model, tmp_path / "small", config({"method": "heads", "sparsity": 0.9}, data=data))
    compress(model, tmp_path / "small", config({"method": "heads", "sparsity": 0.3}, data=data))
    assert not list(tmp_path.glob(".*"))


LATE = """
import os, sys, time
import trtbert.compression
from trtbert.cli import main
time.sleep(3 * int(os.environ["RANK"]))
sys.exit(main(sys.argv[1:]))
"""


def test_two_processes_write_one_output(model: Path, data: Path, tmp_path: Path) -> None:
    """Started as torchrun starts them; the second writes nothing, and is late: the first has done the step that trains nothing by then."""
    (tmp_path / "late.py").write_text(LATE, encoding="utf-8")
    (tmp_path / "recipe.toml").write_text(
        '[training]\nepochs = 2\n\n[[step]]\nmethod = "depth"\nnum_layers = 2\n\n[[step]]\nmethod = "finetune"\n', encoding="utf-8"
    )
    arguments = ["compress", model, "-o", tmp_path / "small", "--recipe", tmp_path / "recipe.toml", "--data", data, "--eval-data", data]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", tmp_path / "late.py"]
    done = subprocess.run([*launcher, *arguments], capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    with quiet():
        assert read_checkpoint(tmp_path / "small").labels == ("negative", "neutral", "positive")
    assert not list(tmp_path.glob(".*"))


def test_a_trained_head_is_not_thrown_away(model: Path, tmp_path: Path) -> None:
    """One label that is misspelt does not make a new head."""
    (tmp_path / "data.csv").write_text("text,label\nred,negative\nblue,postive\n", encoding="utf-8")
    with pytest.raises(InputError, match="the model has no label 'postive'"):
        compress(model, tmp_path / "x", config({"method": "finetune"}, task="text-classification", data=tmp_path / "data.csv"))


def test_labels_without_an_example(model: Path, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,label\n" + "red,negative\ngreen,positive\n" * 8, encoding="utf-8")
    done = compress(model, tmp_path / "x", config({"method": "finetune"}, data=tmp_path / "data.csv"))
    assert done.facts["steps"][0]["notes"] == ["1 of 3 labels have no example: neutral"]


def test_numbers(tmp_path: Path) -> None:
    """Regression, as one label alone says it: the length of a text is learnt; what counts is the order of the texts."""
    options = {"id2label": {0: "length"}, "label2id": {"length": 0}}
    model = make_checkpoint(tmp_path / "model", "bert", task="text-classification", **options)
    rows = "".join(f"red{' cat' * (index % 5)},{(index % 5) / 4}\n" for index in range(40))
    (tmp_path / "data.csv").write_text("text,score\n" + rows, encoding="utf-8")
    step = {"method": "finetune", "training": TRAINING | {"epochs": 30, "learning_rate": 3e-3, "patience": 30}}
    done = compress(model, tmp_path / "tuned", config(step, data=tmp_path / "data.csv", eval_data=tmp_path / "data.csv"))
    assert done.facts["steps"][0]["last_loss"] < 0.05 and done.facts["after"]["spearman"] > 90
    assert json.loads((tmp_path / "tuned" / "config.json").read_text(encoding="utf-8"))["problem_type"] == "regression"
    how = CompileConfig(precision="int8", runtime="onnxruntime", eval_data=tmp_path / "data.csv", max_drop=5.0)
    quantization = compile(tmp_path / "tuned", tmp_path / "package", how).manifest.quantization
    assert quantization is not None and quantization.budget is not None and quantization.budget.metric == "spearman"
    with pytest.raises(ConfigError, match="numbers have spearman"):
        compress(model, tmp_path / "x", config(step, data=tmp_path / "data.csv", eval_data=tmp_path / "data.csv", metric="accuracy"))


@pytest.mark.parametrize("task", ["question-answering", "sentence-similarity", "text-ranking", "several labels"])
def test_other_tasks(task: str, tmp_path: Path) -> None:
    """Each by the file that a user has of it; the loss falls."""
    rows = {
        "sentence-similarity": ["red cat", "blue", "0.9"],
        "text-ranking": ["red?", "the red cat", "1"],
    }
    options: dict[str, Any] = {"problem_type": "multi_label_classification"} if task == "several labels" else {}
    named: Any = "text-classification" if task == "several labels" else task
    model = make_checkpoint(tmp_path / "model", "bert", task=named, **options)
    if task == "question-answering":
        data = tmp_path / "data.jsonl"
        row = {"question": "who?", "context": "the red cat sleeps", "answers": ["red cat"]}
        data.write_text((json.dumps(row) + "\n") * 16, encoding="utf-8")
    elif task == "several labels":
        data = tmp_path / "data.jsonl"
        data.write_text((json.dumps({"text": "red", "labels": ["negative", "positive"]}) + "\n") * 16, encoding="utf-8")
    else:
        data = tmp_path / "data.csv"
        header = {"sentence-similarity": "sentence1,sentence2,score", "text-ranking": "query,document,relevance"}[task]
        data.write_text(header + "\n" + (",".join(rows[task]) + "\n") * 16, encoding="utf-8")
    step = {"method": "finetune", "training": TRAINING | {"epochs": 20, "learning_rate": 3e-3}}
    done = compress(model, tmp_path / "tuned", config(step, task=named, data=data))
    assert done.facts["steps"][0]["last_loss"] < 0.2


def test_help_names_the_methods(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["compress", "--help"])
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown and method.summary in shown for name, method in METHODS.items())


@pytest.mark.parametrize("methods", [("depth", "distill"), ("depth", "distill", "student"), ("l0",), ("replace",)])
def test_no_more_than_two_models_in_memory(methods: tuple[str, ...], model: Path, data: Path, tmp_path: Path) -> None:
    """Counted while a step of training goes on; a model without weights is none."""
    counts: list[int] = []

    def count(what: str, _done: int, _total: int | None) -> None:
        models = [found for found in gc.get_objects() if issubclass(type(found), transformers.PreTrainedModel)]
        inside = {id(part) for found in models for part in found.modules() if part is not found}
        counts.append(sum(id(found) not in inside and not next(found.parameters()).is_meta for found in models))

    options: dict[str, dict[str, Any]] = {"depth": {"num_layers": 2}}
    gc.collect()
    count("before", 0, None)
    steps = [{"method": method, **options.get(method, {})} for method in methods]
    compress(model, tmp_path / "small", config(*steps, data=data), on_progress=count)
    assert len(counts) > 6 and max(counts[1:]) - counts[0] <= 2


def test_the_model_itself_is_no_output(model: Path, data: Path) -> None:
    with pytest.raises(InputError, match="is the model itself"):
        compress(model, model, config({"method": "heads"}, data=data), force=True)


def test_a_teacher_of_a_method_that_has_none(model: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="A teacher is given, and heads, ffn learns from none"):
        compress(model, tmp_path / "x", config({"method": "heads"}, {"method": "ffn"}, data=data, teacher=model))


def test_a_family_whose_layers_are_not_known(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What needs no layer works all the same; MACs are not told."""
    model = make_checkpoint(tmp_path / "deberta", "deberta-v2", task="text-classification")
    arguments = ["compress", str(model), "-o", str(tmp_path / "tuned"), "--method", "finetune", "--epochs", "1", "--data", str(data)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "parameters" in printed and "macs" not in printed


def test_the_package_has_the_task_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of one label may be a classifier or a ranker: what --task says holds for the [compile] table too."""
    seen: list[CompileConfig] = []

    def remembered(_model: Path, _package: Path, chosen: CompileConfig, **_options: Any) -> None:
        seen.append(chosen)

    monkeypatch.setattr("trtbert.compression.compile", remembered)
    model = make_checkpoint(tmp_path / "ranker", "bert", task="text-ranking", num_hidden_layers=2)
    rows = "".join(f"red?,the red cat {index},{index % 2}\n" for index in range(8))
    (tmp_path / "data.csv").write_text("query,document,relevance\n" + rows, encoding="utf-8")
    run = config({"method": "ffn"}, data=tmp_path / "data.csv", task="text-ranking", compile=CompileConfig(precision="int8"))
    compress(model, tmp_path / "small", run)
    assert [(chosen.task, chosen.calibration_data) for chosen in seen] == [("text-ranking", tmp_path / "data.csv")]


def test_what_cannot_be_compiled_is_said_before_any_work(model: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="sm70"):
        compress(model, tmp_path / "small", config({"method": "ffn"}, data=data, compile=CompileConfig(target="sm70", precision="int8")))
    assert not list(tmp_path.glob("*small*"))


def test_a_method_and_a_recipe(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["compress", str(model), "-o", str(tmp_path / "x"), "--recipe", "r.toml", "--method", "heads"])
    assert ended.value.code == 2 and "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--learning-rate", "inf"), "--learning-rate: Input should be a finite number (got inf)"),
        (("--learning-rate", "1e38"), "--learning-rate: Input should be less than or equal to 10 (got 1e+38)"),
        (("--weight-decay", "nan"), "--weight-decay: Input should be a finite number (got nan)"),
    ],
)
def test_numbers_that_are_none(
    options: tuple[str, str], message: str, model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compress", str(model), "-o", str(tmp_path / "x"), "--method", "finetune", "--data", str(data), *options]
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"error: The command line is wrong:\n  {message}\n"


STUDENT, GQA = {"method": "student"}, {"method": "replace", "successor": "gqa"}


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((STUDENT, {"method": "ffn"}), "ffn cannot follow on student, which leaves no transformer layers. Put it before"),
        ((GQA, {"method": "finetune"}, {"method": "heads"}), "heads cannot follow on replace with gqa"),
        (
            ({"method": "vocabulary"}, {"method": "distill"}),
            "distill cannot follow on vocabulary, for the teacher, which is the model as it",
        ),
    ],
)
def test_steps_that_cannot_follow_each_other(
    steps: tuple[dict[str, Any], ...], message: str, model: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        compress(model, tmp_path / "x", config(*steps, data=data))
    assert not list(tmp_path.glob(".*"))


def test_the_teacher_of_a_new_head_is_the_finetuned_model(data: Path, tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "encoder", "bert", task="sentence-similarity", num_hidden_layers=4)
    learn = {"method": "distill", "training": TRAINING | {"epochs": 6}}
    chosen = {"task": "text-classification", "data": data, "eval_data": data}
    with pytest.raises(
        ConfigError, match="no head for text-classification, so there is nothing that distill could learn from: put finetune"
    ):
        compress(model, tmp_path / "small", config({"method": "depth", "num_layers": 2}, learn, **chosen))
    teach = {"method": "finetune", "training": TRAINING | {"epochs": 12, "learning_rate": 3e-3}}
    done = compress(model, tmp_path / "small", config(teach, {"method": "depth", "num_layers": 2}, learn, **chosen))
    assert done.facts["after"]["accuracy"] > 60 and done.facts["after"]["layers"] == 2


def test_the_column_of_texts_names_the_labels_of_a_new_head_too(data: Path, tmp_path: Path) -> None:
    data.write_text(data.read_text(encoding="utf-8").replace("text,label", "body,label"), encoding="utf-8")
    model = make_checkpoint(tmp_path / "encoder", "bert", task="sentence-similarity")
    compress(model, tmp_path / "tuned", config({"method": "finetune"}, task="text-classification", data=data, text_column="body"))
    with quiet():
        assert len(read_checkpoint(tmp_path / "tuned").labels) == 3


def test_a_folder_that_is_no_model_with_a_task(data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    data.write_text("body,label\nred,x\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"config\.json"):
        compress(tmp_path / "empty", tmp_path / "x", config({"method": "finetune"}, task="text-classification", data=data))


def test_two_runs_into_one_output(model: Path, data: Path, tmp_path: Path) -> None:
    """The second is refused while the first works, and leaves it alone."""
    messages = []

    def again(*_: Any) -> None:
        if not messages:
            with pytest.raises(InputError) as raised:
                compress(model, tmp_path / "tuned", config({"method": "finetune"}, data=data))
            messages.append(str(raised.value))

    compress(model, tmp_path / "tuned", config({"method": "finetune"}, data=data), on_progress=again)
    assert messages == [f"Another process compresses into {tmp_path / 'tuned'} now. Wait for it, or choose another output."]
    assert (tmp_path / "tuned" / FACTS).is_file() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("kind", ["bilstm", "cnn-bilstm"])
def test_methods_on_a_student(kind: str, model: Path, data: Path, tmp_path: Path) -> None:
    compress(model, tmp_path / "student", config({"method": "student", "kind": kind}, data=data))
    compress(tmp_path / "student", tmp_path / "cut", config({"method": "vocabulary"}, data=data))
    compile(tmp_path / "student", tmp_path / "whole.package")
    compile(tmp_path / "cut", tmp_path / "cut.package")
    whole, cut = (load(tmp_path / f"{name}.package").predict(["the cat red"])[0] for name in ("whole", "cut"))
    assert whole["label"] == cut["label"] and whole["score"] == pytest.approx(cut["score"], abs=1e-5)
    for step in ({"method": "depth", "num_layers": 1}, {"method": "ffn"}):
        with pytest.raises(UnsupportedError, match=r"A student has no transformer layers|'trtbert-student' cannot be compressed by parts"):
            compress(tmp_path / "student", tmp_path / "x", config(step, data=data))
