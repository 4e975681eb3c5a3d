"""All bugs that are planted."""

from plugins.tools.mutation_check.planted import arithmetic, attention, bounds, threads

MUTANTS = (*threads.MUTANTS, *bounds.MUTANTS, *arithmetic.MUTANTS, *attention.MUTANTS)
