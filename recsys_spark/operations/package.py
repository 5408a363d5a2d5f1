"""Archive of the executors' Python environment: a Python, this package, and what its workers import.

Owns: what goes in.  Executors of YARN, Kubernetes and standalone unpack it beside their work (`--archives
recsys-env.tar.gz#environment`), so that a node needs Spark and nothing else.  Spark brings its own pyspark, and torch,
nine tenths of all, is needed by the driver alone: towers are trained beside it, and executors embed with numpy.
"""

import io
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from recsys_spark import __version__, package_root
from recsys_spark.config.load import conf_folder
from recsys_spark.errors import EnvironmentFault

NAME = "recsys-env.tar.gz"

_OWN, _EXTRAS = "recsys-spark", ("spark", "index")
_NOT_OF_EXECUTORS = {"pyspark", "py4j", "delta-spark", "torch"}

_LEFT_OUT = ("__pycache__", "test", "tests", "idlelib", "ensurepip", "tkinter", "turtledemo", "site-packages")
_OWN_KINDS = {".py", ".toml", ".conf"}  # not other files that somebody may have put beside them
_LEVEL = 1  # 6 takes five times as long for a tenth less


@dataclass(frozen=True)
class Packed:
    """The archive that was written: its path, bytes, and the distributions in it."""

    path: Path
    n_bytes: int
    distributions: tuple[str, ...]


def package(folder: Path) -> Packed:
    """Writes NAME into `folder`.  Raises EnvironmentFault if what it needs is not installed."""
    folder.mkdir(parents=True, exist_ok=True)
    packed = _needed()
    path = folder / NAME
    temporary = path.with_name(f".{NAME}")
    with tarfile.open(temporary, "w:gz", compresslevel=_LEVEL, dereference=True) as archive:
        for source, name in _interpreter():
            archive.add(source, name, recursive=False)
        for one in packed:
            for source, name in _files_of(one):
                archive.add(source, f"{_site()}/{name}", recursive=False)
        for source, name in _own_files():
            archive.add(source, f"{_site()}/{name}", recursive=False)
        _add_text(archive, "recsys-version.txt", f"recsys-spark {__version__}\n")
    temporary.replace(path)
    return Packed(path, path.stat().st_size, tuple(sorted(one.name for one in packed)))


def _site() -> str:
    return f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


def _needed() -> list[Distribution]:
    """The distributions that this one needs, without _NOT_OF_EXECUTORS and what only they need."""
    found: dict[str, Distribution] = {}
    open_names = [_OWN]
    while open_names:
        name = open_names.pop()
        try:
            one = distribution(name)
        except PackageNotFoundError as err:
            raise EnvironmentFault(
                f"package: expected {name} to be installed beside recsys-spark, got no such distribution; "
                "run `uv sync` or install the wheel anew"
            ) from err
        if name != _OWN:
            found[name] = one
        for text in one.requires or []:
            needed = Requirement(text)
            extras = _EXTRAS if name == _OWN else ("",)
            wanted = needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras)
            needed_name = canonicalize_name(needed.name)
            if wanted and needed_name not in {_OWN, *found, *open_names, *_NOT_OF_EXECUTORS}:
                open_names.append(needed_name)
    return list(found.values())


def _files_of(one: Distribution) -> Iterator[tuple[Path, str]]:
    """Files of a distribution and their names in site-packages; programs beside it stay out."""
    for file in one.files or []:
        path = Path(str(file.locate()))
        if ".." not in file.parts and "__pycache__" not in file.parts and path.is_file():
            yield path, str(file)


def _own_files() -> Iterator[tuple[Path, str]]:
    """This package, with conf/ inside, as in the wheel."""
    here = package_root()
    for path in sorted(here.rglob("*")):
        if path.suffix in _OWN_KINDS and path.is_file() and "__pycache__" not in path.parts:
            yield path, f"recsys_spark/{path.relative_to(here)}"
    if not (here / "conf").is_dir():
        for path in sorted(conf_folder().rglob("*")):
            if path.suffix in _OWN_KINDS and path.is_file():
                yield path, f"recsys_spark/conf/{path.relative_to(conf_folder())}"


def _interpreter() -> Iterator[tuple[Path, str]]:
    """The Python that this environment is made of, its program and its library: it finds the one from the other."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    base = Path(sys.base_prefix)
    program, library = base / "bin" / version, base / "lib" / version
    if not program.exists() or not (library / "os.py").exists():
        raise EnvironmentFault(
            f"package: expected a Python with {program} and {library}, got one that is laid out otherwise; make the "
            "environment with a Python of uv or pyenv, which can be moved"
        )
    yield program, f"bin/{version}"
    yield program, "bin/python"
    for path in sorted((base / "lib").glob("libpython*.so*")):
        yield path, f"lib/{path.name}"
    for path in sorted(library.rglob("*")):
        inside = path.relative_to(library)
        if path.is_file() and not any(part in _LEFT_OUT or part.startswith("config-") for part in inside.parts):
            yield path, f"lib/{version}/{inside}"


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(text)
    archive.addfile(entry, io.BytesIO(text.encode()))
