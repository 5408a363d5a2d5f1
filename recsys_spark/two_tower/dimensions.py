"""Dimensions of the two-tower model: whether a day has one, and the rows of its hashed id table.

Owns: what is derived from settings and the log before anything is trained.
"""

from importlib.util import find_spec

from recsys_spark.config.schema import Config
from recsys_spark.errors import missing_extra

_IDS_PER_ITEM = 8  # rows of the table of ids for each item; with fewer, many items would share one
_SMALLEST_TABLE = 16


def uses_towers(config: Config) -> bool:
    """Whether an enabled source asks the towers."""
    enabled = config.sources.enabled
    return "two_tower" in enabled or ("content" in enabled and config.sources.params("content").get("by") == "towers")


def has_torch() -> bool:
    """Whether towers can be trained here; nothing is imported."""
    return find_spec("torch") is not None


def lacks_torch(config: Config) -> bool:
    """Whether an enabled source asks the towers, and none can be trained here."""
    return uses_towers(config) and not has_torch()


def check_torch(where: str) -> None:
    """Raises EnvironmentFault if torch is not installed."""
    fault = None if has_torch() else missing_extra(where, ModuleNotFoundError(name="torch"))
    if fault is not None:
        raise fault


def id_buckets(n_items: int, most: int) -> int:
    """Rows of the table of hashed ids: a power of 2, so that a few more items tomorrow hash as they do today."""
    wanted = max(_SMALLEST_TABLE, n_items * _IDS_PER_ITEM)
    return min(most, 1 << (wanted - 1).bit_length())
