"""Signals from events: dense index, event weights, interactions, exposures, and who may see what."""
