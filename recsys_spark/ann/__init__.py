"""Nearest items to a vector: exact search, IVF-PQ index build, recall, search, shards."""
