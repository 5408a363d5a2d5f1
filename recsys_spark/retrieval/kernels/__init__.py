"""Scores of vectors beside exact top-k."""
