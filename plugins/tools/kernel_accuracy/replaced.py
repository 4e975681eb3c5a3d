"""The arithmetic of TensorRT's own CustomSkipLayerNormPluginDynamic in numpy: everything in the type of the tensors.

Read in NVIDIA/TensorRT, plugin/skipLayerNormPlugin/skipLayerNormKernel.cu and plugin/common/common.cuh: each thread sums x / width and
x * x / width over as many elements as 16 bytes hold, the sums of the threads are added in a tree, and the variance is what remains of
the mean of squares less the square of the mean. To it the epsilon of the type is added, whatever the model's is.
"""

import numpy as np

from tests.plugins.kernels import Array

WARP = 32


def skip_layer_norm(x: Array, skip: Array, gamma: Array, beta: Array) -> Array:
    """x and skip [R,D] of one float type, D a multiple of what 16 bytes hold; each operation rounds to that type."""
    dtype = x.dtype.type
    with np.errstate(all="ignore"):
        values = x + skip
        share = dtype(1) / dtype(x.shape[-1]) * values
        mean, square = _sum(share), _sum(share * values)
        variance = square - mean * mean + np.finfo(x.dtype).eps.astype(x.dtype)
        factor = (1 / np.sqrt(variance.astype(np.float32))).astype(x.dtype)
        normed: Array = gamma * (values - mean[:, None]) * factor[:, None] + beta
    assert normed.dtype == x.dtype
    return normed


def _sum(terms: Array) -> Array:
    """The sum of each row as the threads of a block make it."""
    per_thread = 16 // terms.itemsize
    by_thread = terms.reshape(len(terms), -1, per_thread)
    total = by_thread[..., 0]
    for i in range(1, per_thread):
        total = total + by_thread[..., i]
    lanes = np.pad(total, ((0, 0), (0, -total.shape[1] % WARP))).reshape(len(terms), -1, WARP)
    for offset in (1, 2, 4, 8, 16):
        lanes = lanes + np.concatenate([lanes[..., offset:], np.zeros_like(lanes[..., :offset])], -1)
    result = lanes[:, 0, 0]
    for warp in range(1, lanes.shape[1]):
        result = result + lanes[:, warp, 0]
    return result
