"""Types of single settings (numbers, names, folders, time formats and zones), and the base of their sections.

Owns: what a value must be, and the words that say so.
"""

import re
from datetime import datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from recsys_spark.errors import ArgumentError
from recsys_spark.warehouse.location import ENDPOINT, SCHEMES, locate


def _check_folder(path: str) -> str:
    if "://" in path or not path.isprintable():
        raise ValueError("a folder of this machine, by a printable path")
    return path


def _check_place(place: str) -> str:
    if "://" not in place:
        return _check_folder(place)
    try:
        locate(place)
        is_plain = re.fullmatch(r"[a-z0-9]+://[A-Za-z0-9_.@:-]+(/[A-Za-z0-9_][A-Za-z0-9_=.-]*)*/?", place)
    except ArgumentError:
        is_plain = None
    if not is_plain:
        raise ValueError(f"a folder, or a URL of {', '.join(SCHEMES)} such as s3://bucket/warehouse")
    return place


def _check_timezone(name: str) -> str:
    try:
        if name != "UTC":  # known without the tz database of the machine
            ZoneInfo(name)
    except (KeyError, ValueError, OSError) as err:
        raise ValueError("a zone of the tz database such as Europe/Berlin") from err
    return name


def _check_time_format(text: str) -> str:
    if text in ("iso", "epoch_s", "epoch_ms", "epoch_us"):
        return text
    try:
        year = datetime.strptime(datetime(2011, 12, 9).strftime(text), text).year  # noqa: DTZ001, DTZ007 - may have none
    except ValueError:
        year = 0
    if year != 2011:
        raise ValueError("iso, epoch_s, epoch_ms, epoch_us or a strptime pattern with the year")
    return text


PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
# A hundred years: longer than any log, and short enough that a date minus this span is still a valid date.
MAX_DAYS = 36_500
Days = Annotated[int, Field(ge=0, le=MAX_DAYS)]
PositiveDays = Annotated[int, Field(ge=1, le=MAX_DAYS)]
HalfLifeDays = Annotated[float, Field(gt=0, le=MAX_DAYS, allow_inf_nan=False)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Ratio = Annotated[float, Field(ge=0, le=1)]
PartialWeight = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Place = Annotated[str, AfterValidator(_check_place)]
Endpoint = Annotated[str, Field(pattern=f"^({ENDPOINT})?$")]
Region = Annotated[str, Field(pattern=r"^[a-z0-9-]{0,40}$")]
Folder = Annotated[str, AfterValidator(_check_folder)]
FileFormat = Literal["auto", "jsonl", "csv", "parquet"]
Timezone = Annotated[str, AfterValidator(_check_timezone)]
TimeFormat = Annotated[str, AfterValidator(_check_time_format)]


class Section(BaseModel):
    """Base of every section: no unknown keys, no change after loading, no silent conversion of strings."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
