"""Metrics of lists, figures and calibration."""
