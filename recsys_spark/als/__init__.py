"""Confidence-weighted ALS over Spark: step, fit, exchange of vectors, blocks of ratings, kernels."""
