"""The values of a config.json -> every one that no model can be built from, before anything is built."""

from collections.abc import Iterator, Mapping
from typing import Any

from transformers.activations import ACT2FN

Options = Mapping[str, Any]

_MAX_SIZE = 2**24
_SIZES = {
    **dict.fromkeys(("hidden_size", "dim", "embedding_size", "intermediate_size", "hidden_dim", "max_position_embeddings"), _MAX_SIZE),
    **dict.fromkeys(("num_attention_heads", "n_heads", "num_hidden_groups", "inner_group_num", "vocab_size"), _MAX_SIZE),
    **dict.fromkeys(("num_hidden_layers", "n_layers"), 1000),
}
"""The largest value of each; the smallest is 1."""
_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation", "classifier_activation", "pooler_hidden_act")
_EPSILONS = ("layer_norm_eps", "norm_eps")
_PROBLEMS = ("regression", "single_label_classification", "multi_label_classification")
_TYPES: dict[str, tuple[type, str]] = {
    "model_type": (str, "a name"),
    "architectures": (list, "a list of names"),
    "id2label": (dict, "an object of names by number"),
    "sentence_transformers": (dict, "an object"),
    "pruned_heads": (dict, "an object of heads by layer"),
}


def wrong_types(options: Options) -> list[str]:
    """What is not of the type that it must have in any config.json; null counts as absent."""
    wrong = [
        f"{key} must be {needed}, got {options[key]!r}"
        for key, (kind, needed) in _TYPES.items()
        if options.get(key) is not None and not isinstance(options[key], kind)
    ]
    if wrong:
        return wrong
    names, pruned = options.get("architectures") or [], options.get("pruned_heads") or {}
    if not all(isinstance(name, str) for name in names):
        wrong.append(f"architectures must be a list of names, got {names!r}")
    labels = options.get("id2label") or {}
    if unnamed := [label for label in labels.values() if not isinstance(label, str | int | float)]:
        wrong.append(f'id2label must name every label, as in {{"0": "no", "1": "yes"}}, got {unnamed[0]!r}')
    if not all(str(layer).isdecimal() and isinstance(heads, list) and all(map(_is_whole, heads)) for layer, heads in pruned.items()):
        wrong.append(f"pruned_heads must name lists of heads by layer, got {pruned!r}")
    return wrong


def wrong_values(options: Options, aliases: Mapping[str, str]) -> list[str]:
    """What is out of its range, or contradicts another value; `aliases` gives the family's own names of BERT's keys."""
    return list(_wrong_values(options, aliases))


def _wrong_values(options: Options, aliases: Mapping[str, str]) -> Iterator[str]:
    sizes = {key: options[key] for key in _SIZES if key in options}
    wrong = [key for key, value in sizes.items() if not _is_whole(value) or not 1 <= value <= _SIZES[key]]
    yield from (f"{key} must be a whole number from 1 to {_SIZES[key]}, got {sizes[key]!r}" for key in wrong)
    hidden, heads, vocabulary = (aliases.get(key, key) for key in ("hidden_size", "num_attention_heads", "vocab_size"))
    if {hidden, heads} <= sizes.keys() - wrong and sizes[hidden] % sizes[heads]:
        yield f"{hidden} {sizes[hidden]} must be a multiple of {heads}, got {sizes[heads]}"
    padding = options.get("pad_token_id")
    if vocabulary in sizes.keys() - wrong and padding is not None and not (_is_whole(padding) and 0 <= padding < sizes[vocabulary]):
        yield f"pad_token_id must be an id of the vocabulary, from 0 to {sizes[vocabulary] - 1}, or null, got {padding!r}"
    pruned, layers = options.get("pruned_heads") or {}, sizes.get(aliases.get("num_hidden_layers", "num_hidden_layers"))
    if not wrong and layers is not None and (beyond := [layer for layer in pruned if int(layer) >= layers]):
        yield f"pruned_heads must name layers of the model, from 0 to {layers - 1}, got {beyond[0]}"
    if (problem := options.get("problem_type")) is not None and problem not in _PROBLEMS:
        yield f"problem_type must be one of {', '.join(_PROBLEMS)}, or null, got {problem!r}"
    for key in _ACTIVATIONS:
        if key in options and not (isinstance(options[key], str) and options[key] in ACT2FN):
            yield f"{key} must be one of {', '.join(sorted(ACT2FN))}, got {options[key]!r}"
    for key in _EPSILONS:
        if key in options and not (isinstance(options[key], int | float) and 0 <= options[key] < 1):
            yield f"{key} must be a number from 0 to 1, got {options[key]!r}"


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
