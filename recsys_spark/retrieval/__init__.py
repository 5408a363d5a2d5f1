"""Candidate sources, and the step that asks them all."""
