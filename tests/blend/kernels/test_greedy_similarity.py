import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_spark.blend.kernels.greedy import TILE, PoolSimilarity, catch_up, load_pool, note_chosen, similarity_room


def loaded(vectors: np.ndarray, items: np.ndarray, k: int) -> PoolSimilarity:
    room = similarity_room(len(items), vectors.shape[1], k)
    assert load_pool(room, vectors, items)
    return room


@given(st.integers(0, 10_000), st.integers(1, 3 * TILE), st.integers(1, 11))
@settings(max_examples=100, deadline=None)
def test_catch_up_finds_the_highest_cosine_with_the_chosen(seed: int, n: int, f: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, f)).astype(np.float32)
    items = rng.permutation(n).astype(np.int32)
    chosen = rng.permutation(n)[:3]
    room = loaded(vectors, items, 3)
    for rank, place in enumerate(chosen):
        note_chosen(room, place, rank)
    for tile in range(len(room.tiles)):
        catch_up(room, tile, len(chosen))
    units = vectors[items] / np.linalg.norm(vectors[items].astype(float), axis=1, keepdims=True)
    wanted = np.maximum((units @ units[chosen].T).max(axis=1), 0)
    # At most 11 products and sums of numbers up to 1 in float32.
    np.testing.assert_allclose(room.nearest.ravel()[:n], wanted, rtol=0, atol=16 * 2**-24)


def test_catch_up_gives_the_same_bits_late_and_early() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((TILE, 10)).astype(np.float32)
    early, late = (loaded(vectors, np.arange(TILE, dtype=np.int32), 9) for _ in range(2))
    for rank in range(9):
        note_chosen(early, rank, rank)
        note_chosen(late, rank, rank)
        catch_up(early, 0, rank + 1)
    catch_up(late, 0, 9)
    assert early.nearest.tobytes() == late.nearest.tobytes()


def test_similarity_counts_from_zero_and_is_zero_without_a_vector() -> None:
    vectors = np.array([[1, 0], [-1, 0], [0, 0], [3, 0], [1e-30, 1e-30]], np.float32)
    room = loaded(vectors, np.arange(5, dtype=np.int32), 1)
    note_chosen(room, 0, 0)
    catch_up(room, 0, 1)
    np.testing.assert_allclose(room.nearest[0, :5], [1, 0, 0, 1, 0.5**0.5], rtol=2**-23)  # float32


def test_load_pool_forgets_the_pool_before() -> None:
    vectors = np.array([[1, 0], [0, 1]], np.float32)
    room = loaded(vectors, np.array([0, 0, 0], np.int32), 1)
    note_chosen(room, 0, 0)
    catch_up(room, 0, 1)
    assert load_pool(room, vectors, np.array([1], np.int32))
    assert not room.nearest.any()
    assert room.seen.tolist() == [0]
    assert room.tiles[0, :, :3].tolist() == [[0, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_load_pool_says_if_a_vector_is_not_finite(wrong: float) -> None:
    vectors = np.array([[1, 0], [wrong, 1]], np.float32)
    room = similarity_room(2, 2, 1)
    assert not load_pool(room, vectors, np.array([0, 1], np.int32))
    assert load_pool(room, vectors, np.array([0, 0], np.int32))
