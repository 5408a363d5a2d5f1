"""What goes into the archive of executors; that they work with it is for tests/end_to_end/test_cluster.py."""

import tarfile
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from recsys_spark.errors import EnvironmentFault
from recsys_spark.operations import package as module
from recsys_spark.operations.package import NAME, package


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> set[str]:
    """The distributions of an archive; of the files only those of this package are packed."""
    monkeypatch.setattr(module, "_files_of", lambda _: iter(()))
    monkeypatch.setattr(module, "_interpreter", lambda: iter(()))
    return {one.lower() for one in package(tmp_path).distributions}


def test_executors_have_what_kernels_import_and_nothing_of_spark(names: set[str]) -> None:
    kernels = {"numpy", "numba", "llvmlite", "pyarrow", "pandas", "faiss-cpu", "pydantic", "scipy", "safetensors"}
    assert kernels <= names
    assert not names & {"pyspark", "py4j", "delta-spark", "torch", "pytest", "recsys-spark"}


def test_the_package_is_in_it_with_its_settings_and_without_the_logs_of_the_demo(
    names: set[str], tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / NAME) as archive:
        found = {name.partition("site-packages/")[2] for name in archive.getnames()}
    assert {
        "recsys_spark/als/kernels/objective.py",
        "recsys_spark/conf/base.toml",
        "recsys_spark/retrieval/sources/als.py",
    } <= found
    assert not any("__pycache__" in name or name.startswith("recsys_spark/cli/demo/data") for name in found)


def test_a_python_has_its_program_and_its_library() -> None:
    found = {name for _, name in module._interpreter()}
    assert "bin/python" in found
    assert any(name.endswith("/os.py") for name in found)
    assert not any("site-packages" in name or "/test/" in name for name in found)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def lacks(name: str) -> object:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "distribution", lacks)
    with pytest.raises(EnvironmentFault, match=r"expected recsys-spark to be installed .*; run `uv sync`"):
        package(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_python_that_cannot_be_moved_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module.sys, "base_prefix", str(tmp_path))
    with pytest.raises(EnvironmentFault, match="got one that is laid out otherwise"):
        list(module._interpreter())
