"""`recsys_consumer`: an example of a DAG that waits for published candidates, and says for which day they are.

Yours would copy what `recsys_spark.reader.changed_users` names into a key-value store.  A backfill of an older
date ends well too, and does not become current: ask the bundle which day is.
"""

from datetime import UTC, datetime

from airflow.sdk import DAG, Asset, task

CANDIDATES = Asset("recsys_candidates")

with DAG(
    dag_id="recsys_consumer",
    doc_md=__doc__,
    schedule=[CANDIDATES],
    start_date=datetime(2000, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["recsys"],
) as dag:

    @task
    def say_day(triggering_asset_events=None) -> list[str]:
        """The as-of days of the runs that published."""
        # An event that somebody made by hand has no run.
        runs = [event.source_dag_run for event in triggering_asset_events[CANDIDATES] if event.source_dag_run]
        days = [f"{run.logical_date or run.run_after:%Y-%m-%d}" for run in runs]
        print(f"candidates were published as of {', '.join(days)}")  # noqa: T201 - a task's log
        return days

    say_day()
