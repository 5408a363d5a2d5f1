"""Schema of the settings: frozen models without defaults, because `conf/base.toml` is the only place for those.

Owns: types, bounds and meaning of every setting.  `config.load` reads and layers the TOML; everything above receives
the `Config` or the one section that it needs.
"""

from datetime import date
from hashlib import blake2b
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from recsys_spark.config.lists import Audit, Candidates, Hindsight, Publish, Validation
from recsys_spark.config.models import Als, Ann, ItemCf, TwoTower
from recsys_spark.config.types import (
    Days,
    Endpoint,
    FileFormat,
    Folder,
    Name,
    NonNegativeFloat,
    NonNegativeInt,
    Place,
    PositiveDays,
    PositiveFloat,
    PositiveInt,
    Ratio,
    Region,
    Section,
    TimeFormat,
    Timezone,
)
from recsys_spark.warehouse.location import Location, locate

_S3 = "s3://"  # the one scheme whose servers have an endpoint and a region


class Storage(Section):
    """Where the warehouse is, and what is written beside it."""

    root: Annotated[Place, Field(min_length=1)]
    endpoint: Endpoint
    region: Region
    metrics_file: Folder


class Landing(Section):
    """Where files are dropped, folders or prefixes; an empty name means that this feed does not exist."""

    events: Place
    items: Place
    users: Place


class Run(Section):
    """Settings of a whole run."""

    seed: NonNegativeInt


class EventColumns(Section):
    """Names of the columns in the log, by our names."""

    user_id: str
    item_id: str
    event_type: str
    event_time: str
    event_id: str
    value: str
    session_id: str
    surface: str
    position: str
    propensity: str


class EventType(Section):
    """What one type of event means.  A weight below zero subtracts; the sum is clipped at zero."""

    role: Literal["engage", "impression", "dislike"] = "engage"
    raw: list[str] = Field(default_factory=list)
    weight: Annotated[float, Field(ge=-1e6, le=1e6)] = 1.0
    value_transform: Literal["none", "log", "cap", "relative"] = "none"
    value_cap: PositiveFloat = 1e9
    exclude_days: Days = 0


class Events(Section):
    """How event logs are read."""

    format: FileFormat
    clock: Literal["auto", "time", "order", "none"]
    time_format: TimeFormat
    timezone: Timezone
    default_type: str
    attributes: list[str]
    value_min: float
    value_max: float
    on_bad_value: Literal["quarantine", "cap"]
    unknown_types: Literal["quarantine", "skip"]
    columns: EventColumns
    types: Annotated[dict[Name, EventType], Field(min_length=1)]

    @property
    def is_timed(self) -> bool:
        """Whether every line has a time."""
        return self.clock in ("auto", "time")

    @property
    def clock_words(self) -> str:
        """How much the log tells of times, in words."""
        return {"order": "their order is known", "none": "no times"}.get(self.clock, "events have times")

    @field_validator("value_max")
    @classmethod
    def _check_value_bounds(cls, value_max: float, info: ValidationInfo) -> float:
        if value_max < info.data.get("value_min", value_max):
            raise ValueError("at least value_min")
        return value_max

    @field_validator("types")
    @classmethod
    def _check_types(cls, types: dict[str, EventType], info: ValidationInfo) -> dict[str, EventType]:
        default = info.data.get("default_type", "")
        if default and default not in types:
            raise ValueError(f"a section [events.types.{default}], which default_type names")
        owners: dict[str, str] = {}
        for name, kind in types.items():
            for raw in kind.raw or [name]:
                if owners.setdefault(raw, name) != name:
                    raise ValueError(f"one type for each name of the log, not {owners[raw]} and {name} for {raw!r}")
        return types


class ItemColumns(Section):
    """Names of the columns in the snapshot of items, by our names."""

    item_id: str
    title: str
    category: str
    brand: str
    price: str
    length: str
    created_at: str
    tags: str
    valid_from: str


class UserColumns(Section):
    """Names of the columns in the snapshot of users, by our names."""

    user_id: str
    created_at: str
    valid_from: str


class Snapshots(Section):
    """How snapshots of a catalogue are read."""

    format: FileFormat
    time_format: TimeFormat
    timezone: Timezone
    vectors: list[str]


class Items(Snapshots):
    """How snapshots of the item catalogue are read."""

    columns: ItemColumns


class Users(Snapshots):
    """How snapshots of the user catalogue are read."""

    columns: UserColumns


class Ingest(Section):
    """Bounds of what ingest accepts."""

    late_days: PositiveDays
    max_bad_row_ratio: Ratio
    max_bad_file_ratio: Ratio
    max_files_per_batch: PositiveInt
    max_file_bytes: PositiveInt
    max_decompressed_bytes: PositiveInt
    max_expansion: PositiveInt
    max_line_bytes: PositiveInt


class Interactions(Section):
    """How events become weights."""

    window_days: Days
    half_life_days: NonNegativeFloat
    max_events_per_user_day: PositiveInt
    debias_clip: NonNegativeFloat

    @model_validator(mode="after")
    def _check_clip(self) -> "Interactions":
        if 0 < self.debias_clip < 1:
            raise ValueError(
                f"debias_clip: 0 or at least 1, not {self.debias_clip:g}; a weight of 1 is that of no bias"
            )
        return self


class Segments(Section):
    """How users are divided into segments."""

    attribute: str


class Features(Section):
    """Settings of the feature tables."""

    recent_items: PositiveInt
    max_categories: PositiveInt


class Sources(BaseModel):
    """The enabled sources; each source checks its own section (see `recsys_spark.retrieval.declared`)."""

    model_config = ConfigDict(extra="allow", frozen=True)

    enabled: Annotated[list[Name], Field(min_length=1)]

    def params(self, source: str) -> dict[str, Any]:
        """The raw section of `source`, {} if it has none."""
        return dict((self.model_extra or {}).get(source, {}))


class Config(Section):
    """Every setting of a command."""

    landing: Landing
    storage: Storage
    run: Run
    events: Events
    items: Items
    users: Users
    ingest: Ingest
    interactions: Interactions
    segments: Segments
    features: Features
    item_cf: ItemCf
    als: Als
    two_tower: TwoTower
    ann: Ann
    sources: Sources
    candidates: Candidates
    validation: Validation
    hindsight: Hindsight
    audit: Audit
    publish: Publish

    # Where each setting was read, for faults that are found after loading; not a setting itself.
    _places: dict[tuple[str, ...], str] = PrivateAttr(default_factory=dict)

    @property
    def root(self) -> Location:
        """Where the warehouse is."""
        return self.locate(self.storage.root)

    def landing_place(self, kind: str) -> Location | None:
        """Where files of the feed `kind` are dropped, None if there is no such feed."""
        place: str = getattr(self.landing, kind)
        return self.locate(place).absolute() if place else None

    def locate(self, place: str) -> Location:
        """The folder or prefix `place`, reached as [storage] says."""
        is_s3 = place.startswith(_S3)
        return locate(place, self.storage.endpoint if is_s3 else "", self.storage.region if is_s3 else "")

    @field_validator("storage")
    @classmethod
    def _check_endpoint(cls, storage: Storage, info: ValidationInfo) -> Storage:
        landing = info.data.get("landing")
        if not landing or not (storage.endpoint or storage.region):
            return storage
        if not any(place.startswith(_S3) for place in (storage.root, landing.events, landing.items, landing.users)):
            raise ValueError("endpoint and region only where root or a feed of [landing] is in s3://")
        return storage

    @property
    def places(self) -> dict[tuple[str, ...], str]:
        """The file, or --set, that every setting came from, by its keys from the section down."""
        return self._places

    def remember_places(self, places: dict[tuple[str, ...], str]) -> "Config":
        """These settings, with the places that they were read from."""
        remembered = self.model_copy()
        remembered._places = dict(places)
        return remembered


def derive_seed(seed: int, step: str, day: date) -> int:
    """A seed for `step` on `day`, 63 bits, the same on every machine."""
    digest = blake2b(f"{seed}/{step}/{day.isoformat()}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
