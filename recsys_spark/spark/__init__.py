"""The Spark session, and how sparse blocks, vectors, lists and broadcasts travel to workers."""
