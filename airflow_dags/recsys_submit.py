"""spark-submit for the jobs of recsys-spark: a fault that a retry cannot mend fails the task at once.

Owns: what the exit code of a job means to Airflow.  Called by the DAG.
"""

from typing import TYPE_CHECKING

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk import Context

# 2: a bad argument, setting or machine; 3: refused by a gate; 4: another command holds the warehouse, or was faster.
FINAL_CODES = {
    2: "an argument, a setting or the machine is wrong: correct it, then clear the task",
    3: "a gate refused the day, the last good bundle stays current: look at `recsys-spark status`",
    4: "another command holds the warehouse, or published first: wait for it, then clear the task",
}


class RecsysSubmitOperator(SparkSubmitOperator):
    """A job of recsys-spark; only a crash (exit 1, or a signal) is worth a retry."""

    def execute(self, context: "Context") -> None:
        """Submits the job; AirflowFailException, which is not retried, if it ended with one of FINAL_CODES."""
        try:
            super().execute(context)
        except AirflowException as err:
            code = self._hook._submit_sp.returncode if self._hook and self._hook._submit_sp else None
            if code in FINAL_CODES:
                raise AirflowFailException(f"{self.task_id}: exit {code}: {FINAL_CODES[code]}") from err
            raise
