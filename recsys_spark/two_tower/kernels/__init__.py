"""Inputs, batches, towers, losses and the model file."""
