"""Choice of the ANN index for a catalogue: its FAISS factory string, what its training needs, and the reasons.

Owns: the rules, the factory strings that are understood, the `nprobe` values to measure, and how much to ask of a
shard.  Pure arithmetic: no FAISS, so that a plan can print the choice.

Letters: n vectors over all shards, d their length, M sub-quantizers of nbits each.
"""

import re
from dataclasses import dataclass
from math import ceil, log2, sqrt

from recsys_spark.errors import KernelError

# Exact search over so few is one small product; lists have nothing to win.
_FLAT_BELOW = 1_000
# Up to here raw vectors are small (13 MB at d = 64), and lists of them lose nothing to compression.
_IVF_FLAT_UP_TO = 50_000
# FAISS warns below this many training vectors a centroid, of lists and of codes.
_TRAIN_PER_CENTROID = 39
_TRAIN_PER_LIST = 64  # FAISS would take up to 256, at four times the time
_LISTS_PER_ROOT = 4  # times sqrt(n): the FAISS guidelines say 4 to 16, and training takes its square
_MAX_NLIST = 1 << 17
# From so many lists on, the FAISS guidelines let a graph find the nearest ones: to compare with all their centroids
# costs more than to search them.
_HNSW_FROM = 1 << 16
_HNSW_LINKS = 32
_MIN_LINKS = 2  # FAISS divides by the logarithm
_NBITS = 8  # a byte, whose table of 256 products stays in the cache
_MAX_M = 64
# Numbers of a code above which a rotation pays.  Recall@10 of the best 40, d = 64, 20 000 vectors, without and with it:
# codes of 8 numbers 0.71 and 0.83 on vectors with a steep spectrum, 0.84 and 0.85 on clustered ones; codes of 4 numbers
# 0.93 and 0.97, 0.98 and 0.97.  It takes ten times the training of the codes.
_ROTATED_DIMS = 4
_MAX_NPROBE = 512
_SIGMAS = 6  # of a binomial; see `share_of_k`
_ID_BYTES = 8
_AUGMENTED_MULTIPLE = 8  # a length of 65 would allow 13 sub-quantizers at most, a prime length one
_FLOAT_BYTES = 4

_FACTORY = re.compile(
    r"(?:OPQ(?P<rotated>\d+)(?:_(?P<d_out>\d+))?,)?"
    r"(?:IVF(?P<nlist>\d+)(?:_HNSW(?P<graph>\d+))?,)?"
    r"(?:Flat|HNSW(?P<links>\d+)|PQ(?P<M>\d+)(?:x(?P<nbits>\d+))?)"
)


@dataclass(frozen=True)
class IndexChoice:
    """An index, before it is trained.

    factory: as FAISS reads it.  nlist: 1 where there are no lists.  M, nbits: 0 where vectors are stored as they are.
    n_train: vectors to train on, 0 where nothing is trained.  reasons: one line a choice.
    """

    factory: str
    nlist: int
    M: int
    nbits: int
    n_train: int
    reasons: tuple[str, ...]


def choose_index(n: int, d: int, memory_bytes: int, factory: str = "") -> IndexChoice:
    """The index for n vectors of length d, over all shards, for they share its quantizers.

    memory_bytes: what codes and ids of all n may take.  factory: what the settings ask for instead, "" for none.
    Raises KernelError if n or d is below 1, if codes of no length fit into `memory_bytes`, and for a factory string
    that is not understood, does not divide d, or needs more vectors for its training than there are.
    """
    if n < 1 or d < 1:
        raise KernelError(
            f"index: expected at least 1 vector of length 1 or more, got n={n}, d={d}; embed some items first"
        )
    if factory:
        return _overridden(n, d, memory_bytes, factory)
    if n < _FLAT_BELOW:
        return IndexChoice("Flat", 1, 0, 0, 0, (f"Flat: {n} vectors are below {_FLAT_BELOW}, exact search is as fast",))
    raw_bytes = n * (d * _FLOAT_BYTES + _ID_BYTES)
    lists, nlist, why_lists = _lists(n)
    n_train = min(n, _TRAIN_PER_LIST * nlist)
    if n < _TRAIN_PER_CENTROID << _NBITS:
        why = f"Flat: {n} vectors are fewer than the {_TRAIN_PER_CENTROID << _NBITS} that codes of {_NBITS} bits need"
        if raw_bytes > memory_bytes:
            why += f", so they take {raw_bytes} bytes although {memory_bytes} were allowed"
        return IndexChoice(f"{lists},Flat", nlist, 0, 0, n_train, (why_lists, why))
    if n <= _IVF_FLAT_UP_TO and raw_bytes <= memory_bytes:
        why = f"Flat: {n} vectors are at most {_IVF_FLAT_UP_TO} and take {raw_bytes} bytes of {memory_bytes}"
        return IndexChoice(f"{lists},Flat", nlist, 0, 0, n_train, (why_lists, why))
    M = _sub_quantizers(n, d, memory_bytes)
    why = f"PQ{M}: the most of its {d} numbers' divisors up to {_most(d)} whose codes fit into {memory_bytes} bytes"
    rotation, why_rotation = _rotation(d, M)
    n_train = min(n, max(n_train, _TRAIN_PER_CENTROID << _NBITS))
    return IndexChoice(f"{rotation}{lists},PQ{M}", nlist, M, _NBITS, n_train, (why_lists, why, why_rotation))


def bytes_per_vector(choice: IndexChoice, d: int) -> int:
    """What each vector takes in the index: its code or its numbers, its id, and its links if it is in a graph."""
    body = -(-choice.M * choice.nbits // 8) if choice.M else d * _FLOAT_BYTES
    links = int(_parts(choice.factory)["links"] or 0)
    # Twice as many links at the lowest level, of 4 bytes each, and 1 vector in `links` is in the next level too.
    return body + _ID_BYTES + (2 * links + 2) * 4 + 16 if links else body + _ID_BYTES


def ladder(nlist: int) -> tuple[int, ...]:
    """Values of `nprobe` to measure: 1, 2, 4 and so on up to 512, and nlist itself if it is not above that."""
    top = min(nlist, _MAX_NPROBE)
    powers = {1 << at for at in range(top.bit_length())}
    return tuple(sorted(powers | {top}))


def indexed_length(d: int, normalized: bool) -> int:
    """Length at which vectors of d numbers are indexed; normalized: all have length 1, no direction is added."""
    return d if normalized and d % _AUGMENTED_MULTIPLE == 0 else augmented_length(d)


def augmented_length(d: int) -> int:
    """Length of a vector of d numbers with the one that `faiss_index.augment` adds, filled up for codes to fit."""
    return -(-(d + 1) // _AUGMENTED_MULTIPLE) * _AUGMENTED_MULTIPLE


def share_of_k(k: int, n_shards: int) -> int:
    """How many of the best k over all shards one shard is asked for, so that none is lost.

    A uniform hash gives each of the k to this shard with chance 1 / S, so their number is binomial with mean k / S and
    a smaller variance: six standard deviations above it, and six more for the skew of small means.  The chance that
    there are more is below 1e-8 for a shard, whatever k and S are (the tail summed for k up to 2000 and S up to 1000);
    what is missing then is the last of one list.
    """
    if n_shards == 1:
        return k
    mean = k / n_shards
    return min(k, ceil(mean + _SIGMAS * sqrt(mean)) + _SIGMAS)


def _lists(n: int) -> tuple[str, int, str]:
    """Factory string of the lists, their number, and why."""
    wanted = 1 << round(log2(_LISTS_PER_ROOT * n**0.5))
    trainable = 1 << int(log2(n / _TRAIN_PER_CENTROID))
    nlist = min(wanted, trainable, _MAX_NLIST)
    if nlist == wanted:
        why = f"IVF{nlist}: {_LISTS_PER_ROOT} times the root of {n} vectors, as a power of two"
    elif nlist == trainable:
        why = f"IVF{nlist}: with more lists, fewer than {_TRAIN_PER_CENTROID} of {n} vectors would train each"
    else:
        why = f"IVF{nlist}: the most lists that are made, for {n} vectors"
    if nlist < _HNSW_FROM:
        return f"IVF{nlist}", nlist, why
    return f"IVF{nlist}_HNSW{_HNSW_LINKS}", nlist, f"{why}; HNSW{_HNSW_LINKS}: a graph finds the nearest of so many"


def _most(d: int) -> int:
    return max(1, min(_MAX_M, d // 2))


def _sub_quantizers(n: int, d: int, memory_bytes: int) -> int:
    code_bytes = memory_bytes // n - _ID_BYTES  # a sub-quantizer takes one
    fitting = [M for M in range(1, min(_most(d), code_bytes) + 1) if d % M == 0]
    if not fitting:
        raise KernelError(
            f"index: expected memory for at least {n * (1 + _ID_BYTES)} bytes of codes and ids of {n} vectors, got "
            f"{memory_bytes}; allow more, or index fewer items"
        )
    return fitting[-1]


def _rotation(d: int, M: int) -> tuple[str, str]:
    """Factory string of the rotation before the codes, "" for none, and why."""
    if d > M * _ROTATED_DIMS:
        return f"OPQ{M},", f"OPQ{M}: each code covers more than {_ROTATED_DIMS} numbers, so that a rotation pays"
    return "", f"no OPQ: each code covers {_ROTATED_DIMS} numbers or fewer, where a rotation gains little"


def _parts(factory: str) -> dict[str, str | None]:
    """What a factory string names, by group of `_FACTORY`; raises KernelError if it is not understood."""
    matched = _FACTORY.fullmatch(factory)
    if matched is None or (matched["rotated"] and not matched["M"]):
        raise KernelError(
            f"index factory: expected [OPQ<M>[_<d>],][IVF<nlist>[_HNSW<links>],] and Flat, PQ<M>[x<nbits>] or "
            f"HNSW<links>, with OPQ for PQ alone, got {factory!r}; write it in this form, or leave it empty"
        )
    if matched["nlist"] and matched["links"]:
        raise KernelError(
            f"index factory: expected Flat or PQ in the lists, got a graph in {factory!r}; use IVF<nlist>_HNSW<links> "
            "for a graph that finds the lists"
        )
    return matched.groupdict()


def _overridden(n: int, d: int, memory_bytes: int, factory: str) -> IndexChoice:
    parts = _parts(factory)
    nlist, M = int(parts["nlist"] or 1), int(parts["M"] or 0)
    nbits = int(parts["nbits"] or _NBITS) if M else 0
    coded = int(parts["d_out"] or d)  # numbers that the codes share
    faults = []
    if any(part is not None and int(part) == 0 for part in parts.values()):
        faults.append("a number that is 0")
    if any(part is not None and int(part) < _MIN_LINKS for part in (parts["graph"], parts["links"])):
        faults.append("a graph of one link, which leads nowhere")
    for name, divisor in (("M", M), ("OPQ", int(parts["rotated"] or 0))):
        if divisor and coded % divisor:
            faults.append(f"{name}={divisor}, which does not divide {coded}")
    if n < nlist:
        faults.append(f"{nlist} lists for {n} vectors")
    if M and n < 1 << nbits:
        faults.append(f"codes of {nbits} bits, which take {1 << nbits} vectors to train, for {n} vectors")
    if faults:
        raise KernelError(
            f"index factory {factory}: expected one that {n} vectors of length {d} can train, got {', '.join(faults)}; "
            "change it, or leave it empty to have one chosen"
        )
    n_train = 0 if nlist == 1 and not M else min(n, max(_TRAIN_PER_LIST * nlist, _TRAIN_PER_CENTROID << nbits))
    choice = IndexChoice(factory, nlist, M, nbits, n_train, ())
    taken = n * bytes_per_vector(choice, d)
    why = f"{factory}: asked for; takes {taken} bytes, {'more than' if taken > memory_bytes else 'of'} {memory_bytes}"
    return IndexChoice(factory, nlist, M, nbits, n_train, (why,))
