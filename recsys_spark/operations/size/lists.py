"""Cost model of embed, ann, retrieve and blend: bytes stored, shuffled and held, FLOP, core-seconds.

Owns: their arithmetic.

Every item counts as one that may be shown, and every user as active.  Bytes, FLOP and seconds as in `size.fits`; what
an index takes was not measured there: its FLOP count as a matrix product's, its look-ups as _LOOKUP_S each.

Letters: d length of a vector, k of a list.
"""

from math import ceil
from typing import Any, NamedTuple

from recsys_spark.ann.index_search import takes_index
from recsys_spark.ann.kernels.index_choice import (
    IndexChoice,
    augmented_length,
    bytes_per_vector,
    choose_index,
    share_of_k,
)
from recsys_spark.config.schema import Config
from recsys_spark.errors import KernelError
from recsys_spark.operations.size.fits import (
    ENTRY_S,
    NUMBER_BYTES,
    PAIR_S,
    REFERENCE_GFLOPS,
    Load,
    StepSize,
    model_bytes,
)
from recsys_spark.retrieval.declared import check_params
from recsys_spark.retrieval.user_lists import COMPLETED, fuses_scores
from recsys_spark.spark.broadcast import LISTED_BYTES

# Share of the first items of one list that another list lacks.
_COMPLETED_SHARE = 0.7

_RANKED_BYTES = 12  # of an entry of `source_candidates`: item_idx, rank, score
_FLOP_S = 1 / (REFERENCE_GFLOPS * 1e9)
_SCORE_S = 2e-9  # to compare a score with the worst of a list
_NEAR_S = 1e-8  # to add a similarity to a sum of a user's
_BLENDED_S = 1e-6  # to fuse an entry of a list and to store what becomes of it
_EMBED_S = 2.1e-5  # to read and encode a row with title and categories, on one core: tests/benchmarks/bench_embed.py
_LOOKUP_S = 1e-9  # of a number in a code's table of distances, to add it

_PROPOSALS = 1.4  # lists that propose a candidate, with `item_cf` and `als` on

_SHORTEST_CODE = 9  # bytes of one sub-quantiser and the id
_NPROBE = 64  # lists that a search visits; the build finds out how many it takes
_TRAIN_PASSES = 10  # of k-means over the sample
_GRAPH_STEPS = 2_000  # centroids that a vector is compared with where a graph finds its lists
_CODEWORDS = 256  # of every sub-quantiser; those of all together are as large as so many vectors

# Sources whose own arithmetic is here; the others' lists are counted, their work is not.
COUNTED = ("als", "item_cf", "two_tower")


class Index(NamedTuple):
    """The index over all items: what is chosen for vectors of length `d`, in how many shards; refusal: why it would not
    be built with the memory that is set, "" if it would.
    """

    choice: IndexChoice
    shards: int
    d: int
    refusal: str


def index_of(load: Load, config: Config) -> Index:
    """The index that the step `ann` will build, as one part; where memory is too little, one with the shortest codes.

    Raises KernelError if [ann] factory is none for so many vectors.
    """
    settings, refusal = config.ann, ""
    dim = config.two_tower.dim
    d = dim if config.two_tower.normalize else augmented_length(dim)
    try:
        choice = choose_index(load.items, d, settings.memory_bytes, settings.factory)
    except KernelError as err:
        refusal = str(err)
        choice = choose_index(load.items, d, load.items * _SHORTEST_CODE, settings.factory)
    return Index(choice, ceil(load.items / settings.items_per_shard), d, refusal)


def embed_size(load: Load, config: Config) -> StepSize:
    """Every user and every item, once; the tables are theirs."""
    (n_users, n_items, n_pairs), d = load[:3], config.two_tower.dim
    rows, layers = n_users + n_items, 4 * d * config.two_tower.hidden
    history = min(n_pairs / n_users, config.two_tower.history_items)
    flop = rows * layers + n_users * (2 * d**2 + 2 * d * history)
    sent = model_bytes(load, config.two_tower) + n_items * (d * NUMBER_BYTES + load.id_bytes)
    return StepSize(
        "embed",
        stored=rows * (d * NUMBER_BYTES + load.id_bytes + 2 * NUMBER_BYTES),
        shuffled=n_users * history * load.id_bytes + rows * 2 * load.id_bytes,  # features meet their ids
        worker=sent,
        driver=sent,
        flop=flop,
        core_s=rows * _EMBED_S + flop * _FLOP_S,
    )


def ann_size(load: Load, config: Config) -> StepSize:
    """One training on a sample, then every item into its shard; vectors lie beside the codes for exact re-scoring."""
    index, n_items = index_of(load, config), load.items
    choice, d = index.choice, index.d
    vector, code = d * NUMBER_BYTES + 8, bytes_per_vector(choice, d)  # 8: the id
    training = choice.nlist * choice.n_train * d * 2 * _TRAIN_PASSES
    adding = n_items * _compared(choice, d) * d * 2
    centroids = choice.nlist * d * NUMBER_BYTES
    return StepSize(
        "ann",
        stored=n_items * (code + vector) + index.shards * centroids,
        shuffled=n_items * vector,
        worker=max(choice.n_train * d * NUMBER_BYTES, centroids + n_items / index.shards * (code + vector)),
        driver=centroids,
        flop=training + adding,
        core_s=(training + adding) * _FLOP_S,
    )


def _compared(choice: IndexChoice, d: int) -> int:
    """Vectors that one is compared with on its way to its lists and its code, or a query to its table of distances."""
    lists = _GRAPH_STEPS if "HNSW" in choice.factory else choice.nlist
    rotation = d if choice.factory.startswith("OPQ") else 0
    return lists + rotation + (_CODEWORDS if choice.M else 0)


def retrieve_size(load: Load, config: Config) -> StepSize:
    """The lists of every enabled source; of those in COUNTED, what making them takes too."""
    listed = load.users * listed_entries(config, load.items)
    counted = {"als": _factors_size, "item_cf": _near_size, "two_tower": _towers_size}
    parts = [counted[name](load, config) for name in config.sources.enabled if name in counted]
    return StepSize(
        "retrieve",
        stored=listed * _RANKED_BYTES,
        shuffled=sum(part.shuffled for part in parts),
        worker=sum(part.worker for part in parts),  # all models are sent at once
        driver=sum(part.driver for part in parts),
        flop=sum(part.flop for part in parts),
        core_s=sum(part.core_s for part in parts) + listed * ENTRY_S,
    )


def max_items(config: Config) -> dict[str, int]:
    """Longest list of a user, by enabled source; `popular` has none of single users."""
    params: dict[str, Any] = dict(check_params(config))
    return {name: one.max_items for name, one in params.items() if name != "popular"}


def listed_entries(config: Config, n_items: int) -> float:
    """Entries of all lists of a user; where scores are fused, with what each says of the first items of the others."""
    lengths = [min(one, n_items) for one in max_items(config).values()]
    if not fuses_scores(config.candidates):
        return sum(lengths)
    return sum(lengths) + _COMPLETED_SHARE * min(COMPLETED, n_items) * len(lengths) * (len(lengths) - 1)


def _factors_size(load: Load, config: Config) -> StepSize:
    return _exact_size(load, config.als.factors)


def _towers_size(load: Load, config: Config) -> StepSize:
    exact = not takes_index(load.items, config)
    return _exact_size(load, config.two_tower.dim) if exact else _ann_search_size(load, config)


def _exact_size(load: Load, d: int) -> StepSize:
    """Every user's product with every item."""
    n_users, n_items, n_pairs = load[:3]
    flop, sent = 2.0 * n_users * n_items * d, n_items * (d * NUMBER_BYTES + 16)  # 16: norm, index and place
    return StepSize(
        "exact",
        shuffled=n_users * (d + 1) * NUMBER_BYTES + n_pairs * 2 * NUMBER_BYTES,  # vectors, and what a user is not shown
        worker=sent,
        driver=sent,
        flop=flop,
        core_s=flop * _FLOP_S + n_users * n_items * _SCORE_S + n_pairs * PAIR_S,
    )


def _ann_search_size(load: Load, config: Config) -> StepSize:
    """Every user, with what they are not shown, to every shard; the best of each are merged."""
    (n_users, n_items, n_pairs), k = load[:3], max_items(config)["two_tower"]
    index = index_of(load, config)
    choice, shards, d = index.choice, index.shards, index.d
    wanted, kept = share_of_k(config.ann.rerank * k, shards), share_of_k(k, shards)
    nprobe = min(_NPROBE, choice.nlist)
    dense = 2.0 * d * n_users * shards * (_compared(choice, d) + wanted)
    read = n_users * n_items * nprobe / choice.nlist * (choice.M or 2 * d)
    to_shards = shards * (n_users * d + n_pairs) * NUMBER_BYTES
    return StepSize(
        "ann",
        shuffled=(n_users * d + 2 * n_pairs) * NUMBER_BYTES + to_shards + n_users * shards * kept * LISTED_BYTES,
        worker=n_items / shards * (bytes_per_vector(choice, d) + d * NUMBER_BYTES + 8)
        + choice.nlist * d * NUMBER_BYTES,
        flop=dense + read,
        core_s=dense * _FLOP_S + read * _LOOKUP_S + n_pairs * PAIR_S,
    )


def _near_size(load: Load, config: Config) -> StepSize:
    """The similarities to the newest items of a user, summed."""
    n_users, n_items, n_pairs = load[:3]
    near = min(config.item_cf.num_neighbors, n_items - 1)
    history = min(n_pairs / n_users, check_params(config)["item_cf"].history_items)  # type: ignore[attr-defined]
    products, sent = n_users * history * near, n_items * near * LISTED_BYTES
    return StepSize(
        "item_cf",
        shuffled=n_pairs * (3 * NUMBER_BYTES + 9),  # user, item, weight, time, hidden
        worker=sent,
        driver=sent,
        flop=2 * products,
        core_s=products * _NEAR_S + n_pairs * PAIR_S,
    )


def blend_size(load: Load, config: Config) -> StepSize:
    """Every list of a user fused into one of k, with what proposed each item."""
    n_users, n_items, n_pairs, k = *load[:3], config.candidates.k
    entry = load.id_bytes + 2 * NUMBER_BYTES + _PROPOSALS * 2 * NUMBER_BYTES  # id, rank, score, and who says so
    listed = n_users * min(k, n_items)
    stored = n_users * (load.id_bytes + 8) + listed * entry
    proposed = n_users * listed_entries(config, n_items)
    sent = n_items * (load.id_bytes + 2 * NUMBER_BYTES)
    return StepSize(
        "blend",
        stored=stored,
        shuffled=proposed * 2 * NUMBER_BYTES + n_pairs * 8,  # lists and seen items meet by user
        worker=sent,
        driver=sent,
        core_s=proposed * _BLENDED_S,
    )
