"""A model's scorer agrees with its own lists, and knows the background that its scores stand before."""

import numpy as np
import pytest

from recsys_spark.numeric.ranked import Ranked
from recsys_spark.numeric.sparse import Csr
from recsys_spark.numeric.top_k import search_items
from recsys_spark.retrieval.scorers import Model, NewestPlaced, UserNeighbors, Users, neighbor_model, vector_model
from recsys_spark.spark.sparse_blocks import RowBlock
from tests.item_cf_oracle import long_tailed, neighbors_of, similarity_of, sparse

N_USERS, N_ITEMS = 12, 20
RNG = np.random.default_rng(6)
X, Y = (RNG.standard_normal((n, 4)).astype(np.float32) for n in (N_USERS, N_ITEMS))


def users() -> Users:
    """Everybody has some items, the first of which is hidden; the even ones have a vector."""
    rows = sparse(long_tailed(3, N_USERS, N_ITEMS))
    block = RowBlock(
        0, rows.indptr, rows.indices, {"weight": rows.values, "time": np.arange(len(rows.indices), dtype=np.int64)}
    )
    first = rows.indptr[:-1][rows.lengths > 0]
    indptr = np.concatenate([[0], np.cumsum(rows.lengths > 0)])
    hidden = Csr(indptr, rows.indices[first], np.ones(len(first), np.float32), N_ITEMS)
    even = np.arange(0, N_USERS, 2)
    return Users(block, hidden, even, X[even])


NEAR = neighbors_of(sparse(long_tailed(4, 30, N_ITEMS)), similarity_of("cosine", num_neighbors=4))
MODELS: dict[str, Model] = {
    "vectors": vector_model(search_items(Y, np.arange(0, N_ITEMS, 3))),
    "placed": neighbor_model(NEAR, NewestPlaced(N_ITEMS, 5, 2.0)),
}


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_the_lists_also_beyond_their_ends(name: str) -> None:
    scorer = MODELS[name].scorer(users())
    whole, short = scorer.lists(N_ITEMS), scorer.lists(2)
    rows = np.repeat(np.arange(len(scorer.places)), np.diff(whole.indptr))
    np.testing.assert_array_equal(scorer.scores(rows, whole.indices), whole.scores)
    assert np.diff(short.indptr).max() == 2
    mean, deviation = scorer.background()
    assert len(mean) == len(deviation) == len(scorer.places)
    assert (deviation > 0).all()


def test_a_scorer_of_neighbors_has_no_score_for_what_is_near_to_nothing() -> None:
    scorer = MODELS["placed"].scorer(users())
    rows = np.repeat(np.arange(N_USERS), N_ITEMS)
    scores = scorer.scores(rows, np.tile(np.arange(N_ITEMS, dtype=np.int32), N_USERS))
    assert np.isnan(scores).any()
    assert (scores[~np.isnan(scores)] > 0).all()


def test_near_users_are_those_of_the_users_of_a_block() -> None:
    block = RowBlock(1, np.array([0, 1, 1]), np.array([3], np.int32), {})
    lists = Ranked(np.array([0, 1, 3, 4]), np.array([9, 8, 7, 6], np.int32), np.ones(4, np.float32))
    history = UserNeighbors(lists).of(block)
    assert (history.indptr.tolist(), history.indices.tolist()) == ([0, 2, 3], [8, 7, 6])
