"""A place in an object store answers what a folder answers, and every engine is told the same place."""

import pickle
from collections.abc import Callable
from hashlib import file_digest, sha256
from pathlib import Path

import pytest

from recsys_spark.errors import ArgumentError
from recsys_spark.warehouse.location import (
    Location,
    ObjectPath,
    as_text,
    delta_options,
    hadoop_settings,
    locate,
    remove_tree,
    spark_url,
    store_fault,
)

MINIO = ObjectPath("s3://shop/warehouse", "http://minio:9000", "eu-west-1")


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """A place with nothing below it, of either kind."""
    return tmp_path / "warehouse" if request.param == "folder" else request.getfixturevalue("s3_root")


def test_a_file_is_written_found_and_removed(place: Location) -> None:
    file = place / "a" / "b.txt"
    assert (file.name, file.parent, file.exists(), place.exists()) == ("b.txt", place / "a", False, False)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"first")
    file.write_bytes("zwölf".encode())
    assert (file.read_bytes(), file.read_text(encoding="utf-8")) == ("zwölf".encode(), "zwölf")
    assert (file.exists(), file.parent.exists(), file.stat().st_size) == (True, True, 6)
    assert file.stat().st_mtime > 1.7e9
    with file.open("rb") as opened:
        assert file_digest(opened, "sha256").hexdigest() == sha256("zwölf".encode()).hexdigest()
    file.unlink()
    assert not file.exists()


@pytest.mark.parametrize(
    "ask", [lambda file: file.stat(), lambda file: file.read_bytes(), lambda file: file.open("rb")]
)
def test_a_file_that_is_not_there_is_an_error(place: Location, ask: Callable[[Location], object]) -> None:
    with pytest.raises(FileNotFoundError):
        ask(place / "none")


def test_unlink_of_nothing_is_as_it_is_asked_for(place: Location) -> None:
    (place / "none").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (place / "none").unlink()


def test_files_and_folders_right_below_are_listed_and_a_tree_is_removed(place: Location) -> None:
    for name in ("x/1", "x/2", "x/y/3", "z"):
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"1")
    assert sorted(one.name for one in (place / "x").iterdir()) == ["1", "2", "y"]
    remove_tree(place / "x")
    assert sorted(one.name for one in place.iterdir()) == ["z"]
    remove_tree(place / "never")


def test_locate_reads_what_as_text_writes(tmp_path: Path) -> None:
    for one in (tmp_path, ObjectPath("s3://shop/w"), MINIO, ObjectPath("hdfs://name:8020/w")):
        assert locate(as_text(one)) == one
        assert locate(one) is one
        assert pickle.loads(pickle.dumps(one)) == one
    assert locate("s3://shop/w/", "http://minio:9000", "eu-west-1") == ObjectPath(
        "s3://shop/w", "http://minio:9000", "eu-west-1"
    )
    own = locate("s3://shop/w?region=eu-central-1", "http://minio:9000", "eu-west-1")
    assert own == ObjectPath("s3://shop/w", "http://minio:9000", "eu-central-1"), "what stands in the URL holds"
    assert locate("warehouse") == Path("warehouse")


@pytest.mark.parametrize(
    "url", ["s3a://shop/w", "s3://", "s3:///w", "ftp://shop/w", "file:///w", "s3://KEY:SECRET@shop/w"]
)
def test_locate_refuses_a_url_that_no_engine_knows(url: str) -> None:
    with pytest.raises(
        ArgumentError, match=r"storage: expected a folder or a URL such as s3://bucket/warehouse, got"
    ) as fault:
        locate(url)
    assert "SECRET" not in str(fault.value)


@pytest.mark.parametrize(
    "url",
    [
        "s3://shop/w?endpont=http://minio:9000",
        "s3://shop/w?secret_key=SECRET",
        "s3://shop/w?endpoint=minio:9000",
        "gs://shop/w?region=eu",
    ],
)
def test_locate_refuses_what_is_no_place(url: str) -> None:
    with pytest.raises(ArgumentError, match=r"//shop/w: expected") as fault:
        locate(url)
    assert "SECRET" not in str(fault.value)


def test_every_engine_is_told_the_same_place(tmp_path: Path) -> None:
    assert (delta_options(tmp_path), spark_url(tmp_path), hadoop_settings(tmp_path)) == (None, str(tmp_path), {})
    assert spark_url(MINIO) == "s3a://shop/warehouse"
    assert delta_options(MINIO) == {
        "aws_region": "eu-west-1",
        "aws_endpoint_url": "http://minio:9000",
        "aws_allow_http": "true",
    }
    assert hadoop_settings(MINIO) == {
        "fs.s3a.endpoint.region": "eu-west-1",
        "fs.s3a.endpoint": "http://minio:9000",
        "fs.s3a.connection.ssl.enabled": "false",
        "fs.s3a.path.style.access": "true",
    }
    secure = ObjectPath("s3://shop/warehouse", "https://minio:9000")
    assert delta_options(secure) == {"aws_endpoint_url": "https://minio:9000"}
    assert hadoop_settings(secure)["fs.s3a.connection.ssl.enabled"] == "true"
    of_aws = ObjectPath("s3://shop/warehouse")
    assert (delta_options(of_aws), hadoop_settings(of_aws)) == ({}, {})


@pytest.mark.parametrize("url", ["gs://shop/w", "abfss://shop@account.dfs.core.windows.net/w", "hdfs://name:8020/w"])
def test_other_stores_have_one_name_for_all_engines(url: str) -> None:
    place = locate(url)
    assert (str(place), spark_url(place), delta_options(place), hadoop_settings(place)) == (url, url, {}, {})


def test_store_fault_knows_a_store_that_does_not_answer_from_a_file_that_is_damaged(tmp_path: Path) -> None:
    no_answer = OSError("When reading: AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7")
    fault = store_fault(MINIO, no_answer)
    assert fault is not None
    assert str(fault).startswith("s3://shop/warehouse: expected the object store to answer, got When reading")
    assert store_fault(tmp_path, no_answer) is None
    assert store_fault(MINIO, OSError("Couldn't deserialize thrift: don't know what type")) is None
