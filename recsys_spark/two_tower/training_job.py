"""Job and state of a two-tower training: the markers by which the step and the training process talk.

Owns: the form of a job, of the state after an epoch, and of the result.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from recsys_spark.config.models import TwoTower
from recsys_spark.errors import KernelError
from recsys_spark.two_tower.kernels.inputs import TowerInputs
from recsys_spark.two_tower.kernels.towers import Shape
from recsys_spark.warehouse.scratch import Scratch

OWNER = "RECSYS_OWNER_PID"  # variable with the process id of the step; when that is gone, nobody wants the model
NOT_KNOWN = -1.0  # in the place of a recall


@dataclass(frozen=True)
class Job:
    """A staged training.

    n_shards, n_item_shards: files of users and of items (see `two_tower.training_shards`).  split_time: microseconds;
    what validated users did from then on is not learnt from.  data: versions of what was staged, for the card.  start:
    the file in the scratch of the model to start from, "" for none.
    """

    settings: TwoTower
    seed: int
    n_items: int
    n_shards: int
    n_item_shards: int
    split_time: int
    user_inputs: TowerInputs
    item_inputs: TowerInputs
    data: dict[str, Any]
    start: str

    @property
    def shape(self) -> Shape:
        """The shape of the towers."""
        return shape_of(self.settings)

    def as_json(self) -> dict[str, Any]:
        """The content of the marker."""
        own = {"settings": self.settings.model_dump()}
        return vars(self) | own | {name: getattr(self, name).as_json() for name in ("user_inputs", "item_inputs")}


def shape_of(settings: TwoTower) -> Shape:
    """The shape of the towers that these settings ask for."""
    return Shape(settings.dim, settings.hidden, settings.normalize, settings.history_items, settings.half_life_items)


def read_job(scratch: Scratch) -> Job:
    """The job that is staged in `scratch`; KernelError if there is none."""
    given = scratch.marker("job")
    if given is None:
        raise KernelError(f"{scratch.folder}: expected a staged training, got none; run the step two_tower")
    given |= {name: TowerInputs.from_json(given[name]) for name in ("user_inputs", "item_inputs")}
    return Job(**given | {"settings": TwoTower.model_validate(given["settings"])})


@dataclass
class State:
    """Epochs that are done, each with its loss and what validated users' lists were worth; best: its number, from 1."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    best: int = 0

    def add(self, loss: float, recall: float, ndcg: float) -> None:
        """Takes up an epoch; where recalls are NOT_KNOWN the last is the best."""
        self.epochs.append({"loss": loss, "recall": recall, "ndcg": ndcg})
        if recall == NOT_KNOWN or not self.best or recall > self.epochs[self.best - 1]["recall"]:
            self.best = len(self.epochs)

    def has_ended(self, settings: TwoTower) -> bool:
        """Whether there is no further epoch to train."""
        return len(self.epochs) >= settings.epochs or len(self.epochs) - self.best >= settings.patience

    def mark(self, scratch: Scratch, files: dict[str, str]) -> None:
        """Stores the state; files: the SHA-256 of the files that belong to it, by name."""
        scratch.mark("state", asdict(self) | {"files": files})


def read_state(scratch: Scratch) -> tuple[State, dict[str, str]]:
    """The state that was stored last, with its files; of a training that has not begun without any."""
    given = scratch.marker("state") or {"epochs": [], "best": 0, "files": {}}
    return State(given["epochs"], given["best"]), given["files"]
