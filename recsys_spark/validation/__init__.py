"""Validation inside a run: small runs on what is held out, trials of settings, and the choice between blends."""
