"""A bug to plant: what is replaced where. The text to replace must occur exactly once, so that no bug can fall behind the kernels."""

from dataclasses import dataclass

REDUCE, VECTOR, LAYER_NORM = "common/reduce.cuh", "common/vector.cuh", "kernels/layer_norm.cuh"
SKIP, EMBED, GELU = "kernels/fused_skip_layer_norm.cu", "kernels/fused_embed_layer_norm.cu", "kernels/fused_bias_gelu.cu"
ATTENTION, WMMA, LAUNCHER = "kernels/attention.cuh", "kernels/attention_wmma.cuh", "kernels/fused_qkv_attention.cu"
FLOAT, HALF, INT8 = "kernels/attention_float.cuh", "kernels/attention_half.cuh", "kernels/attention_int8.cuh"


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    """In plugins/."""
    old: str
    new: str


def without(name: str, file: str, text: str, *, before: str = "", after: str = "") -> Mutant:
    """The mutant in which `text` is gone, where it stands between these others."""
    return Mutant(name, file, before + text + after, before + after)
