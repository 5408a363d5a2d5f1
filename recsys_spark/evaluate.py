"""What the lists of a run were worth: those that it published, those of every source, both blends, and popularity.

Owns: that they are judged on what came after the run's date.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from pyspark.sql import DataFrame, SparkSession

from recsys_spark.blend.collect import fit_settings
from recsys_spark.blend.item_traits import fit_traits, has_room_for_categories, has_room_for_vectors
from recsys_spark.blend.kernels.diversity import Diversity, widest
from recsys_spark.blend.worker import Settings
from recsys_spark.config.choices import as_chosen
from recsys_spark.config.schema import Config, derive_seed
from recsys_spark.context import Context
from recsys_spark.evaluation.judge import Exam, evaluate_lists, fit_exam, fit_variants, with_blend, with_published
from recsys_spark.evaluation.kernels.figures import Figure
from recsys_spark.evaluation.protocol import judged_users, later_events, with_history
from recsys_spark.ingest.clock import known_clock
from recsys_spark.numeric.bootstrap import Tally
from recsys_spark.pipeline.inputs import read_inputs
from recsys_spark.pipeline.run_ledger import run_of
from recsys_spark.plan import step
from recsys_spark.retrieval.user_lists import fuses_scores
from recsys_spark.warehouse.spark_tables import read_run, read_table
from recsys_spark.warehouse.tables import TABLES

_PUBLISHED = ("candidates", "fallback_candidates", "item_index")

NO_DIVERSITIES: Mapping[str, Diversity] = MappingProxyType({})


def evaluate_run(
    spark: SparkSession,
    config: Config,
    run_id: str,
    window_days: int,
    diversities: Mapping[str, Diversity] = NO_DIVERSITIES,
) -> dict[Figure, Tally]:
    """Every figure of the run's lists, on what users did in the window from its date on.

    Both blends are judged, whichever was published: `scores` where sources scored what others proposed.  diversities:
    what blend/rrf is to give up relevance for besides, each as the list blend/rrf NAME; calibration only if `config`
    has it.
    Raises KeyError if there is no such run, DamagedError if its rows have been collected.
    """
    config, run = as_chosen(known_clock(config), run_id), run_of(config.root, run_id)
    seed = derive_seed(run.seed, "blend", run.data_date)
    context = Context(config, run.data_date, run_id, seed, spark)
    inputs = read_inputs(context, run, step("blend"))
    later = later_events(read_table(spark, config.root, TABLES["events"]), context.cutoff, window_days)
    users = judged_users(inputs, later, config, context.cutoff).persist()
    judged = with_history(users, inputs, config, context.cutoff).persist()
    settings = fit_settings(inputs["source_candidates"], config.candidates)
    exam = _with_traits(fit_exam(inputs, judged, settings, config, context.cutoff), inputs, settings, diversities)
    exam = with_blend(exam, "blend/rrf", replace(settings, fusion=None))
    if fuses_scores(config.candidates):  # else lists end where they were cut
        scores = config.candidates.model_copy(update={"method": "scores"})
        exam = with_blend(exam, "blend/scores", fit_settings(inputs["source_candidates"], scores))
    for name, wanted in diversities.items():
        exam = with_blend(exam, f"blend/rrf {name}", replace(settings, diversity=wanted, fusion=None))
    tables = {name: read_run(spark, config.root, TABLES[name], run_id) for name in _PUBLISHED}
    exam = replace(exam, variants=fit_variants(tables["candidates"]), rated_places=min(exam.lengths))
    figures = evaluate_lists(with_published(judged, tables), exam)
    judged.unpersist()
    users.unpersist()
    return figures


def _with_traits(
    exam: Exam, inputs: dict[str, DataFrame], settings: Settings, diversities: Mapping[str, Diversity]
) -> Exam:
    """The exam with what the blends need to know of items, and what to measure by, if there is room."""
    wanted = [settings.diversity, *diversities.values()]
    if has_room_for_vectors(inputs):
        wanted.append(Diversity(mmr_weight=0.5))
    if has_room_for_categories(inputs):
        wanted.append(Diversity(category_cap=1))
    traits, categories = fit_traits(inputs, widest(wanted))
    return replace(exam, shared=replace(exam.shared, traits=traits, categories=categories))
