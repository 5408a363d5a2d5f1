"""The choice of an index: what it is at each size, that its training and memory suffice, and what it refuses."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_spark.ann.kernels.index_choice import augmented_length, bytes_per_vector, choose_index, ladder, share_of_k
from recsys_spark.errors import KernelError

PLENTY = 1 << 50


@pytest.mark.parametrize(
    ("n", "memory_bytes", "factory", "n_train"),
    [
        (1, PLENTY, "Flat", 0),
        (999, 1, "Flat", 0),
        (1_000, PLENTY, "IVF16,Flat", 1_000),  # 16 * 39 <= 1 000 < 32 * 39
        (9_983, 1, "IVF128,Flat", 128 * 64),
        (9_984, 9_984 * (4 * 64 + 8), "IVF256,Flat", 9_984),
        (9_984, 9_984 * (4 * 64 + 8) - 1, "IVF256,PQ32", 9_984),
        (50_000, PLENTY, "IVF1024,Flat", 50_000),  # 4 * sqrt(50 000) = 894
        (50_001, PLENTY, "IVF1024,PQ32", 50_001),
        (1_000_000, PLENTY, "IVF4096,PQ32", 4096 * 64),
        (1_000_000, 24_000_000, "IVF4096,PQ16", 4096 * 64),
        (1_000_000, 23_999_999, "OPQ8,IVF4096,PQ8", 4096 * 64),
        (250_000_000, PLENTY, "IVF65536_HNSW32,PQ32", 65536 * 64),
        (5_000_000_000, PLENTY, "IVF131072_HNSW32,PQ32", 131072 * 64),
    ],
)
def test_choose_index_goes_by_size_and_memory(n: int, memory_bytes: int, factory: str, n_train: int) -> None:
    choice = choose_index(n, 64, memory_bytes)
    assert (choice.factory, choice.n_train) == (factory, n_train)


@given(st.integers(1, 10**9), st.integers(1, 300), st.integers(9, 2000))
def test_choose_index_can_be_trained_and_fits(n: int, d: int, budget: int) -> None:
    choice = choose_index(n, d, n * budget)
    assert choice.nlist == 1 or 39 * choice.nlist <= choice.n_train <= n
    if choice.M:
        assert d % choice.M == 0
        assert choice.n_train >= 39 * 256
        assert bytes_per_vector(choice, d) <= budget
    else:
        assert n <= 50_000
        assert bytes_per_vector(choice, d) <= budget or n < 39 * 256
    assert choose_index(n, d, n * budget, choice.factory).nlist == choice.nlist  # it reads its own strings


def test_choose_index_gives_a_reason_for_every_part() -> None:
    assert choose_index(1_000_000, 64, 16_000_000).reasons == (
        "IVF4096: 4 times the root of 1000000 vectors, as a power of two",
        "PQ8: the most of its 64 numbers' divisors up to 32 whose codes fit into 16000000 bytes",
        "OPQ8: each code covers more than 4 numbers, so that a rotation pays",
    )


def test_choose_index_says_that_too_few_vectors_for_codes_take_more_memory_than_allowed() -> None:
    assert choose_index(2_000, 4, 1_000).reasons[1] == (
        f"Flat: 2000 vectors are fewer than the {39 * 256} that codes of 8 bits need, so they take {2_000 * 24} bytes "
        "although 1000 were allowed"
    )


@pytest.mark.parametrize(("d", "M"), [(1, 1), (2, 1), (13, 1), (63, 21), (65, 13), (128, 64), (129, 43), (256, 64)])
def test_choose_index_takes_a_divisor_of_d(d: int, M: int) -> None:
    assert choose_index(100_000, d, PLENTY).M == M


@pytest.mark.parametrize(
    ("factory", "parts"),
    [
        ("Flat", (1, 0, 0, 0)),
        ("HNSW32", (1, 0, 0, 0)),
        ("IVF64,Flat", (64, 0, 0, 64 * 64)),
        ("IVF64_HNSW32,PQ8", (64, 8, 8, 39 * 256)),
        ("OPQ8_32,IVF64,PQ16x6", (64, 16, 6, 64 * 64)),
        ("PQ8x4", (1, 8, 4, 39 * 16)),
    ],
)
def test_choose_index_reads_a_factory_string(factory: str, parts: tuple[int, int, int, int]) -> None:
    choice = choose_index(20_000, 64, 1_000_000, factory)
    assert (choice.nlist, choice.M, choice.nbits, choice.n_train) == parts
    taken = 20_000 * bytes_per_vector(choice, 64)
    size = "more than" if taken > 1_000_000 else "of"
    assert choice.reasons == (f"{factory}: asked for; takes {taken} bytes, {size} 1000000",)


@pytest.mark.parametrize(
    ("factory", "fault"),
    [
        ("IVF64,SQ8", r"got 'IVF64,SQ8'; write it in this form"),
        ("OPQ8,IVF64,Flat", "with OPQ for PQ alone"),
        ("IVF64,HNSW32", "expected Flat or PQ in the lists"),
        ("IVF64,PQ7", "M=7, which does not divide 64"),
        ("OPQ7,IVF64,PQ8", "OPQ=7, which does not divide 64"),
        ("OPQ8_40,IVF64,PQ16", "M=16, which does not divide 40"),
        ("IVF201,Flat", "201 lists for 200 vectors"),
        ("IVF64,PQ8", "codes of 8 bits, which take 256 vectors to train, for 200 vectors"),
        ("IVF0,Flat", "a number that is 0"),
        ("IVF64,PQ8x0", "a number that is 0"),
        ("HNSW1", "a graph of one link"),
        ("IVF64_HNSW1,Flat", "a graph of one link"),
        ("IVF999,PQ7", "M=7, which does not divide 64, 999 lists for 200 vectors, codes of 8 bits"),
    ],
)
def test_choose_index_refuses_a_factory_string(factory: str, fault: str) -> None:
    with pytest.raises(KernelError, match=fault):
        choose_index(200, 64, PLENTY, factory)


@pytest.mark.parametrize(("n", "d"), [(0, 8), (8, 0)])
def test_choose_index_refuses_nothing_to_index(n: int, d: int) -> None:
    with pytest.raises(KernelError, match=f"expected at least 1 vector of length 1 or more, got n={n}, d={d}"):
        choose_index(n, d, PLENTY)


def test_choose_index_refuses_memory_for_no_code_at_all() -> None:
    with pytest.raises(KernelError, match="expected memory for at least 900000 bytes"):
        choose_index(100_000, 64, 100_000 * 9 - 1)


@pytest.mark.parametrize(
    ("nlist", "values"),
    [(1, (1,)), (3, (1, 2, 3)), (16, (1, 2, 4, 8, 16)), (700, (1, 2, 4, 8, 16, 32, 64, 128, 256, 512))],
)
def test_ladder_doubles_up_to_all_lists(nlist: int, values: tuple[int, ...]) -> None:
    assert ladder(nlist) == values


def test_share_of_k_is_k_for_one_shard_and_never_more() -> None:
    assert share_of_k(100, 1) == 100
    assert share_of_k(3, 2) == 3
    assert share_of_k(400, 4) == 100 + 6 * sqrt(100) + 6


@pytest.mark.parametrize(("k", "n_shards"), [(100, 16), (1000, 4), (2000, 50)])
def test_share_of_k_loses_nothing(k: int, n_shards: int) -> None:
    held = np.random.default_rng(1).binomial(k, 1 / n_shards, 500_000)  # by one shard
    assert held.max() <= share_of_k(k, n_shards)
    assert held.max() > share_of_k(k, n_shards) / 2  # nor is it asked for everything


@pytest.mark.parametrize(("d", "length"), [(1, 8), (7, 8), (8, 16), (64, 72), (128, 136)])
def test_augmented_length_has_room_for_one_more_and_many_divisors(d: int, length: int) -> None:
    assert augmented_length(d) == length
