"""Transitions of ordered histories."""
