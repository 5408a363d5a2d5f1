"""What the lists of a run were worth: those that it published, those of every source, both blends, and popularity.

Owns: that they are judged on what came after the run's date.  Called by `backtest`.
"""

from dataclasses import replace

from pyspark.sql import SparkSession

from recsys_spark.adapters.blend import fit_settings
from recsys_spark.adapters.evaluation import evaluate_lists
from recsys_spark.adapters.exam import fit_exam, with_blend, with_published
from recsys_spark.adapters.holdout import judged_users, later_events
from recsys_spark.config import Config, derive_seed
from recsys_spark.inputs import read_inputs
from recsys_spark.kernels.evaluation import Figure
from recsys_spark.kernels.intervals import Tally
from recsys_spark.plan import step
from recsys_spark.publish import past_runs
from recsys_spark.run_ledger import run_of
from recsys_spark.steps.blend import fit_blend
from recsys_spark.steps.context import Context
from recsys_spark.tables.catalog import TABLES
from recsys_spark.tables.delta import read_run, read_table


def evaluate_run(spark: SparkSession, config: Config, run_id: str, window_days: int) -> dict[Figure, Tally]:
    """Every figure of the run's lists, on what users did in the window from its date on.

    Both blends are judged, whichever was published: `learned` where there was enough to learn from.
    Raises KeyError if there is no such run, DamagedError if its rows have been collected.
    """
    run = run_of(config.root, run_id)
    seed = derive_seed(run.seed, "blend", run.data_date)
    learned = config.model_copy(update={"candidates": config.candidates.model_copy(update={"method": "learned"})})
    context = Context(learned, run.data_date, run_id, seed, spark, past=past_runs(learned, run.data_date))
    inputs = read_inputs(context, run, step("blend"))
    later = later_events(read_table(spark, config.root, TABLES["events"]), context.cutoff, window_days)
    judged = judged_users(inputs, later, config, context.cutoff).persist()
    settings = fit_settings(inputs["source_candidates"], config.candidates)
    exam = with_blend(fit_exam(inputs, judged, settings, config, context.cutoff), "blend/rrf", settings)
    fit = fit_blend(inputs, settings, context)
    if fit.weights is not None:
        exam = with_blend(exam, "blend/learned", replace(settings, learned=fit.weights))
    tables = {
        name: read_run(spark, config.root, TABLES[name], run_id) for name in ("candidates", "fallback_candidates")
    }
    figures = evaluate_lists(with_published(judged, tables), exam)
    judged.unpersist()
    return figures
