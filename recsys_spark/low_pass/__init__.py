"""Truncated SVD of the normalised matrix as a graph filter."""
