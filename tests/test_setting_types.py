"""What a single setting may be."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from recsys_spark.setting_types import Folder, TimeFormat, Timezone


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
