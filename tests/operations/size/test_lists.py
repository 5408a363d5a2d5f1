"""The arithmetic of embeddings, index and lists, held against sums by hand."""

from math import ceil

import pytest

from recsys_spark.ann.kernels.index_choice import bytes_per_vector, choose_index, share_of_k
from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.errors import KernelError
from recsys_spark.operations.size.fits import Load, model_bytes
from recsys_spark.operations.size.lists import ann_size, blend_size, embed_size, index_of, max_items, retrieve_size

LOAD = Load(users=1_000, items=2_000_000, pairs=20_000, id_bytes=10)
SMALL = LOAD._replace(items=500)


def settings(*sets: str) -> Config:
    return load_config(sets=("two_tower.dim=64", *sets))


def only(source: str, *sets: str) -> Config:
    return settings(f'sources.enabled=["{source}"]', *sets)


def test_index_of_is_the_choice_of_the_step() -> None:
    index = index_of(LOAD, settings("ann.items_per_shard=300_000", "ann.memory_bytes=50_000_000"))
    assert index.choice == choose_index(2_000_000, 64, 50_000_000)
    assert (index.shards, index.d, index.refusal) == (ceil(2_000_000 / 300_000), 64, "")


def test_index_of_is_over_longer_vectors_where_norms_differ() -> None:
    assert index_of(LOAD, settings("two_tower.normalize=false")).d == 72


def test_index_of_says_why_it_would_be_refused_and_reckons_with_the_shortest_codes() -> None:
    index = index_of(LOAD, settings("ann.memory_bytes=1000"))
    assert "got 1000" in index.refusal
    assert bytes_per_vector(index.choice, index.d) == 9


def test_index_of_refuses_a_factory_that_is_none() -> None:
    with pytest.raises(KernelError, match="factory"):
        index_of(LOAD, settings("ann.factory=IVF"))


def test_embed_size_is_a_vector_and_an_id_for_everybody() -> None:
    config = settings()
    found = embed_size(SMALL, config)
    assert found.stored == 1_500 * (64 * 4 + 10 + 4 + 4)
    assert found.worker == found.driver == model_bytes(SMALL, config.two_tower) + 500 * (64 * 4 + 10)
    assert found.flop == 1_500 * 4 * 64 * 128 + 1_000 * (2 * 64**2 + 2 * 64 * 20)


def test_ann_size_is_codes_vectors_and_centroids() -> None:
    config = settings()
    choice, shards = index_of(LOAD, config)[:2]
    code, raw = bytes_per_vector(choice, 64), 64 * 4 + 8
    assert shards == 2
    assert ann_size(LOAD, config).stored == 2_000_000 * (code + raw) + 2 * choice.nlist * 64 * 4
    assert ann_size(LOAD, config).shuffled == 2_000_000 * raw
    training = choice.nlist * choice.n_train * 64 * 2 * 10
    assert ann_size(LOAD, config).flop == training + 2_000_000 * (choice.nlist + 256) * 64 * 2


def test_retrieve_size_multiplies_every_user_with_every_item_where_search_is_exact() -> None:
    found = retrieve_size(SMALL, only("als", "als.factors=16"))
    assert found.flop == 2 * 1_000 * 500 * 16
    assert found.stored == 1_000 * 200 * 12
    assert found.shuffled == 1_000 * 17 * 4 + 20_000 * 8
    assert found.worker == 500 * (16 * 4 + 16)


def test_retrieve_size_adds_up_neighbours_of_the_history() -> None:
    found = retrieve_size(SMALL, only("item_cf", "item_cf.num_neighbors=30"))
    assert found.flop == 2 * 1_000 * 20 * 30
    assert found.worker == 500 * 30 * 8


def test_retrieve_size_sends_every_user_and_what_they_had_to_every_shard() -> None:
    config = only("two_tower", "ann.items_per_shard=200_000")
    choice, d = index_of(LOAD, config).choice, 64
    found = retrieve_size(LOAD, config)
    wanted, kept = share_of_k(4 * 200, 10), share_of_k(200, 10)
    sent = (1_000 * d + 2 * 20_000) * 4 + 10 * (1_000 * d + 20_000) * 4
    assert found.shuffled == sent + 1_000 * 10 * kept * 8
    looked_up = 1_000 * 2_000_000 * 64 / choice.nlist * choice.M
    assert found.flop == 1_000 * 10 * 2 * d * (choice.nlist + 256 + wanted) + looked_up


def test_retrieve_size_goes_by_the_settings_of_search() -> None:
    exact = retrieve_size(LOAD, only("two_tower", "ann.search=exact"))
    assert exact.flop == 2 * 1_000 * 2_000_000 * 64
    assert retrieve_size(SMALL, only("two_tower")).flop == 2 * 1_000 * 500 * 64


def test_max_items_are_of_lists_of_single_users() -> None:
    config = settings('sources.enabled=["popular","als","user_cf"]', "sources.als.max_items=7")
    assert max_items(config) == {"als": 7, "user_cf": 200}


def test_blend_size_stores_k_of_every_user() -> None:
    found = blend_size(SMALL, only("als", "candidates.k=50"))
    entry = 10 + 4 + 4 + 1.4 * 8
    assert found.stored == pytest.approx(1_000 * (10 + 8 + 50 * entry))
    assert found.shuffled == pytest.approx(1_000 * 200 * 8 + 20_000 * 8)  # item and score; user and item
