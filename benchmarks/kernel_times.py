"""Time each kernel of the plugins alone, on arrays of the sizes of BERT-base, beside the roof of the card.

Legend: B batch, S sequence, T tokens of all sequences, D hidden, N heads, H head size.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from contenders import Timing
from gpu import Gpu
from roofline import Work, attention, bias_gelu, embed_layer_norm, skip_layer_norm

from tests.plugins.device import Block, DeviceKernels
from tests.plugins.kernels import FLOAT_TYPES, Array

HIDDEN, FFN, HEADS, HEAD_SIZE, WORDS = 768, 3072, 12, 64, 30522
ROWS_BS = (32, 384)
ATTENTION_BS = ((1, 128), (8, 128), (32, 128), (32, 384))
SCALE = 1 / 32
"""Of INT8 numbers here."""
RUNS = 30
MAX_SETS = 32
NEEDED_CAPABILITY = {"fp32": 0, "fp16": 70, "bf16": 80, "int8": 75}


@dataclass(frozen=True, kw_only=True)
class Case:
    kernel: str
    dtype: str
    shape: str
    work: Work
    make: Callable[[], Callable[[Any], object]]
    """Makes the arrays; gives the call with them, of Kernels or of what has its methods."""


class Recorder(Protocol):
    """Has the methods of Kernels; a call of one keeps what starts its work on the GPU."""

    launches: list[Callable[[], object]]

    def free(self) -> None: ...


class LaunchRecorder(DeviceKernels):
    """Places the arrays of each call on the GPU and keeps, in `launches`, what starts the kernel on them."""

    def __init__(self, library: Path, cudart: Any = None) -> None:
        super().__init__(library, cudart)
        self.launches: list[Callable[[], object]] = []
        self._blocks: list[Block] = []

    def start(self, launcher: str, dtype: np.dtype[Any], values: Mapping[str, Any]) -> None:
        placed = dict(values)
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                self._blocks.append(self.place(value, is_filled=name != "y"))
                placed[name] = self._blocks[-1].address
        self.launches.append(lambda: self.launch(launcher, dtype, placed))

    def free(self) -> None:
        for block in self._blocks:
            self.device.call("cudaFree", block.base)
        self.launches, self._blocks = [], []


def measure(case: Case, recorder: Recorder, gpu: Gpu) -> Timing:
    """Milliseconds of one launch. The arrays are there several times, more than the L2 cache holds, and used in turn."""
    call = case.make()
    num_sets = min(MAX_SETS, 2 + 3 * gpu.attribute("L2CacheSize") // case.work.num_bytes)
    try:
        for _ in range(num_sets):
            call(recorder)
        launches = list(recorder.launches)
        times = gpu.times([lambda: [launch() for launch in launches]] * RUNS)
    finally:
        recorder.free()
    return Timing(rounds=[[milliseconds / num_sets for milliseconds in times]])


def cases(capability: int) -> Iterator[Case]:
    """What a GPU of that compute capability can run."""
    for dtype in (name for name, needed in NEEDED_CAPABILITY.items() if capability >= needed):
        yield from _row_cases(dtype)
        for batch, length in ATTENTION_BS:
            yield _attention_case(dtype, [length] * batch, length, "all of one length")
        lengths = mixed_lengths(*ROWS_BS)
        yield _attention_case(dtype, lengths, ROWS_BS[1], "mixed lengths, padding skipped")
        yield _attention_case(dtype, lengths, None, "mixed lengths, packed")


def mixed_lengths(batch: int, longest: int) -> list[int]:
    """Evenly from an eighth of the longest to the longest: 44 % of a padded batch is padding."""
    return [int(length) for length in np.linspace(longest / 8, longest, batch).round()]


def _row_cases(dtype: str) -> Iterator[Case]:
    """In INT8 what comes in is FP16, and what goes out is INT8."""
    float_dtype, size, y_size, scales = _types(dtype)
    rows = ROWS_BS[0] * ROWS_BS[1]

    def make_gelu() -> Callable[[Any], object]:
        x, bias = _randoms(float_dtype, (rows, FFN), (FFN,))
        return lambda kernels: kernels.bias_gelu(x, bias, **scales)

    def make_skip() -> Callable[[Any], object]:
        x, skip, *vectors = _randoms(float_dtype, (rows, HIDDEN), (rows, HIDDEN), (HIDDEN,), (HIDDEN,), (HIDDEN,))
        return lambda kernels: kernels.skip_layer_norm(x, skip, *vectors, epsilon=1e-12, **scales)

    def make_embed() -> Callable[[Any], object]:
        word, position, types, gamma, beta = _randoms(float_dtype, (WORDS, HIDDEN), (512, HIDDEN), (2, HIDDEN), (HIDDEN,), (HIDDEN,))
        ids_BS, positions_1S = _ids(), np.arange(ROWS_BS[1], dtype=np.int32)[None]
        return lambda kernels: kernels.embed_layer_norm(
            ids_BS, positions_1S, word, position, gamma, beta, ids_BS % 2, types, epsilon=1e-12, **scales
        )

    num_words = len(np.unique(_ids()))
    yield Case(kernel="FusedBiasGelu", dtype=dtype, shape=f"{rows} x {FFN}", work=bias_gelu(rows, FFN, size, y_size), make=make_gelu)
    work = skip_layer_norm(rows, HIDDEN, size, y_size)
    yield Case(kernel="FusedSkipLayerNorm", dtype=dtype, shape=f"{rows} x {HIDDEN}", work=work, make=make_skip)
    work = embed_layer_norm(*ROWS_BS, HIDDEN, size, y_size, num_words=num_words)
    yield Case(kernel="FusedEmbedLayerNorm", dtype=dtype, shape=f"{rows} x {HIDDEN}", work=work, make=make_embed)


def _attention_case(dtype: str, lengths: Sequence[int], padded: int | None, what: str) -> Case:
    """Padded to that length, or packed for None; in INT8 the factors of both products are INT8."""
    float_dtype, size, y_size, scales = _types(dtype)
    heads = {"num_heads": HEADS, "head_size": HEAD_SIZE, "scale": HEAD_SIZE**-0.5}
    if dtype == "int8":
        scales = scales | {"q_scale": SCALE, "k_scale": SCALE, "v_scale": SCALE, "probability_scale": 1 / 127}

    def make() -> Callable[[Any], object]:
        if padded is None:
            (qkv_TD,) = _randoms(float_dtype, (sum(lengths), 3 * HEADS * HEAD_SIZE))
            cu_seqlens = np.array([0, *accumulate(lengths)], np.int32)
            return lambda kernels: kernels.packed_qkv_attention(qkv_TD, cu_seqlens, **heads, **scales)
        (qkv_BSD,) = _randoms(float_dtype, (len(lengths), padded, 3 * HEADS * HEAD_SIZE))
        mask_BS = (np.arange(padded) < np.array(lengths)[:, None]).astype(np.int32)
        return lambda kernels: kernels.qkv_attention(qkv_BSD, mask_BS, **heads, **scales)

    num_rows = None if padded is None else len(lengths) * padded
    work = attention(lengths, HEADS, HEAD_SIZE, size, y_size, dtype=dtype, num_rows=num_rows)
    shape = f"{len(lengths)} x {max(lengths)} tokens, {HEADS} x {HEAD_SIZE}, {what}"
    return Case(kernel="FusedQkvAttention", dtype=dtype, shape=shape, work=work, make=make)


def _types(dtype: str) -> tuple[np.dtype[Any], int, int, dict[str, float]]:
    """The float type, bytes of what comes in and of what goes out, and the scale of an INT8 output."""
    float_dtype = FLOAT_TYPES["fp16" if dtype == "int8" else dtype]
    is_int8 = dtype == "int8"
    return float_dtype, float_dtype.itemsize, 1 if is_int8 else float_dtype.itemsize, {"y_scale": SCALE} if is_int8 else {}


def _ids() -> Array:
    return np.random.default_rng(0).integers(0, WORDS, ROWS_BS, dtype=np.int32)


def _randoms(dtype: np.dtype[Any], *shapes: tuple[int, ...]) -> list[Array]:
    generator = np.random.default_rng(0)
    return [generator.standard_normal(shape, np.float32).astype(dtype) for shape in shapes]
