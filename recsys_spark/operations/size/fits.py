"""Cost model of interactions, item_cf, als and two_tower: bytes stored, shuffled and held, FLOP, core-seconds.

Owns: their arithmetic, and `Load` and `StepSize`, in which `size.lists` gives that of the other steps.

Bytes are those before compression; tests hold them against the files of a real run.  FLOP are of single precision.
Core-seconds are those of a core that makes products of matrices at REFERENCE_GFLOPS; the constants that end in _S are
of such a core, measured by tests/benchmarks/check_size.py where nothing else is said.

Letters: f factors, d length of an embedding, g of a hidden layer.
"""

from dataclasses import dataclass
from math import ceil, expm1, log1p
from typing import NamedTuple

import numpy as np

from recsys_spark.als.blocks import BINS, Sizes, side_blocks_for
from recsys_spark.als.fit import block_bytes_for, exchange_for
from recsys_spark.als.kernels.objective import row_costs
from recsys_spark.config.models import TwoTower
from recsys_spark.config.schema import Config
from recsys_spark.item_cf.kernels import row_products
from recsys_spark.item_cf.neighbors import SUM_BYTES
from recsys_spark.spark.sparse_blocks import n_blocks_for
from recsys_spark.two_tower.dimensions import id_buckets

# Of one thread of an AMD EPYC: 128 x 64 times 64 x 8192, as exact search multiplies.
REFERENCE_GFLOPS = 65.0

NUMBER_BYTES = 4  # a float, an index, a count
ENTRY_S = 4e-7  # to choose an entry of a list, and to store it
PAIR_S = 2e-6  # to read a pair and bring it to its block
_PRODUCT_S = 4e-9  # of item_cf: looked up, and added to its sum
_ALS_FLOP_S = 1 / 40e9  # of the rows' systems, as `row_costs` counts them
_TOWER_FLOP_S = 1 / 28e9  # of training: 8,400 examples a second (tests/benchmarks/bench_train.py)

_LONG_TAIL = 2.0  # mean square of a user's number of items, in squares of the mean: 1.7 to 6 in the logs of tests/data


class Load(NamedTuple):
    """The size of a deployment's data; pairs: of a user and an item.  id_bytes: of an external id, by default as
    `spark.broadcast` counts it.
    """

    users: int
    items: int
    pairs: int
    id_bytes: int = 25


@dataclass(frozen=True)
class StepSize:
    """Of one step: bytes that it stores, shuffles, and keeps on disk while it runs; bytes in a Python worker, of which
    every core has one, and on the driver; FLOP; seconds of one core.
    """

    step: str
    stored: float = 0.0
    shuffled: float = 0.0
    scratch: float = 0.0
    worker: float = 0.0
    driver: float = 0.0
    flop: float = 0.0
    core_s: float = 0.0


def touched(n_bins: float, n_draws: float) -> float:
    """Expected number of `n_bins` hit by uniform draws: the blocks in which a row has an entry."""
    return -n_bins * expm1(n_draws * log1p(-1 / n_bins)) if n_bins > 1 else min(1.0, n_draws)


def struct_bytes(n_fields: int, text_bytes: int = 0) -> int:
    """Bytes of a struct in an array as Spark shuffles it: 8 for its place, 8 for the null bits, 8 for each field, and
    those of a text besides, rounded up to 8.
    """
    return 8 * (2 + n_fields - (-text_bytes // 8))


def interactions_size(load: Load) -> StepSize:
    """The table of pairs; what making it takes depends on the log, and is not counted."""
    return StepSize("interactions", stored=load.pairs * (4 * NUMBER_BYTES + 8))  # 8: the time


def item_cf_size(load: Load, n_cores: int, config: Config) -> StepSize:
    """Every two items of a user make a product; a user's row goes to every block of items that it touches."""
    n_users, n_items, n_pairs = load[:3]
    settings = config.item_cf
    length = min(n_pairs / n_users, settings.max_items_per_user)
    products = n_users * min(_LONG_TAIL * length**2, settings.max_items_per_user * length)
    n_blocks, n_item_blocks = (
        n_blocks_for(n_cores, n_pairs, settings.block_bytes),
        item_cf_blocks(load, n_cores, config),
    )
    routed = n_users * touched(n_item_blocks, length) * (length * row_products.ENTRY_BYTES + 8)
    sums = n_blocks * touched(n_items, n_pairs / n_blocks) * (SUM_BYTES + NUMBER_BYTES)
    listed = n_items * min(settings.num_neighbors, n_items - 1)
    lists = listed * (load.id_bytes + row_products.LISTED_BYTES) + n_items * (load.id_bytes + NUMBER_BYTES)
    sent, sorted_rows = n_items * (SUM_BYTES + load.id_bytes), listed * struct_bytes(3, load.id_bytes)
    return StepSize(
        "item_cf",
        stored=lists,
        shuffled=n_pairs * (3 * NUMBER_BYTES + 8) + sums + routed + sorted_rows,
        worker=sent + 4 * min(settings.block_bytes, routed / n_item_blocks),  # 4: see [item_cf] block_bytes
        driver=sent + n_items * NUMBER_BYTES,
        flop=2 * products,
        core_s=n_pairs * PAIR_S + products * _PRODUCT_S + listed * ENTRY_S,
    )


def item_cf_blocks(load: Load, n_cores: int, config: Config) -> int:
    """Blocks of items: to keep the cores busy, or so many that a task has room for a block's lists and its rows, or
    sums; `item_blocks` cuts them by the products of each item, of which this knows the mean.
    """
    settings, (n_users, n_items, n_pairs) = config.item_cf, load[:3]
    products = _LONG_TAIL * (n_pairs / n_users) * (n_pairs / n_items)
    item_bytes = min(min(products, n_pairs) * row_products.ENTRY_BYTES, min(products, n_items) * row_products.SUM_BYTES)
    fits = n_pairs * row_products.ENTRY_BYTES <= settings.block_bytes
    by_memory = 1 if fits else ceil(n_items * item_bytes / settings.block_bytes)
    by_lists = ceil(n_items * settings.num_neighbors * row_products.LISTED_BYTES / settings.block_bytes)
    return min(n_items, max(n_blocks_for(n_cores, n_pairs, settings.block_bytes), by_memory, by_lists))


class AlsPlan(NamedTuple):
    """exchange: how factors reach the tasks.  users, items: blocks of either side.  wanted: blocks of a side that would
    keep a task within [als] block_bytes; there are no more than BINS.
    """

    exchange: str
    users: int
    items: int
    wanted: int


def als_plan(load: Load, n_cores: int, config: Config) -> AlsPlan:
    """As `als.fit` would choose, attributes left out."""
    settings, (n_users, n_items, n_pairs) = config.als, load[:3]
    exchange = exchange_for(n_pairs, Sizes(n_users, n_items, n_users, n_items), settings)
    if exchange == "local":
        return AlsPlan(exchange, 1, 1, 1)
    block_bytes = block_bytes_for(exchange, settings)
    users, items = (side_blocks_for(n_cores, n_pairs, n, settings.factors, block_bytes) for n in (n_users, n_items))
    return AlsPlan(exchange, min(users, BINS, n_users), min(items, BINS, n_items), max(users, items))


def als_size(load: Load, n_cores: int, config: Config) -> StepSize:
    """As many passes as [als] iterations allows, and the users once more; a fit may end before, see `tolerance`."""
    (n_users, n_items, n_pairs), f, iterations = load[:3], config.als.factors, config.als.iterations
    plan = als_plan(load, n_cores, config)
    users = _half(n_pairs, f, plan.exchange, _Side(n_users, plan.users), _Side(n_items, plan.items))
    items = _half(n_pairs, f, plan.exchange, _Side(n_items, plan.items), _Side(n_users, plan.users))
    flop = (iterations + 1) * users.flop + iterations * items.flop
    factors = (n_users + n_items) * f * NUMBER_BYTES
    entries = 2 * n_pairs * 3 * NUMBER_BYTES  # of both sides, on their way to their blocks
    driver = {
        "local": n_pairs * 4 * NUMBER_BYTES + 3 * factors,
        "broadcast": 3 * max(n_users, n_items) * f * NUMBER_BYTES,  # as read, rotated, and written for the workers
        "shuffle": 2 * f**2 * 8,  # Gramians
    }
    return StepSize(
        "als",
        stored=factors + (n_users + n_items) * (load.id_bytes + 4 * NUMBER_BYTES),
        shuffled=entries + (iterations + 1) * users.shuffled + iterations * items.shuffled + factors,
        scratch=2 * (n_pairs + n_users + n_items) * 2 * NUMBER_BYTES + 2 * factors,
        worker=max(users.worker, items.worker),
        driver=driver[plan.exchange],
        flop=flop,
        core_s=2 * n_pairs * PAIR_S + flop * _ALS_FLOP_S,
    )


class _Side(NamedTuple):
    rows: int
    blocks: int


def _half(n_pairs: int, f: int, exchange: str, solved: _Side, fixed: _Side) -> StepSize:
    """A half-iteration: every row of `solved` from the rows of `fixed` that it has entries in."""
    row_bytes = f * NUMBER_BYTES
    rows, shuffled = float(fixed.rows), 0.0  # rows of the fixed side that are rotated, all tasks together
    held = rows
    if exchange == "shuffle":
        rows *= touched(solved.blocks, n_pairs / fixed.rows)
        shuffled, held = rows * (row_bytes + NUMBER_BYTES), rows / solved.blocks
    task = (held + solved.rows / solved.blocks) * 3 * row_bytes + n_pairs / solved.blocks * 2 * NUMBER_BYTES
    systems = 2 * float(row_costs(np.array(n_pairs), np.array(solved.rows), f))  # a multiplication is two FLOP
    return StepSize(
        "half",
        shuffled=shuffled,
        worker=0.0 if exchange == "local" else task,
        flop=systems + 2 * f**2 * (rows + solved.rows),  # rotation, and the Gramian of what was solved
    )


def model_bytes(load: Load, settings: TwoTower) -> int:
    """Weights of both towers: tables of hashed values and ids, and the layers (`two_tower.kernels.towers`)."""
    n_ids = id_buckets(load.items, settings.max_id_buckets) if settings.id_dropout < 1 else 0
    d, g = settings.dim, settings.hidden
    return NUMBER_BYTES * (d * (n_ids + 2 * settings.n_buckets) + d**2 + 4 * d * g)


def two_tower_size(load: Load, config: Config) -> StepSize:
    """Training in one process, or a few on one machine; every pair of the last `training_days` is an example.

    Pairs count as spread evenly over `interactions.window_days`, and every epoch as run.
    """
    settings, d = config.two_tower, config.two_tower.dim
    window = config.interactions.window_days or settings.training_days
    examples = load.pairs * min(1.0, settings.training_days / window) * settings.epochs
    history = min(load.pairs / load.users, settings.history_items)
    layers = 4 * d * settings.hidden
    scores = 2 * d * settings.batch_size * (1 + settings.negatives)  # with every item of the batch
    flop = 3 * examples * (layers * (2 + settings.negatives) + 2 * d**2 + 2 * d * history + scores)  # 3: and back
    weights = model_bytes(load, settings)
    return StepSize(
        "two_tower",
        stored=weights,
        scratch=load.pairs * 4 * NUMBER_BYTES,
        driver=4 * weights + 2 * settings.shard_bytes,  # weights, gradients and two moments of each
        flop=flop,
        core_s=flop * _TOWER_FLOP_S,
    )
