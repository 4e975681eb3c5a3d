"""A config.json -> the transformers config of a supported encoder, and what follows from it: task, labels, activation."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from transformers import CONFIG_MAPPING

from trtbert.architectures import ARCHITECTURES, STUDENT
from trtbert.checkpoint.config_values import wrong_types, wrong_values
from trtbert.checkpoint.json_file import read_object
from trtbert.checkpoint.modules import has_pooling
from trtbert.checkpoint.students.config import StudentConfig
from trtbert.errors import InputError, UnsupportedError
from trtbert.tasks import TASKS, Task

Activation = Literal["softmax", "sigmoid", "none"]
Problem = Literal["regression", "single_label_classification", "multi_label_classification"]
CLASSIFIERS: tuple[Task, ...] = ("text-classification", "token-classification", "text-ranking")
OFFSET_POSITIONS = ("camembert", "mpnet", "roberta", "xlm-roberta")
"""Families that count positions from the padding id + 1."""
_CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForSeq2SeqLM")
MIN_LENGTH = 3
_QUANTISED = ("quantization_config", "compression_config")


def read_config(folder: Path) -> Any:
    """The transformers config of `folder`.

    Raises InputError where it cannot be read, UnsupportedError for anything but a float encoder of a family in ARCHITECTURES.
    """
    path = folder / "config.json"
    options = read_object(path)
    check_supported(options)
    config = _config_from(options, path)
    _refuse(wrong_values(config.to_dict(), config.attribute_map))
    return config


def _config_from(options: dict[str, Any], path: Path) -> Any:
    options = {key: value for key, value in options.items() if key != "auto_map"}
    try:
        return _config_class(options["model_type"]).from_dict(options)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} is not a valid {options['model_type']} config: {error}. Save the model again with save_pretrained."
        ) from error
    except Exception as error:  # huggingface_hub's validation errors share no base class but Exception
        if "Validation" not in type(error).__name__:
            raise
        raise InputError(f"{path} is not a valid {options['model_type']} config: {error}. Correct the value.") from error


def _config_class(model_type: str) -> Any:
    return StudentConfig if model_type == STUDENT else CONFIG_MAPPING[model_type]


def check_supported(options: dict[str, Any], *, has_weights: bool = True) -> None:
    """UnsupportedError for a config.json that is not that of a float encoder of a family in ARCHITECTURES, InputError for wrong values.

    `has_weights` False: the config describes an .onnx file, which computes by itself what transformers no longer can.
    """
    _refuse(wrong_types(options))
    model_type, allowed = options.get("model_type"), ", ".join(ARCHITECTURES)
    architectures = options.get("architectures") or []
    if model_type not in ARCHITECTURES:
        code = " Its own Python code (auto_map) is never run." if "auto_map" in options else ""
        raise UnsupportedError(
            f"The model type {model_type!r} ({', '.join(architectures) or 'no architecture named'}) is not supported; "
            f"choose an encoder of one of these: {allowed}.{code}"
        )
    decoders = [name for name in architectures if name.endswith(_CAUSAL)]
    if options.get("is_decoder") or options.get("add_cross_attention") or options.get("is_encoder_decoder") or decoders:
        raise UnsupportedError(
            f"This {model_type} model is a decoder ({', '.join(decoders) or 'is_decoder or add_cross_attention is set'}); "
            "only encoders, which see the whole text at once, are supported. Use a runtime for generation instead."
        )
    if any(options.get(key) for key in _QUANTISED):
        raise UnsupportedError(
            "This checkpoint is already quantised (quantization_config in config.json). Give the float32 model it was made from."
        )
    if has_weights and (embedding := options.get("position_embedding_type") or "absolute") != "absolute":
        raise UnsupportedError(
            f"position_embedding_type {embedding!r} is not supported, only 'absolute': transformers 5 no longer computes it. "
            "Export the model to ONNX with transformers 4 and give that file."
        )
    aliases = _config_class(model_type).attribute_map
    heads = aliases.get("num_attention_heads", "num_attention_heads")  # an .onnx file has its own, whatever the config says
    _refuse(wrong_values({key: value for key, value in options.items() if has_weights or key != heads}, aliases))


def _refuse(wrong: list[str]) -> None:
    if wrong:
        raise InputError(f"config.json is not valid: {'; '.join(wrong)}. Correct it, or save the model again with save_pretrained.")


def choose_task(architectures: list[str], *, has_pooling: bool, is_cross_encoder: bool) -> Task:
    """The task of a checkpoint by its own files: sentence-transformers modules, else the head its architecture names."""
    if has_pooling:
        return "sentence-similarity"
    if is_cross_encoder:
        return "text-ranking"
    for name in architectures:
        for task, facts in TASKS.items():
            if facts.head_suffix and name.endswith(facts.head_suffix):
                return task
    return "feature-extraction"


def task_of(folder: Path, config: Any) -> Task:
    """The task of the checkpoint in `folder`, whose transformers config is given."""
    return choose_task(list(config.architectures or []), has_pooling=has_pooling(folder), is_cross_encoder=is_cross_encoder(folder))


def is_cross_encoder(folder: Path) -> bool:
    """Whether sentence-transformers saved the folder as a reranker."""
    path = folder / "config_sentence_transformers.json"
    return path.is_file() and read_object(path).get("model_type") == "CrossEncoder"


def problem_of(config: Any) -> Problem:
    """What a text-classification model answers; where config.json does not say, what transformers trains it for."""
    named: Problem | None = config.problem_type
    return named or ("regression" if config.num_labels == 1 else "single_label_classification")


def is_regression(config: Any) -> bool:
    """Whether a text-classification model gives a number."""
    return problem_of(config) == "regression"


def labels_of(options: dict[str, Any], num_labels: int) -> tuple[str, ...]:
    """The names of the classes by id; transformers' own LABEL_0... where config.json names none."""
    named = {int(key): str(value) for key, value in (options.get("id2label") or {}).items() if str(key).isdigit()}
    return tuple(named.get(index, f"LABEL_{index}") for index in range(num_labels))


def activation_of(task: Task, options: dict[str, Any], num_labels: int) -> Activation:
    """What makes scores of logits, as `transformers.pipeline` and sentence-transformers' CrossEncoder choose it."""
    if task in ("token-classification", "fill-mask"):
        return "softmax"
    if task not in CLASSIFIERS:
        return "none"
    named = str(
        (options.get("sentence_transformers") or {}).get("activation_fn") or options.get("sbert_ce_default_activation_function") or ""
    )
    if task == "text-ranking" and (kind := _NAMED_ACTIVATIONS.get(named.rsplit(".", 1)[-1])):
        return kind
    problem = options.get("problem_type")
    if problem == "regression" and task == "text-classification":
        return "none"
    if problem == "multi_label_classification" or num_labels == 1:
        return "sigmoid"
    return "softmax"


_NAMED_ACTIVATIONS: dict[str, Activation] = {"Identity": "none", "Sigmoid": "sigmoid", "Softmax": "softmax"}


def max_positions(options: dict[str, Any]) -> int | None:
    """Longest input that the position embeddings allow, or None where config.json does not say."""
    positions = options.get("max_position_embeddings")
    if not isinstance(positions, int):
        return None
    if options.get("model_type") not in OFFSET_POSITIONS:
        return positions
    padding = 1 if options["model_type"] == "mpnet" else options.get("pad_token_id", 1)
    return positions - ((padding or 0) + 1)


def longest_input(limits: Mapping[str, int | None]) -> int | None:
    """The smallest of `limits`, each under the name of its origin; InputError for one that leaves no room for a text."""
    known = {origin: limit for origin, limit in limits.items() if limit is not None}
    for origin, limit in known.items():
        if limit < MIN_LENGTH:
            raise InputError(f"{origin} allows {limit} tokens; at least {MIN_LENGTH} are needed: two special ones and a word. Correct it.")
    return min(known.values(), default=None)


def num_layers(options: dict[str, Any]) -> int | None:
    value = options.get("num_hidden_layers", options.get("n_layers"))
    return value if isinstance(value, int) else None


def layer_number(tensor: str) -> int | None:
    """The layer that the name of a tensor says it belongs to: encoder.layer.3.output.dense.weight -> 3."""
    match = re.search(r"(?:^|\.)(?:layer|layers|albert_layer_groups)\.(\d+)\.", tensor)
    return int(match.group(1)) if match else None
