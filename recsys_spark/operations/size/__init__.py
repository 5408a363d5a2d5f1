"""Capacity estimates: what a deployment takes, before machines are bought."""
