"""Capacity estimate of a deployment: what every step takes, what the product will choose, and what it will refuse.

Owns: the list of the bounds that a size meets, and the words for choices and refusals.  The arithmetic of the steps is
in `size.fits` and `size.lists`.
"""

from typing import NamedTuple

from recsys_spark.als.blocks import BINS
from recsys_spark.ann.exact_search import MAX_VECTOR_BYTES
from recsys_spark.ann.index_search import takes_index
from recsys_spark.ann.kernels.index_choice import bytes_per_vector
from recsys_spark.config.schema import Config
from recsys_spark.item_cf.neighbors import MAX_SUMS_BYTES, SUM_BYTES
from recsys_spark.operations.size.fits import (
    NUMBER_BYTES,
    Load,
    StepSize,
    als_plan,
    als_size,
    interactions_size,
    item_cf_size,
    model_bytes,
    two_tower_size,
)
from recsys_spark.operations.size.lists import COUNTED, ann_size, blend_size, embed_size, index_of, retrieve_size
from recsys_spark.retrieval.declared import check_params
from recsys_spark.spark.broadcast import LISTED_BYTES, MAX_ID_BYTES, MAX_LISTS_BYTES
from recsys_spark.two_tower.dimensions import uses_towers
from recsys_spark.two_tower.embedding import MAX_MODEL_BYTES


class Limit(NamedTuple):
    """Bytes that a step collects to broadcast them, the bound above which it refuses, and the setting to lower.

    per_item: whether the bytes grow with the number of items.
    """

    step: str
    what: str
    n_bytes: int
    bound: int
    setting: str
    per_item: bool = True

    @property
    def refuses(self) -> bool:
        """Whether the step would end with an error."""
        return self.n_bytes > self.bound


def sizes_of(load: Load, n_cores: int, config: Config) -> list[StepSize]:
    """Every step that is counted, in the order of the plan: towers and index where a source asks for them."""
    towers = [two_tower_size, embed_size, ann_size] if uses_towers(config) else []
    return [
        interactions_size(load),
        item_cf_size(load, n_cores, config),
        als_size(load, n_cores, config),
        *(size(load, config) for size in towers),
        retrieve_size(load, config),
        blend_size(load, config),
    ]


def limits_of(load: Load, config: Config) -> list[Limit]:
    """Every bound that grows with items, users or pairs, as the steps hold it."""
    items, id_bytes = load.items, load.items * load.id_bytes
    window, days = "interactions.window_days", "candidates.available_within_days"
    limits = [
        Limit("item_cf", "sums per item", items * SUM_BYTES, MAX_SUMS_BYTES, window),
        Limit("item_cf", "ids of items", id_bytes, MAX_ID_BYTES, window),
        *_source_limits(load, config),
        Limit("blend", "ids of items that may be shown", id_bytes, MAX_ID_BYTES, days),
    ]
    if uses_towers(config):
        vectors = items * config.two_tower.dim * NUMBER_BYTES
        weights = model_bytes(load, config.two_tower)
        limits += [
            Limit("embed", "weights", weights, MAX_MODEL_BYTES, "two_tower.max_id_buckets", False),
            Limit("embed", "ids of items", id_bytes, MAX_ID_BYTES, window),
            Limit("embed", "vectors of items, for histories", vectors, MAX_VECTOR_BYTES, "two_tower.dim"),
        ]
    return limits


def _source_limits(load: Load, config: Config) -> list[Limit]:
    users, items, pairs = load[:3]
    params = check_params(config)
    vectors = {"als": config.als.factors, "two_tower": config.two_tower.dim}
    lengths = {name: getattr(one, "num_neighbors", 0) for name, one in params.items()}
    lengths["item_cf"] = config.item_cf.num_neighbors
    limits = []
    for name in params:
        where = f"retrieve, {name}"
        if name == "als" or (name == "two_tower" and not takes_index(items, config)):
            setting = "als.factors" if name == "als" else "two_tower.dim"
            n_bytes = items * vectors[name] * NUMBER_BYTES
            limits.append(Limit(where, "vectors of items", n_bytes, MAX_VECTOR_BYTES, setting))
        elif name in ("item_cf", "content"):
            setting = f"{'' if name == 'item_cf' else 'sources.'}{name}.num_neighbors"
            n_bytes = items * lengths[name] * LISTED_BYTES
            limits.append(Limit(where, "neighbours of items", n_bytes, MAX_LISTS_BYTES, setting))
        elif name == "user_cf":
            near, rows = users * lengths[name] * LISTED_BYTES, pairs * LISTED_BYTES
            limits += [
                Limit(where, "sums per user", users * SUM_BYTES, MAX_SUMS_BYTES, "interactions.window_days", False),
                Limit(where, "near users", near, MAX_LISTS_BYTES, "sources.user_cf.num_neighbors", False),
                Limit(where, "interactions", rows, MAX_LISTS_BYTES, "interactions.window_days", False),
            ]
    return limits


def choices_of(load: Load, n_cores: int, config: Config) -> list[str]:
    """What the product will choose at this size, and why, one line each."""
    users, items, _ = load[:3]
    als, plan = config.als, als_plan(load, n_cores, config)
    larger = max(users, items) * als.factors * NUMBER_BYTES
    why = {
        "local": "matrix and factors are small, and Spark's own work would be most of it",
        "broadcast": f"the larger side's factors are {in_bytes(larger)}, at most als.broadcast_bytes",
        "shuffle": f"the larger side's factors are {in_bytes(larger)}, above als.broadcast_bytes",
    }[plan.exchange]
    if als.exchange != "auto":
        why = "als.exchange says so"
    lines = [f"als: exchange {plan.exchange}, {plan.users:,} + {plan.items:,} blocks of users and items; {why}"]
    if uses_towers(config):
        lines += _index_lines(load, config)
    uncounted = sorted(set(config.sources.enabled) - {*COUNTED, "popular"})
    if uncounted:
        lines.append(f"retrieve: the lists of {', '.join(uncounted)} are counted, the work of finding them is not")
    return lines


def _index_lines(load: Load, config: Config) -> list[str]:
    choice, shards, d, _ = index_of(load, config)
    code, raw = bytes_per_vector(choice, d), d * NUMBER_BYTES + 8
    index = (
        f"ann: {choice.factory} in {shards:,} shards, {code} bytes a vector and its id (raw: {raw}), "
        f"{in_bytes(load.items * code)} in all; {'; '.join(choice.reasons)}"
    )
    if config.ann.search != "auto":
        return [index, f"two_tower: {config.ann.search} search, [ann] search says so"]
    mode = "the index is searched" if takes_index(load.items, config) else "searched exactly"
    vectors = in_bytes(load.items * config.two_tower.dim * NUMBER_BYTES)
    return [
        index,
        f"two_tower: {mode}; exact search is for fewer than {config.ann.exact_below:,} items with vectors of at most "
        f"{in_bytes(MAX_VECTOR_BYTES)}, these are {load.items:,} with {vectors}",
    ]


def warnings_of(load: Load, n_cores: int, worker_bytes: int, config: Config) -> list[str]:
    """First what would be refused; then what would run, but take more memory than it should."""
    refused = [one for one in limits_of(load, config) if one.refuses]
    lines = [
        f"{one.step}: refuses, {in_bytes(one.n_bytes)} of {one.what} are more than {in_bytes(one.bound)}"
        f"{f' (at most {load.items * one.bound // one.n_bytes:,} items)' if one.per_item else ''}; lower {one.setting}"
        for one in refused
    ]
    refusal = index_of(load, config).refusal if uses_towers(config) else ""
    if refusal:
        lines.append(f"ann: refuses, {refusal}; the figures are those of the shortest codes")
    lines += [
        f"{step.step}: a worker holds {in_bytes(step.worker)}, more than the {in_bytes(worker_bytes)} given"
        for step in sizes_of(load, n_cores, config)
        if step.worker > worker_bytes
    ]
    plan = als_plan(load, n_cores, config)
    if plan.wanted > BINS:
        lines.append(
            f"als: als.block_bytes asks for {plan.wanted:,} blocks of a side, and there are {BINS:,} at most: a task "
            "takes more than it says"
        )
    return lines


def in_bytes(n: float) -> str:
    """`n` bytes in the unit that leaves the fewest digits."""
    return f"{n:,.0f} B" if n < 1000 else _scaled(n, ("kB", "MB", "GB", "TB", "PB", "EB"))


def in_flop(n: float) -> str:
    """`n` FLOP likewise; "" for 0, where the arithmetic of a step does not count."""
    return _scaled(n, ("k", "M", "G", "T", "P", "E", "Z")) if n else ""


def _scaled(n: float, units: tuple[str, ...]) -> str:
    for unit in units[:-1]:
        n /= 1000
        if n < 999.5:
            return f"{n:.3g} {unit}"
    return f"{n / 1000:,.3g} {units[-1]}"
