"""Candidate sources as plug-ins: how one is declared, discovered and checked; each is a file in `retrieval/sources`.

A source declares its settings (`Params`) and the tables that it reads (`READS`), and proposes ranked lists in
`generate`.  A new source is its file and its name in `conf/base.toml` [sources] enabled; its defaults stand there too.

Owns: the interface of a source, its discovery, the check of its settings.
"""

import difflib
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Protocol, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from recsys_spark.config.load import fault_text, place_of
from recsys_spark.config.schema import Config
from recsys_spark.errors import ConfigError
from recsys_spark.retrieval import sources

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from recsys_spark.retrieval.user_lists import ForMany, Personal
    from recsys_spark.warehouse.scratch import Scratch


class SourceParams(BaseModel):
    """Base of every source's `Params`: no unknown keys, no change after loading, no silent conversion, no defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SourceContext(Protocol):
    """What a source may know of the run besides its inputs."""

    @property
    def config(self) -> Config:
        """The settings."""

    @property
    def cutoff(self) -> datetime:
        """D 00:00 UTC: nothing at or after it may change a list."""

    @property
    def seed(self) -> int:
        """The seed of the step."""

    def scratch(self, step: str) -> "Scratch":
        """Where files of a fit may lie until the step is done; step: `retrieve/` and the source's own name."""


class SourceModule(Protocol):
    """What a file in `retrieval/sources` has."""

    Params: type[SourceParams]
    READS: tuple[str, ...]

    def generate(
        self, inputs: "Mapping[str, DataFrame]", params: Any, context: SourceContext
    ) -> "DataFrame | ForMany | Personal":
        """What users are scored by (`retrieval.user_lists`), or lists, as rows of `source_candidates`, best item first.

        inputs: the tables of READS, as of the date.  A model's lists bear the source's own name; in rows `source` is
        that, or `name/list` where there are several.  A list names an item once, ties break by the smaller item_idx,
        and nothing depends on partitioning.
        A list for many users may hold what one of them has seen, and what is not available: `blend` removes it.  A list
        for one user that is cut must leave both out, by the same policies (`signals.visibility`), or it would be full
        of them.  A model is given what a user has seen; its own lists must hold only what is available.
        """


@cache
def discover() -> tuple[str, ...]:
    """Names of all sources, in their order; nothing is imported."""
    return tuple(sorted(module.name for module in iter_modules(sources.__path__)))


def load(name: str) -> SourceModule:
    """The source called `name`, one of `discover()`."""
    return cast(SourceModule, import_module(f"{sources.__name__}.{name}"))


def check_params(config: Config) -> dict[str, SourceParams]:
    """The settings of every enabled source, in the order in which they are enabled; sections of others are checked too.

    Raises ConfigError with every fault at once: unknown names in `enabled`, in `[sources.*]` and in the weights,
    and settings that a source does not take.
    """
    given = config.sources.model_extra or {}
    faults = [_unknown(config, ("sources", "enabled"), name) for name in config.sources.enabled if not _known(name)]
    faults += [_unknown(config, ("sources", name), name) for name in given if not _known(name)]
    for key in ("source_weights", "score_weights"):
        faults += [
            _unknown(config, ("candidates", key, name), name)
            for name in getattr(config.candidates, key)
            if not _known(name.partition("/")[0])
        ]
    checked: dict[str, SourceParams] = {}
    for name in (name for name in discover() if name in {*given, *config.sources.enabled}):
        model = load(name).Params
        try:
            checked[name] = model.model_validate(given.get(name, {}))
        except ValidationError as err:
            at = ("sources", name)
            faults += [
                fault_text({**error, "loc": (*at, *error["loc"])}, config.places, model) for error in err.errors()
            ]
    if faults:
        raise ConfigError("\n".join(faults))
    return {name: checked[name] for name in config.sources.enabled}


def _known(name: str) -> bool:
    return name in discover()


def _unknown(config: Config, keys: tuple[str, ...], name: str) -> str:
    near = difflib.get_close_matches(name.partition("/")[0], discover(), n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(discover())}"
    where = f"{place_of(keys, config.places)} [{'.'.join(keys[:-1])}] {keys[-1]}"
    return f"{where}: expected the name of a file in recsys_spark/retrieval/sources, got {name!r}; {hint}"
