"""Similarities, sums over row blocks, regressions, scores of users."""
