"""The plan: the steps of a day as data, in the order of the data flow.

Owns: which step reads and writes which table.  Read by the runner, the jobs, the command line and the Airflow DAG.
"""

from collections.abc import Callable
from dataclasses import dataclass

# It is called with the name of a step, `start`, `progress` or `done`, and figures.
Observer = Callable[[str, str, dict[str, float]], None]


@dataclass(frozen=True)
class Step:
    """One step: its name, its tables, and whether it belongs to a run or comes before one (keyed by batch).

    module: where its code is, inside this package.
    base_reads: tables of the base run, the newest bundle of an earlier date, which may be missing.
    Steps that read `choices` are given the settings that the run chose.
    hours: time limit for an orchestrator.  python_memory: what workers outside the JVM take, as a share of the
    executor's heap.
    current_reads: tables of the bundle that is current while the step runs, which may be missing.  Such a step is run
    again when another bundle is current by the time that its run is resumed.
    """

    name: str
    module: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    in_run: bool = True
    base_reads: tuple[str, ...] = ()
    current_reads: tuple[str, ...] = ()
    hours: int = 2
    python_memory: float = 0.2


PLAN: tuple[Step, ...] = (
    Step("ingest", "ingest.step_ingest", (), ("events", "quarantine", "ingest_batches", "ingest_files"), in_run=False),
    Step(
        "catalog",
        "ingest.step_ingest",
        (),
        ("items", "users", "quarantine", "ingest_batches", "ingest_files"),
        in_run=False,
    ),
    Step("index", "signals.step_index", ("events", "items", "users"), ("user_index", "item_index")),
    Step(
        "interactions",
        "signals.step_interactions",
        ("events", "items", "user_index", "item_index"),
        ("interactions", "exposures"),
    ),
    Step(
        "features",
        "features.step_features",
        ("events", "items", "users", "user_index", "item_index", "interactions", "exposures"),
        ("user_features", "item_features"),
    ),
    Step(
        "validate",
        "validation.step_validate",
        ("events", "items", "users", "user_index", "item_index", "interactions"),
        ("choices",),
        base_reads=("choices",),
    ),
    Step(
        "item_cf",
        "item_cf.step_item_cf",
        ("events", "items", "item_index", "interactions", "choices"),
        ("item_neighbors",),
    ),
    Step(
        "als",
        "als.step_als",
        ("events", "items", "users", "user_index", "item_index", "interactions", "choices"),
        ("user_factors", "item_factors"),
        base_reads=("item_factors",),
        hours=4,
        python_memory=0.5,
    ),
    Step(
        "two_tower",
        "two_tower.step_two_tower",
        (
            "events",
            "items",
            "users",
            "user_index",
            "item_index",
            "interactions",
            "exposures",
            "user_features",
            "item_features",
        ),
        ("two_tower_models",),
        base_reads=("two_tower_models",),
        hours=6,
        python_memory=0.5,
    ),
    Step(
        "embed",
        "two_tower.step_embed",
        (
            "events",
            "items",
            "users",
            "user_index",
            "item_index",
            "user_features",
            "item_features",
            "two_tower_models",
        ),
        ("user_embeddings", "item_embeddings"),
        base_reads=("item_embeddings",),
        python_memory=0.5,
    ),
    Step(
        "ann",
        "ann.step_ann",
        ("items", "user_embeddings", "item_embeddings"),
        ("ann_shards",),
        hours=4,
        python_memory=0.5,
    ),
    Step(
        "retrieve",
        "retrieval.step_retrieve",
        (
            "events",
            "items",
            "item_index",
            "user_index",
            "interactions",
            "choices",
            "user_features",
            "item_neighbors",
            "user_factors",
            "item_factors",
            "user_embeddings",
            "item_embeddings",
            "ann_shards",
        ),
        ("source_candidates",),
        hours=4,
        python_memory=0.5,
    ),
    Step(
        "blend",
        "blend.step_blend",
        (
            "events",
            "items",
            "users",
            "choices",
            "source_candidates",
            "interactions",
            "exposures",
            "user_index",
            "item_index",
            "user_features",
            "item_factors",
            "item_embeddings",
        ),
        ("candidates", "fallback_candidates", "blend_fits"),
    ),
    Step(
        "hindsight",
        "evaluation.step_hindsight",
        ("events", "items"),
        ("quality", "ranking_examples"),
        current_reads=(
            "candidates",
            "fallback_candidates",
            "interactions",
            "user_index",
            "item_index",
            "user_features",
            "item_features",
        ),
    ),
    Step("changes", "pipeline.step_changes", ("candidates",), ("candidate_changes",), current_reads=("candidates",)),
    Step(
        "audit",
        "pipeline.audit",
        (
            "events",
            "items",
            "interactions",
            "user_index",
            "item_index",
            "choices",
            "two_tower_models",
            "user_embeddings",
            "item_embeddings",
            "ann_shards",
            "candidates",
            "fallback_candidates",
        ),
        ("audits",),
        base_reads=("candidates",),
    ),
    Step("publish", "pipeline.publish", ("audits",), ("publishes", "runs")),
)

# Read at the Delta version that was pinned when the run was opened, cut at its date.
PINNED = ("events", "items", "users")

BUNDLE_TABLES = (
    "user_index",
    "item_index",
    "user_features",
    "item_features",
    "choices",
    "item_neighbors",
    "user_factors",
    "item_factors",
    "two_tower_models",
    "user_embeddings",
    "item_embeddings",
    "ann_shards",
    "candidates",
    "fallback_candidates",
    "blend_fits",
    "candidate_changes",
    "quality",
    "ranking_examples",
)


def steps_before(one: Step) -> list[str]:
    """The steps of a run that must be done before `one`: those that write what it reads; before `audit` all of them."""
    inside = [other for other in PLAN if other.in_run]
    if one.name in ("audit", "publish"):
        return [other.name for other in inside[: [other.name for other in inside].index(one.name)]]
    needed = set(one.reads) - set(PINNED)
    return [other.name for other in inside if needed & set(other.writes)]


def step(name: str) -> Step:
    """The step called `name`; KeyError if there is none."""
    for one in PLAN:
        if one.name == name:
            return one
    raise KeyError(name)
