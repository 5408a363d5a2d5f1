"""What is known of each mutant that ran: kept in a file as it comes, so that a second call goes on, and summed up."""

import json
import sys
import threading
from pathlib import Path


class Results:
    """Verdicts by the mutant's name.  file: where they are kept, or None; of another tree it is refused."""

    def __init__(self, file: Path | None, tree: str) -> None:
        self.file, self.tree, self.lock = file, tree, threading.Lock()
        self.rows: dict[str, dict] = {}
        self.summary: dict[str, object] = {}
        if file and file.exists():
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["tree"] != tree:
                raise SystemExit(f"{file}: expected results of this tree, got those of another; give another file")
            self.rows = {row["name"]: row for row in content["results"] if row["verdict"] != "error"}

    def add(self, row: dict, n: int) -> None:
        """Keeps a result and says so; `n` is how many there will be."""
        with self.lock:
            self.rows[row["name"]] = row
            what = row.get("where", "") or row["name"]
            print(f"{len(self.rows)}/{n} {row['verdict']} {row['seconds']} s {what}", file=sys.stderr, flush=True)
            self.write()

    def write(self) -> None:
        """Writes all that is known to the file."""
        if self.file:
            content = {"tree": self.tree, "summary": self.summary, "results": list(self.rows.values())}
            new = self.file.with_name(self.file.name + ".new")
            new.write_text(json.dumps(content, indent=1), encoding="utf-8")
            new.replace(self.file)

    def finish(self, rows: list[dict], facts: dict[str, object]) -> dict[str, object]:
        """The summary of `rows`; the last line that is printed is the same as JSON."""
        verdicts = [row["verdict"] for row in rows]
        counts = {name.replace(" ", "_"): verdicts.count(name) for name in ("caught", "timed out", "survived", "error")}
        judged = len(rows) - counts["error"]
        caught = counts["caught"] + counts["timed_out"]
        share = round(caught / judged, 4) if judged else None
        self.summary = {"mutants": len(rows), **counts, "share_caught": share, **facts}
        self.write()
        print(f"{caught} of {judged} caught, {counts['timed_out']} of them by the time limit")
        print(json.dumps(self.summary), flush=True)
        return self.summary


def changed_lines(before: str, after: str) -> tuple[int, str, str]:
    """The first line that differs, and the lines that differ in each text, each as one line."""
    old, new = before.splitlines(), after.splitlines()
    head = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    shown = (" ".join(" ".join(lines[head : len(lines) - tail]).split()) for lines in (old, new))
    return head + 1, *shown
