"""Wrong numbers from LayerNorm, GELU and embeddings."""

from plugins.tools.mutation_check.mutant import EMBED, GELU, LAYER_NORM, SKIP, VECTOR, Mutant, without

_SQUARES = "squares += centred * centred;"

MUTANTS = (
    Mutant("variance in one pass", LAYER_NORM, _SQUARES, "squares += totals[i] * totals[i] - mean * mean;"),
    Mutant(
        "squares summed in half precision",
        LAYER_NORM,
        _SQUARES,
        "squares = __half2float(__float2half_rn(squares + centred * centred));",
    ),
    without("what rounding took from the mean is not given back", LAYER_NORM, " + shift", before="static_cast<Real>(mean)"),
    Mutant("an epsilon of our own", LAYER_NORM, "static_cast<Real>(variance) + output.epsilon", "static_cast<Real>(variance) + 1e-5f"),
    Mutant("truncation to INT8 in place of rounding", VECTOR, "rintf(x / scale)", "truncf(x / scale)"),
    Mutant("the scale of x for skip", SKIP, "dequantized(skip_vector.at[i], skip_scale)", "dequantized(skip_vector.at[i], x_scale)"),
    Mutant("GELU of both forms by erf", GELU, "if constexpr (kIsTanh) {", "if constexpr (kIsTanh && false) {"),
    Mutant("positions of the first row for some", EMBED, "token % position_tokens", "token % (position_tokens / 2 + 1)"),
    Mutant("negative ids are not counted from the end", EMBED, "given < 0 ? given + table.num_rows : given", "given"),
)
