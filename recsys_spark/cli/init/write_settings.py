"""The command `recsys-spark init LOGS`: samples a folder of logs, shows it as ingest would read it, writes settings.

Owns: the way from a folder to a settings file.  Before anything is written, the file is loaded as every command would
load it, and the sample is parsed with it.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.markup import escape
from rich.table import Table

from recsys_spark.cli.console import Console
from recsys_spark.cli.init.column_profile import profile_columns
from recsys_spark.cli.init.preview import preview_feed, preview_notes, preview_table, shape_line
from recsys_spark.cli.init.proposal import Evidence, Proposal, propose_catalogue, propose_events
from recsys_spark.cli.init.sample import FEEDS, FeedFiles, name_files, read_samples, sort_by_feed
from recsys_spark.cli.init.spellings import REQUIRED, Feed
from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from recsys_spark.config.settings_text import Setting, one_line, settings_text
from recsys_spark.errors import ArgumentError

_HEAD = (
    "Written by `recsys-spark init`: what differs from the defaults, with the evidence. Every other setting stands in "
    "conf/base.toml of the product. Weights are a start: a look counts 1, a mark of interest 3, a payment 5, because "
    "the rarer an act is and the more it commits, the more it says; what is taken back counts below zero. Only a "
    "sample was read: lines of a type that it did not show would be quarantined."
)


def write_settings(logs: Path, out: Path, console: Console) -> None:
    """Probes `logs`, prints what was found and writes `out`.

    Raises ArgumentError if `out` exists, if there is nothing that can be read, or if user, item or time cannot be told.
    """
    if out.exists() or out.is_symlink():
        raise ArgumentError(f"--out: expected a file that is not there yet, got {out}; move it away, or name another")
    if not logs.is_dir():
        what = "a file" if logs.exists() else "nothing"
        raise ArgumentError(f"init: expected a folder with logs, got {what} at {logs}; name the folder of the files")
    feeds, notes = sort_by_feed(logs, read_samples(logs))
    proposals = {feed: _propose(logs, feed, files) for feed, files in feeds.items()}
    notes += [note for proposal in proposals.values() for note in proposal.notes]
    if "events" not in feeds:
        notes.append("there is no event log here: set [landing] events before the first run")
    sections = _sections(logs, feeds, proposals)
    config = _load(settings_text(_HEAD, sections, []))
    for feed, files in feeds.items():
        preview = preview_feed(config, feed, files.kinds)
        notes += preview_notes(feed, preview)
        console.rich.print(preview_table(feed, preview))
        console.rich.print(_guess_table(feed, files, proposals[feed], sections))
        if feed == "events":
            console.say(shape_line(config, preview, "items" in feeds))
    for note in notes:
        console.warn(one_line(note))
    _write(out, settings_text(_HEAD, sections, ["Look at these:", *notes] if notes else []))
    option = "" if out == Path("recsys.toml") else f" --config {out}"
    console.say(f"wrote {out}; look it over, then: recsys-spark run{option}")


def _propose(logs: Path, feed: Feed, files: FeedFiles) -> Proposal:
    rows = [row for kind in files.kinds for row in kind.rows]
    evidence = Evidence(
        where=f"init {logs} ({name_files(files.paths)})",
        path=f"{logs.name}/{files.paths[0]}",
        columns=profile_columns(rows, any(kind.as_text for kind in files.kinds)),
        rows=rows,
        known_days=files.days,
        today=datetime.now(UTC).date(),
    )
    proposal = propose_events(evidence) if feed == "events" else propose_catalogue(feed, evidence)
    needed = {*REQUIRED[feed], "event_type"} - {"user_id"} if feed == "events" else set(REQUIRED[feed])
    for kind in files.kinds:
        seen = {name for row in kind.rows for name in row}
        absent = [one.name for ours, one in proposal.columns.items() if ours in needed and one.name not in seen]
        if absent:
            proposal.notes.append(f"{name_files(kind.files)} would be quarantined: no column {', '.join(absent)}")
        if kind.faults:
            n_lines = len(kind.rows) + len(kind.faults)
            proposal.notes.append(f"{name_files(kind.files)}: {len(kind.faults)} of {n_lines} lines: {kind.faults[0]}")
    return proposal


def _sections(
    logs: Path, feeds: Mapping[Feed, FeedFiles], proposals: Mapping[Feed, Proposal]
) -> dict[str, list[Setting]]:
    """All sections of the file, in its order."""
    landing = []
    for feed in FEEDS:
        files = feeds.get(feed)
        why = (
            f"{len(files.paths):,} files"
            if files
            else "none found; give the folder of their snapshots if there are any"
        )
        landing.append(Setting(feed, str(logs / files.folder) if files else "", why))
    sections = {
        "storage": [Setting("root", "warehouse", "folder of all results, relative to the working directory")],
        "landing": landing,
    }
    for proposal in proposals.values():
        sections |= proposal.sections
    return sections


def _load(text: str) -> Config:
    """The settings that `text` gives, as every command would load them."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "recsys.toml"
        path.write_text(text, encoding="utf-8")
        return load_config(file=path)


def _guess_table(feed: Feed, files: FeedFiles, proposal: Proposal, sections: Mapping[str, Sequence[Setting]]) -> Table:
    """What is guessed, and why."""
    title = escape(f"{feed}: {name_files(files.paths)}")
    table = Table("setting", "guess", "evidence", title=title, title_justify="left")
    for ours, found in proposal.columns.items():
        sure = "" if found.sure else "not sure: "
        table.add_row(ours, escape(one_line(found.name)), escape(one_line(sure + found.why)))
    for name in proposal.sections:
        for setting in sections[name] if not name.endswith(".columns") else ():
            key = f"{name.removeprefix('events.types.')} {setting.key}"
            table.add_row(escape(key), escape(one_line(str(setting.value))), escape(one_line(setting.why)))
    return table


def _write(out: Path, text: str) -> None:
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as err:
        raise ArgumentError(
            f"--out: expected a file that can be written, got {out} ({err.strerror}); name another"
        ) from err
