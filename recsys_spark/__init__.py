"""Daily batch recommendations on Spark and Delta: from engagement logs to one consistent, published bundle."""

__version__ = "0.1.0"
