"""What PyTorch computes the ops of the plugins with, on the same GPU and arrays: the baseline of the kernels' times.

LayerNorms and GELU are one kernel each, made by `torch.compile`; attention is `scaled_dot_product_attention`, which takes the
fastest of its kernels that knows the mask, and `varlen_attn` for packed rows. Where our kernel computes in INT8, PyTorch has no such
attention: it computes in FP16.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn

from tests.plugins.kernels import FLOAT_TYPES, Array


class TorchRecorder:
    """Has the methods of `Kernels`; each keeps, in `launches`, what starts the computation on a copy of the arrays on the GPU."""

    def __init__(self) -> None:
        self.launches: list[Callable[[], object]] = []

    def bias_gelu(self, x: Array, bias: Array, *, y_scale: float = 0.0) -> None:
        self._keep(_bias_gelu, *_on_gpu(x, bias), y_scale)

    def skip_layer_norm(
        self, x: Array, skip: Array, gamma: Array, beta: Array, bias: Array, *, epsilon: float, y_scale: float = 0.0
    ) -> None:
        self._keep(_skip_layer_norm, *_on_gpu(x, skip, gamma, beta, bias), epsilon, y_scale)

    def embed_layer_norm(
        self,
        ids: Array,
        positions: Array,
        word: Array,
        position: Array,
        gamma: Array,
        beta: Array,
        types: Array,
        token_type: Array,
        *,
        epsilon: float,
        y_scale: float = 0.0,
    ) -> None:
        arrays = _on_gpu(ids, positions, types, word, position, token_type, gamma, beta)
        self._keep(_embed_layer_norm, *arrays, epsilon, y_scale)

    def qkv_attention(self, qkv: Array, mask: Array, *, num_heads: int, head_size: int, scale: float, **_: float) -> None:
        """qkv [B,S,3*N*H], mask [B,S]. No mask is given where nothing is masked: PyTorch has a faster kernel for that."""
        (qkv_BSD,) = _on_gpu(qkv)
        q_BNSH, k_BNSH, v_BNSH = qkv_BSD.view(*qkv_BSD.shape[:2], 3, num_heads, head_size).permute(2, 0, 3, 1, 4)
        mask_B11S = None if mask.all() else torch.from_numpy(mask).cuda().bool()[:, None, None]
        self._keep(functional.scaled_dot_product_attention, q_BNSH, k_BNSH, v_BNSH, mask_B11S, scale=scale)

    def packed_qkv_attention(self, qkv: Array, cu_seqlens: Array, *, num_heads: int, head_size: int, scale: float, **_: float) -> None:
        """qkv [T,3*N*H], cu_seqlens [B+1]. Not in FP32, which `varlen_attn` has not."""
        if qkv.dtype == FLOAT_TYPES["fp32"]:
            raise NotImplementedError("varlen_attn takes FP16 and BF16")
        qkv_TD, offsets = _on_gpu(qkv, cu_seqlens)
        q_TNH, k_TNH, v_TNH = qkv_TD.view(-1, 3, num_heads, head_size).unbind(1)
        longest = int(np.diff(cu_seqlens).max())
        self._keep(varlen_attn, q_TNH, k_TNH, v_TNH, offsets, offsets, longest, longest, scale=scale)

    def free(self) -> None:
        self.launches = []

    def _keep(self, function: Callable[..., object], *arguments: Any, **options: Any) -> None:
        self.launches.append(lambda: function(*arguments, **options))


@torch.compile(dynamic=False)
def _bias_gelu(x: Any, bias: Any, y_scale: float) -> Any:
    return _quantized(functional.gelu(x + bias), y_scale)


@torch.compile(dynamic=False)
def _skip_layer_norm(x: Any, skip: Any, gamma: Any, beta: Any, bias: Any, epsilon: float, y_scale: float) -> Any:
    return _quantized(functional.layer_norm(x + skip + bias, gamma.shape, gamma, beta, epsilon), y_scale)


@torch.compile(dynamic=False)
def _embed_layer_norm(
    ids: Any, positions: Any, types: Any, word: Any, position: Any, token_type: Any, gamma: Any, beta: Any, epsilon: float, y_scale: float
) -> Any:
    total = functional.embedding(ids, word) + functional.embedding(positions, position) + functional.embedding(types, token_type)
    return _quantized(functional.layer_norm(total, gamma.shape, gamma, beta, epsilon), y_scale)


def _quantized(y: Any, y_scale: float) -> Any:
    return torch.clamp(torch.round(y / y_scale), -128, 127).to(torch.int8) if y_scale else y


def _on_gpu(*arrays: Array) -> list[Any]:
    """numpy's bfloat16 is not PyTorch's: its bits are."""
    is_bf16 = FLOAT_TYPES["bf16"]
    return [
        torch.from_numpy(a.view(np.int16)).cuda().view(torch.bfloat16) if a.dtype == is_bf16 else torch.from_numpy(a).cuda() for a in arrays
    ]
