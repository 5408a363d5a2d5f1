"""Fusion, rules, diversity and exploration of ranked lists; pure numpy and numba."""
