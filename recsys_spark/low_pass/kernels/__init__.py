"""The normalisation and the subspace iteration."""
