"""Loading of settings, from TOML to `Config`: base, profile, the user's file, then `--set`; faults name their place.

Owns: the layering and the error text.
"""

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from recsys_spark import shipped
from recsys_spark.config.schema import Config
from recsys_spark.errors import ConfigError

# Sections whose keys are names that the user gives: a file that has such a section replaces the whole of it.
_REPLACED_WHOLE = {
    ("events", "types"),
    ("candidates", "source_weights"),
    ("candidates", "score_weights"),
    ("candidates", "variants"),
}

AUTO = "auto"

_OF_SCORES = {("candidates", "score_weights"), ("candidates", "score_scaling")}

_LONGEST_SHOWN = 200  # letters that a message quotes of what a person wrote

Places = dict[tuple[str, ...], str]


def conf_folder() -> Path:
    """The folder with base.toml."""
    return shipped("conf")


def load_config(profile: str = "local", file: Path | None = None, sets: tuple[str, ...] = ()) -> Config:
    """The settings of a command; raises ConfigError with every fault of every layer at once.

    profile: a file in conf/.  file: the user's own settings.  sets: `section.key=value`, value in TOML or a bare word.
    """
    profile_file = conf_folder() / f"{profile}.toml"
    if not profile_file.is_file():
        known = sorted(path.stem for path in conf_folder().glob("*.toml") if path.stem != "base")
        raise ConfigError(f"--profile: expected one of {', '.join(known)}, got {profile!r}; there is no {profile}.toml")
    merged: dict[str, Any] = {}
    places: Places = {}
    for path in (conf_folder() / "base.toml", profile_file, *([file] if file else [])):
        _lay_over(merged, _read_toml(path), _shown(path), places)
    for text in sets:
        _lay_over(merged, _parse_set(text), "--set", places)
    _fill_in(merged, places)
    try:
        return Config.model_validate(merged).remember_places(places)
    except ValidationError as err:
        raise ConfigError("\n".join(fault_text(error, places) for error in err.errors())) from err


def _fill_in(merged: dict[str, Any], places: Places) -> None:
    """Replaces every setting that is `auto` by its fallback, and puts its name into [validation] auto.

    The run may choose only what [validation.fallback] names; elsewhere `auto` is an ordinary value of the setting.  If
    the user sets weights or scaling of scores, the method is scores: a choice of the method would replace them.
    """
    validation, candidates = merged.get("validation", {}), merged.get("candidates", {})
    base = _shown(conf_folder() / "base.toml")
    wrote = any(at[:2] in _OF_SCORES and place != base for at, place in places.items())
    if wrote and candidates.get("method") == AUTO:
        candidates["method"] = "scores"
    found = []
    for name, value in _dotted(validation.get("fallback", {})):
        section, last = _section_of(merged, name)
        if section.get(last) == AUTO:
            section[last] = value
            found.append(name)
    validation["fallback"] = dict(_dotted(validation.get("fallback", {})))
    validation["auto"] = found


def _dotted(section: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every value below a section with its dotted name."""
    for name, value in section.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _section_of(merged: dict[str, Any], name: str) -> tuple[dict[str, Any], str]:
    """The section that holds the setting, {} if there is none, and its last key."""
    *keys, last = name.split(".")
    section: Any = merged
    for key in keys:
        section = section.get(key) if isinstance(section, dict) else None
    return section if isinstance(section, dict) else {}, last


def config_hash(config: Config) -> str:
    """Hash of all settings that decide an output: not where things are stored or how long they are kept."""
    settings = config.model_dump(mode="json", exclude={"storage", "landing", "publish"})
    return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as err:
        where = str(path)[:_LONGEST_SHOWN]
        raise ConfigError(f"{where}: expected a TOML file, got {err.strerror}; check the name after --config") from err
    except ValueError as err:  # not TOML, not UTF-8, or a name that no file can have
        raise ConfigError(f"{str(path)[:_LONGEST_SHOWN]}: expected TOML, got {err}; correct that place") from err


def _parse_set(text: str) -> dict[str, Any]:
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise ConfigError(
            f"--set: expected section.key=value, got {text[:_LONGEST_SHOWN]!r}; for example --set candidates.k=100"
        )
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    for key in reversed(keys):
        parsed = {key: parsed}
    return dict(parsed)


def _lay_over(
    below: dict[str, Any], above: dict[str, Any], place: str, places: Places, at: tuple[str, ...] = ()
) -> None:
    for key, value in above.items():
        path = (*at, key)
        places[path] = place
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            if path in _REPLACED_WHOLE and place != "--set":
                below[key] = {}
            _lay_over(below[key], value, place, places, path)
        else:
            below[key] = value
            _mark(value, place, places, path)


def _mark(value: Any, place: str, places: Places, at: tuple[str, ...]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            places[(*at, key)] = place
            _mark(inner, place, places, (*at, key))


def place_of(keys: tuple[str, ...], places: Places) -> str:
    """The file, or --set, that the setting `keys`, or else the section around it, came from."""
    return next((places[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in places), "conf/base.toml")


def fault_text(error: Any, places: Places, source_params: Any = None) -> str:
    """One line of the house form for one pydantic error; its `loc` starts at the section.

    source_params: the model that knows the section, where `Config` does not (a source's own settings).
    """
    keys = tuple(str(key) for key in error["loc"] if key != "[key]")
    place = place_of(keys, places)
    section, name = ".".join(keys[:-1])[:_LONGEST_SHOWN], keys[-1][:_LONGEST_SHOWN]
    where = f"{place} [{section}] {name}" if section else f"{place} [{name}]"
    value = error.get("input")
    if error["type"] == "extra_forbidden":
        known = list(source_params.model_fields) if source_params else _known_keys(keys[:-1])
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return f"{where}: expected a known setting, got {name!r}; {hint}"
    if error["type"] == "missing":
        return f"{where}: expected a value, got none; add it"
    expected = error["msg"].removeprefix("Input should be ").removeprefix("a valid ").replace("Value error, ", "")
    return f"{where}: expected {expected}, got {json.dumps(value, default=str)[:120]}; {_remedy(error)}"


def _remedy(error: Any) -> str:
    bounds = error.get("ctx", {})
    for key, text in (("ge", "give {} or more"), ("gt", "give more than {}"), ("le", "give {} or less")):
        if key in bounds:
            return text.format(bounds[key])
    if "expected" in bounds:
        return f"write one of {bounds['expected']}"
    if "pattern" in bounds:
        return "use lower-case letters, digits and _"
    return "correct the value, or take the line out to get the default of conf/base.toml"


def _known_keys(section: tuple[str, ...]) -> list[str]:
    """Names that the model of `section` knows."""
    model: Any = Config
    for key in section:
        found = getattr(model, "model_fields", {}).get(key)
        if found is None:  # a name that the user gave: `model` is already that of the mapping's values
            continue
        annotation = found.annotation
        arguments: tuple[Any, ...] = getattr(annotation, "__args__", ())
        model = arguments[1] if len(arguments) == 2 else annotation
    return list(getattr(model, "model_fields", {}))


def _shown(path: Path) -> str:
    return f"conf/{path.name}" if path.parent == conf_folder() else str(path)
