"""Solving rows, the objective, and folding users in; pure numpy and numba."""
