"""A checkpoint with fewer heads or FFN neurons than config.json says -> a model class whose layers have the sizes of the weights.

Keys and values may have fewer heads than queries, and the attention be a successor's: see successors.py.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from trtbert.checkpoint.families import FAMILIES, is_layer
from trtbert.checkpoint.successors import GROUPED, successor_key, use_successor
from trtbert.errors import InputError

Shape = tuple[int, ...]


def sized_class(model_class: type[Any], config: Any, weights: Mapping[str, torch.Tensor]) -> type[Any]:
    """A subclass of `model_class` whose layers are as wide as the tensors in `weights` are; the class itself where none is narrower.

    Raises InputError, from its constructor, for shapes that no pruning of whole heads or neurons gives.
    """
    if config.model_type not in FAMILIES:
        return model_class

    class Sized(model_class):  # type: ignore[misc]
        def __init__(self, config: Any, *args: Any, **options: Any) -> None:
            super().__init__(config, *args, **options)
            _Resizer(self, config, weights).run()
            use_successor(self)

    Sized.__name__, Sized.__qualname__ = model_class.__name__, model_class.__qualname__
    Sized.__module__ = model_class.__module__
    return Sized


class _Resizer:
    """Makes the linear modules of one model as wide as its weights."""

    def __init__(self, model: Any, config: Any, weights: Mapping[str, torch.Tensor]) -> None:
        self.model, self.config, self.names = model, config, FAMILIES[config.model_type]
        prefix = f"{model.base_model_prefix}."
        self.shapes = {name.removeprefix(prefix): tuple(tensor.shape) for name, tensor in weights.items()}
        self.prefix = prefix
        self.head_size = config.hidden_size // config.num_attention_heads
        self.num_groups: int | None = getattr(config, GROUPED) if successor_key(config) == GROUPED else None
        """Heads of keys and values, where they are not those of queries."""
        self.removed = {int(layer): sorted(heads) for layer, heads in (getattr(config, "pruned_heads", None) or {}).items()}

    def run(self) -> None:
        self._check_ranks()
        layers = [(name, module) for name, module in self.model.named_modules() if is_layer(name)]
        self._check_ffn(layers)
        num_bias_heads = self._resize_position_bias()
        for index, (name, layer) in enumerate(layers):
            self._resize_attention(index, name, layer, num_bias_heads)
            self._resize_ffn(name, layer)

    def _shape(self, name: str) -> Shape | None:
        return self.shapes.get(name.removeprefix(self.prefix))

    def _check_ranks(self) -> None:
        for name, parameter in self.model.named_parameters():
            shape = self._shape(name)
            if shape is not None and len(shape) != parameter.ndim:
                raise InputError(
                    f"The weights do not fit the model: {name} is {shape} in the file, where {parameter.ndim} dimensions such as "
                    f"{tuple(parameter.shape)} are needed. The file was packed or flattened; save the model again with save_pretrained."
                )

    def _check_ffn(self, layers: list[tuple[str, nn.Module]]) -> None:
        shapes = [shape for name, _ in layers if (shape := self._shape(f"{name}.{self.names.up}.weight"))]
        widths, expected = {shape[0] for shape in shapes}, self._ffn_width()
        if len(widths) == 1 and widths != {expected}:
            name = f"{layers[0][0]}.{self.names.up}.weight"
            raise InputError(
                f"config.json disagrees with the weights: {name} is {shapes[0]}, where intermediate_size {expected} asks for "
                f"{(expected, shapes[0][1])}, and so in every layer. Set intermediate_size (hidden_dim) to {shapes[0][0]} in config.json."
            )

    def _ffn_width(self) -> int:
        return int(getattr(self.config, "hidden_dim", None) or self.config.intermediate_size)

    def _resize_position_bias(self) -> int | None:
        """MPNet: the number of heads that the position bias of all layers has."""
        bias = next((m for name, m in self.model.named_modules() if name.endswith("relative_attention_bias")), None)
        shape = next((shape for name, shape in self.shapes.items() if name.endswith("relative_attention_bias.weight")), None)
        if bias is None or shape is None or len(shape) != 2:
            return None
        if shape[0] == bias.num_embeddings and shape[1] < bias.embedding_dim:
            bias.embedding_dim = shape[1]
            bias.weight = nn.Parameter(bias.weight.new_empty(shape))
        return shape[1]

    def _resize_attention(self, index: int, name: str, layer: nn.Module, num_bias_heads: int | None) -> None:
        full, names = self.config.num_attention_heads, self.names
        tensors = [f"{name}.{names.attention}.{part}.weight" for part in names.qkv]
        shapes = [self._shape(tensor) for tensor in tensors]
        out = f"{name}.{names.out}.weight"
        if None in (*shapes, self._shape(out)):
            return  # the tensors that are missing are reported together after loading
        self._check_attention(dict(zip(tensors, shapes, strict=True)), out)
        assert shapes[0] is not None
        rows = shapes[0][0]
        num_heads = rows // self.head_size
        removed = self.removed.get(index, [])
        if removed and num_heads != full - len(removed):
            raise InputError(
                f"config.json disagrees with the weights: pruned_heads names {len(removed)} of {full} heads of layer {index}, but "
                f"{tensors[0]} is "
                f"{shapes[0]}, which is {num_heads} heads of {self.head_size}. Correct pruned_heads in config.json, or take it out."
            )
        if num_heads < full or self.num_groups is not None:
            self._narrow_attention(layer, rows)
        if num_bias_heads is not None and num_heads != num_bias_heads:
            kept = [head for head in range(full) if head not in removed]
            self._select_position_bias(layer.get_submodule(names.attention), kept, num_heads, num_bias_heads, tensors[0])

    def _check_attention(self, shapes: Mapping[str, Shape | None], out: str) -> None:
        """Whole heads, not more than config.json says, the same of q, k and v or as it says, and as many columns behind them."""
        hidden, size = self.config.hidden_size, self.head_size
        first = next(iter(shapes.values()))
        if self.num_groups is not None:
            self._check_groups(shapes, self.num_groups)
            shapes = dict(list(shapes.items())[:1])
        for tensor, shape in shapes.items():
            is_whole = shape is not None and len(shape) == 2 and shape[1] == hidden and 0 < shape[0] <= hidden and shape[0] % size == 0
            if not is_whole or shape != first:
                raise InputError(
                    f"config.json disagrees with the weights: {tensor} is {shape}, where hidden_size {hidden} and num_attention_heads "
                    f"{self.config.num_attention_heads} ask for {(hidden, hidden)}, or fewer rows in whole heads of {size}, the same for "
                    "query, "
                    f"key and value (the first is {first}). Correct config.json, or prune whole heads."
                )
        if first is not None and self._shape(out) != (hidden, first[0]):
            raise InputError(
                f"config.json disagrees with the weights: {out} is {self._shape(out)}, where the {first[0]} rows of query, key and "
                "value ask for "
                f"{(hidden, first[0])}. Prune the output projection together with its heads."
            )

    def _check_groups(self, shapes: Mapping[str, Shape | None], num_groups: int) -> None:
        """Keys and values of `num_groups` heads, each shared by as many heads of queries."""
        (query, first), *others = shapes.items()
        wanted = (num_groups * self.head_size, self.config.hidden_size)
        for tensor, shape in others:
            if shape != wanted or first is None or first[0] % wanted[0]:
                raise InputError(
                    f"config.json disagrees with the weights: {tensor} is {shape} and {query} is {first}, where {GROUPED} {num_groups} "
                    f"asks for keys and values of {wanted}, and for queries of a multiple of {wanted[0]} rows. Correct it in config.json."
                )

    def _narrow_attention(self, layer: nn.Module, rows: int) -> None:
        attention = layer.get_submodule(self.names.attention)
        key_rows = rows if self.num_groups is None else self.num_groups * self.head_size
        for part, part_rows in zip(self.names.qkv, (rows, key_rows, key_rows), strict=True):
            _resize(attention.get_submodule(part), out_features=part_rows)
        _resize(layer.get_submodule(self.names.out), in_features=rows)
        for attribute, value in (
            ("num_attention_heads", rows // self.head_size),
            ("n_heads", rows // self.head_size),
            ("all_head_size", rows),
        ):
            if hasattr(attention, attribute):
                setattr(attention, attribute, value)

    def _select_position_bias(self, attention: nn.Module, kept: list[int], num_heads: int, num_bias_heads: int, tensor: str) -> None:
        if len(kept) != num_heads or num_bias_heads != self.config.num_attention_heads:
            raise InputError(
                f"{tensor} has {num_heads} heads, but the relative-position bias that all layers share has {num_bias_heads}, and the "
                "file does not "
                f'say which heads were kept. Name the removed ones in config.json: "pruned_heads": {{"layer": [heads]}}.'
            )

        def heads_of(bias_BNSS: torch.Tensor) -> torch.Tensor:
            """The bias is the same for every text of the batch: taken of one and repeated, an exported graph still shows it."""
            return bias_BNSS[:1, kept].expand(bias_BNSS.shape[0], -1, -1, -1)

        def select(module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            if options.get("position_bias") is not None:
                return args, options | {"position_bias": heads_of(options["position_bias"])}
            return (*args[:2], heads_of(args[2]), *args[3:]), options

        attention.register_forward_pre_hook(select, with_kwargs=True)

    def _resize_ffn(self, name: str, layer: nn.Module) -> None:
        up, down = f"{name}.{self.names.up}.weight", f"{name}.{self.names.down}.weight"
        up_shape, down_shape = self._shape(up), self._shape(down)
        if up_shape is None or down_shape is None:
            return
        hidden, full = self.config.hidden_size, self._ffn_width()
        width = up_shape[0]
        if up_shape != (width, hidden) or down_shape != (hidden, width) or not 0 < width <= full:
            raise InputError(
                f"config.json disagrees with the weights: {up} is {up_shape} and {down} is {down_shape}, where hidden_size {hidden} and "
                f"intermediate_size {full} ask for {(full, hidden)} and {(hidden, full)}, or both narrower by the same neurons. Correct "
                "config.json."
            )
        _resize(layer.get_submodule(self.names.up), out_features=width)
        _resize(layer.get_submodule(self.names.down), in_features=width)


def _resize(linear: nn.Module, *, in_features: int | None = None, out_features: int | None = None) -> None:
    assert isinstance(linear, nn.Linear)
    linear.in_features, linear.out_features = in_features or linear.in_features, out_features or linear.out_features
    linear.weight = nn.Parameter(linear.weight.new_empty(linear.out_features, linear.in_features))
    if linear.bias is not None:
        linear.bias = nn.Parameter(linear.bias.new_empty(linear.out_features))
