"""The encoder layers of a model, by the same names for every family."""

from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.activations import ACT2FN

from trtbert.checkpoint.families import FAMILIES, LayerNames, is_layer
from trtbert.errors import UnsupportedError


@dataclass(frozen=True, eq=False)
class Layer:
    """One encoder layer; each property is the module itself, so that hooks and changes take effect."""

    name: str
    module: nn.Module
    names: LayerNames
    head_size: int

    @property
    def query(self) -> nn.Linear:
        return self._projection(0)

    @property
    def key(self) -> nn.Linear:
        return self._projection(1)

    @property
    def value(self) -> nn.Linear:
        return self._projection(2)

    @property
    def out(self) -> nn.Linear:
        """From the heads' contexts [B,S,N*H] back to the hidden size."""
        return self._linear(self.names.out)

    @property
    def up(self) -> nn.Linear:
        """From the hidden size to the FFN's neurons, before the activation."""
        return self._linear(self.names.up)

    @property
    def down(self) -> nn.Linear:
        return self._linear(self.names.down)

    @property
    def num_heads(self) -> int:
        return self.query.out_features // self.head_size

    @property
    def width(self) -> int:
        """Neurons of the FFN."""
        return self.up.out_features

    def _projection(self, index: int) -> nn.Linear:
        return self._linear(f"{self.names.attention}.{self.names.qkv[index]}")

    def _linear(self, name: str) -> nn.Linear:
        module = self.module.get_submodule(name)
        assert isinstance(module, nn.Linear)
        return module


def encoder_layers(model: Any) -> list[Layer]:
    """The layers in order; a family that shares one layer (ALBERT) has that one. UnsupportedError for a family with other layers."""
    config = model.config
    names = FAMILIES.get(config.model_type)
    if names is None:
        raise UnsupportedError(f"The layers of {config.model_type!r} cannot be compressed by parts; choose one of {', '.join(FAMILIES)}.")
    head_size = config.hidden_size // config.num_attention_heads
    return [Layer(name, module, names, head_size) for name, module in model.named_modules() if is_layer(name)]


def used_layers(model: Any) -> list[Layer]:
    """The layers in the order in which they compute: the one that ALBERT shares comes as often as it is used."""
    layers = encoder_layers(model)
    return layers * model.config.num_hidden_layers if model.config.model_type == "albert" else layers


def layer_input(inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """The hidden states [B,S,D] that a hook sees going into a layer."""
    return inputs[0] if inputs else options["hidden_states"]


def layer_output(output: Any) -> Any:
    """The hidden states [B,S,D] of what a layer gives: alone, or first in a tuple, as the family has it."""
    return output[0] if isinstance(output, tuple) else output


def with_hidden(output: Any, hidden_BSD: Any) -> Any:
    """What a layer gives, with other hidden states."""
    return (hidden_BSD, *output[1:]) if isinstance(output, tuple) else hidden_BSD


def activation(model: Any) -> Any:
    """The function between `up` and `down`."""
    return ACT2FN[getattr(model.config, "hidden_act", None) or model.config.activation]
