"""Decoding of landed files and objects: opened without following links, hashed, decompressed under limits.

Owns: what a file is by its name, and every reason for which a whole file is quarantined.  Decompression is pyarrow's:
it raises on a stream that ends early, where `zstandard` returns what it has without an error, and it returns a bounded
piece at a time, so that a decompression bomb costs one piece of memory.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from shutil import copyfileobj
from stat import S_ISREG
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.errors import StoreFault
from recsys_spark.warehouse.location import Location, ObjectPath, answering

PIECE_BYTES = 1 << 20
_FETCHED_BYTES = 4 << 20  # by one request to an object store
_REFUSALS = ("ACCESS_DENIED", "INVALID_OBJECT_STATE")  # answers of S3 that concern one object, not the whole bucket
# Below this size no expansion does harm: short logs of equal lines compress a thousandfold.
_HARMLESS_BYTES = 16 << 20
_PARQUET_BATCH_ROWS = 8192

_COMPRESSIONS = {".gz": "gzip", ".gzip": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_UNREADABLE = (".bz2", ".xz", ".zip", ".lz4", ".br", ".7z", ".snappy", ".z", ".tar", ".tgz")
_FORMATS = {
    ".jsonl": "jsonl",
    ".json": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


class FileFault(Exception):  # noqa: N818 - a verdict on one file; the others go on
    """Why a whole file is quarantined."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Limits:
    """Bounds of one file and of one line, in bytes; max_expansion is decompressed / compressed."""

    max_file_bytes: int
    max_decompressed_bytes: int
    max_expansion: int
    max_line_bytes: int


@dataclass(frozen=True)
class PlannedFile:
    """A file as it was listed: `path` is relative to the landing folder, `index` is its place in the batch."""

    index: int
    path: str
    sha256: str
    n_bytes: int
    mtime_ns: int = 0


@dataclass(frozen=True)
class Layout:
    """How a file is to be read.  format: jsonl, csv or parquet; compression: "", gzip or zstd."""

    format: str
    compression: str


def layout_of(path: str, wanted: str) -> Layout:
    """The layout by the file's name; `wanted` other than "auto" decides the format.  Raises FileFault if unknown."""
    name = path.rsplit("/", 1)[-1].lower()
    stem, compression = name, ""
    for suffix, codec in _COMPRESSIONS.items():
        if name.endswith(suffix):
            stem, compression = name.removesuffix(suffix), codec
    if stem.endswith(_UNREADABLE):
        raise FileFault("unknown_format", "expected no compression, gzip (.gz) or zstd (.zst), got another archive")
    found = wanted if wanted != "auto" else _FORMATS.get(os.path.splitext(stem)[1], "")  # noqa: PTH122 - not a path
    if not found:
        raise FileFault("unknown_format", f"expected one of {', '.join(_FORMATS)} (.gz, .zst), got another suffix")
    if found == "parquet" and compression:
        raise FileFault("unknown_format", "expected Parquet with its own compression, got it inside gzip or zstd")
    return Layout(found, compression)


def open_planned(folder: Location, planned: PlannedFile) -> BinaryIO:
    """The planned file below `folder`, open for reading; an object is copied: it is read three times and fetched once.

    Raises FileFault `mutated` as `open_landed` and `open_object` do, and for an object of another size.
    """
    if isinstance(folder, Path):
        return open_landed(folder, planned.path)
    copy = TemporaryFile(buffering=0)  # noqa: SIM115 - the caller closes it, which deletes it: it has no name
    try:
        # Written through a buffer, which raises on a full disk: a raw file would return that it wrote only a part.
        with open_object(folder / planned.path) as source, open(copy.fileno(), "wb", closefd=False) as target:
            _check_n_bytes(source.size(), planned)
            copyfileobj(source, target, _FETCHED_BYTES)
    except BaseException:
        copy.close()
        raise
    return copy


@contextmanager
def open_object(place: ObjectPath) -> Iterator[Any]:
    """A landed object, open for reading inside the block.

    Raises FileFault `mutated` if it is gone, and PermissionError if this one object may not be read, such as an
    archived one.
    """
    try:
        with answering(place), place.open("rb") as source:
            yield source
    except (OSError, StoreFault) as err:
        if isinstance(err, FileNotFoundError) or "NO_SUCH_KEY" in str(err):
            raise FileFault("mutated", "expected the file that was listed, got none") from err
        if any(refusal in str(err) for refusal in _REFUSALS):
            raise PermissionError(errno.EACCES, "Permission denied", str(place)) from err
        raise


def open_landed(folder: Path, path: str) -> BinaryIO:
    """The regular file `path` below `folder`, open for reading; no link is followed in any part of `path`.

    Raises FileFault `mutated` if it is gone or is no longer a regular file inside the folder.
    """
    parts = path.split("/")
    if not all(parts) or ".." in parts:
        raise FileFault("mutated", "expected a path inside the landing folder")
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = below
        # O_NONBLOCK: a pipe in the place of the file must not hang the task.
        opened = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    except (FileNotFoundError, NotADirectoryError) as err:
        raise FileFault("mutated", "expected the file that was listed, got none") from err
    except OSError as err:
        if err.errno == errno.ELOOP:  # O_NOFOLLOW met a symbolic link
            raise FileFault("mutated", "expected a regular file, got a symbolic link") from err
        raise
    finally:
        os.close(at)
    file = os.fdopen(opened, "rb", buffering=0)
    if not S_ISREG(os.fstat(opened).st_mode):
        file.close()
        raise FileFault("mutated", "expected a regular file, got something else")
    return file


def hash_file(file: BinaryIO) -> str:
    """SHA-256 of the whole file as hex, from its beginning."""
    file.seek(0)
    digest = sha256()
    while piece := file.read(_FETCHED_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def check_size(planned: PlannedFile, limits: Limits) -> None:
    """Raises FileFault `too_large` if the file, as it was listed, is over its bound."""
    if planned.n_bytes > limits.max_file_bytes:
        raise FileFault("too_large", f"expected at most {limits.max_file_bytes} bytes, got {planned.n_bytes}")


def check_unchanged(file: BinaryIO, planned: PlannedFile) -> None:
    """Raises FileFault `mutated` unless size and content are those of the plan."""
    _check_n_bytes(os.fstat(file.fileno()).st_size, planned)
    if hash_file(file) != planned.sha256:
        raise FileFault("mutated", "expected the content that was listed, got another")


def _check_n_bytes(n_bytes: int, planned: PlannedFile) -> None:
    if n_bytes != planned.n_bytes:
        raise FileFault("mutated", f"expected {planned.n_bytes} bytes as listed, got {n_bytes}")


def read_pieces(file: BinaryIO, layout: Layout, limits: Limits) -> Iterator[bytes]:
    """The decompressed content in pieces of at most PIECE_BYTES.

    Raises FileFault `truncated`, `corrupt`, `too_large` or `expansion`.
    """
    file.seek(0)
    n_file = os.fstat(file.fileno()).st_size
    bound = limits.max_decompressed_bytes
    expansion = max(limits.max_expansion * n_file, _HARMLESS_BYTES) if layout.compression else bound
    if layout.compression and not n_file:
        raise FileFault("truncated", f"expected a {layout.compression} stream, got an empty file")
    stream: Any = pa.CompressedInputStream(_for_arrow(file), layout.compression) if layout.compression else file
    n_out = 0
    while True:
        try:
            piece = stream.read(PIECE_BYTES)
        except (OSError, pa.ArrowException) as err:
            reason = "truncated" if "runcated" in str(err) else "corrupt"
            raise FileFault(reason, f"expected a whole {layout.compression} stream, got: {err}") from err
        if not piece:
            return
        n_out += len(piece)
        if n_out > bound:
            raise FileFault("too_large", f"expected at most {bound} bytes after decompression, got more")
        if n_out > expansion:
            raise FileFault("expansion", f"expected at most {limits.max_expansion} times {n_file} bytes, got more")
        yield piece


def prove_readable(file: BinaryIO, planned: PlannedFile, layout: Layout, limits: Limits) -> None:
    """Reads the whole file once and keeps nothing; raises FileFault if any part of it cannot be read."""
    check_unchanged(file, planned)
    if layout.format == "parquet":
        for _ in read_row_batches(file, None, limits):
            pass
    else:
        for _ in read_pieces(file, layout, limits):
            pass


def parquet_columns(file: BinaryIO) -> list[str]:
    """Names of the top-level columns of a Parquet file; raises FileFault `corrupt`."""
    return list(_open_parquet(file).schema_arrow.names)


def read_row_batches(file: BinaryIO, columns: list[str] | None, limits: Limits) -> Iterator[pa.RecordBatch]:
    """Rows of a Parquet file, all columns if `columns` is None; raises FileFault `corrupt` or `too_large`."""
    opened = _open_parquet(file)
    n_out = 0
    try:
        for batch in opened.iter_batches(_PARQUET_BATCH_ROWS, columns=columns, use_threads=False):
            n_out += batch.nbytes
            if n_out > limits.max_decompressed_bytes:
                raise FileFault("too_large", f"expected at most {limits.max_decompressed_bytes} bytes, got more")
            yield batch
    except (pa.ArrowException, OSError, ValueError) as err:
        raise FileFault("corrupt", f"expected readable Parquet pages, got: {err}") from err


def _for_arrow(file: BinaryIO) -> pa.PythonFile:
    """The file for pyarrow, which closes what it is given: a second descriptor of the same open file."""
    return pa.PythonFile(os.fdopen(os.dup(file.fileno()), "rb"), "r")


def _open_parquet(file: BinaryIO) -> pq.ParquetFile:
    file.seek(0)
    try:
        # pre_buffer would hold whole row groups; checksums are verified where the writer stored them.
        return pq.ParquetFile(_for_arrow(file), pre_buffer=False, page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as err:
        raise FileFault("corrupt", f"expected a Parquet footer, got: {err}") from err
