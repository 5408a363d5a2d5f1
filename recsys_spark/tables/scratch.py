"""Files of one step of one run, for work that must outlive a kill but is no table: arrays, and markers that count.

Owns: their folder, their names, and that a file is whole or absent.  Called by the adapters whose tasks exchange arrays
without a shuffle, and by the runner, which drops the folder once the step is recorded; `gc` drops what is left over.
On a cluster the folder is part of the warehouse, so every worker sees it.
"""

import json
import os
import shutil
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

_FOLDER = "_scratch"


@dataclass(frozen=True)
class Scratch:
    """A folder; it is sent to workers by its path."""

    folder: Path

    def write(self, name: str, array: np.ndarray) -> None:
        """Stores an array, in place of any of that name; a reader sees the old one or the new one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{name}.{uuid4().hex}"
        try:
            with temporary.open("wb") as file:
                np.save(file, array, allow_pickle=False)
            temporary.replace(self.folder / f"{name}.npy")
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, name: str) -> np.ndarray:
        """The array, mapped and not to be written to."""
        return np.asarray(np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))

    def sha256(self, name: str) -> str:
        """Hash of the stored array; "" if there is none."""
        try:
            with (self.folder / f"{name}.npy").open("rb") as stored:
                return file_digest(stored, "sha256").hexdigest()
        except FileNotFoundError:
            return ""

    def remove(self, name: str) -> None:
        """Removes an array; none of that name is no fault."""
        (self.folder / f"{name}.npy").unlink(missing_ok=True)

    def mark(self, name: str, content: dict[str, Any]) -> None:
        """Stores a marker, durably; arrays are not synced to disk, so a marker names their hashes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{name}.{uuid4().hex}"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / f"{name}.json")

    def marker(self, name: str) -> dict[str, Any] | None:
        """The marker of that name; None if there is none, or none that can be read."""
        try:
            content = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def drop(self) -> None:
        """Removes the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def scratch_of(root: Path, run_id: str, step: str) -> Scratch:
    """The scratch of a step of a run."""
    return Scratch(root.absolute() / _FOLDER / run_id / step)


def runs_with_scratch(root: Path) -> list[str]:
    """Runs that have left some."""
    folder = root / _FOLDER
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def drop_scratch(root: Path, run_id: str) -> None:
    """Removes all scratch of a run."""
    shutil.rmtree(root / _FOLDER / run_id, ignore_errors=True)
