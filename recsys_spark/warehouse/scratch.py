"""Scratch files of one step of one run, for work that must survive a kill but is no table: arrays, shards, markers.

Owns: their folder, their names, and that a file is whole or absent.  On a cluster the folder is part of the warehouse,
so every worker sees it.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_spark.warehouse.location import Location, parquet_source, remove_tree
from recsys_spark.warehouse.whole_file import download, whole_file

_FOLDER = "_scratch"


@dataclass(frozen=True)
class Scratch:
    """A scratch folder; it is sent to workers by its path."""

    folder: Location

    def write(self, name: str, array: np.ndarray) -> None:
        """Stores an array; replaces one of that name, and a reader sees the old one or the new one."""
        with whole_file(self.folder / f"{name}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)

    def read(self, name: str) -> np.ndarray:
        """The array, memory-mapped and read-only."""
        place = self.folder / f"{name}.npy"
        if isinstance(place, Path):
            return _mapped(place)
        with TemporaryDirectory() as folder:  # the file is gone after the block, but the mapping stays
            download(place, Path(folder) / "copy.npy")
            return _mapped(Path(folder) / "copy.npy")

    def sha256(self, name: str) -> str:
        """Hash of the stored array; "" if there is none."""
        try:
            with (self.folder / f"{name}.npy").open("rb") as stored:
                return file_digest(stored, "sha256").hexdigest()
        except FileNotFoundError:
            return ""

    def write_table(self, name: str, table: pa.Table) -> None:
        """Stores a table as Parquet; replaces one of that name."""
        with whole_file(self.folder / f"{name}.parquet") as temporary:
            pq.write_table(table, temporary)

    def read_table(self, name: str) -> pa.Table:
        """The table of that name."""
        return pq.read_table(parquet_source(self.folder / f"{name}.parquet"), partitioning=None)

    def write_bytes(self, name: str, data: bytes) -> None:
        """Stores a file durably; replaces one of that name."""
        with whole_file(self.folder / name, is_synced=True) as temporary:
            temporary.write_bytes(data)

    def read_bytes(self, name: str) -> bytes | None:
        """The content of the file of that name; None if there is none."""
        try:
            return (self.folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        """Removes an array; no error if there is none of that name."""
        (self.folder / f"{name}.npy").unlink(missing_ok=True)

    def remove_marker(self, name: str) -> None:
        """Removes a marker; no error if there is none of that name."""
        (self.folder / f"{name}.json").unlink(missing_ok=True)

    def keep_only(self, prefixes: tuple[str, ...], names: Collection[str]) -> None:
        """Removes the files whose names begin with one of `prefixes`, except `names`."""
        for path in self.folder.iterdir():
            if path.name.startswith(prefixes) and path.name not in names:
                path.unlink(missing_ok=True)

    def mark(self, name: str, content: dict[str, Any]) -> None:
        """Stores a marker durably; arrays are not synced to disk, so a marker records their hashes."""
        self.write_bytes(f"{name}.json", json.dumps(content).encode())

    def marker(self, name: str) -> dict[str, Any] | None:
        """The marker of that name; None if there is none, or it cannot be read."""
        try:
            content = json.loads(self.read_bytes(f"{name}.json") or b"null")
        except ValueError:
            return None
        return content if isinstance(content, dict) else None

    def drop(self) -> None:
        """Removes the folder with all that is in it."""
        remove_tree(self.folder)


def _mapped(path: Path) -> np.ndarray:
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def scratch_of(root: Location, run_id: str, step: str) -> Scratch:
    """The scratch of a step of a run."""
    return Scratch(root.absolute() / _FOLDER / run_id / step)


def runs_with_scratch(root: Location) -> list[str]:
    """Runs that have scratch files, ascending."""
    folder = root / _FOLDER
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def drop_scratch(root: Location, run_id: str) -> None:
    """Removes all scratch of a run."""
    remove_tree(root / _FOLDER / run_id)
