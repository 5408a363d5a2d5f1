"""Nearest items, by behaviour, regression or text, and users scored by them."""
