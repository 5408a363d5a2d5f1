"""A published bundle without Spark: lists, rows, index, session and cold start."""
