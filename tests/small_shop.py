"""A small shop with a real day: log files as a shop drops them, and a settings object that reads them.

Deterministic; users have tastes (a user likes items of their own parity), so that lists differ between users.
"""

import gzip
import json
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from recsys_spark.config.load import load_config
from recsys_spark.config.schema import Config
from tests.empty_warehouse import copy_empty_warehouse

# All that fit within seconds: what training adds to a day is for the tests of towers to say.
SOURCES = '["popular","item_cf","als"]'
FIRST_DAY = date(2025, 1, 1)
N_USERS, N_ITEMS = 40, 30


def make_shop(folder: Path, *sets: str) -> Config:
    """Settings of a shop in `folder`, its tables created."""
    landing = [f"landing.{feed}={folder / 'landing' / feed}" for feed in ("events", "items", "users")]
    small = ("segments.attribute=country", "sources.popular.min_segment_users=2", "candidates.k=10")
    # Lists are judged in test_hindsight alone, and settings chosen in test_validate.
    small = (*small, f"sources.enabled={SOURCES}", "hindsight.window_days=0", 'candidates.method="rrf"')
    config = load_config(sets=(f"storage.root={folder / 'warehouse'}", *landing, *small, *sets))
    copy_empty_warehouse(config.root)
    return config


def write_settings(config: Config, folder: Path, sources: str = SOURCES) -> Path:
    """A settings file for commands that run in a process of their own."""
    path = folder / "recsys.toml"
    path.write_text(
        f'[storage]\nroot = "{config.root}"\n[landing]\nevents = "{config.landing.events}"\n'
        f'items = "{config.landing.items}"\nusers = "{config.landing.users}"\n'
        f'[segments]\nattribute = "country"\n[candidates]\nk = 10\nmethod = "rrf"\n[sources]\nenabled = {sources}\n'
        "[hindsight]\nwindow_days = 0\n"
    )
    return path


def events_of(day: date, n_events: int = 60) -> list[dict[str, Any]]:
    """The events of a day, a tenth of them without a user."""
    rng = np.random.default_rng(day.toordinal())
    events = []
    for number in range(n_events):
        user = int(rng.integers(0, N_USERS))
        item = 2 * int(rng.integers(0, N_ITEMS // 2) ** 2 // (N_ITEMS // 2)) + user % 2
        time = datetime.combine(day, datetime.min.time()) + timedelta(seconds=int(rng.integers(0, 86400)))
        event = {
            "event_id": f"{day}-{number}",
            "user_id": f"user-{user:02d}",
            "item_id": f"item-{item:02d}",
            "event_type": "purchase",
            "event_time": time.isoformat() + "Z",
            "value": int(rng.integers(1, 5)),
            "session_id": f"{day}-{user}",
        }
        if number % 10 == 9:
            del event["user_id"]
        events.append(event)
    return events


def land_events(config: Config, day: date, events: list[dict[str, Any]], name: str | None = None) -> Path:
    """Drops a gzip JSONL file of events into the landing folder, with the same bytes for the same events."""
    path = Path(config.landing.events) / (name or f"events-{day}.jsonl.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(event) + "\n" for event in events)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return path


def land_days(config: Config, first: date, n_days: int) -> None:
    """Drops one file for each day."""
    for offset in range(n_days):
        day = first + timedelta(days=offset)
        land_events(config, day, events_of(day))


def land_catalogue(config: Config, day: date) -> None:
    """Drops snapshots of items and users that are valid from `day` on."""
    items = [
        {"item_id": f"item-{item:02d}", "title": f"Thing {item}", "category": f"parity {item % 2}", "price": 1.0 + item}
        for item in range(N_ITEMS)
    ]
    users = [{"user_id": f"user-{user:02d}", "country": "AB"[user % 2]} for user in range(N_USERS)]
    for folder, rows in ((config.landing.items, items), (config.landing.users, users)):
        path = Path(folder) / str(day) / "snapshot.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
