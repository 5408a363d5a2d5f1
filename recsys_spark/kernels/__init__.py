"""Numeric and parsing kernels: pure Python and numpy, no Spark."""
