"""Bounds of what a source sends to every worker, and smaller settings that keep within them.

Owns: which settings have such a bound.
"""

from recsys_spark.ann.exact_search import MAX_VECTOR_BYTES
from recsys_spark.config.choices import Settings, with_settings
from recsys_spark.config.schema import Config
from recsys_spark.retrieval.declared import check_params
from recsys_spark.spark.broadcast import LISTED_BYTES, MAX_LISTS_BYTES

_NUMBER_BYTES = 4
_LEAST_RANK = 16  # lowest rank at which a graph filter is worth its cost


def is_bounded(source: str, config: Config, n_items: int) -> bool:
    """Whether what the source sends to every worker is within its bound, with so many items."""
    params = check_params(config)[source]
    vectors = {"als": config.als.factors, "low_pass": getattr(params, "rank", 0)}.get(source, 0)
    lists = {
        "item_cf": config.item_cf.num_neighbors,
        "successors": getattr(params, "num_successors", 0),
        "content": getattr(params, "num_neighbors", 0),
    }.get(source, 0)
    return n_items * vectors * _NUMBER_BYTES <= MAX_VECTOR_BYTES and n_items * lists * LISTED_BYTES <= MAX_LISTS_BYTES


def bounded_settings(config: Config, n_items: int) -> Settings:
    """The `auto` settings that so many items force to other values: shorter vectors, fewer neighbours or sources."""
    auto = set(config.validation.auto)
    found: Settings = {}
    most = MAX_VECTOR_BYTES // _NUMBER_BYTES // max(1, n_items)
    if "als.factors" in auto and config.als.factors > most >= 1:
        found["als.factors"] = most
    params = config.sources.params("low_pass")
    if "sources.low_pass.rank" in auto and params["rank"] > most >= _LEAST_RANK:
        found["sources.low_pass.rank"] = most
    most_listed = MAX_LISTS_BYTES // LISTED_BYTES // max(1, n_items)
    if "item_cf.num_neighbors" in auto and config.item_cf.num_neighbors > most_listed >= 1:
        found["item_cf.num_neighbors"] = most_listed
    if "sources.enabled" in auto:
        changed = with_settings(config, found)
        kept = [name for name in config.sources.enabled if name in _NEEDED or is_bounded(name, changed, n_items)]
        if kept != config.sources.enabled:
            found["sources.enabled"] = kept
    return found


# A day without these is not worth having: they stay, and a person gets the error of their bound.
_NEEDED = {"popular", "item_cf", "als"}
