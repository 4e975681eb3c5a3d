"""Accesses beyond an end, or at an address that they must not have."""

from plugins.tools.mutation_check.mutant import ATTENTION, EMBED, GELU, HALF, LAUNCHER, LAYER_NORM, SKIP, Mutant, without

_IS_ALIGNED = "is_aligned(p.x, p.skip, p.gamma, p.beta, p.bias, p.y)"

MUTANTS = (
    Mutant("a row too many, LayerNorm: > for >=", LAYER_NORM, "if (row >= rows) return;", "if (row > rows) return;"),
    Mutant("a column too many, LayerNorm: <= for <", LAYER_NORM, "if (column < width) use(", "if (column <= width) use("),
    Mutant("a row too many, GELU: <= for <", GELU, "row = blockIdx.y; row < rows;", "row = blockIdx.y; row <= rows;"),
    Mutant("a column too many, GELU: > for >=", GELU, "if (column >= width) return;", "if (column > width) return;"),
    Mutant("an id one beyond its table is read", EMBED, "id >= table.num_rows", "id > table.num_rows"),
    Mutant("a mask is read beyond the last key", ATTENTION, "key < tile.length && (", "key <= tile.length && ("),
    Mutant("queries are read beyond the last", HALF, "tile.first_query + row < tile.length;", "tile.first_query + row < tile.length + 64;"),
    Mutant("a query too many is written", ATTENTION, "if (query >= tile.length ||", "if (query > tile.length ||"),
    Mutant("columns of the next head are written", ATTENTION, "|| column >= p.head_size) return;", "|| column > p.head_size) return;"),
    without("a tile too few for packed sequences", LAUNCHER, " + p.batch", before="ceil_div<int64_t>(p.tokens, queries)"),
    without("16-byte accesses at any width", SKIP, "p.width % V == 0 && ", after="is_aligned("),
    without("16-byte accesses at any address", SKIP, f" && {_IS_ALIGNED}"),
)
