"""Daily batch recommendations on Spark and Delta: from engagement logs to one consistent, published bundle."""

from pathlib import Path

__version__ = "0.1.0"


def package_root() -> Path:
    """The folder of this package, for what finds or hashes the product's own files."""
    return Path(__file__).resolve().parent
