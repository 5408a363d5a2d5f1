"""What a single setting may be."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from recsys_spark.config.types import Endpoint, Folder, Place, Region, TimeFormat, Timezone


def accepts(kind: Any, value: str) -> bool:
    try:
        return bool(TypeAdapter(kind).validate_python(value) == value)
    except ValidationError:
        return False


@pytest.mark.parametrize("path", ["warehouse", "/data/x y", "../beside", "Übersicht", ""])
def test_folder_is_any_path_of_this_machine(path: str) -> None:
    assert accepts(Folder, path)


@pytest.mark.parametrize("path", ["s3://bucket/x", "file:///x", "a\0b", "a\nb", "\x1b[31m", "\udcff"])
def test_folder_is_no_address_and_no_unprintable_path(path: str) -> None:
    assert not accepts(Folder, path)


@pytest.mark.parametrize(
    "place",
    [
        "warehouse",
        "../x y",
        "s3://shop/warehouse",
        "gs://shop",
        "abfss://shop@one.dfs.core.windows.net/w",
        "hdfs://n:80/w",
    ],
)
def test_place_is_a_folder_or_a_url(place: str) -> None:
    assert accepts(Place, place)


@pytest.mark.parametrize(
    "place",
    [
        "a\nb",
        "s3a://shop/w",
        "s3://",
        "s3://KEY:SECRET@shop/w",
        "s3://shop/../w",
        "s3://shop/w?region=eu",
        "s3://a b/w",
    ],
)
def test_place_is_no_other_url_and_holds_no_secret(place: str) -> None:
    assert not accepts(Place, place)


def test_endpoint_and_region_are_those_of_s3() -> None:
    assert [accepts(Endpoint, one) for one in ("", "http://minio:9000", "minio:9000", "http://a/b")] == [1, 1, 0, 0]
    assert [accepts(Region, one) for one in ("", "eu-central-1", "EU", "a&b=c")] == [1, 1, 0, 0]


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"])
def test_timezone_is_a_zone_of_the_database(name: str) -> None:
    assert accepts(Timezone, name)


@pytest.mark.parametrize("name", ["", "Mars", "Europe", "../../etc/localtime", "/etc/localtime", "UTC+25", "a\0b"])
def test_timezone_is_nothing_else(name: str) -> None:
    assert not accepts(Timezone, name)


@pytest.mark.parametrize(
    "text", ["iso", "epoch_s", "epoch_ms", "epoch_us", "%d/%m/%Y %H:%M", "%b %d, %Y, %I:%M %p", "%y%m%d", "%Y", "%c"]
)
def test_time_format_is_a_name_or_a_pattern_with_the_year(text: str) -> None:
    assert accepts(TimeFormat, text)


@pytest.mark.parametrize("text", ["", "epoch", "ISO", "%H:%M", "%d/%m", "%Q", "%", "yyyy-MM-dd"])
def test_time_format_is_nothing_else(text: str) -> None:
    assert not accepts(TimeFormat, text)
