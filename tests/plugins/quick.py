"""The cases of the tests that find most bugs in least time, on one library of emulated kernels.

python -m tests.plugins.quick LIBRARY [gelu] [skip] [embed] [attention]
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from tests.plugins.cases import attention, bias_gelu, embed_layer_norm, skip_layer_norm
from tests.plugins.cases.attention import AttentionCase
from tests.plugins.cases.bias_gelu import GeluCase
from tests.plugins.cases.embed_layer_norm import EmbedCase
from tests.plugins.cases.skip_layer_norm import SkipCase
from tests.plugins.kernels import FLOAT_TYPES, Kernels

Check = partial[None] | Callable[[Kernels], None]
WIDTHS = (33, 768, 1032, 4104)
"""One for each kernel of LayerNorm: single elements, and vectors in a short, a medium and a long row."""
PRODUCTS = (("fp32", False), ("fp16", False), ("fp16", True))
"""The type of the tensors, and whether they are multiplied in INT8: one for each kernel of attention."""
MASKS = ("none", "right", "left", "holes", "blocks", "all")


def gelu() -> list[Check]:
    cases = [GeluCase(dtype=dtype, approximate=form, rows=6, width=1032) for dtype in FLOAT_TYPES for form in ("none", "tanh")]
    int8 = [GeluCase(is_int8_in=True, is_int8_out=True, width=width) for width in (33, 128)]
    return [partial(bias_gelu.check, case=case) for case in (*cases, *int8)]


def skip() -> list[Check]:
    cases = [SkipCase(dtype=dtype, rows=5, width=width, mean=1000.0, has_bias=False) for dtype in FLOAT_TYPES for width in WIDTHS]
    small = [SkipCase(std=2.0**-9, epsilon=epsilon, has_bias=False) for epsilon in (1e-12, 1e-5)]
    int8 = [SkipCase(is_int8_in=True, is_int8_out=True, width=width) for width in (33, 128)]
    return [partial(skip_layer_norm.check, case=case) for case in (*cases, *small, *int8, SkipCase(is_unaligned=True))]


def embed() -> list[Check]:
    cases = [EmbedCase(dtype=dtype, width=width, position_batch=batch) for dtype in FLOAT_TYPES for width in WIDTHS for batch in (1, 2)]
    int8 = EmbedCase(is_int8_in=True, is_int8_out=True)
    return [*(partial(embed_layer_norm.check, case=case) for case in (*cases, int8, EmbedCase(has_types=False))), outside_the_table]


def outside_the_table(kernels: Kernels) -> None:
    arguments = embed_layer_norm.inputs(EmbedCase())
    arguments["input_ids"][0] = [0, embed_layer_norm.WORDS, -embed_layer_norm.WORDS - 1, 1, 2]
    is_nan = np.isnan(kernels.embed_layer_norm(**arguments).astype(np.float32))
    assert np.any(is_nan, axis=-1, keepdims=True)[..., 0].tolist() == [[False, True, True, False, False], [False] * 5]


def multi_head_attention() -> list[Check]:
    padded = [
        AttentionCase(dtype=dtype, is_int8=is_int8, masks=MASKS, length=70, bias_batch=1, head_size=size)
        for dtype, is_int8 in PRODUCTS
        for size in (24, 64, 128)
    ]
    shared = [
        AttentionCase(dtype=dtype, is_int8=is_int8, num_heads=4, num_kv_heads=2, bias_batch=1, head_size=24) for dtype, is_int8 in PRODUCTS
    ]
    others = [AttentionCase(bias_batch=2), AttentionCase(is_int8_out=True, dtype="bf16"), AttentionCase(is_int8=True, is_int8_out=True)]
    packed = [AttentionCase(dtype=dtype, is_int8=is_int8) for dtype, is_int8 in PRODUCTS]
    checks: list[Check] = [partial(attention.check, case=case) for case in (*padded, *shared, *others)]
    return [*checks, *(partial(attention.check_packed, case=case, lengths=(0, 33, 0, 70, 1)) for case in packed), no_key_is_left]


def no_key_is_left(kernels: Kernels) -> None:
    for dtype, is_int8 in PRODUCTS:
        case = AttentionCase(dtype=dtype, is_int8=is_int8, bias_batch=1)
        qkv, mask, bias = attention.inputs(case)
        assert bias is not None
        bias[:, :, 5] = -np.inf
        got = kernels.qkv_attention(qkv, mask, bias, **case.attributes)
        assert (got[:, 5] == 0).all() and np.isfinite(got.astype(np.float32)).all()


CHECKS = {"gelu": gelu, "skip": skip, "embed": embed, "attention": multi_head_attention}


def main(library: str, *ops: str) -> int:
    kernels = Kernels(Path(library))
    for op in ops or CHECKS:
        for check in CHECKS[op]():
            try:
                check(kernels)
            except AssertionError as error:
                print(f"{op}: {error} ({check.keywords if isinstance(check, partial) else check.__name__})")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
