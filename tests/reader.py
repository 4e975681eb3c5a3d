"""What a reader of the pages has: models, an ONNX file and its tokenizer, texts, labelled examples, packages of earlier pages."""

import contextlib
import io
import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import transformers

from tests.compress.models import tagged
from tests.embed.rows import make_rows, write_rows
from tests.models import LABELS, make_checkpoint
from tests.predictor.packages import make_task_package
from tests.sources import make_source
from tests.tiny_tokenizers import SENTENCES
from trtbert import cli

MADE = (
    "trtbert compress model/ -o small --method depth --num-layers 1",
    "trtbert compile my-model/ -o my-package --dump graphs",
    "trtbert compile my-model/ -o int8 --precision int8 --runtime onnxruntime --calibration-data texts.txt",
)


def make_world(folder: Path) -> None:
    """`model` and `teacher` are the same, and right about all but a text of `train.csv`, `dev.csv`: a teacher that guesses is refused."""
    make_checkpoint(folder / "my-model", "bert", task="text-classification")
    make_checkpoint(folder / "encoder", "bert")
    make_checkpoint(folder / "tagger", "bert", task="token-classification")
    make_checkpoint(folder / "model", "bert", task="text-classification", num_hidden_layers=6, intermediate_size=128)
    shutil.copytree(folder / "model", folder / "teacher")
    (folder / "unknown").mkdir()
    (folder / "unknown/config.json").write_text('{"model_type": "nystromformer", "architectures": ["NystromformerModel"]}')
    file, _ = make_source(folder)
    shutil.copyfile(file, folder / "model.onnx")
    _with_odd_summand(folder / "model.onnx", folder / "odd.onnx")
    _write_data(folder)
    make_task_package(folder, "sentence-similarity", "my-embedder")
    make_task_package(folder, "text-classification", "my-classifier")
    make_task_package(folder, "text-ranking", "my-ranker")
    with contextlib.chdir(folder):
        for command in MADE:
            assert run_command(shlex.split(command)[1:])[0] == 0


def run_command(arguments: Sequence[str]) -> tuple[int, str]:
    """The exit code of `trtbert`, and what it prints on both streams."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = cli.main(arguments)
    return code, printed.getvalue()


def _write_data(folder: Path) -> None:
    words = [word for sentence in SENTENCES for word in sentence.split()]
    texts = [" ".join(words[index : index + 3 + index % 12]) for index in range(100)]
    for name in ("texts.txt", "corpus.txt"):
        (folder / name).write_text("\n".join(texts))
    labels = LABELS["text-classification"]
    _write_labelled(folder / "test.csv", texts, [labels[index % len(labels)] for index in range(len(texts))])
    model = transformers.pipeline("text-classification", str(folder / "model"), device="cpu")
    answers = [answer["label"] for answer in model(texts)]
    answers[0] = next(label for label in labels if label != answers[1])  # a new head needs two classes, and the model may answer one alone
    _write_labelled(folder / "train.csv", texts, answers)
    _write_labelled(folder / "dev.csv", texts, answers)
    sentences = ("\n".join(map(" ".join, zip(example.tokens, example.label, strict=True))) for example in tagged(12))
    (folder / "train.conll").write_text("\n\n".join(sentences))
    write_rows(folder / "reviews.parquet", [{"review": text} for text in texts])
    for day in (1, 2):
        write_rows(folder / f"day-{day}.jsonl", make_rows(20))


def _write_labelled(path: Path, texts: Sequence[str], labels: Sequence[str]) -> None:
    path.write_text("text,label\n" + "".join(f"{json.dumps(text)},{label}\n" for text, label in zip(texts, labels, strict=True)))


def _with_odd_summand(source: Path, output: Path) -> None:
    """The file with a number for each head added to the scores of its last layer: neither mask nor position bias."""
    model = onnx.load(source)
    softmax = [node for node in model.graph.node if node.op_type == "Softmax"][-1]
    heads = onnx.numpy_helper.from_array(np.arange(1, 3, dtype=np.float32).reshape(1, -1, 1, 1), "odd_summand")
    model.graph.initializer.append(heads)
    summed = onnx.helper.make_node("Add", [softmax.input[0], "odd_summand"], ["odd_scores"], name="odd_sum")
    model.graph.node.insert(list(model.graph.node).index(softmax), summed)
    softmax.input[0] = "odd_scores"
    onnx.save(model, output)
