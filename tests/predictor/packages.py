"""A checkpoint folder and a task -> a package made by hand, with no part of the compiler."""

import warnings
from pathlib import Path
from typing import Any

import onnxruntime
import torch
import transformers

import trtbert.package as package
from tests.models import make_checkpoint
from trtbert.config import Profile
from trtbert.tasks import TASKS, Task

TASK_NAMES: dict[str, Task] = {
    "embedder": "sentence-similarity",
    "ranker": "text-ranking",
    "classifier": "text-classification",
    "tagger": "token-classification",
    "reader": "question-answering",
    "filler": "fill-mask",
    "features": "feature-extraction",
}
"""What packages of each are called where several are served."""
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class WholeTask(torch.nn.Module):
    """A model with its task's last step in the graph, as compiled models have it."""

    def __init__(self, model: Any, task: Task, activation: str) -> None:
        super().__init__()
        self.model, self.task, self.activation = model, task, activation

    def forward(self, *inputs: torch.Tensor) -> Any:
        names = INPUTS[: len(inputs)]
        output = self.model(**{name: tensor.long() for name, tensor in zip(names, inputs, strict=True)})
        if self.task == "question-answering":
            return output.start_logits, output.end_logits
        if self.task == "feature-extraction":
            return output.last_hidden_state
        if self.task == "sentence-similarity":
            mask = inputs[1].unsqueeze(-1).float()
            return torch.nn.functional.normalize((output.last_hidden_state * mask).sum(1) / mask.sum(1).clamp(min=1e-9), dim=-1)
        return {"softmax": lambda x: x.softmax(-1), "sigmoid": torch.sigmoid, "none": lambda x: x}[self.activation](output.logits)


def make_task_package(folder: Path, task: Task, name: str = "package") -> Path:
    """folder/`name`, of a tiny BERT; a ranker gives one score."""
    options = {"num_labels": 1} if task == "text-ranking" else {}
    return make_package(folder / name, make_checkpoint(folder / f"checkpoint-{name}", "bert", task=task, **options), task)


def make_package(
    folder: Path,
    checkpoint: Path,
    task: Task,
    *,
    max_length: int | None = None,
    profiles: tuple[Profile, ...] = (),
    activation: str | None = None,
    padding_side: str = "right",
) -> Path:
    """Export with the TorchScript exporter (quick for tiny models) and write manifest and tokenizer beside it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = getattr(transformers, TASKS[task].auto_class).from_pretrained(checkpoint, attn_implementation="eager").eval()
    activation = activation or ("softmax" if task in ("text-classification", "token-classification", "fill-mask") else "none")
    names = INPUTS if model.config.model_type in ("bert", "electra", "albert") else INPUTS[:2]
    folder.mkdir()
    shapes = _export(WholeTask(model, task, activation).eval(), names, task, folder / "model.onnx")
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    tensors = {kind: tuple(package.TensorFacts(name=n, dtype=d, shape=s) for n, d, s in facts) for kind, facts in shapes.items()}
    facts = package.ModelFacts(
        architecture=model.config.model_type,
        task=task,
        labels=tuple(model.config.id2label.values()) if "classification" in task else (),
        activation=activation,
        max_length=max_length or min(tokenizer.model_max_length, 512),
        num_layers=model.config.num_hidden_layers,
        tokenizer=package.TokenizerFacts(
            pad_token_id=tokenizer.pad_token_id,
            padding_side=padding_side,
            mask_token_id=tokenizer.mask_token_id,
            vocab_size=len(tokenizer),
        ),
        **tensors,
    )
    package.write_package(folder, make_manifest(facts, profiles=profiles))
    return folder


def make_manifest(model: package.ModelFacts, **fields: Any) -> package.Manifest:
    defaults: dict[str, Any] = {
        "trtbert_version": "0",
        "model": model,
        "target": "cpu",
        "runtime": "onnxruntime",
        "precision": "fp32",
        "engine": "model.onnx",
        "versions": {"onnxruntime": onnxruntime.__version__},
        "fusions": {},
        "verification": package.Verification(stages=(), num_batches=0, num_texts=0),
        "source": {"path": "model", "sha256": "0" * 64},
        "files": {},
    }
    return package.Manifest(**{**defaults, **fields})


def _export(module: torch.nn.Module, names: tuple[str, ...], task: Task, path: Path) -> dict[str, list[tuple[str, str, tuple[Any, ...]]]]:
    sample = tuple(torch.ones(2, 5, dtype=torch.int32) for _ in names)
    outputs, axes = TASKS[task].outputs, {0: "batch", 1: "sequence"}
    per_token = "sequence" in TASKS[task].shape
    dynamic = dict.fromkeys(names, axes) | {name: axes if per_token else {0: "batch"} for name in outputs}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            sample,
            str(path),
            input_names=list(names),
            output_names=list(outputs),
            dynamic_axes=dynamic,
            dynamo=False,
            opset_version=17,
        )
    with torch.inference_mode():
        result = module(*sample)
    last = (result[0] if isinstance(result, tuple) else result).shape[-1]
    shape = ("batch", "sequence", last)[: len(TASKS[task].shape)] if per_token else ("batch", last)
    return {"inputs": [(n, "int32", ("batch", "sequence")) for n in names], "outputs": [(n, "float32", shape) for n in outputs]}
