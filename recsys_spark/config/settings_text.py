"""Text of a settings file: TOML with a comment on every setting.

Owns: how the file that `recsys-spark init` writes looks.
"""

import json
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_WIDTH = 118


@dataclass(frozen=True)
class Setting:
    """One line of the settings file; `why` is its comment."""

    key: str
    value: str | float | list[str]
    why: str = ""


def settings_text(head: str, sections: Mapping[str, list[Setting]], notes: Iterable[str]) -> str:
    """The text of a settings file; sections without settings are left out, except event types."""
    lines = [f"# {line}" for line in textwrap.wrap(head, _WIDTH - 2)]
    for note in notes:
        wrapped = textwrap.wrap(one_line(note), _WIDTH - 4)
        lines += [f"# {'-' if at == 0 else ' '} {line}" for at, line in enumerate(wrapped)]
    for name, settings in sections.items():
        if settings or name.startswith("events.types."):
            lines += ["", f"[{name}]", *(_line(one) for one in settings)]
    return "\n".join(lines) + "\n"


def one_line(text: str) -> str:
    """`text` without what would end a comment or garble a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def _line(setting: Setting) -> str:
    left = f"{setting.key} = {_value(setting.value)}"
    return f"{left:<36}# {one_line(setting.why)}" if setting.why else left


def _value(value: str | float | list[str]) -> str:
    # A JSON string is a TOML string, except for one control character that JSON does not escape.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
