"""Wrong numbers from attention."""

from plugins.tools.mutation_check.mutant import ATTENTION, FLOAT, HALF, INT8, Mutant, without

_CONTEXT = "    // Context.\n"

MUTANTS = (
    without("no mask", ATTENTION, " && (p.mask == nullptr || p.mask[tile.first_token + key] != 0)"),
    Mutant("keys and values swapped", ATTENTION, "kKey = 1, kValue = 2", "kKey = 2, kValue = 1"),
    Mutant("the head of queries for that of keys and values", ATTENTION, "p.num_kv_heads + blockIdx.z;", "p.num_kv_heads + query_head();"),
    Mutant(
        "heads that share keys and values lie apart",
        ATTENTION,
        "blockIdx.z * gridDim.y + blockIdx.y",
        "blockIdx.y * gridDim.z + blockIdx.z",
    ),
    Mutant("the bias of the first row for all", ATTENTION, "p.bias_batch == 1 ? 0 : tile.batch", "0"),
    Mutant("packed sequences at the places of padded ones", ATTENTION, "return {batch, begin,", "return {batch, batch * (end - begin),"),
    Mutant("NaN for a query that is left no key", ATTENTION, "maximum == -INFINITY ? 0.0f : maximum", "maximum"),
    without("the context is not rescaled, FP16", HALF, "    rescale_context();\n", before=_CONTEXT),
    without("the sum is not rescaled", ATTENTION, "    total *= factor;\n"),
    Mutant("no zeros for a batch of padding", ATTENTION, "total > 0.0f ? 1.0f / total : 0.0f", "1.0f / total"),
    Mutant("the scale of keys for values, INT8", INT8, "to_int8(chunk, p.v_scale)", "to_int8(chunk, p.k_scale)"),
    Mutant("the context in INT8 has the scale of the keys", INT8, "p.probability_scale * p.v_scale", "p.probability_scale * p.k_scale"),
    without("the context is not rescaled, FP32", FLOAT, "context[step].at[i] *= factor;"),
)
