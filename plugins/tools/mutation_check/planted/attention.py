"""Wrong numbers from attention."""

from plugins.tools.mutation_check.mutant import ATTENTION, FLOAT, HALF, INT8, Mutant, without

_CONTEXT = "    // Context.\n"

MUTANTS = (
    without("no mask", ATTENTION, " && (p.mask == nullptr || p.mask[tile.first_token + key] != 0)"),
    Mutant("keys and values swapped", ATTENTION, "kKey = 1, kValue = 2", "kKey = 2, kValue = 1"),
    Mutant("the bias of the first row for all", ATTENTION, "p.bias_batch == 1 ? 0 : tile.batch", "0"),
    Mutant("packed sequences at the places of padded ones", ATTENTION, "return {batch, begin,", "return {batch, batch * (end - begin),"),
    Mutant("NaN for a query that is left no key", ATTENTION, "maximum == -INFINITY ? 0.0f : maximum", "maximum"),
    without("the context is not rescaled, FP16", HALF, "    rescale_context();\n", before=_CONTEXT),
    without("the sum is not rescaled, FP16", HALF, " * factor", before="total[pass]", after=" + lanes_sum"),
    Mutant("no zeros for a batch of padding, FP16", HALF, "total[pass] > 0.0f ? 1.0f / total[pass] : 0.0f", "1.0f / total[pass]"),
    Mutant("the scale of keys for values, INT8", INT8, "to_int8(chunk, p.v_scale)", "to_int8(chunk, p.k_scale)"),
    without("the sum is not rescaled, INT8", INT8, " * exp2f(maximum[pass] - base)", before="total[pass]", after=" +"),
    without("the context is not rescaled, FP32", FLOAT, "context[step].at[i] *= factor;"),
)
