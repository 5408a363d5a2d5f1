"""Propensities of exposure and of positions."""
