"""Locations of warehouses and landings: a folder or a prefix in an object store, for Arrow, delta-rs and Spark.

Owns: `ObjectPath`, which is for an object store what `pathlib.Path` is for a folder, and the rendering of both for the
three engines.  Credentials are never part of a location: each engine finds them where its cloud puts them (environment,
profile, role).
"""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

from recsys_spark.errors import ArgumentError, DamagedError, StoreFault

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

# Schemes for which Arrow, delta-rs and Hadoop all have a client.
SCHEMES = ("s3", "gs", "abfss", "hdfs")

# The form of an endpoint, and what the query of a URL may have.
ENDPOINT = r"https?://[A-Za-z0-9_.:-]+"
_QUERY = {"endpoint", "region"}

# Messages of the clients when the store, not the file, is at fault.
_STORE_FAULT = re.compile(
    r"AWS Error (?!NO_SUCH_KEY)|Generic \w+ error|error sending request|Could not connect|Bucket '.*' not found", re.I
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # delta-rs colours its messages for a terminal


class Stat(NamedTuple):
    """The two facts of `os.stat_result` that the product asks for."""

    st_size: int
    st_mtime: float


@dataclass(frozen=True)
class ObjectPath:
    """A file or prefix in an object store; it is sent to workers as it is.

    url: such as s3://bucket/warehouse.  endpoint: of an S3 server other than AWS's, such as http://minio:9000; region:
    of the bucket.  Both "" where the environment gives them.
    A file exists from the moment that its write is closed, and not before.
    """

    url: str
    endpoint: str = ""
    region: str = ""

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, part: str) -> "ObjectPath":
        return replace(self, url=f"{self.url}/{part}")

    @property
    def name(self) -> str:
        """The last part."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def parent(self) -> "ObjectPath":
        """The prefix that it is in."""
        return replace(self, url=self.url.rsplit("/", 1)[0])

    def absolute(self) -> "ObjectPath":
        """The location itself: no URL is relative."""
        return self

    def exists(self) -> bool:
        """Whether there is such a file, or any file below it."""
        return bool(self._info().type)

    def is_dir(self) -> bool:
        """Whether there are files below it, or the marker of a folder."""
        from pyarrow.fs import FileType

        return bool(self._info().type == FileType.Directory)

    def stat(self) -> Stat:
        """Size in bytes, and time of the last write in seconds; FileNotFoundError if there is no such file."""
        found = self._info()
        if not found.is_file:
            raise FileNotFoundError(2, "No such file", self.url)
        return Stat(found.size, found.mtime_ns / 1e9)

    def open(self, mode: str) -> Any:
        """An Arrow file, to read ("rb") or to write anew ("wb"); a write that is given up leaves a file, too."""
        files, key = arrow_files(self)
        with answering(self):
            # By default Arrow compresses what is written under a name such as a.gz.
            return files.open_input_file(key) if mode == "rb" else files.open_output_stream(key, compression=None)

    def read_bytes(self) -> bytes:
        """All of the file; FileNotFoundError if there is none."""
        with answering(self), self.open("rb") as file:
            return bytes(file.read())

    def read_text(self, encoding: str, errors: str = "strict") -> str:
        """All of the file, as text."""
        return self.read_bytes().decode(encoding, errors)

    def write_bytes(self, data: bytes) -> None:
        """Stores the file; replaces one of that name."""
        with answering(self), self.open("wb") as file:
            file.write(data)

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the file."""
        files, key = arrow_files(self)
        with answering(self), suppress(*[FileNotFoundError] if missing_ok else []):
            files.delete_file(key)

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Does nothing: a prefix exists with the first file below it."""

    def iterdir(self) -> Iterator["ObjectPath"]:
        """Files and prefixes directly below; none if there is no such prefix."""
        from pyarrow.fs import FileSelector

        files, key = arrow_files(self)
        with answering(self):
            listed = files.get_file_info(FileSelector(key, allow_not_found=True))
        for found in listed:
            yield self / found.base_name

    def _info(self) -> Any:
        files, key = arrow_files(self)
        with answering(self):
            return files.get_file_info(key)


Location = Path | ObjectPath


def locate(place: str | Location, endpoint: str = "", region: str = "") -> Location:
    """The folder or the prefix that `place` names; endpoint and region may also be in the query of a URL.

    Raises ArgumentError for a URL that no engine knows, or that holds more than a place.
    """
    if not isinstance(place, str):
        return place
    scheme, found, _ = place.partition("://")
    if not found:
        return Path(place)
    parts = urlsplit(place)
    # Before an @ stands a user with a password, except for Azure, where it is the container.
    if scheme not in SCHEMES or not parts.netloc or ("@" in parts.netloc and scheme != "abfss"):
        raise ArgumentError(
            f"storage: expected a folder or a URL such as s3://bucket/warehouse, got one of {scheme[:20]}://; known "
            f"are {', '.join(f'{one}://' for one in SCHEMES)}, without credentials; s3:// also where Spark alone would "
            "be told s3a://"
        )
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    named = ObjectPath(
        f"{scheme}://{parts.netloc}{parts.path}".rstrip("/"),
        query.get("endpoint", endpoint),
        query.get("region", region),
    )
    if query.keys() - _QUERY or (named.endpoint and not re.fullmatch(ENDPOINT, named.endpoint)):
        raise ArgumentError(
            f"{named}: expected at most ?endpoint=http://HOST:PORT&region=NAME after it, got {', '.join(query)}; "
            "credentials belong into the environment"
        )
    if (named.endpoint or named.region) and scheme != "s3":
        raise ArgumentError(f"{named}: expected no endpoint and no region, got one; only s3:// has them")
    return named


def as_text(location: Location) -> str:
    """The location as one line that `locate` can read, for another process."""
    if isinstance(location, Path):
        return str(location)
    query = {"endpoint": location.endpoint, "region": location.region}
    named = urlencode({name: value for name, value in query.items() if value})
    return f"{location.url}?{named}" if named else location.url


def arrow_files(location: Location) -> tuple["FileSystem", str]:
    """Arrow's file system, and the name of `location` in it."""
    from pyarrow.fs import LocalFileSystem

    if isinstance(location, Path):
        return LocalFileSystem(), str(location)
    scheme, _, rest = location.url.partition("://")
    store, _, key = rest.partition("/")  # a key is not a URL: ?, # and % stand for themselves in it
    with answering(location):  # the AWS client first asks for the region of the bucket
        files, prefix = _connect(f"{scheme}://{store}", location.endpoint, location.region)
    return files, f"{prefix.rstrip('/')}/{key}".rstrip("/")


@lru_cache(maxsize=16)
def _connect(store: str, endpoint: str, region: str) -> tuple["FileSystem", str]:
    """One client per process and store, with its pool of connections."""
    from pyarrow.fs import FileSystem

    query = {"region": region} if region else {}
    if endpoint:
        parts = urlsplit(endpoint)
        query |= {"scheme": parts.scheme, "endpoint_override": parts.netloc}
    files, prefix = FileSystem.from_uri(f"{store}/?{urlencode(query)}" if query else f"{store}/")
    return files, prefix


def remove_tree(location: Location) -> None:
    """Removes all that is below `location`; no error if there is nothing."""
    if isinstance(location, Path):
        shutil.rmtree(location, ignore_errors=True)
        return
    files, key = arrow_files(location)
    with answering(location), suppress(FileNotFoundError):
        files.delete_dir(key)


def parquet_source(location: Location) -> Any:
    """What `pyarrow.parquet` opens: the path itself, or an open file of the store."""
    return location if isinstance(location, Path) else location.open("rb")


def delta_options(location: Location) -> dict[str, str] | None:
    """`storage_options` of delta-rs."""
    if isinstance(location, Path):
        return None
    options = {"aws_region": location.region} if location.region else {}
    if location.endpoint:
        options |= {"aws_endpoint_url": location.endpoint}
        options |= {"aws_allow_http": "true"} if location.endpoint.startswith("http://") else {}
    return options


def spark_url(location: Location) -> str:
    """The location as Spark names it: Hadoop's client for S3 is s3a."""
    return str(location).replace("s3://", "s3a://", 1) if isinstance(location, ObjectPath) else str(location)


def hadoop_settings(location: Location) -> dict[str, str]:
    """Settings of Hadoop's client for the store, without the prefix `spark.hadoop.`."""
    if isinstance(location, Path) or not location.url.startswith("s3://"):
        return {}
    settings = {"fs.s3a.endpoint.region": location.region} if location.region else {}
    if location.endpoint:
        is_secure = str(location.endpoint.startswith("https://")).lower()
        settings |= {"fs.s3a.endpoint": location.endpoint, "fs.s3a.connection.ssl.enabled": is_secure}
        settings |= {"fs.s3a.path.style.access": "true"}  # only AWS resolves http://bucket.endpoint
    return settings


def store_fault(location: Location, err: BaseException) -> StoreFault | None:
    """The error to raise if `err` says that the store did not answer or refused; None if it is about a file."""
    if isinstance(location, Path) or not _STORE_FAULT.search(str(err)):
        return None
    said = " ".join(_COLOUR.sub("", str(err)).split())[:200]
    return StoreFault(
        f"{location}: expected the object store to answer, got {said}; check the network, the credentials in the "
        "environment, and [storage] endpoint and region, then run the command again"
    )


@contextmanager
def answering(location: Location) -> Iterator[None]:
    """Raises StoreFault if the store does not answer inside."""
    try:
        yield
    except Exception as err:
        fault = store_fault(location, err)
        if fault is None or isinstance(err, StoreFault):
            raise
        raise fault from err


# Every part begins with a letter, a digit or an underscore: `..`, an absolute path, a drive, a URL, an escape or a
# hidden file do not match.
RELATIVE_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_=.-]*(/[A-Za-z0-9_][A-Za-z0-9_=.-]*)*")


def inside(root: Location, rel_path: str, where: str) -> Location:
    """The absolute path of `rel_path`; DamagedError if it leaves `root`, also through a symbolic link."""
    path = root.absolute() / rel_path
    if not RELATIVE_PATH.fullmatch(rel_path) or _follows_link_out(path, root):
        raise DamagedError(
            f"{where}: expected a path inside {root}, got {rel_path[:200]!r}; store the data in the warehouse itself"
        )
    return path


def _follows_link_out(path: Location, root: Location) -> bool:
    """Whether links lead a path below `root` elsewhere; object stores have no links."""
    if not isinstance(path, Path) or not isinstance(root, Path):
        return False
    return not path.resolve().is_relative_to(root.resolve())
