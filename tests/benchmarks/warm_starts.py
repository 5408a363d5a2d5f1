"""How many passes a fit takes from the factors of the day before, and from random numbers, on two real logs.

    uv run --group bench python tests/benchmarks/warm_starts.py [--users N]

Settings are those of conf/base.toml.  The fit of a date is run to its end; that of the next date is run from it, items
that it lacks from zero, and from random numbers.  A fit ends with the pass that lowers the objective by less than
`als.tolerance` of it, the second at the soonest; als.iterations does not count here.
`--users` takes the busiest of each log.
The last line is JSON: by log the passes from random numbers (cold) and from the day before (warm).
"""

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np

from recsys_spark.als.kernels.objective import Ridge, initial_factors, solve_rows
from recsys_spark.config.load import load_config
from recsys_spark.numeric.sparse import Csr, transposed
from tests.als_oracle import fixed
from tests.benchmarks.compare_item_cf import logs_of, past_of
from tests.benchmarks.report import finish, size_options

MOST_PASSES = 50
DATES = {"Online Retail II": date(2011, 6, 1), "MovieTweetings": date(2013, 9, 1)}


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the passes of every log."""
    parser = size_options(__doc__)
    parser.add_argument("--users", type=int, metavar="N", help="the N busiest users of a log; all by default")
    asked = parser.parse_args(argv)
    als = load_config().als
    ridge = Ridge(als.alpha, als.regularization, als.nu)
    found = {}
    for log in logs_of(asked.users):
        before, after = (past_of(log, DATES[log.name] + timedelta(days=days)) for days in (0, 1))
        matrices = [
            past.weights._replace(
                values=(past.weights.values * 0.5 ** (past.age_days / als.half_life_days)).astype("f4")
            )
            for past in (before, after)
        ]
        cold = [initial_factors(0, matrix.n_cols, als.factors, seed=1) for matrix in matrices]
        _, Y = passes(matrices[0], cold[0], ridge, als.tolerance)
        start = np.zeros_like(cold[1])
        known = np.isin(after.items, before.items)
        start[known] = Y[np.searchsorted(before.items, after.items[known])]
        found[log.name] = {
            name: passes(matrices[1], of, ridge, als.tolerance)[0] for name, of in (("cold", cold[1]), ("warm", start))
        }
        print(f"{log.name}, {after.holdout.day}: {found[log.name]}")
    finish(found, asked)


def passes(weights: Csr, Y: np.ndarray, ridge: Ridge, tolerance: float) -> tuple[int, np.ndarray]:
    """Passes until the fit ends, and its factors of items."""
    by_item, objectives = transposed(weights), [np.inf]
    while len(objectives) <= MOST_PASSES:
        users = solve_rows(weights, fixed(Y), ridge)
        items = solve_rows(by_item, fixed(users.X), ridge)
        Y = items.X
        objectives.append(float(items.losses.sum() + users.penalties.sum()))
        if objectives[-2] - objectives[-1] < tolerance * objectives[-1]:
            break
    return len(objectives) - 1, Y


if __name__ == "__main__":
    main()
