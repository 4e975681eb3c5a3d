"""Bugs that are planted in the kernels, one at a time -> which of the checks finds each."""
