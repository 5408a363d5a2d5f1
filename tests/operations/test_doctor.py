"""Every check finds what is wrong and says what to do."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from recsys_spark.config.schema import Config
from recsys_spark.errors import EnvironmentFault
from recsys_spark.operations import doctor
from recsys_spark.spark.session import check_java
from recsys_spark.warehouse.location import ObjectPath

GIB = 1 << 30


@pytest.fixture(autouse=True)
def _java_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """To ask Java starts a JVM, which the check of this machine does alone."""
    monkeypatch.setattr(doctor, "check_java", lambda: None)


def finding(config: Config, name: str) -> doctor.Finding:
    return next(one for one in doctor.examine(config) if one.name == name)


def test_a_machine_that_runs_the_tests_has_all_but_perhaps_disk_and_memory(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "check_java", check_java)
    found = doctor.examine(make_config())
    assert [one.name for one in found if one.remedy and one.name not in ("disk", "memory", "cores")] == []
    assert len(found) == 10
    assert all(one.found for one in found)


def test_a_missing_java_is_found(make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise EnvironmentFault("Java: expected version 17 or newer, got none on PATH; install it")

    monkeypatch.setattr(doctor, "check_java", none)
    java = finding(make_config(), "Java")
    assert (java.found, java.remedy) == ("Java: expected version 17 or newer, got none on PATH", "install it")


def test_a_jar_that_is_not_there_yet_is_no_fault(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ivy2" / "jars").mkdir(parents=True)
    (tmp_path / ".ivy2" / "jars" / "io.delta_delta-spark_4.2_2.13-4.3.0.jar").write_text("another version")
    found = finding(make_config(), "jars")
    assert "delta-spark_4.2_2.13:4.4.0: not kept here yet" in found.found
    assert found.remedy == ""


def test_a_warehouse_that_cannot_be_written_is_found(make_config: Callable[..., Config]) -> None:
    config = make_config("storage.root=/proc/nowhere")
    assert finding(config, "warehouse").remedy.startswith("give another with --set storage.root")


def test_an_object_store_is_written_to_and_its_clock_is_read(
    make_config: Callable[..., Config], s3_root: ObjectPath
) -> None:
    config = make_config(
        f"storage.root={s3_root}", f"storage.endpoint={s3_root.endpoint}", "storage.region=eu-central-1"
    )
    assert finding(config, "warehouse").found == f"{s3_root} can be written"
    assert "s from the storage's" in finding(config, "clock").found
    assert list(s3_root.iterdir()) == []


def test_an_object_store_that_does_not_answer_is_found(make_config: Callable[..., Config]) -> None:
    config = make_config(
        "storage.root=s3://shop/w", "storage.endpoint=http://127.0.0.1:9", "storage.region=eu-central-1"
    )
    assert finding(config, "warehouse").remedy.startswith("check the bucket, [storage] endpoint and region")


@pytest.mark.parametrize(
    ("for_warehouse", "for_shuffles", "remedied"),
    [(6 * GIB, 6 * GIB, False), (4 * GIB, 6 * GIB, True), (6 * GIB, 4 * GIB, True)],
)
def test_too_little_disk_is_found_wherever_it_is(
    make_config: Callable[..., Config],
    monkeypatch: pytest.MonkeyPatch,
    for_warehouse: int,
    for_shuffles: int,
    remedied: bool,
) -> None:
    def usage(place: Path) -> SimpleNamespace:
        return SimpleNamespace(free=for_shuffles if place == Path(tempfile.gettempdir()) else for_warehouse)

    monkeypatch.setattr(doctor.shutil, "disk_usage", usage)
    assert bool(finding(make_config(), "disk").remedy) == remedied


@pytest.mark.parametrize(("available", "remedied"), [(4 * GIB, False), (2 * GIB, True)])
def test_too_little_memory_is_found(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, available: int, remedied: bool
) -> None:
    monkeypatch.setattr(doctor, "_available_bytes", lambda: available)
    assert bool(finding(make_config(), "memory").remedy) == remedied


def test_too_few_cores_are_found(make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert finding(make_config(), "cores").remedy


def test_a_place_for_compiled_code_that_cannot_be_written_is_found(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/proc/nowhere")
    assert "NUMBA_CACHE_DIR" in finding(make_config(), "compiled code").remedy


def test_a_clock_that_is_not_the_storages_is_found(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.time, "time", lambda: 0.0)
    assert "time server" in finding(make_config(), "clock").remedy


def test_a_check_that_crashes_is_a_finding_and_the_others_go_on(
    make_config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_: Config) -> doctor.Finding:
        raise ValueError("no such thing")

    monkeypatch.setattr(doctor, "_cores", crash)
    found = {one.name: one for one in doctor.examine(make_config())}
    assert found["cores"].found == "no such thing"
    assert len(found) == 10


def test_a_landing_bucket_that_does_not_answer_is_found(
    make_config: Callable[..., Config], s3_root: ObjectPath
) -> None:
    (s3_root / "events/a.jsonl").write_bytes(b"{}")
    feeds = (f"landing.events={s3_root}/events", f"landing.items={s3_root}/items", "landing.users=")
    server = "storage.region=eu-central-1"
    found = finding(make_config(*feeds, server, f"storage.endpoint={s3_root.endpoint}"), "landing")
    assert (found.found, found.remedy) == (f"nothing yet of items in {s3_root}/items", "")
    away = finding(make_config(*feeds, server, "storage.endpoint=http://127.0.0.1:9"), "landing")
    assert away.remedy.startswith("check the network, the credentials in the environment, and [storage] endpoint")
