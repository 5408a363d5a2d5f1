"""Two-tower model: features staged by Spark, trained by torch in its own process, embedded over Spark without it."""
