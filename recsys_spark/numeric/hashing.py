"""Feature hashing of text: a row's values as a bag of rows of an embedding table, each with a weight.

Owns: the hash, what counts as a word, the weights, and the mixing of 64-bit numbers.

A column comes without dictionary: string, list<string> or list<struct<category: string, share: float>>.  Work is done
once for each distinct value of a batch, and no value is treated by what else is in the batch.
"""

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple
from unicodedata import normalize

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# A title that is stuffed with words says no more by the thirty-third.
MAX_WORDS = 32

_NONE = -1  # code of a text that is null or blank

# Up to so many rows plain Python (0.2 us a row) is faster than a dictionary encoding (15 us a call).
_FEW = 64

# Runs of word characters.  One alone counts if it is a digit or not ASCII: an ideogram says something, the s of a
# genitive does not.
_WORD = re.compile(r"\w{2,}|[^\Wa-z_]")


class Bag(NamedTuple):
    """The hashed values of a field, row by row: lengths int64 (n,), buckets int32 and weights float32 (their sum,)."""

    lengths: np.ndarray
    buckets: np.ndarray
    weights: np.ndarray


def mix64(numbers: np.ndarray) -> np.ndarray:
    """Mixes 64-bit numbers, so that every bit depends on every bit of the given number: uint64, same shape.

    The finaliser of SplitMix64 (Steele, Lea, Flood 2014), which is variant 13 of Stafford's of MurmurHash3.
    """
    mixed = numbers.astype(np.uint64)
    with np.errstate(over="ignore"):
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def hashed(name: str, texts: Sequence[str], n_buckets: int) -> np.ndarray:
    """Bucket of every text as a value of the field `name`, int32, the same on every machine.

    BLAKE2b, because the low bits of a CRC are not even: 100 000 consecutive numbers met 6 % fewer of 2**17 buckets than
    by chance.  It takes half a microsecond a text.
    """
    prefix = f"{name}\x1f".encode()
    digests = b"".join([blake2b(prefix + text.encode(), digest_size=8).digest() for text in texts])
    buckets: np.ndarray = (np.frombuffer(digests, "<u8") % np.uint64(n_buckets)).astype(np.int32)
    return buckets


def hashed_ids(name: str, array: pa.Array, n_ids: int) -> np.ndarray:
    """Bucket of every row's id, int32 (n,); -1 where it is null or blank."""
    codes, texts = _texts(array)
    found = np.full(len(codes), _NONE, np.int32)
    known = codes != _NONE
    found[known] = hashed(name, texts, n_ids)[codes[known]]
    return found


def category_bag(name: str, array: pa.Array, n_buckets: int) -> Bag:
    """One value a row that has one, weight 1."""
    codes, texts = _texts(array)
    known = codes != _NONE
    lengths = known.astype(np.int64)
    return Bag(lengths, hashed(name, texts, n_buckets)[codes[known]], np.ones(lengths.sum(), np.float32))


def words_bag(name: str, array: pa.Array, n_buckets: int) -> Bag:
    """The first MAX_WORDS different words of every row's text, NFKC and casefolded; weight 1 / sqrt(number of them)."""
    codes, texts = _texts(array)
    vocabulary: dict[str, int] = {}
    entries: list[int] = []
    counts = []
    for text in texts:
        words = list(dict.fromkeys(_WORD.findall(normalize("NFKC", text).casefold())))[:MAX_WORDS]
        entries.extend([vocabulary.setdefault(word, len(vocabulary)) for word in words])
        counts.append(len(words))
    n_words = np.array([*counts, 0], np.int64)  # the last for _NONE
    starts = np.cumsum(n_words) - n_words
    lengths = n_words[codes]
    buckets = hashed(name, list(vocabulary), n_buckets)[np.array(entries, np.int64)]
    return Bag(lengths, buckets[_runs(starts[codes], lengths)], _shared_weights(lengths))


def values_bag(name: str, array: pa.Array, n_buckets: int) -> Bag:
    """The different values of every row's list; weight 1 / sqrt(number of them)."""
    codes, texts = _texts(array.flatten())
    rows = _rows(array)[codes != _NONE]
    codes = codes[codes != _NONE]
    _, first = np.unique(rows * len(texts) + codes, return_index=True)
    first.sort()  # from the order of the codes, which depends on the batch, back to that of the lists
    lengths = np.bincount(rows[first], minlength=len(array))
    return Bag(lengths, hashed(name, texts, n_buckets)[codes[first]], _shared_weights(lengths))


def shares_bag(name: str, array: pa.Array, n_buckets: int) -> Bag:
    """The categories of every row's list, the share as weight; without a category or a finite share: no entry."""
    structs = array.flatten()
    codes, texts = _texts(pc.struct_field(structs, "category"))
    shares = pc.struct_field(structs, "share").to_numpy(zero_copy_only=False)
    known = (codes != _NONE) & np.isfinite(shares)
    lengths = np.bincount(_rows(array)[known], minlength=len(array))
    return Bag(lengths, hashed(name, texts, n_buckets)[codes[known]], shares[known])


def joined(bags: Sequence[Bag], n_rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One bag a row, in the order of `bags`: indptr int64 (n_rows + 1,), buckets int32 and weights float32."""
    lengths = np.array([bag.lengths for bag in bags], np.int64).reshape(len(bags), n_rows)
    indptr = np.zeros(n_rows + 1, np.int64)
    np.cumsum(lengths.sum(axis=0), out=indptr[1:])
    buckets = np.empty(indptr[-1], np.int32)
    weights = np.empty(indptr[-1], np.float32)
    starts = indptr[:-1].copy()  # where a row's entries of the next bag go
    for bag in bags:
        places = _runs(starts, bag.lengths)
        buckets[places] = bag.buckets
        weights[places] = bag.weights
        starts += bag.lengths
    return indptr, buckets, weights


def _texts(array: pa.Array) -> tuple[np.ndarray, list[str]]:
    """For every string its place among the distinct texts, _NONE if null or blank; and these texts, stripped."""
    encoded = array.dictionary_encode(null_encoding="encode") if len(array) > _FEW else None
    values = (array if encoded is None else encoded.dictionary).to_pylist()
    places: dict[str, int] = {}
    codes = np.array(
        [places.setdefault(text, len(places)) if (text := (value or "").strip()) else _NONE for value in values],
        np.int64,
    )
    return codes if encoded is None else codes[encoded.indices.to_numpy()], list(places)


def _rows(array: pa.Array) -> np.ndarray:
    """Row of every element of the lists, int64."""
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
    return np.repeat(np.arange(len(array)), lengths)


def _runs(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """starts[0], starts[0] + 1 and so on for lengths[0] places, then starts[1] and so on, int64."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1] if len(ends) else 0)


def _shared_weights(lengths: np.ndarray) -> np.ndarray:
    """1 / sqrt(number of values) for each value of a row, float32: a sum of orthogonal units then has length 1."""
    return np.repeat((1 / np.sqrt(np.maximum(lengths, 1))).astype(np.float32), lengths)
