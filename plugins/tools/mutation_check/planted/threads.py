"""Threads that do not wait for each other, and warps that do not exchange what they should."""

from plugins.tools.mutation_check.mutant import FLOAT, HALF, INT8, REDUCE, WMMA, Mutant, without

_BARRIER = "    __syncthreads();\n"
_WARP_BARRIER = "    __syncwarp();\n"
_BEFORE_SUMS = "    __syncthreads();  // the sums of an earlier call have been read\n"
_BEFORE_KEYS = "    __syncthreads();  // the values of the block before have been read\n"

MUTANTS = (
    without("no barrier before the sums of the warps are written again", REDUCE, _BEFORE_SUMS),
    without("no barrier before the sums of the warps are read", REDUCE, _BARRIER, after="    x = threadIdx.x % kWarpSize < kWarps"),
    Mutant("a barrier that only some threads reach", REDUCE, _BEFORE_SUMS, "    if (threadIdx.x >= kWarpSize) __syncthreads();\n"),
    without("no barrier before keys overwrite values, FP16", HALF, _BEFORE_KEYS),
    without("no barrier between scores and values that overwrite keys, FP16", HALF, _BARRIER, after="    load_tile(kValue);\n"),
    without("no barrier between probabilities and their product, FP16", HALF, _BARRIER, after="\n    // Context.\n"),
    without("no __syncwarp before probabilities overwrite scores, FP16", HALF, "      __syncwarp();\n", after="      float sum = 0.0f;\n"),
    without("no __syncwarp after a fragment is stored", WMMA, _WARP_BARRIER, after="    auto const sums"),
    without("no __syncwarp before the next fragment is stored", WMMA, _WARP_BARRIER, before="values);\n"),
    without(
        "no barrier between probabilities and their product, INT8",
        INT8,
        _BARRIER,
        after="#pragma unroll\n    for (int k = 0; k < kKeys / 16",
    ),
    without("no barrier before keys overwrite values, FP32", FLOAT, _BEFORE_KEYS),
    without("no barrier between probabilities and their product, FP32", FLOAT, _BARRIER, after="\n    // Context.\n"),
    Mutant(
        "a shuffle whose mask leaves out half of the warp", REDUCE, "x += __shfl_xor_sync(kWholeWarp,", "x += __shfl_xor_sync(0x0000FFFFu,"
    ),
    Mutant(
        "sums over half of the lanes",
        REDUCE,
        "for (int offset = kLanes / 2; offset > 0; offset /= 2) x += ",
        "for (int offset = kLanes / 4; offset > 0; offset /= 2) x += ",
    ),
    Mutant(
        "maxima over half of the lanes",
        REDUCE,
        "for (int offset = kLanes / 2; offset > 0; offset /= 2) x = fmaxf",
        "for (int offset = kLanes / 4; offset > 0; offset /= 2) x = fmaxf",
    ),
)
