"""A checkpoint folder -> the torch model of its task with the tokenizer and the head that belong to it; and back to a folder."""

import inspect
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from trtbert.checkpoint import hf_config
from trtbert.checkpoint.auxiliary import AuxiliaryHead, read_auxiliary, write_auxiliary
from trtbert.checkpoint.heads import Step
from trtbert.checkpoint.modules import MODULES, encoder_folder, max_seq_length
from trtbert.checkpoint.new_head import with_new_head
from trtbert.checkpoint.sentence_transformers import sentence_head
from trtbert.checkpoint.tokenizer import VOCABULARY_FILES, Tokenizer, check_ids, read_tokenizer
from trtbert.checkpoint.torch_model import load_model
from trtbert.checkpoint.weights import WEIGHT_FILES, read_weights, sha256_of
from trtbert.tasks import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS, Task

RAW_OUTPUTS: dict[Task, tuple[str, ...]] = {
    "text-classification": ("logits",),
    "token-classification": ("logits",),
    "question-answering": ("start_logits", "end_logits"),
    "feature-extraction": ("last_hidden_state",),
    "sentence-similarity": ("last_hidden_state",),
    "fill-mask": ("logits",),
    "text-ranking": ("logits",),
}
"""What the encoder with its classifier gives before the head: names of transformers' model outputs."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A model as it was read; `model` is in float32 and in evaluation mode."""

    folder: Path
    """As given; of a sentence-transformers model the one with modules.json."""
    task: Task
    model: Any
    tokenizer: Tokenizer
    head: tuple[Step, ...]
    """What pools the tokens of a sentence embedding; empty for other tasks."""
    max_length: int
    """Tokens, special ones included."""
    sha256: str
    """Of the weights in the folder."""
    dtype: torch.dtype
    """That the folder has its largest tensor in."""
    auxiliary: Mapping[str, AuxiliaryHead] = field(default_factory=dict)
    """Heads of other tasks on the same layers, by name."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Of a classifier, by id."""
        return hf_config.labels_of(self.model.config.to_dict(), self.model.config.num_labels)

    def with_model(self, model: Any) -> "Checkpoint":
        """The same with another model of the same task and tokenizer."""
        return replace(self, model=model)


def read_checkpoint(
    folder: Path,
    *,
    task: Task | Literal["auto"] = "auto",
    tokenizer: Path | None = None,
    pooling: str = "auto",
    new_labels: Sequence[str] | None = None,
    seed: int = 0,
) -> Checkpoint:
    """Read a Hugging Face or sentence-transformers folder; raises InputError or UnsupportedError for what cannot be used.

    `task` auto: what the folder says. `tokenizer`: another folder of it. `pooling` auto: what the sentence-transformers modules say.
    `new_labels`: those of a classifier that is yet to be trained; where the folder's own has other shapes, it is drawn anew from `seed`.
    """
    inner = encoder_folder(folder)
    config = hf_config.read_config(inner)
    chosen = hf_config.task_of(folder, config) if task == "auto" else task
    head = sentence_head(folder, pooling) if chosen == "sentence-similarity" else ()
    read = read_tokenizer(tokenizer or _tokenizer_folder(folder, inner))
    weights = read_weights(inner)
    state: Mapping[str, torch.Tensor] = weights.state
    if new_labels is not None:
        config, state = with_new_head(config, chosen, state, new_labels, seed=seed)
    limit = max_seq_length(inner) if chosen == "sentence-similarity" else None
    max_length = _max_length(config, read, limit)
    model = load_model(config, chosen, state)
    check_ids(read, model.get_input_embeddings().num_embeddings)
    return Checkpoint(
        folder=folder,
        task=chosen,
        model=model,
        tokenizer=read,
        head=head,
        max_length=max_length,
        sha256=sha256_of(weights.files),
        dtype=max(weights.state.values(), key=torch.Tensor.numel).dtype,
        auxiliary=read_auxiliary(inner),
    )


def write_checkpoint(checkpoint: Checkpoint, output: Path) -> None:
    """Write a folder like the one that was read, with the model as it is now, into the new or empty folder `output`.

    Tokenizer, sentence-transformers modules and other plain files are copied; code and weights of other formats are not.
    """
    inner = encoder_folder(checkpoint.folder)
    is_embedder = checkpoint.task == "sentence-similarity"
    shutil.copytree(checkpoint.folder if is_embedder else inner, output, ignore=_ignored(inner, is_embedder), dirs_exist_ok=True)
    model = checkpoint.model
    if hasattr(model.config, "auto_map"):
        del model.config.auto_map
    model.save_pretrained(output / inner.relative_to(checkpoint.folder) if is_embedder else output, safe_serialization=True)
    write_auxiliary(checkpoint.auxiliary, output)
    if checkpoint.tokenizer.is_changed:
        _write_tokenizer(checkpoint.tokenizer, output)


def _write_tokenizer(tokenizer: Tokenizer, output: Path) -> None:
    for path in [output, *output.iterdir()]:
        for name in VOCABULARY_FILES if path.is_dir() else ():
            (path / name).unlink(missing_ok=True)
    tokenizer.fast.save_pretrained(output)


def _ignored(inner: Path, is_embedder: bool) -> Any:
    """Not the weights and the config, which are written anew; and without the modules of an embedder where it became another model."""

    def ignore(folder: str, names: list[str]) -> list[str]:
        is_encoder = Path(folder) == inner
        paths = {name: Path(folder, name) for name in names}
        return [
            name
            for name, path in paths.items()
            if name.startswith(".")
            or path.suffix in _NOT_COPIED
            or (not is_embedder and (name in _EMBEDDER_FILES or path.is_dir()))
            or (path.is_symlink() and path.is_dir())
            or (is_encoder and (name in WEIGHT_FILES or path.suffix in _WEIGHTS or name == "config.json"))
        ]

    return ignore


_NOT_COPIED = frozenset({".py", ".onnx", ".h5", ".msgpack", ".ot", ".pt", ".ckpt"})
_EMBEDDER_FILES = frozenset({MODULES, "config_sentence_transformers.json", "sentence_bert_config.json"})
_WEIGHTS = frozenset({".bin", ".safetensors"})


def input_names(model: Any) -> tuple[str, ...]:
    """token_type_ids only where there is more than one type to tell apart."""
    num_types = getattr(model.config, "type_vocab_size", 0) or 0
    has_types = num_types > 1 and TOKEN_TYPE_IDS in inspect.signature(model.forward).parameters
    return (INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS) if has_types else (INPUT_IDS, ATTENTION_MASK)


class RawModel(torch.nn.Module):
    """Gives the raw outputs of a model, see RAW_OUTPUTS, as a plain tuple."""

    def __init__(self, model: Any, task: Task) -> None:
        super().__init__()
        self.model, self.outputs = model, RAW_OUTPUTS[task]

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        types: Mapping[str, torch.Tensor] = {} if token_type_ids is None else {TOKEN_TYPE_IDS: token_type_ids}
        result = self.model(input_ids=input_ids, attention_mask=attention_mask, **types)
        return tuple(result[name] for name in self.outputs)


def _tokenizer_folder(folder: Path, inner: Path) -> Path:
    return folder if (folder / "tokenizer_config.json").is_file() else inner


def _max_length(config: Any, tokenizer: Tokenizer, max_seq_length: int | None) -> int:
    limits = {
        "max_position_embeddings in config.json": hf_config.max_positions(config.to_dict()),
        "model_max_length in tokenizer_config.json": tokenizer.max_length,
        "max_seq_length in sentence_bert_config.json": max_seq_length,
    }
    longest = hf_config.longest_input(limits)
    assert longest is not None  # every family has max_position_embeddings
    return longest
