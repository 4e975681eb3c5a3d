"""The config and the tensors of a checkpoint -> the torch model of a task; what does not fit is named before memory is taken."""

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
import transformers

from trtbert.architectures import ARCHITECTURES
from trtbert.checkpoint import hf_config
from trtbert.checkpoint.pruned import sized_class
from trtbert.checkpoint.students import StudentConfig, student_class
from trtbert.checkpoint.weights import check_floats
from trtbert.errors import InputError
from trtbert.tasks import TASKS, Task

_PLAIN_OPTIONS: dict[str, Any] = {
    "return_dict": True,
    "output_attentions": False,
    "output_hidden_states": False,
    "use_cache": False,
    "chunk_size_feed_forward": 0,
    "reference_compile": False,
}
"""Nothing but the task's own outputs, and no tricks that change the graph."""

_CONFIG_KEYS = {
    "word_embeddings": "vocab_size",
    "tok_embeddings": "vocab_size",
    "position_embeddings": "max_position_embeddings",
    "token_type_embeddings": "type_vocab_size",
    "relative_attention_bias": "num_attention_heads or relative_attention_num_buckets",
    "rel_embeddings": "position_buckets or max_relative_positions",
    "classifier": "id2label (the number of labels)",
    "out_proj": "id2label (the number of labels)",
    "qa_outputs": "id2label (the number of labels)",
}


def load_model(hf: Any, task: Task, state: Mapping[str, torch.Tensor]) -> Any:
    """The model of `task` in float32 with every weight from `state`, in evaluation mode.

    Raises InputError that names what does not fit, UnsupportedError for quantised weights.
    """
    for name, value in _PLAIN_OPTIONS.items():
        setattr(hf, name, value)
    hf._attn_implementation = "sdpa" if ARCHITECTURES[hf.model_type].has_sdpa else "eager"  # not what config.json asks for
    _check_layers(hf, state)
    model_class = class_of(hf, task)
    has_pooler = "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
    options = {"add_pooling_layer": False} if has_pooler else {}
    sized = sized_class(model_class, hf, state)
    with torch.device("meta"):
        _check_tensors(sized(copy.deepcopy(hf), **options), state)
    return _load(sized, hf, task, state, options)


def class_of(hf: Any, task: Task) -> Any:
    """The class of the model of `task` with the config `hf`."""
    if isinstance(hf, StudentConfig):
        return student_class(task)
    return getattr(transformers, TASKS[task].auto_class)._model_mapping[type(hf)]


def _load(model_class: Any, hf: Any, task: Task, state: Mapping[str, torch.Tensor], options: dict[str, Any]) -> Any:
    model, info = model_class.from_pretrained(
        None,
        config=hf,
        state_dict=dict(state),
        dtype=torch.float32,
        attn_implementation=hf._attn_implementation,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        **options,
    )
    _check_shapes(info["mismatched_keys"])
    if missing := sorted(info["missing_keys"]):
        raise InputError(
            f"The checkpoint lacks {len(missing)} tensors that {task} needs: {', '.join(missing[:6])}{', ...' * (len(missing) > 6)}. "
            "Choose the task it was trained for with --task, or give the fine-tuned model."
        )
    return model.eval()


def _check_layers(hf: Any, state: Mapping[str, torch.Tensor]) -> None:
    """As many layers in the file as config.json says; a family that shares its layers counts its groups."""
    key = "num_hidden_groups" if hasattr(hf, "num_hidden_groups") else hf.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    expected, numbers = getattr(hf, key), {hf_config.layer_number(name) for name in state} - {None}
    found = max((number for number in numbers if number is not None), default=-1) + 1
    if found and found != expected:
        raise InputError(
            f"config.json disagrees with the weights: {key} is {expected}, but the file holds {found} layers. "
            f"Set {key} in config.json to {found}, or use the config.json that belongs to these weights."
        )


def _check_tensors(model: Any, state: Mapping[str, torch.Tensor]) -> None:
    """The kinds and the shapes of the tensors that the file and `model`, which holds no memory, both name."""
    prefix = f"{model.base_model_prefix}."
    names = {name.removeprefix(prefix): name for name in state}
    wanted = {names[short]: p for name, p in model.named_parameters() if (short := name.removeprefix(prefix)) in names}
    check_floats({name: state[name] for name in wanted})
    _check_shapes([(name, state[name].shape, p.shape) for name, p in wanted.items() if state[name].shape != p.shape])


def _check_shapes(mismatched: Any) -> None:
    if not mismatched:
        return
    name, in_file, in_model = sorted(mismatched)[0]
    key = next((key for part, key in _CONFIG_KEYS.items() if part in name), "hidden_size, embedding_size or intermediate_size")
    raise InputError(
        f"config.json disagrees with the weights in {len(mismatched)} tensors: {name} is {tuple(in_file)} in the file, but "
        f"config.json asks for {tuple(in_model)}. Correct {key} in config.json, or use the config.json that belongs to these weights."
    )
