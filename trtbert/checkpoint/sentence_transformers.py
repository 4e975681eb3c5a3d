"""The modules.json of a sentence-transformers folder -> the head behind the encoder."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from trtbert.checkpoint.heads import DENSE_ACTIVATIONS, Dense, Normalize, Pooling, Step
from trtbert.checkpoint.json_file import read_object
from trtbert.checkpoint.modules import read_modules
from trtbert.checkpoint.weights import check_floats, read_weights
from trtbert.config import Pooling as PoolingMode
from trtbert.errors import InputError, UnsupportedError

logger = logging.getLogger(__name__)

_MODES: dict[str, PoolingMode] = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weightedmean",
    "lasttoken": "lasttoken",
}
_FLAGS: dict[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""The flags of older files, in the order in which their vectors are concatenated."""


def sentence_head(folder: Path, pooling: PoolingMode | str) -> tuple[Step, ...]:
    """The steps behind the encoder; `pooling` "auto" takes what modules.json says, else mean without normalisation.

    Raises UnsupportedError for a module that is not Transformer, Pooling, Dense or Normalize.
    """
    modules = read_modules(folder)
    steps = [step for kind, path in modules[1:] if (step := _step(kind, path)) is not None]
    if pooling != "auto":
        return Pooling((pooling,)), *(step for step in steps if not isinstance(step, Pooling))  # type: ignore[arg-type]
    if not any(isinstance(step, Pooling) for step in steps):
        return Pooling(("mean",)), *steps
    return tuple(steps)


def _step(kind: str, path: Path) -> Step | None:
    if kind == "Pooling":
        return _pooling(path)
    if kind == "Normalize":
        return Normalize()
    if kind == "Dense":
        return _dense(path)
    if kind == "Dropout":
        return None
    raise UnsupportedError(
        f"The sentence-transformers module {kind!r} is not supported; Transformer, Pooling, Dense, Normalize and Dropout are. "
        "Compile the encoder alone with --task feature-extraction, and apply the module yourself."
    )


def _pooling(path: Path) -> Pooling:
    config = read_object(path / "config.json")
    if not config.get("include_prompt", True):
        logger.warning("%s excludes prompts from pooling; a compiled model pools every token of its input", path.name)
    named = config.get("pooling_mode")
    if named is None:
        return Pooling(tuple(mode for flag, mode in _FLAGS.items() if config.get(flag)) or ("mean",))
    names = [str(name) for name in named] if isinstance(named, list) else [str(named)]
    if unknown := [name for name in names if name not in _MODES]:
        raise UnsupportedError(f"Pooling mode {unknown} is not supported; choose among {list(_MODES)}, or override it with --pooling.")
    return Pooling(tuple(_MODES[name] for name in names))


def _dense(path: Path) -> Dense:
    config = read_object(path / "config.json")
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rsplit(".", 1)[-1]
    in_place = config.get("module_input_name", "sentence_embedding") == (config.get("module_output_name") or "sentence_embedding")
    if activation not in DENSE_ACTIVATIONS or config.get("use_residual") or not in_place:
        raise UnsupportedError(
            f"The Dense module in {path.name} is not supported ({json.dumps(config)}): it must map the sentence embedding, without a "
            f"residual, with one of the activations {sorted(DENSE_ACTIVATIONS)}. Compile with --task feature-extraction instead."
        )
    state = read_weights(path).state
    weight = state.get("linear.weight")
    if weight is None:
        raise InputError(f"The Dense module in {path.name} has no tensor 'linear.weight', but {sorted(state)}.")
    bias = state.get("linear.bias")
    check_floats({"linear.weight": weight} | ({} if bias is None else {"linear.bias": bias}))
    return Dense(_array(weight).T, None if bias is None else _array(bias), activation)


def _array(tensor: Any) -> np.ndarray[Any, Any]:
    return np.asarray(tensor.float().numpy(), np.float32)
