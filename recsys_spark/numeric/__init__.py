"""Arithmetic that subsystems share: sparse rows, ragged and ranked lists, exact top-k, ranking metrics, bootstrap."""
