"""Daily batch recommendations on Spark and Delta: from engagement logs to one consistent, published bundle."""

from pathlib import Path

__version__ = "0.1.0"


def package_root() -> Path:
    """The folder of this package, for what finds or hashes the product's own files."""
    return Path(__file__).resolve().parent


def shipped(name: str) -> Path:
    """A folder that stands beside this package in a checkout, and inside it in an installed wheel."""
    inside = package_root() / name
    return inside if inside.is_dir() else package_root().parent / name
