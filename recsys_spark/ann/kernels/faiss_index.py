"""FAISS index for approximate search by inner product: trained once, filled shard by shard, searched.

Owns: every call of FAISS, the bytes of an index, and the reduction of inner product to cosine.

FAISS has no checksum: of files with one bit flipped it loads one in five and gives other neighbours.  So whoever loads
or maps an index has checked its SHA-256 before; "it loads" proves nothing.  Its limits for loading are those of the
process, its number of threads that of the calling thread.

Letters: n vectors or queries, d their length, k neighbours of each.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from recsys_spark.ann.kernels.index_choice import IndexChoice, augmented_length
from recsys_spark.errors import DamagedError, KernelError

_faiss: Any = faiss  # its stubs lack much of it

NO_ID = -1  # where a query has fewer than k neighbours
_RERUN = "run the date again, or go back to a whole bundle with `recsys-spark rollback`"
# Tables that only a search by L2 distance reads, M * 2**nbits numbers a list that are not in the file.
_LOAD = faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE
# Zero-copy: lists, vectors and links stay in the file's pages.
_MAP = faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE
_MIN_LIST_BYTES = 4  # of a list in a file: one number of its centroid
_MAX_SEED = 1 << 31  # a C int
_ROTATION_SAMPLE = 1 << 14  # vectors: a minute at d = 64, M = 8; FAISS would take four times as many
_ROUNDING = 1e-6  # of a norm in float32, relative
# efSearch of HNSW: per list probed where the graph holds the vectors; per list to find, and at least so much, where the
# graph finds the lists.
_LOOKS_PER_PROBE = 16
_LOOKS_PER_LIST = 2
_MIN_LOOKS = 64


@dataclass(frozen=True)
class IndexFacts:
    """What an index says of itself.  d: length of its vectors.  nlist: 1 without lists.  M, nbits: 0 without codes."""

    ntotal: int
    d: int
    metric: str
    nlist: int
    M: int
    nbits: int


def set_threads(n: int) -> None:
    """Threads that FAISS uses when this thread calls it: the cores of the task, which are one in a Spark worker."""
    faiss.omp_set_num_threads(n)


def train_index(sample: np.ndarray, choice: IndexChoice, seed: int, n_threads: int) -> bytes:
    """The index that `choice` names, trained and empty, as bytes: the same ones for the same sample and seed.

    sample: float32 (n, d).  n_threads: for speed; the bytes do not depend on it.
    K-means is spherical (FAISS sees to it for inner product): a long centroid would draw vectors of every direction.
    Raises KernelError if the sample is not finite or too small, or FAISS cannot make such an index.
    """
    sample = _checked("index training", sample, sample.shape[-1])
    with _threads(n_threads):
        try:
            index = faiss.index_factory(sample.shape[1], choice.factory, faiss.METRIC_INNER_PRODUCT)
            _train(index, sample, seed % _MAX_SEED)
        except RuntimeError as err:
            raise KernelError(
                f"index {choice.factory}: expected one that FAISS can train on {len(sample)} vectors of length "
                f"{sample.shape[1]}, got {_reason(err)}; choose a smaller one, or Flat"
            ) from err
    return pack_index(index if _lists_of(index) is not None else faiss.IndexIDMap(index))


def add(index: faiss.Index, ids: np.ndarray, vectors: np.ndarray) -> None:
    """Adds vectors under their ids, in one thread: a graph that several build differs from run to run.

    Of a graph of all vectors (HNSW) the bytes depend on what is added in one call; those of other forms do not.
    ids: int64 (n,), from 0.  vectors: float32 (n, d).  Raises KernelError for other ids and vectors not finite.
    """
    vectors = _checked("index add", vectors, index.d)
    if len(ids) != len(vectors) or ids.dtype != np.int64 or ids.min(initial=0) < 0:
        raise KernelError(
            f"index add: expected {len(vectors)} ids of int64 from 0, got {len(ids)} of {ids.dtype} from "
            f"{ids.min(initial=0)}; give every vector its item_idx"
        )
    if len(ids):
        with _threads(1):
            index.add_with_ids(vectors, np.ascontiguousarray(ids))


def search(index: faiss.Index, queries: np.ndarray, k: int, nprobe: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores float32 (n, k), best first, and ids int64 (n, k) of the k best that `nprobe` lists hold.

    Where there are fewer the id is NO_ID and the score -inf.  queries: float32 (n, d).  The index is not changed, so
    that threads may share it.  Raises KernelError for queries that are not finite, and k or nprobe below 1.
    """
    queries = _checked("index search", queries, index.d)
    if k < 1 or nprobe < 1:
        raise KernelError(f"index search: expected k and nprobe of at least 1, got {k} and {nprobe}; raise them")
    if not index.ntotal or not len(queries):
        return np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), NO_ID, np.int64)
    scores, ids = index.search(queries, k, params=_search_params(index, k, nprobe))
    scores[ids == NO_ID] = -np.inf
    return scores, ids


def pack_index(index: faiss.Index) -> bytes:
    """The index as bytes, which `load_index` takes."""
    packed: bytes = faiss.serialize_index(index).tobytes()
    return packed


def write_index(index: faiss.Index, path: Path) -> None:
    """Writes the bytes of `pack_index` without holding them; through Python, as FAISS does not notice a full disk."""
    with path.open("wb") as file:
        faiss.write_index(index, _faiss.PyCallbackIOWriter(file.write))


def load_index(data: bytes, max_bytes: int) -> faiss.Index:
    """The index of `data`, whose SHA-256 the caller has checked.

    No array in it may be longer than `data`, nor may it have more lists than there is room for, so that it is refused
    before memory is taken for it.  Raises DamagedError for what does not load, or has more than `max_bytes`.
    """
    if not 0 < len(data) <= max_bytes:
        raise DamagedError(f"index: expected 1 to {max_bytes} bytes, got {len(data)}; {_RERUN}")
    _limit(len(data))
    try:
        return faiss.deserialize_index(np.frombuffer(data, np.uint8), _LOAD)
    except (RuntimeError, MemoryError) as err:
        raise DamagedError(f"index: expected one that loads, got {len(data)} bytes: {_reason(err)}; {_RERUN}") from err


def map_index(path: Path) -> faiss.Index:
    """The index in a file, whose SHA-256 the caller has checked; only what is searched is read, nothing may be added.

    Raises DamagedError for what does not load; a file without some of its last 8 bytes does, as FAISS counts numbers.
    """
    try:
        _limit(path.stat().st_size)
        return faiss.read_index(str(path), _MAP)
    except (OSError, RuntimeError, MemoryError) as err:
        raise DamagedError(f"index {path}: expected one that loads, got {_reason(err)}; {_RERUN}") from err


def index_facts(index: faiss.Index) -> IndexFacts:
    """Size, form and metric of an index."""
    body, lists = _body(index), _lists_of(index)
    pq = getattr(body, "pq", None)
    metric = "inner_product" if index.metric_type == faiss.METRIC_INNER_PRODUCT else f"metric {index.metric_type}"
    nlist = 1 if lists is None else lists.nlist
    return IndexFacts(index.ntotal, index.d, metric, nlist, pq.M if pq else 0, pq.nbits if pq else 0)


def stored_ids(index: faiss.Index) -> np.ndarray:
    """Id of every vector in the index, int64 (ntotal,), ascending."""
    lists, mapped = _lists_of(index), getattr(index, "id_map", None)
    if lists is None:
        return np.sort(_faiss.vector_to_array(mapped))
    ids, held = np.empty(index.ntotal, np.int64), lists.invlists
    end = 0
    for at in range(lists.nlist):
        first, end = end, end + held.list_size(at)
        if end > first:
            ids[first:end] = faiss.rev_swig_ptr(held.get_ids(at), end - first)
    return np.sort(ids)


def augment(vectors: np.ndarray, longest: float) -> np.ndarray:
    """Unit vectors, float32 (n, augmented_length(d)), whose cosine with `padded` orders as the inner product.

    They are [x / longest, sqrt(1 - |x|^2 / longest^2), 0, ...].  longest: norm of the longest vector of all shards.
    Raises KernelError if it is not above 0 or a vector is longer.  Source: Bachrach et al. 2014; Neyshabur and Srebro
    2015.
    """
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if not longest > 0 or not norms.max(initial=0.0) <= longest * (1 + _ROUNDING):
        raise KernelError(
            f"index augment: expected vectors up to a norm above 0, {longest:g}, got one of "
            f"{norms.max(initial=0.0):g}; give the norm of the longest of all"
        )
    rest = np.sqrt(np.maximum(0.0, 1 - (norms / longest) ** 2))
    more = augmented_length(vectors.shape[1]) - vectors.shape[1] - 1
    return np.column_stack([vectors / longest, rest, *[np.zeros(len(vectors))] * more]).astype(np.float32)


def padded(queries: np.ndarray) -> np.ndarray:
    """Queries for augmented vectors: the given ones with zeros at the end, float32 (n, augmented_length(d))."""
    more = augmented_length(queries.shape[1]) - queries.shape[1]
    return np.pad(np.asarray(queries, np.float32), ((0, 0), (0, more)))


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(n)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _checked(where: str, vectors: np.ndarray, d: int) -> np.ndarray:
    if vectors.ndim != 2 or vectors.shape[1] != d or not np.isfinite(vectors).all():
        raise KernelError(
            f"{where}: expected finite vectors of length {d}, got shape {vectors.shape} with "
            f"{np.count_nonzero(~np.isfinite(vectors))} numbers not finite; correct the step that made them"
        )
    return np.ascontiguousarray(vectors, np.float32)


def _limit(n_bytes: int) -> None:
    _faiss.set_deserialization_vector_byte_limit(n_bytes)
    _faiss.set_deserialization_loop_limit(max(1, n_bytes // _MIN_LIST_BYTES))


def _reason(err: BaseException) -> str:
    """The message of FAISS, without the place in its code."""
    return str(err).strip().rsplit("Error: ", 1)[-1] or type(err).__name__


def _train(index: Any, sample: np.ndarray, seed: int) -> None:
    """Trains part by part, because FAISS passes a seed on to no part."""
    if isinstance(index, _faiss.IndexPreTransform):
        sample = _trained_rotation(index, sample, seed)
        _train(_faiss.downcast_index(index.index), sample, seed)
        index.is_trained = True
        return
    if isinstance(index, _faiss.IndexIVF):
        _seed(index.cp, seed)
        quantizer = _faiss.downcast_index(index.quantizer)
        if isinstance(quantizer, _faiss.IndexHNSW):
            _fill_graph(quantizer, index, sample)
    if hasattr(index, "pq"):
        _seed(index.pq.cp, seed)
        # The order of codes for a Hamming filter, which nothing here uses: 33 s of training instead of 4 (PQ8, d = 64).
        index.do_polysemous_training = False
    index.train(sample)


def _trained_rotation(index: Any, sample: np.ndarray, seed: int) -> np.ndarray:
    """`sample` as the rotation before the codes, now trained, gives it, float32 (n, d_out)."""
    rotation, pq = _faiss.downcast_VectorTransform(index.chain.at(0)), _body(index).pq
    codes = _faiss.ProductQuantizer(rotation.d_out, rotation.M, pq.nbits)  # its own ones have no seed
    _seed(codes.cp, seed)
    rotation.pq, rotation.max_train_points = codes, _ROTATION_SAMPLE
    with _threads(1):  # its decompositions and products have other last bits in two
        rotation.train(sample)
        rotated: np.ndarray = rotation.apply(sample)  # (n, d_out)
    rotation.pq = None
    return rotated


def _fill_graph(quantizer: Any, lists: Any, sample: np.ndarray) -> None:
    """Centroids by exact k-means, into the graph by one thread, so that it is the same graph every time."""
    means = _faiss.Clustering(sample.shape[1], lists.nlist, lists.cp)
    means.train(sample, _faiss.IndexFlatIP(sample.shape[1]))
    centroids = _faiss.vector_to_array(means.centroids).reshape(lists.nlist, -1)  # (nlist, d)
    with _threads(1):
        quantizer.add(centroids)


def _seed(clustering: Any, seed: int) -> None:
    clustering.seed = seed
    clustering.min_points_per_centroid = 1  # small samples are the choice of `choose_index`, which says so


def _body(index: Any) -> Any:
    """The index that holds the vectors, without what maps their ids or rotates them."""
    while isinstance(index, _faiss.IndexIDMap | _faiss.IndexPreTransform):
        index = _faiss.downcast_index(index.index)
    return index


def _lists_of(index: Any) -> Any:
    body = _body(index)
    return body if isinstance(body, _faiss.IndexIVF) else None


def _search_params(index: Any, k: int, nprobe: int) -> Any:
    if isinstance(index, _faiss.IndexIDMap):
        return _search_params(_faiss.downcast_index(index.index), k, nprobe)
    if isinstance(index, _faiss.IndexPreTransform):
        inner = _search_params(_faiss.downcast_index(index.index), k, nprobe)
        return _faiss.SearchParametersPreTransform(index_params=inner)
    if isinstance(index, _faiss.IndexHNSW):
        return _faiss.SearchParametersHNSW(efSearch=max(k, _LOOKS_PER_PROBE * nprobe))
    if isinstance(index, _faiss.IndexIVF):
        nprobe = min(nprobe, index.nlist)
        if not isinstance(_faiss.downcast_index(index.quantizer), _faiss.IndexHNSW):
            return _faiss.SearchParametersIVF(nprobe=nprobe)
        graph = _faiss.SearchParametersHNSW(efSearch=max(_MIN_LOOKS, _LOOKS_PER_LIST * nprobe))
        return _faiss.SearchParametersIVF(nprobe=nprobe, quantizer_params=graph)
    return None
