"""What is reckoned is what a run stores and shuffles, and what is refused is what the steps refuse."""

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.operations.size.deployment import choices_of, in_bytes, in_flop, limits_of, sizes_of, warnings_of
from recsys_spark.operations.size.fits import Load
from tests.benchmarks.planted import planted_interactions
from tests.sized_run import SETS, external_ids, run_steps, stage_parquet, stored_bytes

GIB = 1 << 30
ID_BYTES = 12  # of the run's ids


@pytest.fixture(scope="module")
def sized(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Load, dict[str, float]]:
    """A run of 1,500 users and 600 items, its load, and the bytes that each step shuffled."""
    folder = tmp_path_factory.mktemp("sized")
    config = load_config(sets=(f"storage.root={folder}", *SETS, "als.iterations=2", "als.factors=64"))
    planted = planted_interactions(1_500, 600, 60_000)
    measured = run_steps(spark, config, planted)
    for kind, n in (("user", planted.n_users), ("item", planted.n_items)):
        vectors = np.random.default_rng(1).normal(size=(n, 64)).astype(np.float32)
        columns = {f"{kind}_idx": np.arange(n), f"{kind}_id": external_ids(kind, n), "norm": np.ones(n)}
        columns |= {"model_version": ["e" * 64] * n, "vector": list(vectors)}
        stage_parquet(spark, config.root, f"{kind}_embeddings", pa.table(columns))
    load = Load(planted.n_users, planted.n_items, len(planted.users), ID_BYTES)
    return config, load, {name: float(one.shuffled_bytes) for name, one in measured.items()}


# Vectors hardly compress.  Lists do, and some are shorter than the longest: what is reckoned is the most they can be.
@pytest.mark.parametrize(
    ("step", "tables", "least", "most"),
    [
        ("als", ("user_factors", "item_factors"), 0.9, 1.2),
        ("embed", ("user_embeddings", "item_embeddings"), 0.9, 1.2),
        ("item_cf", ("item_neighbors",), 1, 5),
        ("retrieve", ("source_candidates",), 1, 3),
        ("blend", ("candidates",), 1, 4),
    ],
)
def test_sizes_of_are_near_the_files_of_a_run(
    step: str, tables: tuple[str, ...], least: float, most: float, sized: tuple[Config, Load, dict[str, float]]
) -> None:
    config, load, _ = sized
    if step == "embed":
        config = load_config(sets=('sources.enabled=["two_tower"]', "two_tower.dim=64"))
    reckoned = next(one.stored for one in sizes_of(load, 2, config) if one.step == step)
    stored = sum(stored_bytes(sized[0].root, table) for table in tables)
    assert least <= reckoned / stored <= most


# Shuffles are compressed to a half or a quarter.
@pytest.mark.parametrize("step", ["item_cf", "als", "retrieve", "blend"])
def test_sizes_of_are_near_what_a_run_shuffles(step: str, sized: tuple[Config, Load, dict[str, float]]) -> None:
    config, load, shuffled = sized
    reckoned = next(one.shuffled for one in sizes_of(load, 2, config) if one.step == step)
    assert 1 <= reckoned / shuffled[step] <= 6


@pytest.mark.parametrize(
    ("source", "what", "items", "sets"),
    [
        ("item_cf", "neighbours of items", (256 << 20) // 800, ()),
        ("als", "vectors of items", (256 << 20) // 512, ("als.factors=128",)),
        ("two_tower", "vectors of items, for histories", (256 << 20) // 256, ("two_tower.dim=64",)),
        ("als", "ids of items", (256 << 20) // 25, ()),
        ("als", "sums per item", (256 << 20) // 48, ()),
    ],
)
def test_limits_of_refuse_one_item_more_than_fits(source: str, what: str, items: int, sets: tuple[str, ...]) -> None:
    config = load_config(sets=(f'sources.enabled=["{source}"]', *sets))
    for n, refuses in ((items, False), (items + 1, True)):
        assert {one.refuses for one in limits_of(Load(10, n, 100), config) if one.what == what} == {refuses}


def test_limits_of_hold_users_and_pairs_of_user_cf() -> None:
    config = load_config(sets=('sources.enabled=["user_cf"]', "sources.user_cf.num_neighbors=50"))
    refused = {one.what for one in limits_of(Load(700_000, 10, 34_000_000), config) if one.refuses}
    assert refused == {"near users", "interactions"}


def test_limits_of_leave_out_vectors_that_the_index_searches() -> None:
    config = load_config(sets=('sources.enabled=["two_tower"]',))
    assert "vectors of items" not in {one.what for one in limits_of(Load(10, 10**8, 100), config)}


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        (
            Load(1_000, 500, 20_000),
            "als: exchange local, 1 + 1 blocks of users and items; matrix and factors",
        ),
        (
            Load(400_000, 500, 10**7),
            "als: exchange broadcast, 16 + 16 blocks of users and items; the larger",
        ),
        (Load(10**8, 10**6, 5 * 10**9), "als: exchange shuffle, 4,096 + 4,096 blocks of users and items; the larger"),
    ],
)
def test_choices_of_name_the_exchange(load: Load, expected: str) -> None:
    assert choices_of(load, 8, load_config())[0].startswith(expected)


@pytest.mark.parametrize(
    ("items", "sets", "expected"),
    [
        (99_999, (), "two_tower: searched exactly"),
        (100_000, (), "two_tower: the index is searched"),
        (90_000, ("two_tower.dim=1024",), "two_tower: the index is searched"),
        (100_000, ("ann.search=exact",), "two_tower: exact search, [ann] search says so"),
    ],
)
def test_choices_of_name_the_search(items: int, sets: tuple[str, ...], expected: str) -> None:
    config = load_config(sets=('sources.enabled=["two_tower"]', *sets))
    assert any(line.startswith(expected) for line in choices_of(Load(10, items, 100), 8, config))


def test_choices_of_say_whose_work_is_not_counted() -> None:
    config = load_config(sets=('sources.enabled=["popular","als","user_cf"]',))
    assert choices_of(Load(10, 10, 100), 8, config)[-1].startswith("retrieve: the lists of user_cf are counted")


def test_warnings_of_a_small_shop_are_none() -> None:
    assert warnings_of(Load(20_000, 8_000, 900_000), 2, GIB, load_config()) == []


def test_warnings_of_tell_of_workers_that_are_too_small() -> None:
    found = warnings_of(Load(400_000, 500_000, 10**7), 8, 100 << 20, load_config(sets=("als.factors=64",)))
    assert any(line.startswith("als: a worker holds ") for line in found)


def test_warnings_of_tell_of_an_index_that_has_too_little_memory() -> None:
    config = load_config(sets=('sources.enabled=["two_tower"]',))
    found = warnings_of(Load(10, 10**9, 100), 8, GIB, config)
    assert any(line.startswith("ann: refuses, index: expected memory for at least ") for line in found)


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (999_600, "1 MB"), (2.5e15, "2.5 PB")]
)
def test_in_bytes_has_three_digits(n: float, text: str) -> None:
    assert in_bytes(n) == text


def test_in_flop_says_nothing_where_there_are_none() -> None:
    assert (in_flop(0), in_flop(3e13)) == ("", "30 T")
