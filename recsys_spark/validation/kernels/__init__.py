"""Weights of sources by a conditional logit."""
