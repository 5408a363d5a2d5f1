"""Output of `recsys-spark backtest`: metrics of every list with confidence intervals, paired differences, groups.

Owns: what is printed of a backtest.
"""

from collections.abc import Sequence
from math import isnan

from rich.markup import escape
from rich.table import Table

from recsys_spark.cli.console import Console
from recsys_spark.evaluation.judge import PUBLISHED
from recsys_spark.evaluation.kernels.calibration import calibration_error, outcome_loss, place_rates
from recsys_spark.evaluation.kernels.figures import ALL, RATE, Figure
from recsys_spark.numeric.bootstrap import Interval, Tally, difference, mean_interval
from recsys_spark.operations.backtest import Folds

_COLUMNS = ("recall", "ndcg", "map", "hit", "auc", "coverage", "novelty", "diversity", "serendipity", "miscalibration")
_FEW_USERS = 30  # fewer of a segment say little of a gap between segments


def show_backtest(folds: Folds, console: Console, against: Folds | None = None) -> None:
    """Prints the metrics of all lists, paired differences (the published lists less each other one), and groups."""
    empty = [str(day) for day, figures in sorted(folds.items()) if not figures]
    if empty:
        console.warn(f"nobody engaged with anything new in the window of {', '.join(empty)}; these dates are left out")
    folds = {day: figures for day, figures in folds.items() if figures}
    if not folds:
        return
    console.rich.print(lists_table(folds))
    console.rich.print(differences_table(folds, folds, "Published lists less each other, the same users"))
    console.rich.print(groups_table(folds))
    if len(folds) > 1:
        console.rich.print(promises_table(folds))
    gap = segment_gap(folds)
    if gap:
        console.say(gap)
    if against is not None:
        console.rich.print(differences_table(folds, against, "Each list less that of the other backtest", same=True))


def places_of(folds: Folds) -> int:
    """The shortest length of lists that was judged: 20, or k where lists are shorter."""
    return min(figure.k for figures in folds.values() for figure in figures if figure.metric == "recall")


def lists_table(folds: Folds) -> Table:
    """Every list: means over dates of means over users, with 95 % bootstrap intervals over users."""
    k = places_of(folds)
    n_users = [str(int(one.n[0])) for one in tallies(folds, Figure(PUBLISHED, ALL, "recall", k))]
    title = f"{len(n_users)} dates, {' + '.join(n_users)} users, lists cut to {k}"
    table = Table("list", *_COLUMNS, title=title)
    for name in list_names(folds):
        table.add_row(escape(name), *[_cell(folds, Figure(name, ALL, metric, k)) for metric in _COLUMNS])
    return table


def differences_table(folds: Folds, others: Folds, title: str, same: bool = False) -> Table:
    """Recall and ndcg of the published lists less every list of `others`; `same`: of each list less its namesake."""
    k = places_of(folds)
    table = Table("list", f"recall@{k}", f"ndcg@{k}", title=title)
    for name in list_names(others):
        mine = name if same else PUBLISHED
        if not (same or name != PUBLISHED) or mine not in list_names(folds):
            continue
        cells = []
        for metric in ("recall", "ndcg"):
            ours = tallies(folds, Figure(mine, ALL, metric, k))
            found = difference(ours, tallies(others, Figure(name, ALL, metric, k))) if ours else None
            cells.append(f"{found.estimate:+.4f} ({found.low:+.4f} to {found.high:+.4f})" if found else "none")
        table.add_row(escape(name), *cells)
    return table


def groups_table(folds: Folds) -> Table:
    """Recall of every list in every group of users and items, with the users who count in it, dates together."""
    k, names = places_of(folds), list_names(folds)
    table = Table("group", "users", *map(escape, names), title=f"recall@{k} by group")
    groups = sorted({figure.group for figures in folds.values() for figure in figures})
    for group in groups:
        counted = [one.n[0] for one in tallies(folds, Figure(PUBLISHED, group, "recall", k))]
        cells = [_mean(folds, Figure(name, group, "recall", k)) for name in names]
        table.add_row(escape(group), str(int(sum(counted))), *cells)
    return table


def promises_table(folds: Folds) -> Table:
    """Calibration of every list: how well rates by place, from earlier dates, predict each date from the second on."""
    days, n_places = sorted(folds), places_of(folds)
    title = f"Promises of the first {n_places} places, kept on {len(days) - 1} dates"
    table = Table("list", "log loss", "calibration error", title=title)
    for name in list_names(folds):
        places = [Figure(name, ALL, RATE, place) for place in range(1, n_places + 1)]
        rates = [[folds[day][place] for place in places if place in folds[day]] for day in days]
        if {len(of_day) for of_day in rates} != {n_places}:
            continue  # a list of another length
        pairs = [(place_rates(rates[:at]), rates[at]) for at in range(1, len(days))]
        loss = mean_interval([outcome_loss(*pair) for pair in pairs])
        error = mean_interval([calibration_error(*pair) for pair in pairs])
        table.add_row(escape(name), interval_text(loss), f"{error.estimate:.4f}")
    return table


def segment_gap(folds: Folds) -> str:
    """Between which segments the published lists differ most; '' if there are not two with enough users."""
    k, found = places_of(folds), {}
    for group in {figure.group for figures in folds.values() for figure in figures}:
        counted = tallies(folds, Figure(PUBLISHED, group, "recall", k))
        if group.startswith("users/segment=") and sum(one.n[0] for one in counted) >= _FEW_USERS:
            found[group.removeprefix("users/segment=")] = mean_interval(counted).estimate
    if len(found) < 2:
        return ""
    low, high = min(found, key=lambda name: found[name]), max(found, key=lambda name: found[name])
    return (
        f"segments with {_FEW_USERS} users or more: recall@{k} of the published lists from {found[low]:.4f} ({low}) to "
        f"{found[high]:.4f} ({high}), a gap of {found[high] - found[low]:.4f}"
    )


def list_names(folds: Folds) -> list[str]:
    """The lists that every date has, published ones first."""
    of_dates = [{figure.list_name for figure in figures} for figures in folds.values()]
    return sorted(set.intersection(*of_dates), key=lambda name: (not name.startswith(PUBLISHED), name))


def tallies(folds: Folds, figure: Figure) -> Sequence[Tally]:
    """The figure on every date on which anybody counts in it."""
    found = [figures[figure] for _, figures in sorted(folds.items()) if figure in figures]
    return [one for one in found if one.n[0] > 0]


def interval_text(interval: Interval) -> str:
    """An estimate with its bounds."""
    return f"{interval.estimate:.4f} ({interval.low:.4f} to {interval.high:.4f})"


def _cell(folds: Folds, figure: Figure) -> str:
    found = tallies(folds, figure)
    if not found:
        return "none"
    interval = mean_interval(found)
    return f"{interval.estimate:.4f}" if isnan(interval.low) else interval_text(interval)


def _mean(folds: Folds, figure: Figure) -> str:
    found = tallies(folds, figure)
    return f"{mean_interval(found).estimate:.4f}" if found else "none"
