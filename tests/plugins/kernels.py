"""The launchers of plugins/capi.h on numpy arrays: the library is the emulated build, which takes host pointers."""

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]

FLOAT_TYPES = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
_CODES = {dtype: code for code, dtype in enumerate(FLOAT_TYPES.values())}

_POINTER, _COUNT, _FLOAT, _INT, _BOOL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int32, ctypes.c_bool


def _struct(name: str, **fields: type[Any]) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


_PARAMS = {
    "fused_bias_gelu": _struct(
        "BiasGeluParams", x=_POINTER, bias=_POINTER, y=_POINTER, rows=_COUNT, width=_COUNT, is_tanh=_BOOL, x_scale=_FLOAT, y_scale=_FLOAT
    ),
    "fused_skip_layer_norm": _struct(
        "SkipLayerNormParams",
        x=_POINTER,
        skip=_POINTER,
        gamma=_POINTER,
        beta=_POINTER,
        bias=_POINTER,
        y=_POINTER,
        rows=_COUNT,
        width=_COUNT,
        epsilon=_FLOAT,
        x_scale=_FLOAT,
        skip_scale=_FLOAT,
        y_scale=_FLOAT,
    ),
    "fused_embed_layer_norm": _struct(
        "EmbedLayerNormParams",
        input_ids=_POINTER,
        position_ids=_POINTER,
        token_type_ids=_POINTER,
        word=_POINTER,
        position=_POINTER,
        token_type=_POINTER,
        gamma=_POINTER,
        beta=_POINTER,
        y=_POINTER,
        batch=_COUNT,
        position_batch=_COUNT,
        length=_COUNT,
        width=_COUNT,
        word_rows=_COUNT,
        position_rows=_COUNT,
        token_type_rows=_COUNT,
        epsilon=_FLOAT,
        word_scale=_FLOAT,
        position_scale=_FLOAT,
        token_type_scale=_FLOAT,
        y_scale=_FLOAT,
    ),
    "fused_qkv_attention": _struct(
        "QkvAttentionParams",
        qkv=_POINTER,
        mask=_POINTER,
        cu_seqlens=_POINTER,
        bias=_POINTER,
        y=_POINTER,
        batch=_COUNT,
        length=_COUNT,
        tokens=_COUNT,
        bias_batch=_COUNT,
        num_heads=_INT,
        num_kv_heads=_INT,
        head_size=_INT,
        scale=_FLOAT,
        q_scale=_FLOAT,
        k_scale=_FLOAT,
        v_scale=_FLOAT,
        probability_scale=_FLOAT,
        y_scale=_FLOAT,
    ),
}


class KernelError(Exception):
    """A launcher returned a cudaError_t, `code`."""

    def __init__(self, launcher: str, code: int) -> None:
        super().__init__(f"{launcher} returned cudaError_t {code}")
        self.code = code


class Kernels:
    """The four launchers of one library; each gives its output as a new array."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def set_schedule(self, schedule: int, seed: int = 1) -> None:
        """0 in order, 1 reversed, 2 depth first, 3 random."""
        self._library.emulation_set_schedule(ctypes.c_int32(schedule), ctypes.c_uint64(seed))

    def set_compute_capability(self, capability: int) -> None:
        self._library.emulation_set_compute_capability(ctypes.c_int32(capability))

    def bias_gelu(self, x: Array, bias: Array, *, approximate: str = "none", x_scale: float = 0.0, y_scale: float = 0.0) -> Array:
        """x [...,D], bias [D]."""
        y = np.empty(x.shape, np.int8 if y_scale else bias.dtype)
        width = x.shape[-1]
        sizes = {"rows": x.size // width, "width": width, "is_tanh": approximate == "tanh", "x_scale": x_scale, "y_scale": y_scale}
        self.start("fused_bias_gelu", bias.dtype, {"x": x, "bias": bias, "y": y} | sizes)
        return y

    def skip_layer_norm(
        self,
        x: Array,
        skip: Array,
        gamma: Array,
        beta: Array,
        bias: Array | None = None,
        *,
        epsilon: float,
        x_scale: float = 0.0,
        skip_scale: float = 0.0,
        y_scale: float = 0.0,
    ) -> Array:
        """x and skip [...,D], gamma, beta and bias [D]."""
        y = np.empty(x.shape, np.int8 if y_scale else gamma.dtype)
        arrays = {"x": x, "skip": skip, "gamma": gamma, "beta": beta, "bias": bias, "y": y}
        scales = {"x_scale": x_scale, "skip_scale": skip_scale, "y_scale": y_scale}
        width = x.shape[-1]
        self.start("fused_skip_layer_norm", gamma.dtype, arrays | {"rows": x.size // width, "width": width, "epsilon": epsilon} | scales)
        return y

    def embed_layer_norm(
        self,
        input_ids: Array,
        position_ids: Array,
        word: Array,
        position: Array,
        gamma: Array,
        beta: Array,
        token_type_ids: Array | None = None,
        token_type: Array | None = None,
        *,
        epsilon: float,
        word_scale: float = 0.0,
        position_scale: float = 0.0,
        token_type_scale: float = 0.0,
        y_scale: float = 0.0,
    ) -> Array:
        """Ids [B,S] int32 (position_ids [B|1,S]), tables [V,D]; gives [B,S,D]."""
        batch, length = input_ids.shape
        y = np.empty((batch, length, word.shape[1]), np.int8 if y_scale else gamma.dtype)
        arrays = {"input_ids": input_ids, "position_ids": position_ids, "token_type_ids": token_type_ids, "y": y}
        tables = {"word": word, "position": position, "token_type": token_type, "gamma": gamma, "beta": beta}
        sizes = {"batch": batch, "position_batch": position_ids.shape[0], "length": length, "width": word.shape[1]}
        rows = {f"{name}_rows": 0 if table is None else len(table) for name, table in list(tables.items())[:3]}
        scales = {"word_scale": word_scale, "position_scale": position_scale, "token_type_scale": token_type_scale, "y_scale": y_scale}
        self.start("fused_embed_layer_norm", gamma.dtype, arrays | tables | sizes | rows | scales | {"epsilon": epsilon})
        return y

    def qkv_attention(
        self,
        qkv: Array,
        mask: Array,
        bias: Array | None = None,
        *,
        num_heads: int,
        head_size: int,
        num_kv_heads: int = 0,
        y_scale: float = 0.0,
        **scales: float,
    ) -> Array:
        """qkv [B,S,(N+2*G)*H], mask [B,S] int32, bias [1|B,N,S,S]; gives [B,S,N*H]; 0 heads of keys and values are as many as N."""
        batch, length, _ = qkv.shape
        y = np.empty((batch, length, num_heads * head_size), np.int8 if y_scale else qkv.dtype)
        arrays = {"qkv": qkv, "mask": mask, "bias": bias, "y": y}
        sizes = {"batch": batch, "length": length, "bias_batch": 0 if bias is None else len(bias)}
        heads = {"num_heads": num_heads, "num_kv_heads": num_kv_heads or num_heads, "head_size": head_size, "y_scale": y_scale}
        self.start("fused_qkv_attention", qkv.dtype, arrays | sizes | heads | scales)
        return y

    def packed_qkv_attention(
        self,
        qkv: Array,
        cu_seqlens: Array,
        *,
        num_heads: int,
        head_size: int,
        num_kv_heads: int = 0,
        y_scale: float = 0.0,
        **scales: float,
    ) -> Array:
        """qkv [T,(N+2*G)*H], cu_seqlens [B+1] int32; gives [T,N*H]."""
        y = np.empty((len(qkv), num_heads * head_size), np.int8 if y_scale else qkv.dtype)
        heads = {"num_heads": num_heads, "num_kv_heads": num_kv_heads or num_heads, "head_size": head_size, "y_scale": y_scale}
        sizes = {"batch": len(cu_seqlens) - 1, "tokens": len(qkv)}
        self.start("fused_qkv_attention", qkv.dtype, {"qkv": qkv, "cu_seqlens": cu_seqlens, "y": y} | sizes | heads | scales)
        return y

    def start(self, launcher: str, dtype: np.dtype[Any], values: Mapping[str, Any]) -> None:
        """Call a launcher with its parameters, arrays by address; raises KernelError for what it refuses."""
        params = _PARAMS[launcher](**{name: _address(value) if isinstance(value, np.ndarray) else value for name, value in values.items()})
        code = getattr(self._library, f"trtbert_{launcher}")(ctypes.c_int32(_CODES[np.dtype(dtype)]), ctypes.byref(params), None)
        if code != 0:
            raise KernelError(launcher, code)


def _address(array: Array) -> int:
    assert array.flags.c_contiguous
    return array.ctypes.data
