"""FAISS indexes, the choice of their settings, exact re-scoring."""
