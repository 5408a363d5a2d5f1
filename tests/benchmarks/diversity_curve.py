"""What variety costs: the blend at rising weights of MMR, on the dates of judge_published.py that were run already.

    uv run --group bench python tests/benchmarks/judge_published.py --folder DIR
    uv run --group bench python tests/benchmarks/diversity_curve.py --folder DIR

Reciprocal-rank fusion with [candidates.diversity] mmr_weight as below, all else the defaults; recall, intra-list
diversity (mean of 1 - cosine of the factors of als) and catalogue coverage of the first 20 of a list, means over the
judged dates of each log.  What judge_published.py was told of logs, dates and settings has to be told again.
Prints a table and a plot of each log, as the README has them.  The last line is JSON: by log and weight the three
figures, and the paired difference in recall to weight 0 with its 95 % interval.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recsys_spark.blend.kernels.diversity import Diversity
from recsys_spark.cli.views.backtest import tallies
from recsys_spark.config.load import load_config
from recsys_spark.evaluation.kernels.figures import ALL, Figure
from recsys_spark.numeric.bootstrap import difference, mean_interval
from recsys_spark.operations.backtest import Folds, evaluate_run
from recsys_spark.pipeline.publish import history
from recsys_spark.spark.session import open_session
from tests.benchmarks.compare_item_cf import K
from tests.benchmarks.judge_published import judge_options, plans_of
from tests.benchmarks.report import finish

WEIGHTS = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
METRICS = ("recall", "diversity", "coverage")


def main(argv: Sequence[str] | None = None) -> None:
    """Judges every date again, with one more list for each weight."""
    parser = judge_options(__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    asked = parser.parse_args(argv)
    folder = asked.folder
    spark = open_session("diversity curve", folder)
    wanted = {f"mmr {weight}": Diversity(mmr_weight=weight) for weight in WEIGHTS}
    found = {}
    for log, plan in plans_of(asked).items():
        place = folder / log.replace(" ", "-")
        sets = (*asked.sets, f"storage.root={place / 'backtest'}")
        config = load_config(file=place / "recsys.toml", sets=sets)
        runs = {row.data_date: row.run_id for row in history(config.root)}
        folds: Folds = {day: evaluate_run(spark, config, runs[day], plan.window_days, wanted) for day in plan.dates}
        found[log] = curve(folds)
        show(log, found[log])
    spark.stop()
    finish(found, asked)


def curve(folds: Folds) -> dict[str, dict[str, Any]]:
    """By weight the figures, and what is lost."""
    names = {"0": "blend/rrf"} | {str(weight): f"blend/rrf mmr {weight}" for weight in WEIGHTS}
    found: dict[str, dict[str, Any]] = {}
    for weight, name in names.items():
        of = {metric: tallies(folds, Figure(name, ALL, metric, K)) for metric in METRICS}
        lost = difference(of["recall"], tallies(folds, Figure(names["0"], ALL, "recall", K)))
        found[weight] = {metric: round(mean_interval(one).estimate, 4) for metric, one in of.items()}
        found[weight]["recall - at 0"] = [round(one, 4) for one in (lost.estimate, lost.low, lost.high)]
    return found


def show(log: str, found: dict[str, dict[str, Any]]) -> None:
    """A table, and what it looks like."""
    print(f"\n{log}\n\n| mmr_weight | {' | '.join(f'{one}@{K}' for one in METRICS)} | recall - at 0 |")
    print("|---" * (len(METRICS) + 2) + "|")
    for weight, row in found.items():
        estimate, low, high = row["recall - at 0"]
        cells = " | ".join(f"{row[metric]:.4f}" for metric in METRICS)
        print(f"| {weight} | {cells} | {estimate:+.4f} [{low:+.4f}, {high:+.4f}] |")
    print("\n```mermaid\nxychart-beta")
    print(f'    title "{log}: in parts of the blend without MMR"')
    print(f"    x-axis mmr_weight [{', '.join(found)}]")
    print('    y-axis "recall, diversity, coverage"')
    for metric in METRICS:
        print(f"    line {json.dumps([round(row[metric] / found['0'][metric], 3) for row in found.values()])}")
    print("```", flush=True)


if __name__ == "__main__":
    main()
